"""Rollouts: the states to which a push, an edit by hand and a bad image lead."""

import re
import threading

import httpx2

from tests.sandbox.cluster.conftest import DEPLOYMENT, REPOSITORY, Running


def test_a_push_is_rolled_out_after_a_refresh(running: Running) -> None:
    """After a push the old revision is still Synced and Healthy; a refresh rolls out the new one."""
    digest = running.platform.images.publish("v2")
    image = f"{REPOSITORY}:v2@{digest}"
    commit = running.platform.set_image(image)
    before = running.application["status"]
    assert (before["sync"]["status"], before["health"]["status"]) == ("Synced", "Healthy")
    assert before["sync"]["revision"] != commit
    running.refresh()
    running.cluster.wait_for("the rollout", lambda: running.rolled_out(commit, image))
    status = running.application["status"]
    assert status["operationState"]["phase"] == "Succeeded"
    assert status["operationState"]["syncResult"]["revision"] == commit
    assert status["reconciledAt"] >= status["operationState"]["finishedAt"]
    assert {state["imageID"] for state in running.container_states(image)} == {f"{REPOSITORY}@{digest}"}
    deployment = running.deployment
    assert deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]
    assert deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"


def test_no_request_fails_in_a_good_rolling_update(running: Running) -> None:
    """A client that opens a connection per request is always answered, by the old version and then by the new one."""
    answers: list[str] = []
    failures: list[str] = []
    stop = threading.Event()

    def send_requests() -> None:
        while not stop.is_set():
            try:
                answer = httpx2.get(running.service_url, timeout=5, trust_env=False)
                answers.append(answer.text.split()[0])
                if answer.status_code != 200:
                    failures.append(answer.text)
            except httpx2.TransportError as error:
                failures.append(repr(error))

    def versions(tail: int) -> set[str]:
        return set(answers[-tail:])

    running.cluster.wait_for("a route", lambda: ": leads to 127." in running.cluster.log_file.read_text())
    client = threading.Thread(target=send_requests)
    client.start()
    try:
        running.cluster.wait_for("answers of v1", lambda: versions(10) == {"v1"})
        running.platform.images.publish("v2")
        running.roll_out(f"{REPOSITORY}:v2")
        running.cluster.wait_for("answers of v2", lambda: versions(10) == {"v2"})
    finally:
        stop.set()
        client.join()
    assert failures == []


def test_routes_lag_behind_healthy(running: Running) -> None:
    """When the Application is Healthy and the new pods are ready, the service may not lead to them yet."""

    def routes() -> int:
        return running.cluster.log_file.read_text().count(": leads to ")

    both = re.compile(r": leads to 127[\d.:]+, 127")
    running.cluster.wait_for("routes to both pods", lambda: both.search(running.cluster.log_file.read_text()))
    running.cluster.set_faults(route_lag_seconds=600)
    before = routes()
    running.platform.images.publish("v2")
    running.roll_out(f"{REPOSITORY}:v2")
    assert routes() == before


def test_an_edit_by_hand_is_healed(running: Running) -> None:
    """A Deployment that a person edits is OutOfSync, and is restored without a commit."""
    running.platform.images.publish("v9")
    containers = running.deployment["spec"]["template"]["spec"]["containers"]
    containers[0]["image"] = f"{REPOSITORY}:v9"
    running.cluster.patch(DEPLOYMENT, {"spec": {"template": {"spec": {"containers": containers}}}}).raise_for_status()
    assert running.deployment["metadata"]["generation"] == 2
    running.cluster.wait_for("OutOfSync", lambda: running.application["status"]["sync"]["status"] == "OutOfSync")
    running.cluster.wait_for("the healing", lambda: running.deployment["metadata"]["generation"] == 3)
    commit = running.application["status"]["sync"]["revision"]
    running.cluster.wait_for("the old image", lambda: running.rolled_out(commit, f"{REPOSITORY}:v1"))


def test_an_object_that_git_no_longer_has_is_pruned(running: Running) -> None:
    """When a manifest is deleted in Git, its object is deleted in the cluster, and the pods end."""
    running.platform.push("manifests/iris/deployment.yaml")
    running.refresh()
    running.cluster.wait_for("no pods", lambda: running.pods == [])
    assert running.cluster.client.get(DEPLOYMENT).status_code == 404


def test_an_unknown_image_leaves_the_old_pods_serving(running: Running) -> None:
    """The new pod waits in ImagePullBackOff with the registry's reason, the old ones serve, the rollout is Degraded."""
    image = f"{REPOSITORY}:missing"
    running.platform.set_image(image)
    running.refresh()

    def waiting() -> str:
        states = running.container_states(image)
        return str(states[0]["state"].get("waiting", {})) if states else ""

    running.cluster.wait_for("ImagePullBackOff", lambda: "ImagePullBackOff" in waiting())
    assert "manifest unknown" in waiting()
    running.cluster.wait_for("Degraded", lambda: running.application["status"]["health"]["status"] == "Degraded")
    conditions = {condition["type"]: condition["reason"] for condition in running.deployment["status"]["conditions"]}
    assert conditions["Progressing"] == "ProgressDeadlineExceeded"
    assert running.application["status"]["sync"]["status"] == "Synced"
    assert len([state for state in running.container_states(f"{REPOSITORY}:v1") if state["ready"]]) == 2
    events = running.cluster.get("/api/v1/namespaces/ml/events", fieldSelector="involvedObject.kind=Pod,type=Warning")
    assert any("manifest unknown" in event["message"] for event in events["items"])


def test_a_crashing_process_is_restarted_with_back_off(running: Running) -> None:
    """A process that exits is restarted and then waits in CrashLoopBackOff; its previous log can be read."""
    image = f"{REPOSITORY}:crash"
    running.platform.images.publish("crash", CRASH="7")
    running.platform.set_image(image)
    running.refresh()

    def looping() -> dict[str, object] | None:
        states = [state for state in running.container_states(image) if state["restartCount"] >= 1]
        return next((state for state in states if "CrashLoopBackOff" in str(state["state"])), None)

    state = running.cluster.wait_for("CrashLoopBackOff", looping)
    assert state is not None
    terminated = state["lastState"]["terminated"]  # type: ignore[index]
    assert (terminated["exitCode"], terminated["reason"]) == (7, "Error")
    pod = next(pod for pod in running.pods if pod["spec"]["containers"][0]["image"] == image)
    log = f"/api/v1/namespaces/ml/pods/{pod['metadata']['name']}/log"
    answer = running.cluster.client.get(log, params={"container": "model-server", "previous": "true", "tailLines": "1"})
    assert answer.text == "version crash starts\n"


def test_a_process_above_its_memory_limit_is_oom_killed(running: Running) -> None:
    """A container that uses more memory than its limit ends with exit code 137 and reason OOMKilled."""
    image = f"{REPOSITORY}:greedy"
    running.platform.images.publish("greedy", EAT_MEGABYTES="200")
    running.platform.set_image(image)
    running.refresh()

    def ends() -> list[tuple[int, str]]:
        terminations = [state["lastState"].get("terminated") for state in running.container_states(image)]
        return [(end["exitCode"], end["reason"]) for end in terminations if end]

    assert set(running.cluster.wait_for("an end", ends)) == {(137, "OOMKilled")}


def test_a_pod_that_never_becomes_ready_stalls_the_rollout(running: Running) -> None:
    """The new pod stays unready with an Unhealthy event, the old pods stay, and the rollout becomes Degraded."""
    image = f"{REPOSITORY}:sick"
    running.platform.images.publish("sick", NEVER_READY="1")
    running.platform.set_image(image)
    running.refresh()
    running.cluster.wait_for("Degraded", lambda: running.application["status"]["health"]["status"] == "Degraded")
    state = running.container_states(image)[0]
    assert (state["ready"], list(state["state"]), state["restartCount"]) == (False, ["running"], 0)
    events = running.cluster.get("/api/v1/namespaces/ml/events", fieldSelector="involvedObject.kind=Pod,type=Warning")
    assert any("HTTP probe failed with statuscode: 503" in event["message"] for event in events["items"])
    assert len([state for state in running.container_states(f"{REPOSITORY}:v1") if state["ready"]]) == 2


def test_a_pod_that_fits_no_node_stays_pending(running: Running) -> None:
    """A pod that requests more than the node has stays Pending, with the scheduler's reason."""
    image = f"{REPOSITORY}:v2"
    running.platform.images.publish("v2")
    running.platform.set_image(image, **{"requests: {memory: 64Mi": "requests: {memory: 64Gi"})
    running.refresh()

    def reasons() -> list[str]:
        conditions = [condition for pod in running.pods for condition in pod["status"]["conditions"]]
        return [each["message"] for each in conditions if each.get("reason") == "Unschedulable"]

    assert "1 Insufficient memory" in running.cluster.wait_for("an unschedulable pod", reasons)[0]


def test_a_rollback_scales_up_the_old_replica_set_again(running: Running) -> None:
    """The earlier template has the earlier hash, so its ReplicaSet serves again, with the next revision number."""
    first = {pod["metadata"]["labels"]["pod-template-hash"] for pod in running.pods}
    running.platform.images.publish("v2")
    running.roll_out(f"{REPOSITORY}:v2")
    running.roll_out(f"{REPOSITORY}:v1")
    assert {pod["metadata"]["labels"]["pod-template-hash"] for pod in running.pods} == first
    assert running.deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


def test_a_stuck_rollout_is_repaired_by_the_next_commit(running: Running) -> None:
    """Pods that wait for an image, never finish pulling it or crash end at once when their template is replaced."""
    running.platform.images.publish("crash", CRASH="7")
    running.platform.images.publish("slow")
    for tag, reason in (("missing", "ImagePullBackOff"), ("crash", "CrashLoopBackOff"), ("slow", "ContainerCreating")):
        image = f"{REPOSITORY}:{tag}"
        running.cluster.set_faults(stall_pulls=tag == "slow")
        running.platform.set_image(image)
        running.refresh()
        running.cluster.wait_for(reason, lambda: reason in str(running.container_states(image)))  # noqa: B023
        running.cluster.set_faults(stall_pulls=False)
        running.roll_out(f"{REPOSITORY}:v1")


def test_a_process_that_fails_its_liveness_probe_is_restarted(running: Running) -> None:
    """A container that fails its liveness probe is restarted, and the restart is counted."""
    image = f"{REPOSITORY}:sick"
    running.platform.images.publish("sick", NEVER_READY="1")
    probe = "livenessProbe: {httpGet: {path: /health, port: 8080}, periodSeconds: 1, failureThreshold: 1}\n          "
    running.platform.set_image(image, **{"resources: {requests": f"{probe}resources: {{requests"})
    running.refresh()
    running.cluster.wait_for(
        "a restart", lambda: [state for state in running.container_states(image) if state["restartCount"] >= 1]
    )


def test_an_image_for_another_processor_does_not_start(running: Running) -> None:
    """The container ends because the program cannot be executed, and its log says why."""
    image = f"{REPOSITORY}:foreign"
    running.platform.images.publish("foreign", architecture="s390x")
    running.platform.set_image(image)
    running.refresh()
    running.cluster.wait_for("a crash", lambda: "CrashLoopBackOff" in str(running.container_states(image)))
    pod = next(pod for pod in running.pods if pod["spec"]["containers"][0]["image"] == image)
    log = running.cluster.client.get(
        f"/api/v1/namespaces/ml/pods/{pod['metadata']['name']}/log", params={"previous": "true"}
    )
    assert "exec format error" in log.text

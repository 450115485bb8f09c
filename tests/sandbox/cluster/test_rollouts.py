"""Stories of rollouts: what a push, an edit by hand and a bad image lead to, and through which states."""

import re
import threading

import httpx2

from tests.sandbox.cluster.conftest import DEPLOYMENT, REPOSITORY, Running


def test_a_push_is_rolled_out_after_a_refresh(running: Running) -> None:
    """Right after a push the old revision is still Synced and Healthy; a refresh brings the new one up."""
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
    """A client with a new connection a request is answered throughout, by the old version and then by the new one."""
    answers: list[str] = []
    failures: list[str] = []
    stop = threading.Event()

    def ask() -> None:
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
    client = threading.Thread(target=ask)
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
    """When all is Healthy and the new pods are ready, the service does not lead to them yet."""

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
    """A Deployment that a person edits is OutOfSync, and is put back without a commit."""
    running.platform.images.publish("v9")
    containers = running.deployment["spec"]["template"]["spec"]["containers"]
    containers[0]["image"] = f"{REPOSITORY}:v9"
    running.cluster.patch(DEPLOYMENT, {"spec": {"template": {"spec": {"containers": containers}}}}).raise_for_status()
    assert running.deployment["metadata"]["generation"] == 2
    running.cluster.wait_for("OutOfSync", lambda: running.application["status"]["sync"]["status"] == "OutOfSync")
    running.cluster.wait_for("the healing", lambda: running.deployment["metadata"]["generation"] == 3)
    commit = running.application["status"]["sync"]["revision"]
    running.cluster.wait_for("the old image", lambda: running.rolled_out(commit, f"{REPOSITORY}:v1"))


def test_what_git_no_longer_has_is_pruned(running: Running) -> None:
    """A manifest that is deleted in Git is deleted in the cluster, and its pods end."""
    running.platform.push("manifests/iris/deployment.yaml")
    running.refresh()
    running.cluster.wait_for("no pods", lambda: running.pods == [])
    assert running.cluster.client.get(DEPLOYMENT).status_code == 404


def test_an_unknown_image_is_not_pulled(running: Running) -> None:
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
    conditions = {one["type"]: one["reason"] for one in running.deployment["status"]["conditions"]}
    assert conditions["Progressing"] == "ProgressDeadlineExceeded"
    assert running.application["status"]["sync"]["status"] == "Synced"
    assert len([one for one in running.container_states(f"{REPOSITORY}:v1") if one["ready"]]) == 2
    events = running.cluster.get("/api/v1/namespaces/ml/events", fieldSelector="involvedObject.kind=Pod,type=Warning")
    assert any("manifest unknown" in event["message"] for event in events["items"])


def test_a_crash_loops_with_growing_back_off(running: Running) -> None:
    """A process that exits is restarted, then waits in CrashLoopBackOff; its log of the time before can be read."""
    image = f"{REPOSITORY}:crash"
    running.platform.images.publish("crash", CRASH="7")
    running.platform.set_image(image)
    running.refresh()

    def looping() -> dict[str, object] | None:
        states = [one for one in running.container_states(image) if one["restartCount"] >= 1]
        return next((one for one in states if "CrashLoopBackOff" in str(one["state"])), None)

    state = running.cluster.wait_for("CrashLoopBackOff", looping)
    assert state is not None
    terminated = state["lastState"]["terminated"]  # type: ignore[index]
    assert (terminated["exitCode"], terminated["reason"]) == (7, "Error")
    pod = next(pod for pod in running.pods if pod["spec"]["containers"][0]["image"] == image)
    log = f"/api/v1/namespaces/ml/pods/{pod['metadata']['name']}/log"
    answer = running.cluster.client.get(log, params={"container": "model-server", "previous": "true", "tailLines": "1"})
    assert answer.text == "version crash starts\n"


def test_a_process_above_its_memory_limit_is_oom_killed(running: Running) -> None:
    """A container whose memory passes its limit ends with 137 and OOMKilled."""
    image = f"{REPOSITORY}:greedy"
    running.platform.images.publish("greedy", EAT_MEGABYTES="200")
    running.platform.set_image(image)
    running.refresh()

    def ends() -> list[tuple[int, str]]:
        found = [one["lastState"].get("terminated") for one in running.container_states(image)]
        return [(one["exitCode"], one["reason"]) for one in found if one]

    assert set(running.cluster.wait_for("an end", ends)) == {(137, "OOMKilled")}


def test_a_pod_that_never_becomes_ready_stalls_the_rollout(running: Running) -> None:
    """The new pod runs unready with an Unhealthy event, the old ones stay, and the deadline passes."""
    image = f"{REPOSITORY}:sick"
    running.platform.images.publish("sick", NEVER_READY="1")
    running.platform.set_image(image)
    running.refresh()
    running.cluster.wait_for("Degraded", lambda: running.application["status"]["health"]["status"] == "Degraded")
    state = running.container_states(image)[0]
    assert (state["ready"], list(state["state"]), state["restartCount"]) == (False, ["running"], 0)
    events = running.cluster.get("/api/v1/namespaces/ml/events", fieldSelector="involvedObject.kind=Pod,type=Warning")
    assert any("HTTP probe failed with statuscode: 503" in event["message"] for event in events["items"])
    assert len([one for one in running.container_states(f"{REPOSITORY}:v1") if one["ready"]]) == 2


def test_a_pod_that_fits_no_node_stays_pending(running: Running) -> None:
    """A request above what the node has leaves the pod Pending, with the scheduler's reason."""
    commit_image = f"{REPOSITORY}:v2"
    running.platform.images.publish("v2")
    running.platform.set_image(commit_image, **{"requests: {memory: 64Mi": "requests: {memory: 64Gi"})
    running.refresh()

    def reasons() -> list[str]:
        conditions = [one for pod in running.pods for one in pod["status"]["conditions"]]
        return [one["message"] for one in conditions if one.get("reason") == "Unschedulable"]

    assert "1 Insufficient memory" in running.cluster.wait_for("an unschedulable pod", reasons)[0]


def test_a_rollback_takes_the_old_replica_set_up_again(running: Running) -> None:
    """The template of before has the hash of before: its ReplicaSet serves again, with the next revision number."""
    first = {pod["metadata"]["labels"]["pod-template-hash"] for pod in running.pods}
    running.platform.images.publish("v2")
    running.roll_out(f"{REPOSITORY}:v2")
    running.roll_out(f"{REPOSITORY}:v1")
    assert {pod["metadata"]["labels"]["pod-template-hash"] for pod in running.pods} == first
    assert running.deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


def test_a_rollout_that_cannot_come_up_is_cured_by_the_next_commit(running: Running) -> None:
    """Pods that wait for an image, pull for ever or crash end at once when their template is replaced."""
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
    """The container is stopped, counted and started again."""
    image = f"{REPOSITORY}:sick"
    running.platform.images.publish("sick", NEVER_READY="1")
    probe = "livenessProbe: {httpGet: {path: /health, port: 8080}, periodSeconds: 1, failureThreshold: 1}\n          "
    running.platform.set_image(image, **{"resources: {requests": f"{probe}resources: {{requests"})
    running.refresh()
    running.cluster.wait_for(
        "a restart", lambda: [one for one in running.container_states(image) if one["restartCount"] >= 1]
    )


def test_an_image_for_another_processor_does_not_start(running: Running) -> None:
    """The program cannot be executed: the container ends, and its log says why."""
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

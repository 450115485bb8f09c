"""The states of the Application, the Deployment and the pods after a push, in order from first to last event."""

from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import pytest

from orchestration.promotion.cluster_json import parse_application, parse_workload
from orchestration.promotion.cluster_status import ApplicationStatus
from tests.contract.content import steady
from tests.contract.place import ARGOCD, CONTAINER, NAMESPACE, PODS, STEADY, Place
from tests.contract.test_answers import REPLICA_SETS
from tests.contract.test_lists import APPLICATIONS
from tests.contract.watching import history, version_of

Json = dict[str, Any]
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"


@dataclass(frozen=True)
class Rollout:
    """One good rollout, as the clusters reported it."""

    place: Place
    image: str
    commit: str
    before: str
    """The commit that was Synced before the push."""
    right_after: ApplicationStatus
    """The Application's status right after the push, before anyone refreshed it."""
    application: list[ApplicationStatus]
    deployment: list[Json]
    pods: list[tuple[str, Json]]

    def pod_states(self, name: str) -> list[tuple[str, ...]]:
        """Return a pod's phase, readiness and container state at each event, without repeats in a row."""
        states = [_pod_state(pod) for event, pod in self.pods if pod["metadata"]["name"] == name and event != "DELETED"]
        return [state for state, _ in groupby(states)]

    def pods_of(self, *, new: bool) -> list[str]:
        """Return the names of the new or the old pods, in order of their first event."""
        names: dict[str, None] = {}
        for _, pod in self.pods:
            if (pod["spec"]["containers"][0]["image"] == self.image) == new:
                names[pod["metadata"]["name"]] = None
        return list(names)


def _pod_state(pod: Json) -> tuple[str, ...]:
    status = pod["status"]
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", ())}
    containers = status.get("containerStatuses") or [{"state": {"none": {}}}]
    (state,) = containers[0]["state"]
    ending = "ending" if "deletionTimestamp" in pod["metadata"] else "staying"
    return status["phase"], "ready" if conditions.get("Ready") == "True" else "unready", state, ending


@pytest.fixture(scope="module")
def rollout(place: Place) -> Rollout:
    """Push a new image of `steady`, wait for its rollout, and return what the clusters reported meanwhile."""
    before = place.application().sync_revision or ""
    image = place.image("rolled-out")
    place.repository.write(f"{STEADY}/steady.yaml", *steady(image))
    versions = [version_of(place.gcp, APPLICATIONS), version_of(place.edge, DEPLOYMENTS), version_of(place.edge, PODS)]
    commit = place.repository.push()
    right_after = place.application()
    place.bring(commit)
    place.wait("the rollout", lambda: place.rolled_out("steady", image))
    place.wait("Healthy", lambda: place.application().health_status == "Healthy")
    place.wait("the last comparison", lambda: _compared_since(place.application()))
    histories = [
        history(place.kubeconfig, context, path, version)
        for context, path, version in zip(
            ("gcp", "edge", "edge"), (APPLICATIONS, DEPLOYMENTS, PODS), versions, strict=True
        )
    ]
    applications = [parse_application(item) for _, item in histories[0] if item["metadata"]["name"] == STEADY]
    deployments = [item for _, item in histories[1] if item["metadata"]["name"] == "steady"]
    pods = [(event, item) for event, item in histories[2] if item["metadata"]["labels"].get("app") == "steady"]
    return Rollout(place, image, commit, before, right_after, applications, deployments, pods)


def _compared_since(application: ApplicationStatus) -> bool:
    return (application.reconciled_at or 0) >= (application.operation_finished_at or float("inf"))


def first(rollout: Rollout, **wanted: object) -> int:
    """Return the position of the Application's first state with these values."""
    for position, state in enumerate(rollout.application):
        if all(getattr(state, name) == value for name, value in wanted.items()):
            return position
    raise AssertionError(f"no state with {wanted} in {rollout.application}")


def test_a_push_alone_changes_nothing(rollout: Rollout) -> None:
    """Right after a push, the Application is still Synced and Healthy at the old commit, its operation Succeeded."""
    status = rollout.right_after
    assert (status.sync_status, status.health_status, status.operation_phase) == ("Synced", "Healthy", "Succeeded")
    assert status.sync_revision == rollout.before != rollout.commit


def test_the_application_goes_through_out_of_sync_and_an_operation(rollout: Rollout) -> None:
    """The old operation is cleared; the new commit is OutOfSync and Running, then Succeeded, Synced and Healthy."""
    commit = rollout.commit
    cleared = first(rollout, operation_phase=None)
    out_of_sync = first(rollout, sync_revision=commit, sync_status="OutOfSync")
    running = first(rollout, operation_revision=commit, operation_phase="Running")
    succeeded = first(rollout, operation_revision=commit, operation_phase="Succeeded")
    synced = first(rollout, sync_revision=commit, sync_status="Synced")
    progressing = first(rollout, sync_revision=commit, health_status="Progressing")
    assert cleared < min(out_of_sync, running)
    assert max(out_of_sync, running) < succeeded
    assert out_of_sync < synced
    assert synced <= progressing
    assert [state.health_status for state in rollout.application[progressing:]][-1] == "Healthy"
    # From the first state at the new commit on, it never reports another commit.
    assert {state.sync_revision for state in rollout.application[out_of_sync:]} == {commit}


def test_an_operation_ends_with_a_time_and_a_message(rollout: Rollout) -> None:
    """A running operation has no end time; one that has succeeded has one, and says that all tasks were run."""
    of_commit = [status for status in rollout.application if status.operation_revision == rollout.commit]
    assert {status.operation_finished_at for status in of_commit if status.operation_phase == "Running"} == {None}
    ended = [status for status in of_commit if status.operation_phase == "Succeeded"]
    assert len({status.operation_finished_at for status in ended}) == 1
    assert ended[0].operation_finished_at is not None
    assert {status.operation_message for status in ended} == {"successfully synced (all tasks run)"}


def test_the_deployment_states_the_generation_of_its_counts(rollout: Rollout) -> None:
    """The push raises the generation by one; the controller's counts follow, and never fall below the replicas.

    For a moment the total may exceed replicas and surge: it adds up what the ReplicaSets last reported of themselves,
    and the new one may report its second pod before the old one reports the pod that it has ended.
    """
    states = [parse_workload("Deployment", document, (), (), ()) for document in rollout.deployment]
    generations = [state.generation for state in states]
    assert sorted(set(generations)) == [generations[-1] - 1, generations[-1]] or len(set(generations)) == 1
    assert generations == sorted(generations)
    lagging = [state for state in states if state.observed_generation < state.generation]
    assert lagging, "the controller lags behind the edit in at least one state"
    assert {state.available for state in states} <= {2, 3}
    updated = [state.updated for state in states if state.observed_generation == generations[-1]]
    assert updated == sorted(updated)
    assert updated[-1] == 2
    assert {2, 3} <= {state.total for state in states} <= {2, 3, 4}


def test_the_deployment_reports_progress(rollout: Rollout) -> None:
    """Progressing's reason is that of the last rollout, then of this one, then that its ReplicaSet is available."""
    reasons = []
    for document in rollout.deployment:
        conditions = {condition["type"]: condition for condition in document["status"]["conditions"]}
        assert (conditions["Available"]["status"], conditions["Progressing"]["status"]) == ("True", "True")
        reasons.append(conditions["Progressing"]["reason"])
    in_order = [reason for reason, _ in groupby(reasons)]
    assert in_order[0] == in_order[-1] == "NewReplicaSetAvailable"
    assert set(in_order[1:-1]) <= {"NewReplicaSetCreated", "ReplicaSetUpdated"}
    assert in_order[-2] == "ReplicaSetUpdated"


def test_a_new_pod_waits_runs_and_is_ready(rollout: Rollout) -> None:
    """A new pod is Pending without a container, Pending with a waiting one, Running (usually unready first), ready."""
    new = rollout.pods_of(new=True)
    assert len(new) == 2
    for name in new:
        states = rollout.pod_states(name)
        assert states[:2] == [("Pending", "unready", "none", "staying"), ("Pending", "unready", "waiting", "staying")]
        # A slow kubelet reports the start and the first successful probe together.
        assert states[2:-1] in ([], [("Running", "unready", "running", "staying")])
        assert states[-1] == ("Running", "ready", "running", "staying")


def test_an_old_pod_serves_until_it_is_told_to_end(rollout: Rollout) -> None:
    """An old pod is ready when its deletion begins, then unready, and at last deleted."""
    old = rollout.pods_of(new=False)
    assert len(old) == 2
    for name in old:
        states = rollout.pod_states(name)
        assert states[0] == ("Running", "ready", "running", "ending")
        assert {state[1:3] for state in states[1:]} <= {("unready", "running"), ("unready", "terminated")}
        (deleted,) = [pod for event, pod in rollout.pods if event == "DELETED" and pod["metadata"]["name"] == name]
        assert "deletionTimestamp" in deleted["metadata"]
        assert deleted["status"]["phase"] == "Succeeded"  # its process ended with 0


def test_no_pod_starts_before_the_previous_one_is_ready(rollout: Rollout) -> None:
    """With a surge of one and none unavailable, the second new pod starts only once the first is ready."""
    begins, ready = [], []
    for name in rollout.pods_of(new=True):
        states = [
            (position, _pod_state(pod))
            for position, (_, pod) in enumerate(rollout.pods)
            if pod["metadata"]["name"] == name
        ]
        serving = [position for position, state in states if (state[1], state[3]) == ("ready", "staying")]
        assert serving, f"{name} is never ready"
        begins.append(states[0][0])
        ready.append(serving[0])
    assert all(min(ready) < later for _, later in pairwise(sorted(begins)))


def test_image_id_has_the_digest(rollout: Rollout) -> None:
    """`imageID` is the repository with the digest, and empty while the container waits."""
    workload = rollout.place.rolled_out("steady", rollout.image)
    assert workload is not None
    repository, digest = rollout.place.image_repository, rollout.image.rpartition("@")[2]
    assert {pod.container(CONTAINER).image_id for pod in workload.new_pods} == {f"{repository}@{digest}"}  # type: ignore[union-attr]
    waiting = [
        status
        for _, pod in rollout.pods
        for status in pod["status"].get("containerStatuses", ())
        if "waiting" in status["state"]
    ]
    assert {status["imageID"] for status in waiting} == {""}
    assert {status["state"]["waiting"]["reason"] for status in waiting} == {"ContainerCreating"}


def test_the_replica_set_of_the_template_is_found(rollout: Rollout) -> None:
    """The new pods' ReplicaSet is found by its equal template and its owner; the old ones remain without replicas."""
    workload = rollout.place.workload("steady")
    assert workload is not None
    assert workload.template_hash
    assert {pod.template_hash for pod in workload.new_pods} == {workload.template_hash}
    sets = rollout.place.edge.items(REPLICA_SETS, {"labelSelector": "app=steady"})
    replicas = {owner["metadata"]["labels"]["pod-template-hash"]: owner["spec"]["replicas"] for owner in sets}
    assert replicas.pop(workload.template_hash) == 2
    assert set(replicas.values()) == {0}


def test_argocd_removes_the_refresh_annotation(rollout: Rollout) -> None:
    """The annotation of a normal or hard refresh disappears once Argo CD has acted on it."""
    place = rollout.place
    for hard in (False, True):
        place.argocd.refresh(ARGOCD, STEADY, hard=hard)

        def removed() -> bool:
            return "argocd.argoproj.io/refresh" not in place.application_json()["metadata"].get("annotations", {})

        place.wait("the refresh annotation is removed", removed)

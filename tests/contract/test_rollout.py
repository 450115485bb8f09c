"""The order of states after a push: of the Application, the Deployment and the pods, from first to last event."""

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
    """One good rollout, as the clusters told it."""

    place: Place
    image: str
    commit: str
    before: str
    """The commit that was Synced when it began."""
    right_after: ApplicationStatus
    """What Argo CD said when the push had ended, and nobody had asked it to look."""
    application: list[ApplicationStatus]
    deployment: list[Json]
    pods: list[tuple[str, Json]]

    def pod_states(self, name: str) -> list[tuple[str, ...]]:
        """Phase, readiness and container state of a pod, each once in a row."""
        states = [_pod_state(pod) for event, pod in self.pods if pod["metadata"]["name"] == name and event != "DELETED"]
        return [state for state, _ in groupby(states)]

    def pods_of(self, *, new: bool) -> list[str]:
        """Names, in order of their first event."""
        found: dict[str, None] = {}
        for _, pod in self.pods:
            if (pod["spec"]["containers"][0]["image"] == self.image) == new:
                found[pod["metadata"]["name"]] = None
        return list(found)


def _pod_state(pod: Json) -> tuple[str, ...]:
    status = pod["status"]
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))
    containers = status.get("containerStatuses") or [{"state": {"none": {}}}]
    (state,) = containers[0]["state"]
    ending = "ending" if "deletionTimestamp" in pod["metadata"] else "staying"
    return status["phase"], "ready" if ready else "unready", state, ending


@pytest.fixture(scope="module")
def rollout(place: Place) -> Rollout:
    """A new image of `steady`, pushed and rolled out."""
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
    applications = [parse_application(one) for _, one in histories[0] if one["metadata"]["name"] == STEADY]
    deployments = [one for _, one in histories[1] if one["metadata"]["name"] == "steady"]
    pods = [(event, one) for event, one in histories[2] if one["metadata"]["labels"].get("app") == "steady"]
    return Rollout(place, image, commit, before, right_after, applications, deployments, pods)


def _compared_since(application: ApplicationStatus) -> bool:
    return (application.reconciled_at or 0) >= (application.operation_finished_at or float("inf"))


def first(rollout: Rollout, **wanted: object) -> int:
    """The place of the first state of the Application with these values."""
    for place, state in enumerate(rollout.application):
        if all(getattr(state, name) == value for name, value in wanted.items()):
            return place
    raise AssertionError(f"no state with {wanted} in {rollout.application}")


def test_a_push_alone_changes_nothing(rollout: Rollout) -> None:
    """Right after it the old commit is Synced and Healthy, and its operation Succeeded."""
    seen = rollout.right_after
    assert (seen.sync_status, seen.health_status, seen.operation_phase) == ("Synced", "Healthy", "Succeeded")
    assert seen.sync_revision == rollout.before != rollout.commit


def test_the_application_goes_through_out_of_sync_and_an_operation(rollout: Rollout) -> None:
    """The last operation's state goes; the commit is OutOfSync, its operation Running, then Succeeded; it is Synced."""
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
    # Whatever it says of the commit, it never says it of another after that.
    assert {state.sync_revision for state in rollout.application[out_of_sync:]} == {commit}


def test_an_operation_ends_with_a_time_and_words(rollout: Rollout) -> None:
    """While it runs it has no end; when it has succeeded it has one, and the message of all tasks run."""
    of_commit = [one for one in rollout.application if one.operation_revision == rollout.commit]
    assert {one.operation_finished_at for one in of_commit if one.operation_phase == "Running"} == {None}
    ended = [one for one in of_commit if one.operation_phase == "Succeeded"]
    assert len({one.operation_finished_at for one in ended}) == 1
    assert ended[0].operation_finished_at is not None
    assert {one.operation_message for one in ended} == {"successfully synced (all tasks run)"}


def test_the_deployment_says_which_generation_its_numbers_are_of(rollout: Rollout) -> None:
    """Generation moves by one with the push; the controller's numbers follow it, and never fall below the replicas.

    For a moment their sum may exceed replicas and surge: it adds up what the ReplicaSets last said of themselves, and
    the new one may tell of its second pod before the old one tells of the pod that it has ended.
    """
    states = [parse_workload("Deployment", one, (), (), ()) for one in rollout.deployment]
    generations = [one.generation for one in states]
    assert sorted(set(generations)) == [generations[-1] - 1, generations[-1]] or len(set(generations)) == 1
    assert generations == sorted(generations)
    lagging = [one for one in states if one.observed_generation < one.generation]
    assert lagging, "the controller is seen to lag behind the edit"
    assert {one.available for one in states} <= {2, 3}
    updated = [one.updated for one in states if one.observed_generation == generations[-1]]
    assert updated == sorted(updated)
    assert updated[-1] == 2
    assert {2, 3} <= {one.total for one in states} <= {2, 3, 4}


def test_the_deployment_says_that_it_goes_on(rollout: Rollout) -> None:
    """Progressing's reason: that of the last rollout, then of this one, then that its ReplicaSet is available."""
    reasons = []
    for one in rollout.deployment:
        conditions = {condition["type"]: condition for condition in one["status"]["conditions"]}
        assert (conditions["Available"]["status"], conditions["Progressing"]["status"]) == ("True", "True")
        reasons.append(conditions["Progressing"]["reason"])
    in_order = [reason for reason, _ in groupby(reasons)]
    assert in_order[0] == in_order[-1] == "NewReplicaSetAvailable"
    assert set(in_order[1:-1]) <= {"NewReplicaSetCreated", "ReplicaSetUpdated"}
    assert in_order[-2] == "ReplicaSetUpdated"


def test_a_new_pod_waits_runs_and_is_ready(rollout: Rollout) -> None:
    """Pending before anything, Pending with a container that waits, Running and mostly unready at first, ready."""
    new = rollout.pods_of(new=True)
    assert len(new) == 2
    for name in new:
        states = rollout.pod_states(name)
        assert states[:2] == [("Pending", "unready", "none", "staying"), ("Pending", "unready", "waiting", "staying")]
        # A kubelet that is slow tells the start and the first good probe at once.
        assert states[2:-1] in ([], [("Running", "unready", "running", "staying")])
        assert states[-1] == ("Running", "ready", "running", "staying")


def test_an_old_pod_serves_until_it_is_told_to_end(rollout: Rollout) -> None:
    """It is ready when its deletion begins, ends unready, and is then deleted."""
    old = rollout.pods_of(new=False)
    assert len(old) == 2
    for name in old:
        states = rollout.pod_states(name)
        assert states[0] == ("Running", "ready", "running", "ending")
        assert {state[1:3] for state in states[1:]} <= {("unready", "running"), ("unready", "terminated")}
        (gone,) = [pod for event, pod in rollout.pods if event == "DELETED" and pod["metadata"]["name"] == name]
        assert "deletionTimestamp" in gone["metadata"]
        assert gone["status"]["phase"] == "Succeeded"  # its process ended with 0


def test_no_pod_comes_before_the_one_before_it_is_ready(rollout: Rollout) -> None:
    """With a surge of one and none unavailable: a new pod, then an old one ends, then the next."""
    told = []
    for name in [*rollout.pods_of(new=True), *rollout.pods_of(new=False)]:
        for place, (_, pod) in enumerate(rollout.pods):
            if pod["metadata"]["name"] == name:
                state = _pod_state(pod)
                told.append((place, name, "ready" if state[1] == "ready" and state[3] == "staying" else state[3]))
    for name in rollout.pods_of(new=True):
        assert (name, "ready") in [(one, word) for _, one, word in told]
    begins = sorted(min(place for place, one, _ in told if one == name) for name in rollout.pods_of(new=True))
    ready = sorted(
        min(place for place, one, word in told if one == name and word == "ready") for name in rollout.pods_of(new=True)
    )
    assert all(ready[0] < later for _, later in pairwise(begins))


def test_the_nodes_name_for_the_image_has_its_digest(rollout: Rollout) -> None:
    """`imageID` is the repository with the digest, empty while the container waits; `image` ends as the template's."""
    found = rollout.place.rolled_out("steady", rollout.image)
    assert found is not None
    repository, digest = rollout.place.image_repository, rollout.image.rpartition("@")[2]
    assert {pod.container(CONTAINER).image_id for pod in found.new_pods} == {f"{repository}@{digest}"}  # type: ignore[union-attr]
    waiting = [
        status
        for _, pod in rollout.pods
        for status in pod["status"].get("containerStatuses", ())
        if "waiting" in status["state"]
    ]
    assert {status["imageID"] for status in waiting} == {""}
    assert {status["state"]["waiting"]["reason"] for status in waiting} == {"ContainerCreating"}


def test_the_replica_set_of_the_template_is_found(rollout: Rollout) -> None:
    """By an equal template, apart from the hash, and owned by the Deployment; the old one stays with no replicas."""
    found = rollout.place.workload("steady")
    assert found is not None
    assert found.template_hash
    assert {pod.template_hash for pod in found.new_pods} == {found.template_hash}
    sets = rollout.place.edge.items(REPLICA_SETS, {"labelSelector": "app=steady"})
    replicas = {one["metadata"]["labels"]["pod-template-hash"]: one["spec"]["replicas"] for one in sets}
    assert replicas.pop(found.template_hash) == 2
    assert set(replicas.values()) == {0}


def test_a_refresh_is_taken_away_when_it_is_worked_on(rollout: Rollout) -> None:
    """The annotation has gone, for a normal and for a hard one."""
    place = rollout.place
    for hard in (False, True):
        place.argocd.refresh(ARGOCD, STEADY, hard=hard)

        def taken() -> bool:
            return "argocd.argoproj.io/refresh" not in place.application_json()["metadata"].get("annotations", {})

        place.wait("the refresh to be taken", taken)

"""What Argo CD does besides rolling out: nothing, pruning, healing, refusing, and looking without touching."""

import re
from collections.abc import Callable, Iterator

import pytest

from orchestration.promotion.cluster_status import ApplicationStatus
from tests.contract.content import steady
from tests.contract.manifests import Json, config_map, deployment
from tests.contract.place import (
    ARGOCD,
    BRANCH,
    CONTAINER,
    NAMESPACE,
    PODS,
    STEADY,
    Place,
    application_path,
    deployment_path,
)
from tests.contract.test_answers import MERGE
from tests.contract.test_lists import APPLICATIONS
from tests.contract.watching import history, version_of

FILE = f"{STEADY}/steady.yaml"
NOTES = f"{STEADY}/notes.yaml"
_REFUSED = re.compile(
    r'one or more objects failed to apply, reason: error when patching "/dev/shm/\d+": Deployment.apps "steady" is '
    r"invalid: spec.template.spec.containers\[0\].image: Required value"
)


@pytest.fixture
def image(place: Place) -> Iterator[str]:
    """An image that `steady` runs before and after the test."""
    image = place.image("synced")

    def roll_out() -> None:
        place.repository.write(FILE, *steady(image))
        place.repository.write(NOTES, config_map("notes", colour="blue"))
        place.bring(place.repository.push())
        place.wait("a rollout", lambda: place.rolled_out("steady", image))

    roll_out()
    yield image
    roll_out()


def when(place: Place, what: str, so: Callable[[ApplicationStatus], bool]) -> ApplicationStatus:
    """What Argo CD says in the moment in which it is so."""

    def look() -> ApplicationStatus | None:
        found = place.application()
        return found if so(found) else None

    return place.wait(what, look)


def errors(status: ApplicationStatus, kind: str) -> list[str]:
    return [message for found, message in status.conditions if found == kind]


def sync_policy(place: Place, automated: Json | None) -> None:
    patch = {"spec": {"syncPolicy": {"automated": automated}}}
    assert place.gcp.send("PATCH", application_path(), patch, MERGE).status == 200


def test_a_commit_that_changes_nothing_moves_only_what_was_compared(place: Place, image: str) -> None:
    """The new commit is Synced without an operation: the last one's revision stays the one before."""
    before = place.application()
    commit = place.repository.push()
    after = place.bring(commit)
    assert after.sync_revision == commit != before.sync_revision
    assert (after.operation_revision, after.operation_finished_at) == (
        before.operation_revision,
        before.operation_finished_at,
    )
    assert after.reconciled_at is not None
    assert before.reconciled_at is not None
    assert after.reconciled_at >= before.reconciled_at


def test_what_git_no_longer_has_is_pruned(place: Place, image: str) -> None:
    """The Deployment and its pods are deleted, and the operation has succeeded."""
    extra = f"{STEADY}/extra.yaml"
    place.repository.write(extra, deployment("extra", image))
    place.bring(place.repository.push())
    place.wait("extra", lambda: place.rolled_out("extra"))
    place.repository.remove(extra)
    commit = place.repository.push()
    place.bring(commit)
    place.wait("no Deployment", lambda: place.edge.get(deployment_path("extra")).status == 404)
    place.wait("no pods", lambda: not place.edge.items(PODS, {"labelSelector": "app=extra"}))
    done = when(place, "the operation's end", lambda one: one.operation_phase != "Running")
    assert (done.operation_phase, done.operation_revision) == ("Succeeded", commit)
    assert place.rolled_out("steady", image) is not None


def test_an_edit_by_hand_is_put_back(place: Place, image: str) -> None:
    """OutOfSync at the same commit, then an operation of the same revision, and Git's image again."""
    before, live = place.application(), place.deployment_json("steady")
    other = place.image("by-hand")
    version = version_of(place.gcp, APPLICATIONS)
    live["spec"]["template"]["spec"]["containers"][0]["image"] = other
    patch = {"spec": {"template": live["spec"]["template"]}}
    assert place.edge.send("PATCH", deployment_path("steady"), patch, MERGE).status == 200
    place.wait("Git's image", lambda: _image_of(place) == image)
    place.wait("all pods", lambda: place.rolled_out("steady", image))
    after = when(place, "Synced", lambda one: (one.sync_status, one.operation_phase) == ("Synced", "Succeeded"))
    assert after.sync_revision == after.operation_revision == before.sync_revision
    assert place.deployment_json("steady")["metadata"]["generation"] == live["metadata"]["generation"] + 2
    events = history(place.kubeconfig, "gcp", APPLICATIONS, version)
    said = [one["status"]["sync"]["status"] for _, one in events if one["metadata"]["name"] == STEADY]
    assert "OutOfSync" in said


def _image_of(place: Place) -> str:
    """The image that the live Deployment states."""
    containers = place.deployment_json("steady")["spec"]["template"]["spec"]["containers"]
    return str(next(one["image"] for one in containers if one["name"] == CONTAINER))


def test_without_auto_sync_a_push_is_seen_and_left_alone(place: Place, image: str) -> None:
    """OutOfSync at the new commit, no operation, the Deployment as it was; switched on again it is brought."""
    before = place.application()
    sync_policy(place, None)
    try:
        assert not place.application().auto_sync
        place.repository.write(FILE, *steady(place.image("left-alone")))
        commit = place.repository.push()
        seen = place.bring(commit, status="OutOfSync")
        assert seen.operation_revision == before.operation_revision
        assert seen.health_status == "Healthy"
        assert _image_of(place) == image
    finally:
        sync_policy(place, {"prune": True, "selfHeal": True})
    assert place.application().auto_sync
    when(place, "the operation", lambda one: (one.operation_revision, one.operation_phase) == (commit, "Succeeded"))


def test_auto_sync_that_is_switched_off_keeps_its_settings(place: Place, image: str) -> None:
    """`enabled: false` is off too, since Argo CD 3.0."""
    sync_policy(place, {"prune": True, "selfHeal": True, "enabled": False})
    try:
        assert not place.application().auto_sync
        commit = place.repository.push()
        place.repository.write(FILE, *steady(place.image("left-alone")))
        commit = place.repository.push()
        place.bring(commit, status="OutOfSync")
        assert _image_of(place) == image
    finally:
        sync_policy(place, {"prune": True, "selfHeal": True, "enabled": None})


def test_a_manifest_that_the_api_server_refuses(place: Place, image: str) -> None:
    """The operation stays Running with an end and the reason while it is tried again, then is Failed for good.

    It keeps its revision: what is pushed meanwhile is seen, and brought only after that.
    """
    (broken,) = steady("")
    place.repository.write(FILE, broken)
    refused = place.repository.push()
    place.argocd.refresh(ARGOCD, STEADY)
    waiting = when(place, "a retry", lambda one: ". Retrying attempt #1 at " in one.operation_message)
    said = _REFUSED.match(waiting.operation_message)
    assert said is not None
    assert waiting.operation_message[said.end() :].startswith(". Retrying attempt #1 at ")
    assert (waiting.operation_phase, waiting.operation_revision) == ("Running", refused)
    assert waiting.operation_finished_at is not None
    place.repository.write(FILE, *steady(image))
    cured = place.repository.push()
    place.argocd.refresh(ARGOCD, STEADY)
    failed = when(place, "Failed", lambda one: one.operation_phase == "Failed")
    assert failed.operation_revision == refused
    said = _REFUSED.match(failed.operation_message)
    assert said is not None
    assert failed.operation_message[said.end() :] == " (retried 1 times)."
    when(place, "the cure", lambda one: (one.sync_status, one.sync_revision) == ("Synced", cured))
    assert _image_of(place) == image


def test_a_failed_sync_is_not_tried_for_the_same_commit_again(place: Place, image: str) -> None:
    """After its last attempt the commit is OutOfSync with a SyncError, and the pods serve on."""
    (broken,) = steady("")
    place.repository.write(FILE, broken)
    refused = place.repository.push()
    place.argocd.refresh(ARGOCD, STEADY)
    said = f"Failed last sync attempt to [{refused}]: one or more objects failed to apply, reason: "
    status = when(place, "a SyncError", lambda one: bool(errors(one, "SyncError")))
    assert errors(status, "SyncError")[0].startswith(said)
    assert (status.sync_status, status.sync_revision, status.health_status) == ("OutOfSync", refused, "Healthy")
    assert status.operation_phase == "Failed"
    assert place.rolled_out("steady", image) is not None


def test_a_manifest_that_cannot_be_read_is_a_comparison_error(place: Place, image: str) -> None:
    """Sync is Unknown, at the branch and not at a commit; the condition names the file; nothing is touched."""
    place.repository.write_text(NOTES, "apiVersion: v1\nkind: ConfigMap\nmetadata: [\n")
    place.repository.push()
    place.argocd.refresh(ARGOCD, STEADY)
    status = when(place, "a ComparisonError", lambda one: bool(errors(one, "ComparisonError")))
    said = (
        r"Failed to load target state: failed to generate manifest for source 1 of 1: rpc error: "
        r'code = FailedPrecondition desc = Failed to unmarshal "[\w/-]*notes\.yaml": .*'
    )
    assert re.fullmatch(said, errors(status, "ComparisonError")[0])
    assert place.application_json()["status"]["sync"]["revision"] == BRANCH
    assert (status.sync_status, status.sync_revision, status.health_status) == ("Unknown", None, "Healthy")
    assert place.rolled_out("steady", image) is not None
    place.repository.write(NOTES, config_map("notes", colour="blue"))
    cured = place.bring(place.repository.push())
    assert cured.conditions == ()
    assert cured.health_status == "Healthy"


def test_a_file_that_does_not_look_like_a_manifest_is_left_out(place: Place, image: str) -> None:
    """Broken YAML without apiVersion, kind and metadata is no error: what the file held before is pruned."""

    def brought() -> set[str]:
        return {one["name"] for one in place.application_json()["status"]["resources"]}

    assert brought() == {"steady", "notes"}
    place.repository.write_text(NOTES, "a: [\n")
    status = place.bring(place.repository.push())
    assert status.conditions == ()
    place.wait("no notes", lambda: brought() == {"steady"})


def test_an_application_that_is_not_there_is_none(place: Place) -> None:
    """The adapter says so, and a Deployment that is not there is None as well."""
    assert place.argocd.application(ARGOCD, "other") is None
    assert place.cluster.workload("Deployment", NAMESPACE, "other") is None

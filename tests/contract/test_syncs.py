"""What Argo CD does besides rolling out: nothing at all, pruning, self-healing, failing, and comparing only."""

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
    """Publish an image that `steady` runs before and after the test."""
    image = place.image("synced")

    def roll_out() -> None:
        place.repository.write(FILE, *steady(image))
        place.repository.write(NOTES, config_map("notes", colour="blue"))
        place.bring(place.repository.push())
        place.wait("a rollout", lambda: place.rolled_out("steady", image))

    roll_out()
    yield image
    roll_out()


def when(place: Place, what: str, condition: Callable[[ApplicationStatus], bool]) -> ApplicationStatus:
    """Wait until the Application's status meets a condition, and return that status."""

    def look() -> ApplicationStatus | None:
        status = place.application()
        return status if condition(status) else None

    return place.wait(what, look)


def errors(status: ApplicationStatus, kind: str) -> list[str]:
    return [message for type_, message in status.conditions if type_ == kind]


def sync_policy(place: Place, automated: Json | None) -> None:
    patch = {"spec": {"syncPolicy": {"automated": automated}}}
    assert place.gcp.send("PATCH", application_path(), patch, MERGE).status == 200


def test_a_commit_that_changes_nothing_moves_only_what_was_compared(place: Place, image: str) -> None:
    """The new commit is Synced without an operation, so the operation's revision remains the previous commit."""
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
    """A Deployment whose file is removed is deleted with its pods, and the operation succeeds."""
    extra = f"{STEADY}/extra.yaml"
    place.repository.write(extra, deployment("extra", image))
    place.bring(place.repository.push())
    place.wait("extra", lambda: place.rolled_out("extra"))
    place.repository.remove(extra)
    commit = place.repository.push()
    place.bring(commit)
    place.wait("no Deployment", lambda: place.edge.get(deployment_path("extra")).status == 404)
    place.wait("no pods", lambda: not place.edge.items(PODS, {"labelSelector": "app=extra"}))
    ended = when(place, "the operation's end", lambda status: status.operation_phase != "Running")
    assert (ended.operation_phase, ended.operation_revision) == ("Succeeded", commit)
    assert place.rolled_out("steady", image) is not None


def test_an_edit_by_hand_is_reverted(place: Place, image: str) -> None:
    """The Application is OutOfSync at the same commit until an operation of that revision restores Git's image."""
    before, live = place.application(), place.deployment_json("steady")
    other = place.image("by-hand")
    version = version_of(place.gcp, APPLICATIONS)
    live["spec"]["template"]["spec"]["containers"][0]["image"] = other
    patch = {"spec": {"template": live["spec"]["template"]}}
    assert place.edge.send("PATCH", deployment_path("steady"), patch, MERGE).status == 200
    place.wait("Git's image", lambda: _image_of(place) == image)
    place.wait("all pods", lambda: place.rolled_out("steady", image))
    after = when(
        place, "Synced", lambda status: (status.sync_status, status.operation_phase) == ("Synced", "Succeeded")
    )
    assert after.sync_revision == after.operation_revision == before.sync_revision
    assert place.deployment_json("steady")["metadata"]["generation"] == live["metadata"]["generation"] + 2
    events = history(place.kubeconfig, "gcp", APPLICATIONS, version)
    statuses = [item["status"]["sync"]["status"] for _, item in events if item["metadata"]["name"] == STEADY]
    assert "OutOfSync" in statuses


def _image_of(place: Place) -> str:
    """Return the image that the live Deployment states."""
    containers = place.deployment_json("steady")["spec"]["template"]["spec"]["containers"]
    return str(next(container["image"] for container in containers if container["name"] == CONTAINER))


def test_without_auto_sync_a_push_is_compared_and_not_applied(place: Place, image: str) -> None:
    """The Application is OutOfSync at the new commit and nothing changes, until auto-sync is on again."""
    before = place.application()
    sync_policy(place, None)
    try:
        assert not place.application().auto_sync
        place.repository.write(FILE, *steady(place.image("left-alone")))
        commit = place.repository.push()
        compared = place.bring(commit, status="OutOfSync")
        assert compared.operation_revision == before.operation_revision
        assert compared.health_status == "Healthy"
        assert _image_of(place) == image
    finally:
        sync_policy(place, {"prune": True, "selfHeal": True})
    assert place.application().auto_sync
    succeeded = (commit, "Succeeded")
    when(place, "the operation", lambda status: (status.operation_revision, status.operation_phase) == succeeded)


def test_auto_sync_that_is_switched_off_keeps_its_settings(place: Place, image: str) -> None:
    """Since Argo CD 3.0, `enabled: false` switches auto-sync off while its other settings remain."""
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
    """While it is retried, the operation remains Running with an end time and the reason; at last it is Failed.

    It keeps its revision: commits pushed meanwhile are compared, but applied only after it has failed.
    """
    (broken,) = steady("")
    place.repository.write(FILE, broken)
    refused = place.repository.push()
    place.argocd.refresh(ARGOCD, STEADY)
    waiting = when(place, "a retry", lambda status: ". Retrying attempt #1 at " in status.operation_message)
    reason = _REFUSED.match(waiting.operation_message)
    assert reason is not None
    assert waiting.operation_message[reason.end() :].startswith(". Retrying attempt #1 at ")
    assert (waiting.operation_phase, waiting.operation_revision) == ("Running", refused)
    assert waiting.operation_finished_at is not None
    place.repository.write(FILE, *steady(image))
    fixed = place.repository.push()
    place.argocd.refresh(ARGOCD, STEADY)
    failed = when(place, "Failed", lambda status: status.operation_phase == "Failed")
    assert failed.operation_revision == refused
    reason = _REFUSED.match(failed.operation_message)
    assert reason is not None
    assert failed.operation_message[reason.end() :] == " (retried 1 times)."
    when(place, "the fixed commit", lambda status: (status.sync_status, status.sync_revision) == ("Synced", fixed))
    assert _image_of(place) == image


def test_a_failed_sync_of_a_commit_is_not_repeated(place: Place, image: str) -> None:
    """After the last attempt the commit is OutOfSync with a SyncError, and the pods go on serving."""
    (broken,) = steady("")
    place.repository.write(FILE, broken)
    refused = place.repository.push()
    place.argocd.refresh(ARGOCD, STEADY)
    message = f"Failed last sync attempt to [{refused}]: one or more objects failed to apply, reason: "
    status = when(place, "a SyncError", lambda status: bool(errors(status, "SyncError")))
    assert errors(status, "SyncError")[0].startswith(message)
    assert (status.sync_status, status.sync_revision, status.health_status) == ("OutOfSync", refused, "Healthy")
    assert status.operation_phase == "Failed"
    assert place.rolled_out("steady", image) is not None


def test_a_manifest_that_cannot_be_read_is_a_comparison_error(place: Place, image: str) -> None:
    """The sync status is Unknown at the branch instead of a commit; the condition names the file; nothing changes."""
    place.repository.write_text(NOTES, "apiVersion: v1\nkind: ConfigMap\nmetadata: [\n")
    place.repository.push()
    place.argocd.refresh(ARGOCD, STEADY)
    status = when(place, "a ComparisonError", lambda status: bool(errors(status, "ComparisonError")))
    message = (
        r"Failed to load target state: failed to generate manifest for source 1 of 1: rpc error: "
        r'code = FailedPrecondition desc = Failed to unmarshal "[\w/-]*notes\.yaml": .*'
    )
    assert re.fullmatch(message, errors(status, "ComparisonError")[0])
    assert place.application_json()["status"]["sync"]["revision"] == BRANCH
    assert (status.sync_status, status.sync_revision, status.health_status) == ("Unknown", None, "Healthy")
    assert place.rolled_out("steady", image) is not None
    place.repository.write(NOTES, config_map("notes", colour="blue"))
    fixed = place.bring(place.repository.push())
    assert fixed.conditions == ()
    assert fixed.health_status == "Healthy"


def test_a_file_that_does_not_look_like_a_manifest_is_ignored(place: Place, image: str) -> None:
    """Broken YAML without apiVersion, kind and metadata is not an error: what the file held before is pruned."""

    def managed() -> set[str]:
        return {resource["name"] for resource in place.application_json()["status"]["resources"]}

    assert managed() == {"steady", "notes"}
    place.repository.write_text(NOTES, "a: [\n")
    status = place.bring(place.repository.push())
    assert status.conditions == ()
    place.wait("no notes", lambda: managed() == {"steady"})


def test_a_missing_application_or_deployment_is_none(place: Place) -> None:
    """The adapters return None for an Application or a Deployment that does not exist."""
    assert place.argocd.application(ARGOCD, "other") is None
    assert place.cluster.workload("Deployment", NAMESPACE, "other") is None

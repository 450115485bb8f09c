"""The awkward truths of Argo CD, each of which a promotion must see through."""

import time

from tests.sandbox.cluster.conftest import APPLICATION, DEPLOYMENT, REPOSITORY, Running


def test_a_dropped_refresh_leaves_the_old_revision_standing(running: Running) -> None:
    """A refresh that is dropped is taken away unworked, and the next one works (argo-cd#28392)."""
    running.platform.images.publish("v2")
    running.cluster.set_faults(drop_refreshes=1)
    commit = running.platform.set_image(f"{REPOSITORY}:v2")
    running.refresh()
    running.cluster.wait_for("the refresh to be taken away", running.refresh_worked_on)
    assert running.application["status"]["sync"]["revision"] != commit
    assert running.application["status"]["sync"]["status"] == "Synced"
    running.refresh()
    running.cluster.wait_for("the rollout", lambda: running.rolled_out(commit, f"{REPOSITORY}:v2"))


def test_a_refresh_that_arrives_during_a_comparison_is_lost(running: Running) -> None:
    """The comparison under way takes the request of a newer commit away without having seen it (argo-cd#28306)."""
    running.cluster.set_faults(reconcile_seconds=3)
    first = running.platform.push()
    running.refresh()
    begun = f"compares with {first[:12]}"
    running.cluster.wait_for("the comparison", lambda: begun in running.cluster.log_file.read_text())
    second = running.platform.push()
    running.refresh()
    running.cluster.wait_for("its end", running.refresh_worked_on)
    assert running.application["status"]["sync"]["revision"] == first
    running.cluster.set_faults(reconcile_seconds=0)
    running.refresh()
    running.cluster.wait_for("the revision", lambda: running.application["status"]["sync"]["revision"] == second)


def test_a_commit_that_changes_nothing_moves_only_the_compared_revision(running: Running) -> None:
    """An empty commit is Synced at once; the last operation's revision stays the one before."""
    before = running.application["status"]["operationState"]["syncResult"]["revision"]
    commit = running.platform.push()
    running.refresh()
    running.cluster.wait_for("the revision", lambda: running.application["status"]["sync"]["revision"] == commit)
    assert running.application["status"]["operationState"]["syncResult"]["revision"] == before


def test_a_poisoned_cache_says_synced_on_older_manifests(running: Running) -> None:
    """HEAD is reported Synced with the manifests of before until a hard refresh (argo-cd#26530)."""
    running.platform.images.publish("v2")
    running.cluster.set_faults(poisoned_cache=True)
    commit = running.platform.set_image(f"{REPOSITORY}:v2")
    running.refresh()
    running.cluster.wait_for("the revision", lambda: running.application["status"]["sync"]["revision"] == commit)
    running.refresh()
    running.cluster.wait_for("another refresh", running.refresh_worked_on)
    assert running.application["status"]["sync"]["status"] == "Synced"
    live = running.deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert live == f"{REPOSITORY}:v1"
    running.refresh("hard")
    running.cluster.wait_for("the rollout", lambda: running.rolled_out(commit, f"{REPOSITORY}:v2"))


def test_an_operation_may_never_get_its_end(running: Running) -> None:
    """A phase of Succeeded without finishedAt, for ever (argo-cd#29636)."""
    running.platform.images.publish("v2")
    running.cluster.set_faults(never_finish=True)
    running.roll_out(f"{REPOSITORY}:v2")
    operation = running.application["status"]["operationState"]
    assert operation["phase"] == "Succeeded"
    assert "finishedAt" not in operation


def test_without_auto_sync_a_push_stays_out_of_sync(running: Running) -> None:
    """A patch that takes the sync policy away stops syncs: the new revision is seen and not applied."""
    running.platform.images.publish("v2")
    running.cluster.patch(APPLICATION, {"spec": {"syncPolicy": {"automated": None}}}).raise_for_status()
    commit = running.platform.set_image(f"{REPOSITORY}:v2")
    running.refresh()
    running.cluster.wait_for("the revision", lambda: running.application["status"]["sync"]["revision"] == commit)
    assert running.application["status"]["sync"]["status"] == "OutOfSync"
    assert running.deployment["metadata"]["generation"] == 1
    running.cluster.patch(APPLICATION, {"spec": {"syncPolicy": {"automated": {"selfHeal": True}}}}).raise_for_status()
    running.cluster.wait_for("the rollout", lambda: running.rolled_out(commit, f"{REPOSITORY}:v2"))


def test_a_manifest_that_is_refused_fails_the_operation_once(running: Running) -> None:
    """An empty image is refused: the operation is Failed, not tried again for that commit, and the next one cures."""
    running.platform.set_image('""')
    running.refresh()

    def failed() -> bool:
        return any(one["type"] == "SyncError" for one in running.application["status"].get("conditions", []))

    running.cluster.wait_for("the failure", failed)
    operation = running.application["status"]["operationState"]
    assert operation["phase"] == "Failed"
    assert "image: Required value" in operation["message"]
    running.platform.images.publish("v2")
    running.roll_out(f"{REPOSITORY}:v2")


def test_a_file_that_is_no_yaml_is_a_comparison_error(running: Running) -> None:
    """What cannot be rendered leaves the sync status Unknown with the reason, and the pods alone."""
    running.platform.write("manifests/iris/broken.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: [")
    running.platform.push()
    running.refresh()

    def errors() -> list[str]:
        conditions = running.application["status"].get("conditions", [])
        return [one["message"] for one in conditions if one["type"] == "ComparisonError"]

    assert "broken.yaml" in running.cluster.wait_for("the error", errors)[0]
    assert running.application["status"]["sync"]["status"] == "Unknown"
    assert len(running.pods) == 2


def test_a_frozen_argo_cd_goes_on_saying_what_it_said(running: Running) -> None:
    """Nothing moves while it is frozen, whatever is asked; afterwards the request is worked on."""
    running.cluster.set_faults(freeze_argocd=True)
    commit = running.platform.push()
    running.refresh()
    before = running.application["status"]
    time.sleep(0.5)  # there is no condition for what must not happen
    assert running.application["status"] == before
    assert not running.refresh_worked_on()
    running.cluster.set_faults(freeze_argocd=False)
    running.cluster.wait_for("the revision", lambda: running.application["status"]["sync"]["revision"] == commit)


def test_a_variable_that_git_drops_is_taken_away(running: Running) -> None:
    """A field that was applied and left Git again is removed, although nothing that Git states differs."""
    resources = "resources: {requests"
    variable = "env: [{name: COLOUR, value: blue}]\n          " + resources
    running.roll_out(f"{REPOSITORY}:v1", **{resources: variable})
    assert running.cluster.get(DEPLOYMENT)["spec"]["template"]["spec"]["containers"][0]["env"]
    running.roll_out(f"{REPOSITORY}:v1")
    running.cluster.wait_for(
        "its end", lambda: "env" not in running.cluster.get(DEPLOYMENT)["spec"]["template"]["spec"]["containers"][0]
    )

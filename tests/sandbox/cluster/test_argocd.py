"""Argo CD's awkward behaviour, by which a promotion must not be misled."""

import time

from tests.sandbox.cluster.conftest import APPLICATION, DEPLOYMENT, REPOSITORY, Running


def test_a_dropped_refresh_leaves_the_old_revision(running: Running) -> None:
    """A dropped refresh is removed without a comparison, and the next refresh works (argo-cd#28392)."""
    running.platform.images.publish("v2")
    running.cluster.set_faults(drop_refreshes=1)
    commit = running.platform.set_image(f"{REPOSITORY}:v2")
    running.refresh()
    running.cluster.wait_for("the refresh to be removed", running.refresh_handled)
    assert running.application["status"]["sync"]["revision"] != commit
    assert running.application["status"]["sync"]["status"] == "Synced"
    running.refresh()
    running.cluster.wait_for("the rollout", lambda: running.rolled_out(commit, f"{REPOSITORY}:v2"))


def test_a_refresh_that_arrives_during_a_comparison_is_lost(running: Running) -> None:
    """A comparison removes a refresh that arrives meanwhile, without having seen the newer commit (argo-cd#28306)."""
    running.cluster.set_faults(reconcile_seconds=3)
    first = running.platform.push()
    running.refresh()
    log_line = f"compares with {first[:12]}"
    running.cluster.wait_for("the comparison", lambda: log_line in running.cluster.log_file.read_text())
    second = running.platform.push()
    running.refresh()
    running.cluster.wait_for("its end", running.refresh_handled)
    assert running.application["status"]["sync"]["revision"] == first
    running.cluster.set_faults(reconcile_seconds=0)
    running.refresh()
    running.cluster.wait_for("the revision", lambda: running.application["status"]["sync"]["revision"] == second)


def test_a_commit_that_changes_nothing_changes_only_the_compared_revision(running: Running) -> None:
    """An empty commit is Synced at once, while the last operation keeps its earlier revision."""
    before = running.application["status"]["operationState"]["syncResult"]["revision"]
    commit = running.platform.push()
    running.refresh()
    running.cluster.wait_for("the revision", lambda: running.application["status"]["sync"]["revision"] == commit)
    assert running.application["status"]["operationState"]["syncResult"]["revision"] == before


def test_a_poisoned_cache_reports_synced_with_older_manifests(running: Running) -> None:
    """HEAD is reported as Synced with the previous manifests until a hard refresh (argo-cd#26530)."""
    running.platform.images.publish("v2")
    running.cluster.set_faults(poisoned_cache=True)
    commit = running.platform.set_image(f"{REPOSITORY}:v2")
    running.refresh()
    running.cluster.wait_for("the revision", lambda: running.application["status"]["sync"]["revision"] == commit)
    running.refresh()
    running.cluster.wait_for("another refresh", running.refresh_handled)
    assert running.application["status"]["sync"]["status"] == "Synced"
    live = running.deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert live == f"{REPOSITORY}:v1"
    running.refresh("hard")
    running.cluster.wait_for("the rollout", lambda: running.rolled_out(commit, f"{REPOSITORY}:v2"))


def test_an_operation_may_never_finish(running: Running) -> None:
    """An operation can stay Succeeded without ever getting a finishedAt (argo-cd#29636)."""
    running.platform.images.publish("v2")
    running.cluster.set_faults(never_finish=True)
    running.roll_out(f"{REPOSITORY}:v2")
    operation = running.application["status"]["operationState"]
    assert operation["phase"] == "Succeeded"
    assert "finishedAt" not in operation


def test_without_auto_sync_a_push_stays_out_of_sync(running: Running) -> None:
    """After a patch removes the sync policy, a new revision is seen but not applied."""
    running.platform.images.publish("v2")
    running.cluster.patch(APPLICATION, {"spec": {"syncPolicy": {"automated": None}}}).raise_for_status()
    commit = running.platform.set_image(f"{REPOSITORY}:v2")
    running.refresh()
    running.cluster.wait_for("the revision", lambda: running.application["status"]["sync"]["revision"] == commit)
    assert running.application["status"]["sync"]["status"] == "OutOfSync"
    assert running.deployment["metadata"]["generation"] == 1
    running.cluster.patch(APPLICATION, {"spec": {"syncPolicy": {"automated": {"selfHeal": True}}}}).raise_for_status()
    running.cluster.wait_for("the rollout", lambda: running.rolled_out(commit, f"{REPOSITORY}:v2"))


def test_a_refused_manifest_fails_the_operation_once(running: Running) -> None:
    """An empty image fails the operation, which is not retried for that commit, and the next commit repairs it."""
    running.platform.set_image('""')
    running.refresh()

    def failed() -> bool:
        return any(each["type"] == "SyncError" for each in running.application["status"].get("conditions", []))

    running.cluster.wait_for("the failure", failed)
    operation = running.application["status"]["operationState"]
    assert operation["phase"] == "Failed"
    assert "image: Required value" in operation["message"]
    running.platform.images.publish("v2")
    running.roll_out(f"{REPOSITORY}:v2")


def test_a_file_that_is_not_yaml_is_a_comparison_error(running: Running) -> None:
    """A file that cannot be rendered makes the sync status Unknown, with the reason, and leaves the pods alone."""
    running.platform.write("manifests/iris/broken.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: [")
    running.platform.push()
    running.refresh()

    def errors() -> list[str]:
        conditions = running.application["status"].get("conditions", [])
        return [condition["message"] for condition in conditions if condition["type"] == "ComparisonError"]

    assert "broken.yaml" in running.cluster.wait_for("the error", errors)[0]
    assert running.application["status"]["sync"]["status"] == "Unknown"
    assert len(running.pods) == 2


def test_a_frozen_argo_cd_keeps_its_status(running: Running) -> None:
    """While Argo CD is frozen nothing changes, even after a refresh, which is handled afterwards."""
    running.cluster.set_faults(freeze_argocd=True)
    commit = running.platform.push()
    running.refresh()
    before = running.application["status"]
    time.sleep(0.5)  # there is no condition for what must not happen
    assert running.application["status"] == before
    assert not running.refresh_handled()
    running.cluster.set_faults(freeze_argocd=False)
    running.cluster.wait_for("the revision", lambda: running.application["status"]["sync"]["revision"] == commit)


def test_a_variable_that_git_drops_is_removed(running: Running) -> None:
    """A field that was applied and then left Git is removed, although no field that Git states differs."""
    resources = "resources: {requests"
    variable = "env: [{name: COLOUR, value: blue}]\n          " + resources
    running.roll_out(f"{REPOSITORY}:v1", **{resources: variable})
    assert running.cluster.get(DEPLOYMENT)["spec"]["template"]["spec"]["containers"][0]["env"]
    running.roll_out(f"{REPOSITORY}:v1")
    running.cluster.wait_for(
        "its end", lambda: "env" not in running.cluster.get(DEPLOYMENT)["spec"]["template"]["spec"]["containers"][0]
    )

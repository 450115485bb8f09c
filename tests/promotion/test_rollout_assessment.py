"""Whether a committed image is rolled out, and whose fault it is when not; each of the five conditions has a test."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.cluster_status import ApplicationStatus, WorkloadStatus
from orchestration.promotion.images import parse_image
from orchestration.promotion.rollout_assessment import (
    ModelFailed,
    NotJudged,
    Progressing,
    RolledOut,
    assess,
    at_deadline,
)
from orchestration.promotion.rollout_conditions import Expected, Revision, conditions
from tests.fakes.cluster import a_deployment, a_pod, an_application

DIGEST, MANIFEST, CONFIG = ("sha256:" + letter * 64 for letter in "abc")
IMAGE = f"ghcr.io/o/model:v7@{DIGEST}"
OLD = "ghcr.io/o/model:v6@sha256:" + "0" * 64
REFERENCE = parse_image(IMAGE)
assert REFERENCE is not None
EXPECTED = Expected("platform", REFERENCE, "model-server", frozenset((DIGEST, MANIFEST, CONFIG)))
PODS = (a_pod("p1", IMAGE), a_pod("p2", IMAGE))
LIVE = a_deployment(IMAGE, PODS, namespace="ml-apps", name="iris")
APPLICATION = an_application("platform", name="iris")


def recognise(revision: str) -> Revision:
    """Know our commit, a descendant with our image, one that reverted it, and two commits before; no other revision."""
    known = {"platform": Revision.OURS, "later": Revision.OURS, "earlier": Revision.EARLIER}
    return known.get(revision, Revision.OTHER if revision in ("reverted", "before") else Revision.UNKNOWN)


def look(
    application: ApplicationStatus | None = APPLICATION, workload: WorkloadStatus | None = LIVE
) -> RolledOut | Progressing | ModelFailed | NotJudged:
    return assess(application, workload, EXPECTED, recognise)


def waits(outcome: object) -> tuple[str, str]:
    """The unmet condition of a rollout that is progressing, and the refresh that may help."""
    assert isinstance(outcome, Progressing), outcome
    return outcome.condition, outcome.refresh


def test_all_five_conditions_at_once_are_a_rollout() -> None:
    """The outcome carries the template's hash and the new pods, which the gate judges next."""
    assert look() == RolledOut("new", PODS)
    rows = conditions(APPLICATION, LIVE, EXPECTED, recognise)
    assert [condition.name for condition in rows] == ["revision", "operation", "image", "replicas", "digests"]
    assert all(condition.met for condition in rows)


def test_at_the_deadline_what_was_waited_for_is_found_and_never_what_is_fine() -> None:
    """All pods are new and available, and Argo CD alone is behind."""
    outcome = at_deadline(APPLICATION, LIVE, EXPECTED, "Argo CD has synced 271a, which does not have our image")
    assert isinstance(outcome, NotJudged)
    assert outcome.problem.found == "Argo CD has synced 271a, which does not have our image"


def test_a_commit_that_brings_back_what_was_synced_last_needs_no_sync() -> None:
    """Argo CD never saw the commit in between, finds nothing to sync, and keeps the operation of an ancestor."""
    unsynced = replace(APPLICATION, operation_revision="earlier")
    assert isinstance(look(unsynced), RolledOut)
    for not_yet in (
        replace(unsynced, sync_status="OutOfSync"),
        replace(unsynced, sync_revision="earlier"),
        replace(unsynced, operation_revision="before"),
        replace(unsynced, operation_revision="reverted"),
    ):
        assert waits(look(not_yet))[0] == "revision"


@pytest.mark.parametrize("revision", ["earlier", "before", "reverted", "stranger", None])
def test_condition_a_the_compared_revision_must_be_ours(revision: str | None) -> None:
    """Right after a push Argo CD says Synced and Healthy of the old revision (kargo#2196): it is asked again."""
    assert waits(look(replace(APPLICATION, sync_revision=revision))) == ("revision", "normal")


def test_condition_a_the_synced_revision_may_lag_but_must_be_ours() -> None:
    """A no-op commit is compared and never synced (argo-cd#16601); an operation before our commit is not enough."""
    assert isinstance(look(replace(APPLICATION, sync_revision="later")), RolledOut)
    assert isinstance(look(replace(APPLICATION, sync_revision="later", operation_revision="later")), RolledOut)
    assert waits(look(replace(APPLICATION, operation_revision="before")))[0] == "revision"


@pytest.mark.parametrize(
    "operation",
    [
        {"operation_phase": None},
        {"operation_phase": "Running"},
        {"operation_phase": "Terminating"},
        {"operation_finished_at": None},
        {"reconciled_at": 99.0},
        {"reconciled_at": None},
    ],
)
def test_condition_b_the_operation_succeeded_and_its_result_was_compared(operation: dict[str, Any]) -> None:
    """Status from before the sync is stale; finishedAt may never be set (argo-cd#29636), and the finding says so."""
    assert waits(look(replace(APPLICATION, **operation)))[0] == "operation"


def test_condition_c_the_live_image_is_ours() -> None:
    """Synced at our revision with older, cached manifests (argo-cd#26530): only a hard refresh helps."""
    stale = replace(LIVE, images={"model-server": OLD})
    assert waits(look(workload=stale)) == ("image", "hard")
    assert waits(look(replace(APPLICATION, operation_revision="before"), stale)) == ("revision", "hard")


def test_no_hard_refresh_disturbs_a_sync_under_way() -> None:
    """Argo CD has seen our revision and is applying it: nothing is wrong yet."""
    stale = replace(LIVE, images={"model-server": OLD})
    begun = replace(APPLICATION, sync_status="OutOfSync", operation_revision="before")
    assert waits(look(begun, stale))[1] == "no"
    assert waits(look(replace(APPLICATION, operation_phase="Running"), stale))[1] == "no"
    assert waits(look(workload=None)) == ("image", "hard")


def test_another_tag_of_the_same_digest_is_our_image() -> None:
    """The pinned digest decides; another repository or digest is another image, whatever its tag."""
    untagged = replace(LIVE, images={"model-server": f"ghcr.io/o/model@{DIGEST}"})
    elsewhere = replace(LIVE, images={"model-server": f"ghcr.io/x/model:v7@{DIGEST}"})
    assert isinstance(look(workload=untagged), RolledOut)
    assert waits(look(workload=elsewhere))[0] == "image"


@pytest.mark.parametrize(
    "change",
    [
        {"observed_generation": 1},
        {"updated": 1},
        {"available": 1},
        {"total": 3},
        {"wanted": 3},
        {"paused": True},
        {"wanted": 0, "updated": 0, "available": 0, "total": 0, "pods": ()},
        {"template_hash": None},
        {"pods": (*PODS, a_pod("old", OLD, template_hash="old"))},
        {"pods": (PODS[0], replace(PODS[1], deleting=True))},
        {"pods": PODS[:1]},
    ],
)
def test_condition_d_all_wanted_pods_are_new_and_no_old_one_is_left(change: dict[str, Any]) -> None:
    """Any one count can be right while old pods still answer; a workload without replicas proves nothing."""
    outcome = look(workload=replace(LIVE, **change))
    assert isinstance(outcome, Progressing)
    assert outcome.condition == "replicas"


def test_condition_d_holds_while_an_autoscaler_removes_pods() -> None:
    """The pod being removed has the new template, so the rollout is complete although that pod still answers."""
    leaving = replace(a_pod("p3", IMAGE), deleting=True)
    assert look(workload=replace(LIVE, pods=(*PODS, leaving))) == RolledOut("new", PODS)
    old = replace(a_pod("old", OLD, template_hash="old"), deleting=True)
    assert waits(look(workload=replace(LIVE, pods=(*PODS, old)))) == ("replicas", "no")


def test_condition_d_waits_for_the_pods_that_scaling_adds() -> None:
    """Whether or not the controller has created them yet; that one of them is not ready is nobody's fault."""
    asked_for = replace(LIVE, generation=3, wanted=3)
    seen = replace(asked_for, observed_generation=3)
    starting = replace(seen, updated=3, total=3, pods=(*PODS, a_pod("p3", IMAGE, ready=False)))
    for workload in (asked_for, seen, starting):
        assert waits(look(workload=workload)) == ("replicas", "no")
    three = replace(starting, available=3, pods=(*PODS, a_pod("p3", IMAGE)))
    assert isinstance(look(workload=three), RolledOut)


def test_condition_d_an_unready_pod_is_waited_for() -> None:
    """The Deployment's counts lag behind its pods."""
    waiting = replace(LIVE, pods=(PODS[0], a_pod("p2", IMAGE, ready=False)))
    assert waits(look(workload=waiting)) == ("replicas", "no")


@pytest.mark.parametrize(
    "image_id", [f"ghcr.io/o/model@{DIGEST}", f"mirror/x@{MANIFEST}", CONFIG, f"docker-pullable://x@{DIGEST}"]
)
def test_condition_e_any_known_digest_of_the_image_is_ours(image_id: str) -> None:
    """A kubelet may report the index, the platform's manifest or the config, with or without a repository."""
    pods = (PODS[0], a_pod("p2", IMAGE, image_id=image_id))
    assert isinstance(look(workload=replace(LIVE, pods=pods)), RolledOut)


def test_condition_e_a_pod_that_has_not_reported_its_image_is_waited_for() -> None:
    """An absent imageID proves nothing, even for a ready pod."""
    pods = (PODS[0], a_pod("p2", IMAGE, image_id=""))
    assert waits(look(workload=replace(LIVE, pods=pods))) == ("digests", "no")


@pytest.mark.parametrize("image_id", ["ghcr.io/o/model@sha256:" + "f" * 64, "ghcr.io/o/model:v7"])
def test_condition_e_another_digest_is_an_error_at_once(image_id: str) -> None:
    """Something serves another image under our reference: waiting does not help, and the model is not to blame."""
    pods = (PODS[0], a_pod("p2", IMAGE, image_id=image_id, waiting_reason="CrashLoopBackOff", ready=False))
    outcome = look(workload=replace(LIVE, pods=pods))
    assert isinstance(outcome, NotJudged)
    assert image_id.rpartition("@")[2] in outcome.problem.found


def test_condition_e_is_not_met_by_another_digest() -> None:
    """An adoption goes by the condition alone: what one pod runs must be ours, whatever its reference says."""
    pods = (PODS[0], a_pod("p2", IMAGE, image_id="ghcr.io/o/model@sha256:" + "d" * 64))
    digests = conditions(APPLICATION, replace(LIVE, pods=pods), EXPECTED, recognise)[-1]
    assert (digests.met, digests.finding) == (False, f"pod p2 runs another image, sha256:{'d' * 64}")


@pytest.mark.parametrize("phase", ["Failed", "Error"])
def test_a_failed_sync_of_our_commit_is_the_platforms_fault_and_final(phase: str) -> None:
    """Argo CD never syncs the same commit again by itself; the failed sync of an older commit blocks nothing."""
    failed = replace(APPLICATION, operation_phase=phase, operation_message="admission webhook denied")
    outcome = look(failed)
    assert isinstance(outcome, NotJudged)
    assert outcome.problem.found == f"sync operation {phase}: admission webhook denied"
    assert "argocd app sync iris" in outcome.problem.next_step
    old_failure = replace(failed, operation_revision="before", sync_revision="before")
    assert waits(look(old_failure)) == ("revision", "normal")


def test_auto_sync_switched_off_during_a_rollout_is_not_judged() -> None:
    """Argo CD would apply nothing more, not even a rollback."""
    outcome = look(replace(APPLICATION, auto_sync=False))
    assert isinstance(outcome, NotJudged)
    assert outcome.problem.found == "auto-sync switched off"


def test_an_application_that_is_gone_or_refused_is_not_judged() -> None:
    """A person has to fix its spec."""
    outcome = look(None)
    assert isinstance(outcome, NotJudged)
    assert outcome.problem.found == "no such Application"
    refused = replace(APPLICATION, conditions=(("InvalidSpecError", "no such project"),))
    assert isinstance(look(refused), NotJudged)


def test_a_comparison_error_is_waited_out_and_reported() -> None:
    """A restarting repo-server is enough to cause one; Argo CD then has no revision and must be asked again."""
    broken = replace(APPLICATION, sync_revision=None, conditions=(("ComparisonError", "repo-server is away"),))
    outcome = look(broken)
    assert waits(outcome) == ("revision", "normal")
    assert isinstance(outcome, Progressing)
    assert "repo-server is away" in outcome.waiting_for


def crashing(**changes: Any) -> WorkloadStatus:
    container = {"ready": False, "restarts": 2, "last_exit_code": 1} | changes
    return replace(LIVE, pods=(PODS[0], a_pod("p2", IMAGE, **container)), available=1)


def test_a_crash_loop_of_our_image_fails_before_the_deadline() -> None:
    """Whatever Argo CD says meanwhile, even that an operation is running; the outcome names the log to read."""
    outcome = look(replace(APPLICATION, operation_phase="Running"), crashing())
    assert isinstance(outcome, ModelFailed)
    assert (outcome.reason_code, outcome.log and outcome.log.pod) == ("crash", "p2")


def test_a_crash_of_the_old_image_says_nothing_about_the_model() -> None:
    """Before our image is live, the pods of the current template are the incumbent's."""
    old = replace(crashing(), images={"model-server": OLD})
    assert isinstance(look(replace(APPLICATION, sync_revision="before"), old), Progressing)
    assert isinstance(at_deadline(APPLICATION, old, EXPECTED, "it waits"), NotJudged)


def test_trouble_on_the_platforms_side_never_ends_the_waiting_early() -> None:
    """A node may come back, or an autoscaler may add one."""
    stuck = replace(LIVE, available=1, pods=(PODS[0], replace(a_pod("p2", IMAGE, ready=False), unschedulable="0/1")))
    assert isinstance(look(workload=stuck), Progressing)


def unready(name: str = "p2") -> Any:
    return a_pod(name, IMAGE, ready=False)


@pytest.mark.parametrize(
    ("pods", "fault"),
    [
        ((PODS[0], unready()), ModelFailed),
        ((PODS[0], a_pod("p2", IMAGE, ready=False, restarts=1, last_exit_code=1)), ModelFailed),
        ((unready("p1"), replace(unready(), unschedulable="0/1 nodes")), NotJudged),
        ((crashing().pods[1], replace(unready(), unschedulable="0/1 nodes")), ModelFailed),
        ((PODS[0], replace(unready(), phase="Failed", reason="Evicted"), unready("p3")), ModelFailed),
        ((PODS[0], replace(PODS[1], ready=False)), NotJudged),
        ((PODS[0],), NotJudged),
        ((*PODS, a_pod("old", OLD, template_hash="old")), NotJudged),
    ],
    ids=["readiness", "crash", "readiness+node", "crash+node", "evicted+readiness", "lost-node", "no-pod", "old-stays"],
)
def test_the_deadline_blames_the_model_only_for_what_is_its_own(pods: tuple[Any, ...], fault: type) -> None:
    """A crash always is; a pod that never becomes ready is so only while nothing is wrong with the platform."""
    assert isinstance(at_deadline(APPLICATION, replace(LIVE, pods=pods), EXPECTED, "it waits"), fault)


def test_the_deadline_repeats_what_argo_cd_last_reported_when_our_image_never_went_live() -> None:
    """A dead repo-server or a frozen controller is the platform's fault."""
    broken = replace(APPLICATION, sync_revision=None, conditions=(("ComparisonError", "repo-server is away"),))
    old = replace(LIVE, images={"model-server": OLD})
    for workload, live in ((None, "no such workload"), (old, f"container model-server has {OLD}")):
        outcome = at_deadline(broken, workload, EXPECTED, "it waits")
        assert isinstance(outcome, NotJudged)
        reported = "Argo CD reports Synced at no revision; ComparisonError: repo-server is away"
        assert outcome.problem.found == f"{live}; {reported}"


BREAKS: list[Callable[[ApplicationStatus, WorkloadStatus], tuple[ApplicationStatus, WorkloadStatus]]] = [
    lambda a, w: (replace(a, sync_revision="before"), w),
    lambda a, w: (replace(a, operation_revision=None), w),
    lambda a, w: (replace(a, reconciled_at=0.0), w),
    lambda a, w: (replace(a, auto_sync=False), w),
    lambda a, w: (a, replace(w, images={"model-server": OLD})),
    lambda a, w: (a, replace(w, available=0)),
    lambda a, w: (a, replace(w, observed_generation=0)),
    lambda a, w: (a, replace(w, pods=tuple(replace(pod, ready=False) for pod in w.pods))),
    lambda a, w: (a, replace(w, pods=(a_pod("x", IMAGE, image_id=""), *w.pods[1:]))),
    lambda a, w: (replace(a, health_status="Degraded"), replace(w, template_hash=None)),
]


@given(st.lists(st.sampled_from(BREAKS), min_size=1, max_size=5))
def test_nothing_that_lacks_a_condition_is_ever_rolled_out(breaks: list[Any]) -> None:
    """However many things are wrong at once, none of them hides another."""
    application, workload = APPLICATION, LIVE
    for damage in breaks:
        application, workload = damage(application, workload)
    assert not isinstance(look(application, workload), RolledOut)


def test_health_and_sync_status_alone_decide_nothing() -> None:
    """An Application can be Degraded or OutOfSync because of another resource; only the five conditions count."""
    assert isinstance(look(replace(APPLICATION, health_status="Degraded", sync_status="OutOfSync")), RolledOut)

"""Judging the rollout of a committed promotion: live, or taken back, or held."""

from collections.abc import Mapping
from dataclasses import replace

from orchestration.promotion.branch_standing import CommittedPromotion, OnBranch
from orchestration.promotion.branch_view import BranchView
from orchestration.promotion.cluster_status import WorkloadStatus
from orchestration.promotion.live_value import STORAGE_INITIALIZER
from orchestration.promotion.model_version import PROXIED, ModelVersion
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.recorded_requests import RECORDING_PATH
from orchestration.promotion.returns import is_return
from orchestration.promotion.rollout_assessment import ModelFailed, NotJudged, RolledOut
from orchestration.promotion.rollout_conditions import Expected
from orchestration.promotion.state import State
from orchestration.stages.await_rollout import Undone, Waited, undone_problem, wait_rolled_out
from orchestration.stages.expectation import expect
from orchestration.stages.results import Checklist, StageEnded
from orchestration.stages.rollback import roll_back
from orchestration.stages.stage import Promotion
from orchestration.stages.unjudged import not_judged


def require_on_branch(promotion: Promotion, view: BranchView) -> CommittedPromotion:
    """Return this version's promotion commit, or end a stage that has nothing to work on."""
    match view.standing:
        case OnBranch(committed):
            return committed
        case other:
            problem = Problem(
                str(promotion.version),
                f"its commit at the head of the branch, in {promotion.policy.manifest.path}",
                f"{other} at {view.head[:12]}, where the manifest has {view.image}",
                "Materialize promotion_candidate and manifest_commit first.",
            )
            raise StageEnded(promotion.record.state or State.REFUSED, problem)


def wait_for(promotion: Promotion, committed: CommittedPromotion, image: str, checklist: Checklist) -> Waited:
    """Wait for the rollout of a promotion whose image the manifest has.

    Raises:
        StageEnded: after the rollback, when the fault is the model's; held when it is the platform's (design rule 6).
    """
    waited = wait_rolled_out(promotion, _expected(promotion, committed, image))
    rows = condition_rows(waited)
    in_short: Problem | None = None
    match waited.outcome:
        case RolledOut():
            return waited
        case NotJudged(problem):
            raise not_judged(promotion, committed, checklist.failed("rolled_out", problem, State.HELD, rows))
        case Undone(other_image):
            problem = undone_problem(promotion, committed.commit.commit, other_image)
        case ModelFailed() as failed:
            platform_fault = platform_fault_after_all(promotion, failed, promotion.version)
            if platform_fault is not None:
                held = checklist.failed("rolled_out", platform_fault, State.HELD, rows)
                raise not_judged(promotion, committed, held)
            problem, in_short = _with_log(promotion, failed), failed.problem
            if is_return(committed):
                problem = failed_return(promotion.policy.name, problem)
                raise not_judged(promotion, committed, checklist.failed("rolled_out", problem, State.HELD, rows))
    ended = checklist.failed("rolled_out", problem, State.ROLLED_BACK, rows)
    roll_back(promotion, committed, problem, reject=True, in_short=in_short)
    raise ended


def require_live(promotion: Promotion, committed: CommittedPromotion, image: str) -> WorkloadStatus:
    """Wait until the rollout stands, and return the workload; it ends as `wait_for` does."""
    waited = wait_for(promotion, committed, image, Checklist())
    assert waited.workload is not None, "a rollout that stands has a workload"
    return waited.workload


def _expected(promotion: Promotion, committed: CommittedPromotion, image: str) -> Expected:
    """What must be live.

    Raises:
        StageEnded: the image is not in its registry any more, so nothing can be judged.
    """
    expected = expect(promotion, committed.commit.commit, image)
    if isinstance(expected, Problem):
        give_up = f"Or give it up: incumbent abort {promotion.policy.name} --reason '...'."
        raise not_judged(promotion, committed, StageEnded(State.HELD, expected.then(give_up)))
    return expected


def platform_fault_after_all(
    promotion: Promotion, failed: ModelFailed, version: ModelVersion | None = None
) -> Problem | None:
    """Return why a server cannot get its model: without it, a good model's server crashes or stays unready, too.

    Args:
        promotion: the ports.
        failed: how the rollout failed.
        version: the version whose files its servers need; None to ask only whether the registry answers.
    """
    if failed.reason_code not in ("crash", "probe"):
        return None
    try:
        promotion.clients.registry.ping()
        return None if version is None else _files_fault(promotion, failed, version)
    except DependencyError as error:
        return error.problem


def _files_fault(promotion: Promotion, failed: ModelFailed, version: ModelVersion) -> Problem | None:
    """Return why the files of a version, which were there before the commit, may not be there for its servers.

    A registry answers without its artifact store, and a store that is not mounted looks like one without the files.
    What KServe downloads from elsewhere is not within our reach: a download that fails says nothing about the model.

    Raises:
        DependencyError: the artifact store does not answer.
    """
    registry, name = promotion.clients.registry, promotion.policy.name
    location = registry.model_location(version)
    if location is None:
        next_step = f"Bring the artifact store back. If the files were deleted: incumbent abort {name} --reason '...'."
        expected = "the files that were there before the commit"
        return Problem(f"the model of {version}", expected, "no files of it in the artifact store", next_step)
    if version.run_id is not None:
        registry.artifact(version.run_id, RECORDING_PATH)  # a store that lists its files may still not give them
    is_download = failed.log is not None and failed.log.container == STORAGE_INITIALIZER
    if is_download and not location.startswith(PROXIED):
        next_step = f"Its log says why. If the files are not there: incumbent abort {name} --reason '...'."
        return Problem(failed.problem.subject, f"the files at {location}", failed.problem.found, next_step)
    return None


def failed_return(policy: str, problem: Problem) -> Problem:
    """Say of a return that fails what a person can do: its version was proved before, so another one is near."""
    next_step = f"Return to another version (incumbent rollback {policy} VERSION --reason '...'), or correct the cause."
    return replace(problem, next_step=next_step)


def condition_rows(waited: Waited) -> list[Mapping[str, object]]:
    """The rollout's conditions as rows of a table."""
    return [
        {"condition": condition.name, "met": condition.met, "finding": condition.finding}
        for condition in waited.conditions
    ]


def _with_log(promotion: Promotion, failed: ModelFailed) -> Problem:
    """Add the container's last log lines to the problem; they say more than any status."""
    log = failed.log
    if log is None:
        return failed.problem
    namespace, known = promotion.policy.manifest.namespace, failed.problem
    try:
        tail = promotion.clients.cluster.log_tail(namespace, log.pod, log.container, previous=log.previous)
    except DependencyError as error:  # the log explains the failure; without it the failure is still one
        tail = f"(the log could not be read: {error.problem.found})"
    finding = f"{known.found}; last log lines: {' | '.join(tail.splitlines()[-5:])}" if tail else known.found
    return Problem(known.subject, known.expected, finding, known.next_step)

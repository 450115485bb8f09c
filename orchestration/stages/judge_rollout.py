"""Judging the rollout of a committed promotion: live, or taken back, or held."""

from collections.abc import Mapping

from orchestration.promotion.branch_standing import CommittedPromotion, OnBranch
from orchestration.promotion.branch_view import BranchView
from orchestration.promotion.images import parse_image
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.returns import is_return
from orchestration.promotion.rollout_assessment import ModelFailed, NotJudged, RolledOut
from orchestration.promotion.rollout_conditions import Expected
from orchestration.promotion.state import State
from orchestration.stages.await_rollout import Undone, Waited, undone_problem, wait_rolled_out
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
                f"{other} at {view.head[:12]}, where the image is {view.image}",
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
            platform_fault = _platform_fault_after_all(promotion, failed)
            if platform_fault is not None:
                held = checklist.failed("rolled_out", platform_fault, State.HELD, rows)
                raise not_judged(promotion, committed, held)
            problem, in_short = _with_log(promotion, failed), failed.problem
            if is_return(committed):
                raise not_judged(promotion, committed, checklist.failed("rolled_out", problem, State.HELD, rows))
    ended = checklist.failed("rolled_out", problem, State.ROLLED_BACK, rows)
    roll_back(promotion, committed, problem, reject=True, in_short=in_short)
    raise ended


def _expected(promotion: Promotion, committed: CommittedPromotion, image: str) -> Expected:
    """What must be live: the image as the manifest has it, and every digest by which a kubelet may name it.

    Raises:
        StageEnded: the registry does not have the image any more, so nothing can be judged.
    """
    reference = parse_image(image)
    resolved = promotion.clients.images.resolve(reference) if reference is not None else None
    if reference is None or resolved is None:
        next_step = f"Push it again, or give it up: incumbent abort {promotion.policy.name} --reason '...'."
        problem = Problem(f"image {image}", "an image in the registry", "no such image in the registry", next_step)
        raise not_judged(promotion, committed, StageEnded(State.HELD, problem))
    container = promotion.policy.manifest.container
    return Expected(committed.commit.commit, reference, container, resolved.known_digests)


def _platform_fault_after_all(promotion: Promotion, failed: ModelFailed) -> Problem | None:
    """Return why the registry does not answer: without it, a good model's server crashes or stays unready, too."""
    if failed.reason_code not in ("crash", "probe"):
        return None
    try:
        promotion.clients.registry.ping()
    except DependencyError as error:
        return error.problem
    return None


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
    namespace, container = promotion.policy.manifest.namespace, promotion.policy.manifest.container
    known = failed.problem
    try:
        tail = promotion.clients.cluster.log_tail(namespace, log.pod, container, previous=log.previous)
    except DependencyError as error:  # the log explains the failure; without it the failure is still one
        tail = f"(the log could not be read: {error.problem.found})"
    finding = f"{known.found}; last log lines: {' | '.join(tail.splitlines()[-5:])}" if tail else known.found
    return Problem(known.subject, known.expected, finding, known.next_step)

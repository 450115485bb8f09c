"""Stage 3, `rollout`: wait until the committed image is truly rolled out, or say why it cannot be."""

from collections.abc import Mapping

from orchestration.promotion.branch_standing import OnBranch, Promoted, Reverted
from orchestration.promotion.images import parse_image
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.rollout_assessment import ModelFailed, NotJudged, RolledOut
from orchestration.promotion.rollout_conditions import Expected
from orchestration.promotion.state import State
from orchestration.stages.await_rollout import Undone, Waited, undone_problem, wait_rolled_out
from orchestration.stages.rollback import roll_back
from orchestration.stages.session import Checklist, Session, StageDone, StageEnded

ASSET = "rollout"
CHECKS = ("rolled_out",)


def roll_out(session: Session) -> StageDone:
    """Wait for the rollout; roll back in this run when it fails.

    Raises:
        StageEnded: rolled back (the model's fault), or held (it could not be judged).
    """
    promoted = require_on_branch(session)
    session.acquire()
    checklist = Checklist()
    waited = wait_for(session, promoted, checklist)
    seconds = {f"{name}_seconds": at - promoted.commit.committed_at for name, at in waited.seen.items()}
    pods = waited.workload.new_pods if waited.workload else ()
    checklist.passed("rolled_out", "all five conditions hold at once", condition_rows(waited), seconds)
    rows = [{"pod": pod.name, "node": pod.node or "", "ready": pod.ready} for pod in pods]
    return StageDone(tuple(checklist.checks), {"pods": rows, "template_hash": _template_hash(waited), **seconds})


def require_on_branch(session: Session) -> Promoted:
    """The promotion commit of this version, or the end of a stage that has nothing to work on.

    A foreign revert is recorded here as a rejection.
    """
    found = session.look()
    match found.standing:
        case OnBranch(promoted):
            return promoted
        case Reverted(promoted, image) if session.version.state(session.policy.name) is not State.CHAMPION:
            session.acquire()
            problem = undone_problem(session, promoted.commit.commit, image)
            roll_back(session, promoted, problem, reject=True)
            raise StageEnded(State.ROLLED_BACK, problem)
        case other:
            problem = Problem(
                str(session.version),
                f"its commit at the head of the branch, in {session.policy.manifest.path}",
                f"{type(other).__name__} at {found.head[:12]}, where the image is {found.image}",
                "Materialize promotion_candidate and manifest_commit first.",
            )
            raise StageEnded(session.version.state(session.policy.name) or State.REFUSED, problem)


def expected_rollout(session: Session, promoted: Promoted) -> Expected:
    """What must be live: the image as the commit has it, and every digest by which a kubelet may name it.

    Raises:
        StageEnded: the image is in the registry no more.
    """
    image = parse_image(session.look().image)
    resolved = session.clients.images.resolve(image) if image is not None else None
    if image is None or resolved is None:
        problem = Problem(f"image {image}", "an image in the registry", "none", "Push it again, or revert the commit.")
        raise StageEnded(State.HELD, problem)
    container = session.policy.manifest.container
    return Expected(promoted.commit.commit, image, container, resolved.known_digests)


def wait_for(session: Session, promoted: Promoted, checklist: Checklist) -> Waited:
    """Wait for this promotion's rollout.

    Raises:
        StageEnded: after the rollback, when the fault is the model's; held when it is ours (design rule 6).
    """
    waited = wait_rolled_out(session, expected_rollout(session, promoted))
    rows = condition_rows(waited)
    match waited.outcome:
        case RolledOut():
            return waited
        case ModelFailed() as failed:
            ours = _our_fault_after_all(session, failed)
            if ours is not None:
                raise not_judged(session, promoted, checklist.failed("rolled_out", ours, State.HELD, rows))
            problem = _with_log(session, failed)
            ended = checklist.failed("rolled_out", problem, State.ROLLED_BACK, rows)
            roll_back(session, promoted, problem, reject=True)
            raise ended
        case Undone(image):
            problem = undone_problem(session, promoted.commit.commit, image)
            ended = checklist.failed("rolled_out", problem, State.ROLLED_BACK, rows)
            roll_back(session, promoted, problem, reject=True)
            raise ended
        case NotJudged(problem):
            raise not_judged(session, promoted, checklist.failed("rolled_out", problem, State.HELD, rows))


def _our_fault_after_all(session: Session, failed: ModelFailed) -> Problem | None:
    """A server that cannot load its model crashes or stays unready: while the registry is down that is our fault."""
    if failed.reason_code not in ("crash", "probe"):
        return None
    try:
        session.clients.registry.ping()
    except DependencyError as error:
        return error.problem
    return None


def not_judged(session: Session, promoted: Promoted, ended: StageEnded) -> StageEnded:
    """What the policy says of a promotion that could not be judged: hold it, or roll it back without rejecting it."""
    if session.policy.gate.when_unjudged == "hold":
        hold(session, ended.problem)
        return ended
    roll_back(session, promoted, ended.problem, reject=False)
    return StageEnded(State.ROLLED_BACK, ended.problem, ended.checks)


def hold(session: Session, problem: Problem) -> None:
    """Leave the commit as it is and say by what it is held, and how to leave that state."""
    way_out = (
        "Held: it goes on by itself when the cause ends (or materialize rollout and serving_model); "
        "to give it up, revert the commit."
    )
    session.write(State.HELD, f"{problem} {way_out}")


def condition_rows(waited: Waited) -> list[Mapping[str, object]]:
    return [{"condition": one.name, "met": one.met, "finding": one.finding} for one in waited.conditions]


def _template_hash(waited: Waited) -> str:
    return (waited.workload.template_hash or "") if waited.workload else ""


def _with_log(session: Session, failed: ModelFailed) -> Problem:
    """The problem with the container's last lines, which say more than any status."""
    log = failed.log
    if log is None:
        return failed.problem
    namespace, container = session.policy.manifest.namespace, session.policy.manifest.container
    known = failed.problem
    try:
        tail = session.clients.cluster.log_tail(namespace, log.pod, container, previous=log.previous)
    except DependencyError as error:  # the log explains the failure; without it the failure is still one
        tail = f"(the log could not be read: {error.problem.found})"
    found = f"{known.found}; last log lines: {' | '.join(tail.splitlines()[-5:])}" if tail else known.found
    return Problem(known.subject, known.expected, found, known.next_step)

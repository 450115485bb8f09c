"""Taking a promotion back: a forward commit puts the image before there again, and its rollout is waited for."""

from dataclasses import dataclass
from textwrap import shorten

from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.branch_standing import CommittedPromotion, is_image_of
from orchestration.promotion.branch_view import was_ended
from orchestration.promotion.decided import Decided
from orchestration.promotion.deployed import ModelAddress, parse_deployed
from orchestration.promotion.identity import restored, rollback_subject, rollback_trailers
from orchestration.promotion.images import ImageRef
from orchestration.promotion.manifest import Edited, EditRefused, set_image
from orchestration.promotion.ports import FileEdit, Pushed
from orchestration.promotion.problems import Problem
from orchestration.promotion.rollout_assessment import RolledOut
from orchestration.promotion.rollout_conditions import Expected
from orchestration.promotion.state import State
from orchestration.promotion.workload_kinds import JUDGED
from orchestration.stages.await_rollout import Undone, wait_rolled_out
from orchestration.stages.expectation import expect
from orchestration.stages.pull_request import deliver_rollback, rolls_back_by_request
from orchestration.stages.results import StageEnded
from orchestration.stages.rollback_target import alias_disagreement, rollback_target
from orchestration.stages.stage import Promotion

OURS = "incumbent"
"""Who took a promotion back when no person did."""
_REASON_WIDTH = 500
"""A reason in Git is cut after this many characters."""


def roll_back(
    promotion: Promotion,
    committed: CommittedPromotion,
    problem: Problem,
    *,
    reject: bool,
    in_short: Problem | None = None,
) -> None:
    """Take a promotion back and wait until the target serves; safe to begin again at any point.

    With `reject` the fault is the model's: the tag `rejected` is written before the commit, so that a crash between
    them is noticed and finished. Without it the promotion could not be judged, and the version keeps its good name.

    Args:
        promotion: The promotion of the version.
        committed: Its commit.
        problem: Why it is taken back, as the version and the run say it.
        reject: Whether the model is at fault.
        in_short: The same for the commit, without lines of a log, which do not belong into Git.

    Raises:
        StageEnded: the lease was lost, or the rollback is committed but not rolled out by its deadline.
        DependencyError: a dependency does not answer; the next run finishes the rollback.
        InvalidInputError: the manifest cannot be read for this policy.
    """
    reason, verdict = str(problem), "Failed" if reject else "Error"
    promotion.say(f"taking version {promotion.version.version} back: {reason}")
    if promotion.record.state is not State.REJECTED:
        state = State.REJECTED if reject else State.HELD
        promotion.record.write(state, reason, attempt=str(committed.identity.attempt))
    promotion.say(take_back(promotion, committed, reason, verdict, Decided(OURS, str(in_short or problem))))


def take_back(promotion: Promotion, committed: CommittedPromotion, reason: str, verdict: str, decided: Decided) -> str:
    """Commit the rollback, wait until the target serves, and write the end.

    Args:
        promotion: The promotion of the version.
        committed: Its commit.
        reason: Why it is taken back, as the version says it.
        verdict: `Failed`, `Error` or `Aborted`.
        decided: Who took it back and why, as Git says it.

    Returns:
        What serves now, in words for a person.
    """
    outcome = _commit_rollback(promotion, committed, verdict, decided)
    if isinstance(outcome, _PersonsChange):
        record_ended(promotion, committed, verdict, decided)
        note = f"the manifest has {outcome.image} now, which someone else put there; it is left alone."
    else:
        _wait_for_target(promotion, outcome)
        note = f"{outcome.image} serves again (commit {outcome.commit[:12]}). {outcome.disagreement}".rstrip()
    promotion.record.write(State.ROLLED_BACK, f"{reason} Rolled back: {note}")
    return note


def record_ended(promotion: Promotion, committed: CommittedPromotion, verdict: str, decided: Decided) -> None:
    """Record in Git, once, that a committed promotion ended without a rollback commit of ours."""
    git, policy, identity = promotion.clients.git, promotion.policy.name, committed.identity
    if was_ended(git, identity):
        return
    promotion.lease.confirm()
    short = shorten(decided.reason, _REASON_WIDTH, placeholder=" ...")
    now = promotion.clients.clock.now()
    git.record_act(
        Act(policy, ActKind.ENDED, now, decided.by, short, identity.version, promotion=identity, verdict=verdict)
    )


@dataclass(frozen=True)
class _RolledBack:
    commit: str
    image: str
    disagreement: str
    """What the champion alias says otherwise."""


@dataclass(frozen=True)
class _PersonsChange:
    """HEAD does not have our image, or address, any more: a person's change is never overwritten."""

    image: str


def _commit_rollback(
    promotion: Promotion, committed: CommittedPromotion, verdict: str, decided: Decided
) -> _RolledBack | _PersonsChange:
    policy = promotion.policy
    before = promotion.image_at(committed.commit.parent)
    disagreement = ""

    def decide(head: str) -> FileEdit | _RolledBack | _PersonsChange:
        nonlocal disagreement
        view = promotion.view_at(head)
        disagreement = alias_disagreement(promotion, view.promotions, before) if before is not None else ""
        known = next((known for known in view.promotions if known.identity == committed.identity), committed)
        if known.rollback is not None:
            image = restored(known.rollback.trailers) or view.image
            return _RolledBack(known.rollback.commit, image, disagreement)
        if not is_image_of(committed.identity, view.image):
            return _PersonsChange(view.image)
        earlier = view.promotions[view.promotions.index(known) + 1 :] if known in view.promotions else view.promotions
        target = rollback_target(promotion, earlier, before)
        if target is None:
            raise StageEnded(State.HELD, _no_way_back(promotion, committed))
        edit = set_image(view.content, policy, target.image, expected=view.image)
        if not isinstance(edit, Edited):
            refused = edit.problem if isinstance(edit, EditRefused) else _no_way_back(promotion, committed)
            raise StageEnded(State.HELD, refused)
        subject = rollback_subject(committed.identity, target.described)
        short = shorten(f"{decided.reason} {disagreement}", _REASON_WIDTH, placeholder=" ...")
        by = {} if decided.by == OURS else {"By": decided.by}
        trailers = {**rollback_trailers(committed.identity, verdict, target.image, short), **by}
        return FileEdit(policy.manifest.path, edit.content, subject, trailers)

    pushed: Pushed | _RolledBack | _PersonsChange
    if rolls_back_by_request(policy):
        pushed = deliver_rollback(promotion, committed.identity, decide)
    else:
        pushed = promotion.lease.push_edit(decide)
    if isinstance(pushed, _RolledBack | _PersonsChange):
        return pushed
    if disagreement:
        promotion.say(disagreement)
    return _RolledBack(pushed.commit, promotion.image_at(pushed.commit) or "", disagreement)


def _no_way_back(promotion: Promotion, committed: CommittedPromotion) -> Problem:
    policy = promotion.policy
    return Problem(
        f"{policy.manifest.path} before commit {committed.commit.commit[:12]}",
        f"an {policy.slot.noun} in it, or an earlier promotion that was verified",
        "neither of them",
        "Put what should serve into the manifest; the pipeline then leaves it alone.",
    )


def _expected(promotion: Promotion, rolled_back: _RolledBack) -> Expected | None:
    """What must be live after a rollback; an image that is gone from its registry may run all the same.

    None when what was put back is not of the kind that the policy deploys now, so that nobody can tell.
    """
    found = expect(promotion, rolled_back.commit, rolled_back.image)
    if isinstance(found, Expected):
        return found
    deployed, slot = parse_deployed(rolled_back.image), promotion.policy.slot
    if deployed is None or slot.holds_address != isinstance(deployed, ModelAddress):
        return None
    is_pinned = isinstance(deployed, ImageRef)
    digests = frozenset(filter(None, [deployed.digest if is_pinned else None]))
    return Expected(rolled_back.commit, deployed, promotion.policy.manifest.container, digests, slot, is_pinned)


def _wait_for_target(promotion: Promotion, rolled_back: _RolledBack) -> None:
    expected = _expected(promotion, rolled_back)
    if expected is None:
        return
    waited = wait_rolled_out(promotion, expected)
    if not isinstance(waited.outcome, RolledOut | Undone):  # a person's later change is left alone
        unmet = [condition for condition in waited.conditions if not condition.met]
        problem = Problem(
            f"rollback commit {rolled_back.commit[:12]}",
            f"{rolled_back.image} to serve again",
            ", ".join(f"{condition.name}: {condition.finding}" for condition in unmet) or "another image serving",
            f"{JUDGED[promotion.policy.manifest.kind].when_stuck} The next run waits for the rollback again.",
        )
        raise StageEnded(State.REJECTED, problem)

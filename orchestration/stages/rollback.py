"""Taking a promotion back: a forward commit puts the last verified image there again, and its rollout is waited for."""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestration.promotion.branch_standing import CommittedPromotion, TakenBack, is_image_of
from orchestration.promotion.branch_view import BranchView
from orchestration.promotion.decided import decided_in
from orchestration.promotion.identity import how_to_retry, rollback_subject, rollback_trailers
from orchestration.promotion.images import parse_image
from orchestration.promotion.manifest import Edited, EditRefused, set_image
from orchestration.promotion.ports import FileEdit, Pushed
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.rollout_assessment import RolledOut
from orchestration.promotion.rollout_conditions import Expected
from orchestration.promotion.state import State
from orchestration.stages.await_rollout import Undone, wait_rolled_out
from orchestration.stages.results import StageEnded
from orchestration.stages.stage import Promotion

ABORTED = "Aborted"
"""The verdict of a rollback by which a person ended a promotion."""


@dataclass(frozen=True)
class RollbackTarget:
    """The image that serves again after a rollback."""

    image: str
    described: str
    """`version 2`, or `the image before, unverified`."""


def rollback_target(promotion: Promotion, view: BranchView, *, before: str) -> RollbackTarget:
    """Return the last verified champion's image, or else `before`: what HEAD held before the promotion (design rule 8).

    A champion counts as verified when its promotion stands on the branch and Git has that promotion's evidence tag.
    """
    policy, git = promotion.policy, promotion.clients.git
    try:
        champion = promotion.clients.registry.version_by_alias(policy.model, policy.champion_alias)
    except DependencyError:  # an abort takes the image back all the same
        champion = None
    if champion is not None and champion.version != promotion.version.version:
        for committed in view.promotions:
            if committed.identity.version == champion.version and committed.rollback is None:
                image = promotion.image_at(committed.commit.commit)
                if image is not None and git.tag(committed.identity.evidence_tag) is not None:
                    return RollbackTarget(image, f"version {champion.version}")
    return RollbackTarget(before, "the image before, unverified")


def roll_back(promotion: Promotion, committed: CommittedPromotion, problem: Problem, *, reject: bool) -> None:
    """Take a promotion back and wait until the target serves; safe to begin again at any point.

    With `reject` the fault is the model's: the tag `rejected` is written before the commit, so that a crash between
    them is noticed and finished. Without it the promotion could not be judged, and the version keeps its good name.

    Raises:
        StageEnded: the lease was lost, or the rollback is committed but not rolled out by its deadline.
        DependencyError: a dependency does not answer; the next run finishes the rollback.
    """
    reason = str(problem)
    promotion.say(f"taking version {promotion.version.version} back: {reason}")
    if promotion.record.state is not State.REJECTED:
        state = State.REJECTED if reject else State.HELD
        promotion.record.write(state, reason, attempt=str(committed.identity.attempt))
    take_back(promotion, committed, reason, "Failed" if reject else "Error", {})


def take_back(
    promotion: Promotion, committed: CommittedPromotion, reason: str, verdict: str, more: Mapping[str, str]
) -> str:
    """Commit the rollback with its verdict and `more` trailers, wait until the target serves, and write the end.

    Returns:
        What serves now, in words for a person.
    """
    outcome = _commit_rollback(promotion, committed, verdict, more)
    if isinstance(outcome, _PersonsChange):
        note = f"the manifest has {outcome.image} now, which someone else put there; it is left alone"
    else:
        note = f"{outcome.image} serves again (commit {outcome.commit[:12]})"
        _wait_for_target(promotion, outcome)
    promotion.record.write(State.ROLLED_BACK, f"{reason} Rolled back: {note}.")
    promotion.say(note)
    return note


@dataclass(frozen=True)
class _RolledBack:
    commit: str
    image: str


@dataclass(frozen=True)
class _PersonsChange:
    """HEAD does not have our image any more: a person's change is never overwritten."""

    image: str


def _commit_rollback(
    promotion: Promotion, committed: CommittedPromotion, verdict: str, more: Mapping[str, str]
) -> _RolledBack | _PersonsChange:
    policy = promotion.policy
    before = promotion.image_at(committed.commit.parent)

    def decide(head: str) -> FileEdit | _RolledBack | _PersonsChange:
        view = promotion.view_at(head)
        rollbacks = (known.rollback for known in view.promotions if known.identity == committed.identity)
        done = next(filter(None, rollbacks), None)
        if done is not None:
            return _RolledBack(done.commit, done.trailers.get("Image", view.image))
        if not is_image_of(committed.identity, view.image) or before is None:
            return _PersonsChange(view.image)
        target = rollback_target(promotion, view, before=before)
        edit = set_image(view.content, policy.manifest, target.image, expected=view.image)
        if isinstance(edit, EditRefused):
            raise StageEnded(State.HELD, edit.problem)
        if not isinstance(edit, Edited):
            return _PersonsChange(view.image)
        subject = rollback_subject(committed.identity, target.described)
        trailers = {**rollback_trailers(committed.identity, verdict, target.image), **more}
        return FileEdit(policy.manifest.path, edit.content, subject, trailers)

    pushed: Pushed | _RolledBack | _PersonsChange = promotion.lease.push_edit(decide)
    if isinstance(pushed, _RolledBack | _PersonsChange):
        return pushed
    return _RolledBack(pushed.commit, promotion.image_at(pushed.commit) or "")


def _wait_for_target(promotion: Promotion, rolled_back: _RolledBack) -> None:
    reference = parse_image(rolled_back.image)
    if reference is None:
        return
    resolved = promotion.clients.images.resolve(reference)
    digests = resolved.known_digests if resolved is not None else frozenset(filter(None, [reference.digest]))
    expected = Expected(rolled_back.commit, reference, promotion.policy.manifest.container, digests)
    waited = wait_rolled_out(promotion, expected)
    if not isinstance(waited.outcome, RolledOut | Undone):  # a person's later change is left alone
        unmet = [condition for condition in waited.conditions if not condition.met]
        problem = Problem(
            f"rollback commit {rolled_back.commit[:12]}",
            f"{rolled_back.image} to serve again",
            ", ".join(f"{condition.name}: {condition.finding}" for condition in unmet) or "another image serving",
            "Look at the cluster; the next run waits for the rollback again.",
        )
        raise StageEnded(State.REJECTED, problem)


def finish_rollback(promotion: Promotion, view: BranchView) -> None:
    """Finish a rollback that was cut off; every stage begins with this.

    Its tag `rejected` stands without its commit, or its commit without the tag of its end.

    Raises:
        StageEnded: there was one. It is finished now, and the version stays taken back.
    """
    policy, version, state = promotion.policy, promotion.version, promotion.record.state
    taken_back = isinstance(view.standing, TakenBack) and (state is None or not state.is_end)
    if state is not State.REJECTED and not taken_back:
        return
    attempts = [committed for committed in view.promotions if committed.identity.version == version.version]
    reason = version.tag(policy.name, "reason") or "taken back, for a reason that is not recorded"
    next_step = how_to_retry(policy.name, version.version)
    problem = Problem(str(version), "a version that was not taken back", reason, next_step)
    if attempts:
        if not promotion.lease.is_held:
            promotion.lease.acquire()
        rollback = attempts[0].rollback
        if rollback is not None and rollback.trailers.get("Verdict") == ABORTED:
            reason = f"Aborted by {decided_in(rollback.trailers)}."
            take_back(promotion, attempts[0], reason, ABORTED, {})
            raise StageEnded(State.ROLLED_BACK, Problem(problem.subject, problem.expected, reason, next_step))
        roll_back(promotion, attempts[0], problem, reject=state is State.REJECTED)
    raise StageEnded(State.ROLLED_BACK if attempts else State.REJECTED, problem)

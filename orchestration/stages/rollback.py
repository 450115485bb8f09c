"""Taking a promotion back: by a forward commit that puts the last verified image there again, and waited for."""

from dataclasses import dataclass

from orchestration.promotion.branch_standing import Promoted, is_image_of
from orchestration.promotion.identity import how_to_retry, rollback_subject, rollback_trailers
from orchestration.promotion.images import parse_image
from orchestration.promotion.manifest import Edited, EditRefused, set_image
from orchestration.promotion.ports import FileEdit, LeaseLost, Pushed
from orchestration.promotion.problems import Problem
from orchestration.promotion.rollout_assessment import RolledOut
from orchestration.promotion.rollout_conditions import Expected
from orchestration.promotion.state import State
from orchestration.stages.await_rollout import Undone, wait_rolled_out
from orchestration.stages.session import LEASE_SECONDS, Session, StageEnded, View


@dataclass(frozen=True)
class RollbackTarget:
    """What serves again after a rollback."""

    image: str
    described: str
    """`version 2`, or `the image before, unverified`."""


def rollback_target(session: Session, view: View, *, before: str) -> RollbackTarget:
    """The last verified champion's image, or else `before`: what HEAD held before the promotion (design rule 8).

    A champion counts as verified when its promotion stands on the branch and Git has that promotion's evidence tag.
    """
    policy, git = session.policy, session.clients.git
    champion = session.clients.registry.version_by_alias(policy.model, policy.champion_alias)
    if champion is not None and champion.version != session.version.version:
        for one in view.found:
            if one.identity.version == champion.version and one.rollback is None:
                image = session.image_at(one.commit.commit)
                if image is not None and git.tag(one.identity.evidence_tag) is not None:
                    return RollbackTarget(image, f"version {champion.version}")
    return RollbackTarget(before, "the image before, unverified")


def roll_back(session: Session, promoted: Promoted, problem: Problem, *, reject: bool) -> str:
    """Take a promotion back and wait until the target serves; safe to begin again at any point.

    With `reject` the fault is the model's: the tag `rejected` is written before the commit, so that a crash between
    them is found and finished. Without it the promotion could not be judged, and the version keeps its good name.

    Returns:
        What serves now, for a person.

    Raises:
        StageEnded: the lease was lost, or the rollback is committed but not rolled out by its deadline.
        DependencyError: somebody does not answer; the next run finishes the rollback.
    """
    reason = str(problem)
    session.say(f"taking version {session.version.version} back: {reason}")
    if session.version.state(session.policy.name) is not State.REJECTED:
        session.write(State.REJECTED if reject else State.HELD, reason, attempt=str(promoted.identity.attempt))
    outcome = _commit_rollback(session, promoted, reject=reject)
    if isinstance(outcome, _PersonsChange):
        note = f"the manifest has {outcome.image} now, which somebody else put there; it is left alone"
    else:
        note = f"{outcome.image} serves again (commit {outcome.commit[:12]})"
        _wait_for_target(session, outcome)
    session.write(State.ROLLED_BACK, f"{reason} Rolled back: {note}.")
    session.say(note)
    return note


@dataclass(frozen=True)
class _RolledBack:
    commit: str
    image: str


@dataclass(frozen=True)
class _PersonsChange:
    """HEAD's value is not ours any more: a person's change is never overwritten."""

    image: str


def _commit_rollback(session: Session, promoted: Promoted, *, reject: bool) -> _RolledBack | _PersonsChange:
    policy, git = session.policy, session.clients.git
    before = session.image_at(promoted.commit.parent)

    def decide(head: str) -> FileEdit | _RolledBack | _PersonsChange:
        view = session.view(head)
        done = next((one for one in view.found if one.identity == promoted.identity and one.rollback), None)
        if done is not None and done.rollback is not None:
            return _RolledBack(done.rollback.commit, done.rollback.trailers.get("Image", view.image))
        if not is_image_of(promoted.identity, view.image) or before is None:
            return _PersonsChange(view.image)
        target = rollback_target(session, view, before=before)
        edit = set_image(view.content, policy.manifest, target.image, expected=view.image)
        if isinstance(edit, EditRefused):
            raise StageEnded(State.HELD, edit.problem)
        if not isinstance(edit, Edited):
            return _PersonsChange(view.image)
        trailers = rollback_trailers(promoted.identity, "Failed" if reject else "Error", target.image)
        return FileEdit(
            policy.manifest.path, edit.content, rollback_subject(promoted.identity, target.described), trailers
        )

    pushed: Pushed | LeaseLost | _RolledBack | _PersonsChange
    pushed = git.push_edit(decide, session.keep(), LEASE_SECONDS)
    if isinstance(pushed, LeaseLost):
        raise session.lost(pushed)
    if isinstance(pushed, _RolledBack | _PersonsChange):
        return pushed
    session.lease = pushed.lease
    return _RolledBack(pushed.commit, session.image_at(pushed.commit) or "")


def _wait_for_target(session: Session, done: _RolledBack) -> None:
    reference = parse_image(done.image)
    if reference is None:
        return
    resolved = session.clients.images.resolve(reference)
    digests = resolved.known_digests if resolved is not None else frozenset(filter(None, [reference.digest]))
    expected = Expected(done.commit, reference, session.policy.manifest.container, digests)
    waited = wait_rolled_out(session, expected)
    if not isinstance(waited.outcome, RolledOut | Undone):  # a person's later change is left alone
        rows = ", ".join(f"{one.name}: {one.finding}" for one in waited.conditions if not one.met)
        problem = Problem(
            f"rollback commit {done.commit[:12]}",
            f"{done.image} to serve again",
            rows or "that it does not",
            "Look at the cluster; the rollback is waited for again by the next run.",
        )
        raise StageEnded(State.REJECTED, problem)


def finish_rejection(session: Session) -> None:
    """Finish a rejection whose rollback was not finished: every stage begins with this.

    Raises:
        StageEnded: there was one; it is finished now, and the version stays rejected.
    """
    policy, version = session.policy, session.version
    if version.state(policy.name) is not State.REJECTED:
        return
    view = session.look()
    attempts = [one for one in view.found if one.identity.version == version.version]
    reason = version.tag(policy.name, "reason") or "rejected"
    next_step = how_to_retry(policy.name, version.version)
    problem = Problem(str(version), "a version that was not rejected", reason, next_step)
    if attempts:
        session.acquire()
        roll_back(session, attempts[0], problem, reject=True)
    raise StageEnded(State.ROLLED_BACK if attempts else State.REJECTED, problem)

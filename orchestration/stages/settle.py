"""How a stage that broke off leaves its promotion: after the commit it is held or taken back, and before it it waits.

After the commit there are three ends only: champion, rolled back, held. Which of the two sides a promotion is on is
told by the branch; only while Git does not answer, by the version's state.
"""

from collections.abc import Callable

from orchestration.promotion.branch_standing import CommittedPromotion, committed_promotions, live_attempt
from orchestration.promotion.identity import how_to_retry
from orchestration.promotion.model_version import ModelVersion, not_registered, policy_tags, tag_key
from orchestration.promotion.moments import moment_tags
from orchestration.promotion.platform import Platform
from orchestration.promotion.ports import GitOpsRepository
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem, ProblemError
from orchestration.promotion.returns import unfinished_return
from orchestration.promotion.sensor_rules import CANCELLED_TAG
from orchestration.promotion.state import State
from orchestration.promotion.summary import summary_tag
from orchestration.stages.cut_off import end_by_rollback
from orchestration.stages.results import StageEnded
from orchestration.stages.stage import Promotion
from orchestration.stages.unjudged import hold
from orchestration.stages.version_record import VersionRecord, read_version, record_without_lease

_BEFORE_COMMIT = (None, State.REQUESTED, State.WAITING)
_WITHOUT_POLICY = {
    State.WAITING: State.WAITING,
    State.REQUESTED: State.WAITING,
    State.HELD: State.HELD,
    State.COMMITTED: State.HELD,
}
"""What a state becomes when the policy cannot be used."""
_ON_BRANCH = (State.COMMITTED, State.HELD, State.REJECTED)


def settle(promotion: Promotion, error: ProblemError, warn: Callable[[str], None]) -> ProblemError:
    """Write what a stage's error means for the promotion, unless the stage did so itself.

    Args:
        promotion: The promotion, as the stage left it.
        error: What ended the stage.
        warn: Receives a line when the state could not be written.

    Returns:
        The error as the run should show it: an end of the promotion where it is one.
    """
    is_judged = isinstance(error, StageEnded) and error.state not in (State.REFUSED, State.HELD)
    if is_judged or promotion.lease.is_lost or promotion.record.is_gone:
        return error
    try:
        policy, version = promotion.policy.name, promotion.version
        promotions = () if _has_ended(version, policy) else _on_branch(promotion.clients.git, policy)
        committed = live_attempt(version, policy, promotions)
        is_committed = committed is not None
    except DependencyError:
        committed, is_committed = None, promotion.record.state in _ON_BRANCH
    try:
        if is_committed:
            return _after_commit(promotion, committed, error)
        if not isinstance(error, StageEnded):
            _before_commit(promotion, error)
    except StageEnded as ended:
        return error if ended.state is State.WAITING else ended  # another run has the lease, and decides
    except ProblemError as second:
        warn(f"The state could not be written: {second}")
    return error


def _on_branch(git: GitOpsRepository, policy: str) -> tuple[CommittedPromotion, ...]:
    """Read a policy's promotions as the branch has them now, newest first, whatever the manifest is like there.

    Raises:
        DependencyError: Git does not answer.
    """
    return committed_promotions(git.history(git.fetch(), policy), policy)


def _has_ended(version: ModelVersion, policy: str) -> bool:
    state = version.state(policy)
    return state is not None and state.is_end


def hold_by_person(record: VersionRecord, git: GitOpsRepository, run: str) -> bool:
    """Hold a promotion whose run a person cancelled, and say how to go on and how to give it up.

    What has ended stays ended, and a rollback that was begun is finished by the next run.

    Args:
        record: The version, to be written.
        git: The repository, which tells whether the promotion is committed.
        run: The run that was cancelled; it is kept on the version, so that it holds it once.

    Returns:
        Whether the version is held now.

    Raises:
        StageEnded: the lease was lost, and nothing was written.
        DependencyError: the registry does not answer.
    """
    policy, number, state = record.policy, record.version.version, record.state
    if state is State.REJECTED:
        return False
    try:
        committed = _under_way(git, policy, record.version)
        give_up = "Nothing was committed, so there is nothing to take back."
        if committed is not None:
            give_up = f"To give it up: incumbent abort {policy} --reason '...', which takes commit "
            give_up += f"{committed.commit.commit[:12]} back."
    except DependencyError:
        committed = None
        give_up = f"Git does not answer: look at the branch for a commit of version {number} before you give it up."
    if committed is None and state is not None and state.is_end:
        return False
    go_on = f"To go on, materialize partition {policy}@{number}, or: incumbent retry {policy} {number} --reason '...'."
    reason = f"A person cancelled the run. {go_on} {give_up}"
    record.write(State.HELD, reason, held_by="person", **{CANCELLED_TAG: run})
    return True


def _under_way(git: GitOpsRepository, policy: str, version: ModelVersion) -> CommittedPromotion | None:
    """Return what is committed of a version and has not ended: its promotion, or a return to it.

    A return may have begun while the tags still say how the version ended before it.
    """
    promotions = _on_branch(git, policy)
    if not _has_ended(version, policy):
        attempt = live_attempt(version, policy, promotions)
        if attempt is not None:
            return attempt
    returning = unfinished_return(git, promotions)
    return returning if returning is not None and returning.identity.version == version.version else None


def settle_without_policy(
    platform: Platform, policy: str, number: int, problem: Problem, warn: Callable[[str], None]
) -> bool:
    """Write that a promotion cannot go on because its policy, or a client for it, cannot be used.

    Its version is found by its tags, because only the policy knows the model.

    Returns:
        Whether the promotion is committed, and so held.
    """
    held, reason = False, f"{problem} The promotion goes on by itself when that is corrected."
    try:
        registry, now = platform.registry(), platform.clock().now()
        for found, state in _WITHOUT_POLICY.items():
            for version in registry.tagged(tag_key(policy, "state"), str(found)):
                if version.version == number and version.state(policy) is found:
                    tags = {"state": str(state), "reason": reason, **moment_tags(version, policy, state, now)}
                    summary = summary_tag(version, policy, state, now, reason=reason)
                    registry.write_tags(version, {**summary, **policy_tags(policy, tags)})
                    held = held or state is State.HELD
    except ProblemError as second:
        warn(f"The state could not be written: {second}")
    return held


def _after_commit(promotion: Promotion, committed: CommittedPromotion | None, error: ProblemError) -> ProblemError:
    """Hold the promotion, or take it back when its version was deleted; a rollback under way stays what it is.

    Raises:
        StageEnded: the promotion was taken back, or another run holds the lease.
        ProblemError: the state could not be written.
    """
    policy, record = promotion.policy, promotion.record
    number = promotion.version.version
    if committed is not None and promotion.clients.registry.version(policy.model, number) is None:
        record.is_gone = True
        end_by_rollback(promotion, committed, not_registered(policy.model, number))
    checks = error.checks if isinstance(error, StageEnded) else ()
    if record.state is State.REJECTED:
        return StageEnded(State.REJECTED, error.problem, checks)
    is_written = isinstance(error, StageEnded) and error.state is State.HELD and record.state is State.HELD
    if not is_written:
        if not promotion.lease.is_held:
            promotion.lease.acquire()
        hold(promotion, error.problem)
    return StageEnded(State.HELD, error.problem, checks)


def _before_commit(promotion: Promotion, error: ProblemError) -> None:
    """Write why a promotion waits, or that it is refused when a person must correct something first.

    The version is read again, because this may be written without a lease: while Git does not answer, a lease cannot
    be confirmed.

    Raises:
        ProblemError: the state could not be written.
    """
    clients, policy = promotion.clients, promotion.policy
    version = read_version(clients.registry, policy, promotion.version.version)
    if version.state(policy.name) not in _BEFORE_COMMIT:
        return
    state, outlook = State.WAITING, "The promotion goes on by itself when that is over."
    if isinstance(error, InvalidInputError):
        state, outlook = State.REFUSED, how_to_retry(policy.name, version.version)
    reason = f"{error.problem} {outlook}"
    try:
        promotion.record.write(state, reason)
    except DependencyError:
        unheld = record_without_lease(clients.registry, clients.git, clients.clock, policy, version, "")
        unheld.write(state, reason)

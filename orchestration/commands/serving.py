"""What people decide about what serves: back to a former champion, end what is under way, or adopt what runs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from orchestration.promotion.branch_standing import committed_promotions
from orchestration.promotion.decided import Decided, decided_in
from orchestration.promotion.identity import ABORTED, partition_key
from orchestration.promotion.model_version import unread_version
from orchestration.promotion.platform import Platform
from orchestration.promotion.policy import Policy
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.state import State
from orchestration.stages import abort as aborting
from orchestration.stages import adopt as adopting
from orchestration.stages import rollout, serving_model
from orchestration.stages.lease import ApplicationLease, abort_holder, in_words, is_abort
from orchestration.stages.results import Aborted, StageEnded
from orchestration.stages.return_commit import Returned, await_return, commit_return
from orchestration.stages.runner import StageFailed, run_stage
from orchestration.stages.stage import Promotion, promotion_of
from orchestration.stages.version_record import read_version

Say = Callable[[str], None]
_GOES_ON = ("error", str(State.HELD), str(State.WAITING))
"""Outcomes of a stage after which a committed return is still to be finished."""


class UnfinishedError(DependencyError):
    """What was begun is in Git and not finished; the promotion's next run goes on with it."""


@dataclass(frozen=True)
class CommandRun:
    """Implements the runner's `Host` for a command, or for an operation in Dagster."""

    run_id: str
    goes_on: bool
    say: Say

    @property
    def warn(self) -> Say:
        """Show what went wrong like any progress."""
        return self.say

    @property
    def caller_waits(self) -> bool:
        """Say at once that another run is at work: whoever gave the command decides whether to wait or to abort it."""
        return False

    def version_read(self, facts: Mapping[str, object]) -> None:
        """Show nothing: whoever gave the command knows the version."""

    def is_cancelled(self, interruption: BaseException) -> bool:
        """Let the sensor finish what was committed, whatever ended the command."""
        return False


def return_to_champion(platform: Platform, name: str, number: int | None, decided: Decided, run: str, say: Say) -> str:
    """Go back to a former champion: commit its image, wait for its rollout, ask its recorded requests, move the alias.

    Where the policy delivers rollbacks by pull requests, the commit is proposed; after its merge, the sensor goes on.

    Args:
        platform: The policies and the clients.
        name: The policy.
        number: The version; None for the last champion before the one that serves.
        decided: Who goes back, and why.
        run: Names this run as the holder of the lease; no other run has the same name.
        say: Shows progress to a person.

    Returns:
        What was done, in words.

    Raises:
        InvalidInputError: refused, and nothing was changed.
        UnfinishedError: committed, and not the champion yet; or proposed, and not merged yet.
        DependencyError: a dependency does not answer.
    """
    with _desk(platform, name, run, say) as desk:
        _acquire(desk)
        returned = commit_return(desk, number, decided)
        if returned.is_done:
            return f"version {returned.version} serves and is the champion of {name} already."
        if not returned.is_recorded:
            raise _without_registry(desk.policy, returned, await_return(desk, returned))
        desk.lease.hand_over()
    for stage in (rollout.STAGE, serving_model.STAGE):
        host = CommandRun(run, stage is rollout.STAGE, say)
        result = run_stage(stage, platform, partition_key(name, returned.version), host)
        if isinstance(result, StageFailed):
            raise _broken_off(desk, returned, result)
    return f"version {returned.version} serves again, and is the champion of {name}."


def _without_registry(policy: Policy, returned: Returned, problem: Problem | None) -> UnfinishedError:
    """Say what is left to do when the registry does not answer."""
    if problem is not None:
        return UnfinishedError(_to_be_finished(returned, problem))
    found = f"no answer from the registry, while {returned.image} serves (commit {returned.commit[:12]})"
    next_step = "No action needed: the sensor makes it the champion when the registry answers."
    expected = f"alias {policy.champion_alias} on version {returned.version}"
    return UnfinishedError(Problem(f"policy {policy.name}", expected, found, next_step))


def _broken_off(desk: Promotion, returned: Returned, result: StageFailed) -> Exception:
    """Return the error of a return whose stage broke off: it goes on, a person ended it, or it ended by itself."""
    name, git = desk.policy.name, desk.clients.git
    if result.outcome in ("aborted", str(State.WAITING)):
        other = desk.lease.others()
        if other is not None and is_abort(other.holder):
            return _stopped(name, "rollback", in_words(other.holder))
    if result.outcome in _GOES_ON:
        return UnfinishedError(_to_be_finished(returned, result.problem))
    promotions = committed_promotions(git.history(git.fetch(), name), name)
    made = next((made for made in promotions if made.commit.commit == returned.commit), None)
    trailers = made.rollback.trailers if made is not None and made.rollback is not None else {}
    if trailers.get("Verdict") == ABORTED:
        return _stopped(name, "rollback", f"an abort by {decided_in(trailers)}")
    return UnfinishedError(result.problem)


def _stopped(name: str, command: str, by: str) -> InvalidInputError:
    """Return the error of a command that a person's abort ended."""
    next_step = (
        "It has stopped writing, and the abort takes back what it committed. "
        f"If it should be done all the same, give it again when incumbent status {name} shows that the abort is over."
    )
    return InvalidInputError(Problem(f"this {command} of {name}", "to go on to its end", by, next_step))


def _to_be_finished(returned: Returned, problem: Problem) -> Problem:
    """Add to what keeps a return from its end that nothing is lost."""
    done = f"Commit {returned.commit[:12]} stands, and the sensor, or the same command again, finishes it."
    return replace(problem, next_step=f"{done} {problem.next_step}")


def abort_promotion(platform: Platform, name: str, decided: Decided, say: Say) -> str:
    """End what is under way, also while a run is at work on it, and take its image back if it was committed.

    Returns:
        What was done, in words.

    Raises:
        InvalidInputError: refused, and nothing was changed.
        UnfinishedError: the rollback is committed, and its target does not serve yet.
        DependencyError: a dependency does not answer.
    """
    with _desk(platform, name, abort_holder(decided), say) as desk:
        found = aborting.find_under_way(desk)
        if found.is_nothing:
            return f"nothing to abort: no promotion of {name} is under way."
        other = desk.lease.others()
        if other is not None and is_abort(other.holder):
            raise _already_aborted(name, in_words(other.holder))
        try:
            desk.lease.acquire(take_over=True)
            return aborting.abort(desk, decided)
        except StageEnded as ended:
            if not desk.lease.is_lost:
                raise
            return _ended_by_others(desk, ended)


def _ended_by_others(desk: Promotion, ended: StageEnded) -> str:
    """Say who ended what this abort wanted to end, when somebody else took the lease over.

    Raises:
        InvalidInputError: it has not ended yet.
    """
    name, found = desk.policy.name, aborting.find_under_way(desk)
    if not found.is_nothing:
        raise _already_aborted(name, ended.problem.found)
    return aborting.ended_already(desk)


def _already_aborted(name: str, by: str) -> InvalidInputError:
    next_step = f"No action needed: that ends it, and incumbent status {name} shows when."
    return InvalidInputError(Problem(f"this abort of {name}", "to be the only one", by, next_step))


def adopt_version(platform: Platform, name: str, number: int, decided: Decided, run: str, say: Say) -> str:
    """Make a version the champion that serves already, without a commit or a rollout.

    Returns:
        What was done, in words.

    Raises:
        InvalidInputError: refused, and nothing was changed.
        DependencyError: a dependency does not answer.
    """
    with _desk(platform, name, run, say) as desk:
        version = read_version(desk.clients.registry, desk.policy, number)
        _acquire(desk)
        return adopting.adopt(promotion_of(desk.clients, desk.policy, version, desk.lease, say), decided)


@contextmanager
def _desk(platform: Platform, name: str, holder: str, say: Say) -> Iterator[Promotion]:
    """Give a command what it works with: the ports, the policy and a lease to take; its version has no part in this.

    Raises:
        InvalidInputError: the command was refused, and nothing was changed.
        UnfinishedError: what it began is in Git and not finished.
    """
    policy = platform.policy(name)
    clients = platform.clients(policy)
    with ApplicationLease(clients.git, clients.clock, policy.argocd.application, holder, say, say) as lease:
        try:
            yield promotion_of(clients, policy, unread_version(policy.model, 0), lease, say)
        except Aborted as aborted:
            raise _stopped(name, holder.partition(" ")[0], aborted.problem.found) from aborted
        except StageEnded as ended:
            raise _unfinished(ended) from ended


def _acquire(desk: Promotion) -> None:
    try:
        desk.lease.acquire()
    except StageEnded as busy:
        name = desk.policy.name
        other = desk.lease.others()
        next_step = f"Wait for its end; incumbent status {name} shows it."
        if other is None or not is_abort(other.holder):
            next_step += f" A promotion or a rollback is ended by: incumbent abort {name} --reason '...'."
        problem = Problem(f"policy {name}", "no other promotion under way", busy.problem.found, next_step)
        raise InvalidInputError(problem) from busy


def _unfinished(ended: StageEnded) -> Exception:
    """Return the error for an end: a refusal changed nothing, and after any other there may be something to finish."""
    return InvalidInputError(ended.problem) if ended.state is State.REFUSED else UnfinishedError(ended.problem)

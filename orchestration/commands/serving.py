"""What people decide about what serves: back to a former champion, end what is under way, or adopt what runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestration.promotion.decided import Decided
from orchestration.promotion.identity import partition_key
from orchestration.promotion.platform import Platform
from orchestration.promotion.policy import Policy
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.state import State
from orchestration.stages import abort as aborting
from orchestration.stages import adopt as adopting
from orchestration.stages import rollout, serving_model
from orchestration.stages.by_hand import promotion_of, unread_version
from orchestration.stages.lease import ApplicationLease, abort_holder
from orchestration.stages.results import StageEnded
from orchestration.stages.return_commit import Returned, await_return, commit_return
from orchestration.stages.runner import StageFailed, run_stage
from orchestration.stages.version_record import read_version

Say = Callable[[str], None]


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
        UnfinishedError: committed, and not the champion yet.
        DependencyError: a dependency does not answer.
    """
    policy = platform.policy(name)
    clients = platform.clients(policy)
    with ApplicationLease(clients.git, clients.clock, policy.argocd.application, run, say, say) as lease:
        _acquire(lease, policy)
        desk = promotion_of(clients, policy, unread_version(policy, 0), lease, say)
        try:
            returned = commit_return(desk, number, decided)
            if returned.is_done:
                return f"version {returned.version} serves and is the champion of {name} already."
            if not returned.is_recorded:
                raise _without_registry(policy, returned, await_return(desk, returned))
        except StageEnded as ended:
            raise _unfinished(ended) from ended
        lease.hand_over()
    for stage in (rollout.STAGE, serving_model.STAGE):
        host = CommandRun(run, stage is rollout.STAGE, say)
        result = run_stage(stage, platform, partition_key(name, returned.version), host)
        if isinstance(result, StageFailed):
            raise UnfinishedError(result.problem)
    return f"version {returned.version} serves again, and is the champion of {name}."


def _without_registry(policy: Policy, returned: Returned, problem: Problem | None) -> UnfinishedError:
    """Say what is left to do when the registry does not answer."""
    if problem is not None:
        return UnfinishedError(problem)
    found = f"no answer from the registry, while {returned.image} serves (commit {returned.commit[:12]})"
    next_step = "No action needed: the sensor makes it the champion when the registry answers."
    expected = f"alias {policy.champion_alias} on version {returned.version}"
    return UnfinishedError(Problem(f"policy {policy.name}", expected, found, next_step))


def abort_promotion(platform: Platform, name: str, decided: Decided, say: Say) -> str:
    """End what is under way, also while a run is at work on it, and take its image back if it was committed.

    Returns:
        What was done, in words.

    Raises:
        InvalidInputError: refused, and nothing was changed.
        UnfinishedError: the rollback is committed, and its target does not serve yet.
        DependencyError: a dependency does not answer.
    """
    policy = platform.policy(name)
    clients = platform.clients(policy)
    holder = abort_holder(decided)
    with ApplicationLease(clients.git, clients.clock, policy.argocd.application, holder, say, say) as lease:
        desk = promotion_of(clients, policy, unread_version(policy, 0), lease, say)
        try:
            found = aborting.find_under_way(desk)
            if found.committed is None and found.challenger is None:
                return f"nothing to abort: no promotion of {name} is under way."
            lease.acquire(take_over=True)
            return aborting.abort(desk, decided)
        except StageEnded as ended:
            raise _unfinished(ended) from ended


def adopt_version(platform: Platform, name: str, number: int, decided: Decided, run: str, say: Say) -> str:
    """Make a version the champion that serves already, without a commit or a rollout.

    Returns:
        What was done, in words.

    Raises:
        InvalidInputError: refused, and nothing was changed.
        DependencyError: a dependency does not answer.
    """
    policy = platform.policy(name)
    clients = platform.clients(policy)
    with ApplicationLease(clients.git, clients.clock, policy.argocd.application, run, say, say) as lease:
        try:
            version = read_version(clients.registry, policy, number)
            _acquire(lease, policy)
            return adopting.adopt(promotion_of(clients, policy, version, lease, say), decided)
        except StageEnded as ended:
            raise _unfinished(ended) from ended


def _acquire(lease: ApplicationLease, policy: Policy) -> None:
    try:
        lease.acquire()
    except StageEnded as busy:
        next_step = f"Wait for its end, or end it: incumbent abort {policy.name} --reason '...'."
        found = busy.problem.found
        problem = Problem(f"policy {policy.name}", "no other promotion under way", found, next_step)
        raise InvalidInputError(problem) from busy


def _unfinished(ended: StageEnded) -> Exception:
    """Return the error for an end: a refusal changed nothing, and after any other there may be something to finish."""
    return InvalidInputError(ended.problem) if ended.state is State.REFUSED else UnfinishedError(ended.problem)

"""Runs one stage of a promotion, and decides what every stage has in common: how it begins, holds and ends.

Whatever ran before may have died at any point, so a stage reads all state again from Git, MLflow and the cluster.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from orchestration.promotion.identity import how_to_retry, parse_partition_key
from orchestration.promotion.merge_wait import recognise_merges
from orchestration.promotion.model_version import unread_version
from orchestration.promotion.platform import Platform
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clients
from orchestration.promotion.problems import InvalidInputError, Problem, ProblemError
from orchestration.promotion.retries import retried_because
from orchestration.promotion.state import State
from orchestration.promotion.summary import state_and_reason
from orchestration.stages.cut_off import finish_cut_off
from orchestration.stages.lease import LEASE_SECONDS, ApplicationLease
from orchestration.stages.results import Aborted, Check, StageDone, StageEnded
from orchestration.stages.settle import hold_by_person, settle, settle_without_policy
from orchestration.stages.stage import Promotion, Stage, promotion_of
from orchestration.stages.version_record import VersionRecord, read_version, record_without_lease

_JUDGEMENTS = frozenset(state for state in State if state.is_end or state is State.WAITING)
"""The states in which a promotion may be left without anything being broken."""


class Host(Protocol):
    """The run that a stage is part of, as the runner sees it: a run of Dagster, or a test."""

    @property
    def run_id(self) -> str:
        """Names the run as the holder of the lease."""

    @property
    def caller_waits(self) -> bool:
        """Whether a caller waits for this run in its own process, as in CI, and takes its exit code for the answer."""

    @property
    def goes_on(self) -> bool:
        """Whether this run has another stage after this one, which takes the lease over."""

    def say(self, line: str) -> None:
        """Show progress to a person."""

    def warn(self, line: str) -> None:
        """Show something that went wrong and does not change how the stage ends."""

    def version_read(self, facts: Mapping[str, object]) -> None:
        """Receive what the registry says about the version, before any work."""

    def is_cancelled(self, interruption: BaseException) -> bool:
        """Whether an exception is the interruption by which a person cancelled the run.

        A host that shuts down interrupts its runs, too; those are resumed by the sensor.
        """


@dataclass(frozen=True)
class StageFailed:
    """A stage that did not do its work: how the run ends, and why."""

    outcome: str
    """The promotion's state in words, such as `rolled back`; `error` when nothing was judged and nothing is held."""
    problem: Problem
    checks: tuple[Check, ...] = ()
    """The checks that were judged before the end."""
    is_judgement: bool = False
    """Whether the version was judged, or has to wait, and all is as it should be; otherwise something is broken."""


def run_stage(stage: Stage, platform: Platform, partition: str, host: Host) -> StageDone | StageFailed:
    """Run one stage for a partition's version; every problem is part of the result.

    A stage that writes takes the lease before it looks, so that what it sees stays true until it writes. A run whose
    caller waits gives another run the time to end first, and then finds what that run did. Each stage begins by
    finishing what was cut off. However it ends, the version says where its promotion stands (`settle.py`); a person who
    cancels the run holds it. The lease is given back whatever happens, unless the run goes on with another stage.
    """
    try:
        policy_name, number = _policy_and_version(partition)
    except ProblemError as error:
        return _failed(stage, error)
    try:
        policy = platform.policy(policy_name)
        clients = platform.clients(policy)
    except ProblemError as error:
        held = settle_without_policy(platform, policy_name, number, error.problem, host.warn)
        return StageFailed(str(State.HELD) if held else "error", error.problem)
    except BaseException as interruption:
        _hold_if_cancelled(interruption, lambda: _unheld_record(platform, policy_name, number, host), platform, host)
        raise
    application, patience = policy.argocd.application, _patience(policy) if host.caller_waits else 0.0
    with ApplicationLease(clients.git, clients.clock, application, host.run_id, host.say, host.warn, patience) as lease:
        promotion: Promotion | None = None
        read = partial(_read_promotion, clients, policy, number, lease, host)
        try:
            try:
                if stage.takes_lease:
                    lease.acquire()
                else:
                    lease.wait_for_others()
                promotion = read()
                if not promotion.record.is_gone:
                    host.version_read(_registry_facts(promotion))
                recognise_merges(clients.git, clients.requests, policy, number)
                view = promotion.look()
                finish_cut_off(promotion, view)
                done = stage.work(promotion, view)
            except ProblemError as error:
                return _failed(stage, _settled(promotion, error, read, host))
            if host.goes_on:
                lease.hand_over()
            return replace(done, facts={**stage.links(promotion), **done.facts})
        except BaseException as interruption:
            _hold_if_cancelled(interruption, lambda: (promotion or read()).record, platform, host)
            raise


def _patience(policy: Policy) -> float:
    """How many seconds a run whose caller waits gives another run: as long as that may take, rollback included."""
    return LEASE_SECONDS + policy.longest_on_branch


def _policy_and_version(partition: str) -> tuple[str, int]:
    parsed = parse_partition_key(partition)
    if parsed is None:
        raise InvalidInputError(
            Problem(
                f"partition {partition}",
                "<policy>@<version>, such as iris-classifier-edge@7",
                "another form",
                "Add it with: incumbent register POLICY VERSION.",
            )
        )
    return parsed


def _registry_facts(promotion: Promotion) -> Mapping[str, object]:
    version, policy = promotion.version, promotion.policy.name
    return {
        "version_url": promotion.clients.registry.version_url(version),
        "run_id": version.run_id,
        "state": version.tag(policy, "state"),
        "requested_at": version.tag(policy, "requested_at"),
        "retried_because": retried_because(version, policy),
    }


def _read_promotion(clients: Clients, policy: Policy, number: int, lease: ApplicationLease, host: Host) -> Promotion:
    """Read the version, which may have been deleted since it was committed."""
    version = clients.registry.version(policy.model, number)
    promotion = promotion_of(clients, policy, version or unread_version(policy.model, number), lease, host.say)
    promotion.record.is_gone = version is None
    return promotion


def _settled(
    promotion: Promotion | None, error: ProblemError, read: Callable[[], Promotion], host: Host
) -> ProblemError:
    """Leave the promotion in a state that says what happened; the version is read for it when the lease was not taken.

    A lease that another run holds says nothing about this version, so nothing is written.
    """
    if promotion is None and isinstance(error, StageEnded):
        return error
    if promotion is not None and promotion.lease.is_lost and isinstance(error, StageEnded):
        return _ended_meanwhile(promotion, error)
    try:
        promotion = promotion or read()
    except ProblemError as second:
        host.warn(f"The state could not be written: {second}")
        return error
    return settle(promotion, error, host.warn)


def _ended_meanwhile(promotion: Promotion, ended: StageEnded) -> StageEnded:
    """Return the end that someone else wrote on the version since this run lost its lease; it says who and why."""
    policy, number = promotion.policy.name, promotion.version.version
    try:
        version = promotion.clients.registry.version(promotion.policy.model, number)
    except ProblemError:
        return ended
    state = version.state(policy) if version is not None else None
    if version is None or state not in (State.REFUSED, State.ROLLED_BACK) or state is promotion.record.state:
        return ended
    found = state_and_reason(state, version.tag(policy, "reason"))
    return StageEnded(state, Problem(str(version), "to be promoted by this run", found, how_to_retry(policy, number)))


def _hold_if_cancelled(
    interruption: BaseException, read: Callable[[], VersionRecord], platform: Platform, host: Host
) -> None:
    """Hold the version when a person cancelled the run, however early; that needs only the registry and Git."""
    if not host.is_cancelled(interruption):
        return
    try:
        record = read()
        hold_by_person(record, platform.git(record.under), host.run_id)
    except ProblemError as problem:
        host.warn(f"The state could not be written: {problem}")


def _unheld_record(platform: Platform, policy_name: str, number: int, host: Host) -> VersionRecord:
    registry, policy = platform.registry(), platform.policy(policy_name)
    version = read_version(registry, policy, number)
    return record_without_lease(registry, platform.git(policy), platform.clock(), policy, version, host.run_id)


def _failed(stage: Stage, error: ProblemError) -> StageFailed:
    """Return the result of a stage that raised, without checks that belong to another stage."""
    if not isinstance(error, StageEnded):
        return StageFailed("error", error.problem)
    checks = tuple(check for check in error.checks if check.name in stage.checks)
    outcome = "aborted" if isinstance(error, Aborted) else str(error.state).replace("_", " ")
    return StageFailed(outcome, error.problem, checks, error.state in _JUDGEMENTS)

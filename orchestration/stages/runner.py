"""Runs one stage of a promotion, and decides what every stage has in common: how it begins, holds and ends.

Whatever ran before may have died at any point, so a stage reads all state again from Git, MLflow and the cluster.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from orchestration.promotion.identity import how_to_retry, parse_partition_key
from orchestration.promotion.platform import Platform
from orchestration.promotion.problems import InvalidInputError, Problem, ProblemError
from orchestration.promotion.state import State
from orchestration.stages.lease import ApplicationLease
from orchestration.stages.results import Check, StageDone, StageEnded
from orchestration.stages.rollback import finish_rollback
from orchestration.stages.stage import Promotion, Stage
from orchestration.stages.unjudged import hold
from orchestration.stages.version_record import VersionRecord, read_version


class Host(Protocol):
    """The run that a stage is part of, as the runner sees it: a run of Dagster, or a test."""

    @property
    def run_id(self) -> str:
        """Names the run as the holder of the lease."""

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


def run_stage(stage: Stage, platform: Platform, partition: str, host: Host) -> StageDone | StageFailed:
    """Run one stage for a partition's version; every problem is part of the result.

    A stage that writes takes the lease before it looks, so that what it sees stays true until it writes. It begins by
    finishing a rollback that was cut off. After the commit, a problem that is not an end holds the promotion, and so
    does a person who cancels the run. The lease is given back whatever happens, unless the run goes on with another
    stage.
    """
    try:
        policy_name, number = _policy_and_version(partition)
        policy = platform.policy(policy_name)
        clients = platform.clients(policy)
    except ProblemError as error:
        return _failed(stage, error, None, host)
    with ApplicationLease(clients.git, clients.clock, policy.argocd.application, host.run_id, host.warn) as lease:
        promotion: Promotion | None = None
        try:
            if stage.takes_lease:
                lease.acquire()
            version = read_version(clients.registry, policy, number)
            record = VersionRecord(clients.registry, clients.clock, policy, version, lease)
            promotion = Promotion(clients, policy, record, lease, host.say)
            host.version_read(_registry_facts(promotion))
            view = promotion.look()
            finish_rollback(promotion, view)
            done = stage.work(promotion, view)
        except ProblemError as error:
            return _failed(stage, error, promotion, host)
        except BaseException as interruption:
            if promotion is not None and host.is_cancelled(interruption):
                _hold_by_person(promotion, host)
            raise
        if host.goes_on:
            lease.hand_over()
        return StageDone(done.checks, {**stage.links(promotion), **done.facts}, done.end)


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
    }


def _failed(stage: Stage, error: ProblemError, promotion: Promotion | None, host: Host) -> StageFailed:
    """Return the result of a stage that raised, without checks that belong to another stage."""
    if isinstance(error, StageEnded):
        error = _ended_meanwhile(promotion, error)
        checks = tuple(check for check in error.checks if check.name in stage.checks)
        return StageFailed(str(error.state).replace("_", " "), error.problem, checks)
    if promotion is not None:
        _hold_what_is_committed(promotion, error, host)
    held = promotion is not None and promotion.record.state is State.HELD
    return StageFailed(str(State.HELD) if held else "error", error.problem)


def _ended_meanwhile(promotion: Promotion | None, ended: StageEnded) -> StageEnded:
    """Return the end that someone else wrote on the version since this run lost its lease; it says who and why."""
    if promotion is None or not promotion.lease.is_lost:
        return ended
    policy = promotion.policy
    try:
        version = read_version(promotion.clients.registry, policy, promotion.version.version)
    except ProblemError:
        return ended
    state = version.state(policy.name)
    if state not in (State.REFUSED, State.ROLLED_BACK) or state is promotion.record.state:
        return ended
    reason = version.tag(policy.name, "reason") or "no reason kept"
    next_step = how_to_retry(policy.name, version.version)
    return StageEnded(state, Problem(str(version), "to be promoted by this run", f"{state}: {reason}", next_step))


def _hold_what_is_committed(promotion: Promotion, error: ProblemError, host: Host) -> None:
    """After the commit, what keeps a stage from its work holds the promotion; before it, the state stays as it is."""
    if not promotion.lease.is_held or promotion.record.state is not State.COMMITTED:
        return
    known = error.problem
    next_step = f"{known.next_step} The promotion is held and goes on by itself when this is fixed."
    try:
        hold(promotion, Problem(known.subject, known.expected, known.found, next_step))
    except ProblemError as second:
        host.warn(f"The state could not be written: {second}")


def _hold_by_person(promotion: Promotion, host: Host) -> None:
    committed = promotion.record.state in (State.COMMITTED, State.HELD)
    way_out = "to give it up, revert the commit" if committed else "nothing was committed"
    reason = f"A person cancelled the run. Materialize the partition again to go on; {way_out}."
    try:
        promotion.record.write(State.HELD, reason, held_by="person")
    except ProblemError as problem:
        host.warn(f"The state could not be written: {problem}")

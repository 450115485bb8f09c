"""Runs one stage of a promotion, and decides what every stage has in common: how it begins, holds and ends.

Whatever ran before may have died at any point, so a stage reads all state again from Git, MLflow and the cluster.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from orchestration.promotion.identity import parse_partition_key
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.platform import Platform
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem, ProblemError
from orchestration.promotion.state import State
from orchestration.stages.lease import ApplicationLease
from orchestration.stages.results import Check, StageDone, StageEnded
from orchestration.stages.rollback import finish_rejection
from orchestration.stages.stage import Promotion, Stage
from orchestration.stages.unjudged import hold
from orchestration.stages.version_record import VersionRecord, version_gone


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

    A stage begins by finishing a rejection whose rollback was cut off. After the commit, a dependency that does not
    answer holds the promotion, and so does a person who cancels the run. The lease is given back whatever happens,
    unless the run goes on with another stage.
    """
    try:
        policy_name, number = _policy_and_version(partition)
        policy = platform.policy(policy_name)
        clients = platform.clients(policy)
        version = clients.registry.version(policy.model, number)
        if version is None:
            raise StageEnded(State.REFUSED, version_gone(ModelVersion(policy.model, number, None, None)))
    except ProblemError as error:
        return _failed(stage, error, None)
    with ApplicationLease(clients.git, clients.clock, policy.argocd.application, host.run_id, host.say) as lease:
        record = VersionRecord(clients.registry, clients.clock, policy, version, lease)
        promotion = Promotion(clients, policy, record, lease, host.say)
        try:
            host.version_read(_registry_facts(promotion))
            view = promotion.look()
            finish_rejection(promotion, view)
            done = stage.work(promotion, view)
        except ProblemError as error:
            if isinstance(error, DependencyError):
                _hold_what_is_committed(promotion, error)
            return _failed(stage, error, record.state)
        except BaseException as interruption:
            if host.is_cancelled(interruption):
                _hold_by_person(promotion)
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


def _failed(stage: Stage, error: ProblemError, state: State | None) -> StageFailed:
    """Return the result of a stage that raised, without checks that belong to another stage."""
    if isinstance(error, StageEnded):
        checks = tuple(check for check in error.checks if check.name in stage.checks)
        return StageFailed(str(error.state).replace("_", " "), error.problem, checks)
    return StageFailed(str(State.HELD) if state is State.HELD else "error", error.problem)


def _hold_what_is_committed(promotion: Promotion, error: DependencyError) -> None:
    """After the commit, a dependency that fails holds the promotion; before it, the state stays as it is."""
    if not promotion.lease.is_held or promotion.record.state is not State.COMMITTED:
        return
    known = error.problem
    next_step = f"{known.next_step} The promotion is held and goes on by itself when this is fixed."
    try:
        hold(promotion, Problem(known.subject, known.expected, known.found, next_step))
    except ProblemError as second:
        promotion.say(f"The state could not be written: {second}")


def _hold_by_person(promotion: Promotion) -> None:
    promotion.record.write(
        State.HELD,
        "A person cancelled the run. Materialize the partition again to go on; to give it up, revert the commit.",
        held_by="person",
    )

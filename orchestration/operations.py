"""Jobs for what people decide, started in Dagster's launchpad with a policy, a reason and a name.

Each does what the command of the same name does. A refusal fails the run with its reason, and changes nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import dagster as dg
from pydantic import Field, ValidationError, field_validator

from orchestration.commands.approving import approve_version
from orchestration.commands.holding import hold_policy, resume_policy
from orchestration.commands.requesting import retry_promotion
from orchestration.commands.serving import Say, abort_promotion, adopt_version, return_to_champion
from orchestration.metadata import problem_metadata
from orchestration.promotion.decided import Decided
from orchestration.promotion.field_faults import field_faults
from orchestration.promotion.platform import Platform
from orchestration.promotion.problems import InvalidInputError, Problem, ProblemError


class OnPolicy(dg.Config):
    """What every operation is told."""

    policy: str = Field(description="The policy's name, such as iris-classifier-edge.")
    reason: str = Field(description="Why; kept in Git, and on the version.")
    by: str = Field(description="Who asks for it. Dagster asks for no login, so this is taken as given.")

    @field_validator("reason", "by")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("expected a text, found an empty one")
        return " ".join(value.split())

    @property
    def decided(self) -> Decided:
        """Who asks for it, and why."""
        return Decided(self.by, self.reason)


class OnVersion(OnPolicy):
    """What an operation on one version is told."""

    version: int = Field(ge=1, description="The number of the model version, such as 7.")


class ToChampion(OnPolicy):
    """What a rollback is told."""

    version: int | None = Field(None, ge=1, description="The former champion; without it, the last one.")


@dataclass(frozen=True)
class Launch:
    """The run that does an operation: its id, and what shows progress."""

    run_id: str
    say: Say


Told = TypeVar("Told", bound=OnPolicy)


def operation(
    name: str, description: str, config: type[Told], act: Callable[[Platform, Told, Launch], str]
) -> dg.JobDefinition:
    """Return a job that does one thing and says what it did.

    Args:
        name: The job's name, which is the command's.
        description: What it does, in a sentence.
        config: What the launchpad asks for.
        act: Does it, and returns what was done, for a person; it may raise `ProblemError`.
    """

    @dg.op(name=f"do_{name}", description=description, config_schema=config.to_config_schema().as_field())
    def work(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
        try:
            done = act(platform, _told(config, context.op_config), Launch(context.run_id, context.log.info))
        except ProblemError as error:
            raise dg.Failure(str(error), metadata=problem_metadata(error.problem), allow_retries=False) from None
        context.log.info(done)
        context.add_output_metadata({"done": done})

    @dg.job(name=name, description=description, executor_def=dg.in_process_executor)
    def job() -> None:
        work()

    return job


def _told(config: type[Told], given: Mapping[str, Any]) -> Told:
    try:
        return config(**given)
    except ValidationError as error:
        found = "; ".join(field_faults(error, "config"))
        problem = Problem("the launchpad's config", "every field as described", found, "Correct it, and launch again.")
        raise InvalidInputError(problem) from error


def _hold(platform: Platform, told: OnPolicy, _: Launch) -> str:
    policy = platform.policy(told.policy)
    return hold_policy(platform.git(policy), platform.clock(), policy, told.by, told.reason)


def _resume(platform: Platform, told: OnPolicy, _: Launch) -> str:
    policy = platform.policy(told.policy)
    return resume_policy(platform.git(policy), platform.clock(), policy, told.by, told.reason)


def _approve(platform: Platform, told: OnVersion, _: Launch) -> str:
    policy = platform.policy(told.policy)
    ports = platform.registry(), platform.images(), platform.git(policy), platform.clock()
    return approve_version(*ports, policy, told.version, told.by, told.reason)


def _rollback(platform: Platform, told: ToChampion, launch: Launch) -> str:
    return return_to_champion(platform, told.policy, told.version, told.decided, launch.run_id, launch.say)


def _abort(platform: Platform, told: OnPolicy, launch: Launch) -> str:
    return abort_promotion(platform, told.policy, told.decided, launch.say)


def _adopt(platform: Platform, told: OnVersion, launch: Launch) -> str:
    return adopt_version(platform, told.policy, told.version, told.decided, launch.run_id, launch.say)


def _retry(platform: Platform, told: OnVersion, _: Launch) -> str:
    policy = platform.policy(told.policy)
    ports = platform.registry(), platform.git(policy), platform.clock()
    attempt = retry_promotion(*ports, policy, told.version, by=told.by, reason=told.reason)
    return f"version {told.version} of {policy.model} will be tried again as attempt {attempt}."


operations = (
    operation("rollback", "Go back to a former champion, and make it the champion again.", ToChampion, _rollback),
    operation("abort", "End the promotion that is under way, and take its image back.", OnPolicy, _abort),
    operation("adopt", "Make the version that serves already the champion.", OnVersion, _adopt),
    operation("hold", "Keep a policy from committing anything new, until it is resumed.", OnPolicy, _hold),
    operation("resume", "Let a held policy go on.", OnPolicy, _resume),
    operation("retry", "Try a version once more that was refused, superseded, rolled back or held.", OnVersion, _retry),
    operation("approve", "Approve the image that a version has now.", OnVersion, _approve),
)

"""Jobs for what people decide about what serves, started in Dagster's launchpad: rollback, abort and adopt.

Each does what the command of the same name does, and its log shows the progress. A refusal fails the run with its
reason.
"""

from collections.abc import Callable
from typing import Any

import dagster as dg
from pydantic import Field

from orchestration.commands.serving import Say, abort_promotion, adopt_version, return_to_champion
from orchestration.metadata import problem_metadata
from orchestration.promotion.decided import Decided
from orchestration.promotion.platform import Platform
from orchestration.promotion.problems import InvalidInputError, Problem, ProblemError


class OnPolicy(dg.Config):
    """What every operation is told."""

    policy: str = Field(description="The policy's name, such as iris-classifier-edge.")
    reason: str = Field(description="Why; kept in Git and on the version.")
    by: str = Field(description="Who asks for it. Dagster asks for no login, so this is taken as given.")


class OnVersion(OnPolicy):
    """What an operation on one version is told."""

    version: int = Field(description="The number of the model version, such as 7.")


class ToChampion(OnPolicy):
    """What a rollback is told."""

    version: int | None = Field(None, description="The former champion; without it, the last one.")


Act = Callable[[Platform, Any, Decided, str, Say], str]
"""Does it: with the config, who and why, the run's id, and what shows progress; returns what was done."""


def _operation(name: str, description: str, config: type[OnPolicy], act: Act) -> dg.JobDefinition:
    """Return a job that does one thing and says what it did."""

    @dg.op(name=f"do_{name}", description=description, config_schema=config.to_config_schema().as_field())
    def work(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
        told = config(**context.op_config)
        try:
            done = act(platform, told, _decided(told), context.run_id, context.log.info)
        except ProblemError as error:
            raise dg.Failure(str(error), metadata=problem_metadata(error.problem), allow_retries=False) from None
        context.log.info(done)
        context.add_output_metadata({"done": done})

    @dg.job(name=name, description=description, executor_def=dg.in_process_executor)
    def job() -> None:
        work()

    return job


def _decided(told: OnPolicy) -> Decided:
    for name, text in (("reason", told.reason), ("by", told.by)):
        if not text.strip():
            found, next_step = "an empty text", "Fill it in, and launch again."
            raise InvalidInputError(Problem(f"field {name} of the launchpad's config", "a text", found, next_step))
    return Decided(" ".join(told.by.split()), " ".join(told.reason.split()))


def _rollback(platform: Platform, told: ToChampion, decided: Decided, run: str, say: Say) -> str:
    return return_to_champion(platform, told.policy, told.version, decided, run, say)


def _abort(platform: Platform, told: OnPolicy, decided: Decided, run: str, say: Say) -> str:
    return abort_promotion(platform, told.policy, decided, say)


def _adopt(platform: Platform, told: OnVersion, decided: Decided, run: str, say: Say) -> str:
    return adopt_version(platform, told.policy, told.version, decided, run, say)


serving_operations = (
    _operation("rollback", "Go back to a former champion, and make it the champion again.", ToChampion, _rollback),
    _operation("abort", "End the promotion that is under way, and take its image back.", OnPolicy, _abort),
    _operation("adopt", "Make the version that serves already the champion.", OnVersion, _adopt),
)

"""The five assets: the registered model, and one for each stage of a promotion, with the stage's fixed checks.

An asset only translates between Dagster and `stages/runner.py`, which decides.
"""

import warnings
from collections.abc import Iterator, Mapping

import dagster as dg

from orchestration.metadata import check_results, facts_metadata, problem_metadata, sentence
from orchestration.partitions import model_versions
from orchestration.promotion.identity import parse_partition_key
from orchestration.promotion.platform import Platform
from orchestration.stages.pipeline import STAGES
from orchestration.stages.runner import StageFailed, run_stage
from orchestration.stages.stage import Stage

# Checks of single partitions are a preview feature; the exact version of Dagster is pinned for it.
warnings.filterwarnings("ignore", category=dg.PreviewWarning, message=".*partitions_def.*AssetCheckSpec.*")

VERSION_TAG, OUTCOME_TAG, REASON_TAG = "version", "outcome", "reason"
"""Tags of a run, without a prefix: the list of runs cuts a tag off after about 25 characters."""

PROMOTION_GROUP = "promotion"
"""The group of the stages alone, so that `--select group:promotion` is a whole promotion."""

registered_model = dg.AssetSpec(
    "registered_model",
    partitions_def=model_versions,
    group_name="registry",
    description="A model version in the registry. Set the challenger alias on one, and its promotion begins.",
    kinds={"mlflow"},
)


def stage_asset(stage: Stage, after: str) -> dg.AssetsDefinition:
    """Return the asset whose op does one stage: it yields its checks, and a materialization when the work is done.

    Args:
        stage: The stage.
        after: The name of the asset before it.
    """

    @dg.asset(
        name=stage.name,
        deps=[after],
        partitions_def=model_versions,
        group_name=PROMOTION_GROUP,
        kinds=set(stage.kinds),
        description=stage.description,
        output_required=False,
        check_specs=[
            dg.AssetCheckSpec(check, asset=stage.name, partitions_def=model_versions, description=proves)
            for check, proves in stage.checks.items()
        ],
    )
    def asset(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Iterator[object]:
        host = _DagsterRun(context, stage)
        result = run_stage(stage, platform, context.partition_key, host)
        if isinstance(result, StageFailed):
            yield from _ended(result, host)
            return
        yield from check_results(result.checks)
        if result.end is not None:
            host.tag_outcome(str(result.end), result.note)
        yield dg.MaterializeResult(metadata=facts_metadata(result.facts))

    return asset


def _ended(result: StageFailed, host: "_DagsterRun") -> Iterator[dg.AssetCheckResult]:
    """Show how a stage ended that did not do its work: a judgement in yellow, what is broken in red (decision 8).

    Raises:
        Failure: something is broken, or the exit code of this process must say that there is no champion.
    """
    said = f"{result.outcome}: {result.problem}"
    metadata = problem_metadata(result.problem)
    yield from check_results(result.checks, judged=result.is_judgement)
    host.tag_outcome(result.outcome, str(result.problem))
    host.show_end(said, {"outcome": dg.MetadataValue.text(result.outcome), **metadata})
    if not result.is_judgement or host.caller_waits:
        raise dg.Failure(said, metadata=metadata, allow_retries=False)
    host.warn(said)
    judged = {check.name for check in result.checks}
    for check in host.stage.checks:
        if check not in judged:
            yield dg.AssetCheckResult(
                check_name=check, passed=False, severity=dg.AssetCheckSeverity.WARN, description=_not_judged(said)
            )
    host.leave_out_later_checks(_not_judged(said))


def _not_judged(said: str) -> str:
    return f"Not judged, because the promotion ended before: {said}"


class _DagsterRun:
    """Implements the runner's `Host` for one stage's step of a Dagster run."""

    def __init__(self, context: dg.AssetExecutionContext, stage: Stage) -> None:
        self._context, self.stage = context, stage
        parsed = parse_partition_key(context.partition_key)
        if parsed is not None:
            self._tag({VERSION_TAG: str(parsed[1])})

    @property
    def run_id(self) -> str:
        return self._context.run.run_id

    @property
    def goes_on(self) -> bool:
        later = STAGES[STAGES.index(self.stage) + 1 :]
        return bool(later) and self._is_selected(later[0])

    def _is_selected(self, stage: Stage) -> bool:
        selected = self._context.run.asset_selection
        return selected is None or dg.AssetKey(stage.name) in selected

    @property
    def caller_waits(self) -> bool:
        # The daemon and the web server launch only runs whose job they can find again; a command runs what it loaded.
        return self._context.run.remote_job_origin is None

    def say(self, line: str) -> None:
        self._context.log.info(line)

    def warn(self, line: str) -> None:
        """Log a warning of the run."""
        self._context.log.warning(line)

    def version_read(self, facts: Mapping[str, object]) -> None:
        if self.stage is STAGES[0]:
            metadata = facts_metadata(facts)
            key = self._context.partition_key
            self._context.log_event(dg.AssetObservation(registered_model.key, partition=key, metadata=metadata))

    def is_cancelled(self, interruption: BaseException) -> bool:
        if not isinstance(interruption, dg.DagsterExecutionInterruptedError):
            return False
        run = self._context.instance.get_run_by_id(self.run_id)
        return run is not None and run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)

    def tag_outcome(self, outcome: str, reason: str = "") -> None:
        """Put the end on the run itself, so that the list of runs shows it and can be filtered by it."""
        self._tag({OUTCOME_TAG: outcome} | ({REASON_TAG: sentence(reason)} if reason else {}))

    def show_end(self, said: str, metadata: Mapping[str, dg.MetadataValue]) -> None:
        """Put the end into the events of the version's rows, where nothing else would be shown for it."""
        for key in (registered_model.key, dg.AssetKey(self.stage.name)):
            self._context.log_event(
                dg.AssetObservation(key, description=said, partition=self._context.partition_key, metadata=metadata)
            )

    def leave_out_later_checks(self, why: str) -> None:
        """Say of each check of this run's later stages why it was not judged.

        Dagster shows a check by its newest result: without one, an earlier version's failure would turn it red.
        """
        for stage in filter(self._is_selected, STAGES[STAGES.index(self.stage) + 1 :]):
            for check in stage.checks:
                evaluation = dg.AssetCheckEvaluation(
                    dg.AssetKey(stage.name),
                    check,
                    passed=False,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=why,
                    partition=self._context.partition_key,
                )
                self._context.log_event(evaluation)

    def _tag(self, tags: Mapping[str, str]) -> None:
        self._context.instance.add_run_tags(self.run_id, tags)


stage_assets = tuple(
    stage_asset(stage, after)
    for stage, after in zip(STAGES, ("registered_model", *(stage.name for stage in STAGES)), strict=False)
)

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

_DONE = "done"
"""The output that stands for the materialized asset."""

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

    All outputs are optional, because a stage that ends early has judged only some of its checks; `@asset` has no way to
    say so (decision 8).

    Args:
        stage: The stage.
        after: The name of the asset before it.
    """
    key = dg.AssetKey(stage.name)
    checks = {
        f"{stage.name}_{check}": dg.AssetCheckSpec(check, asset=key, partitions_def=model_versions, description=proves)
        for check, proves in stage.checks.items()
    }

    @dg.op(
        name=stage.name,
        ins={after: dg.In(dg.Nothing)},
        out={_DONE: dg.Out(dg.Nothing, is_required=False)}
        | {name: dg.Out(dagster_type=None, is_required=False) for name in checks},
    )
    def op(context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]) -> Iterator[object]:
        host = _DagsterRun(context, stage)
        result = run_stage(stage, platform, context.partition_key, host)
        if isinstance(result, StageFailed):
            yield from _ended(result, host, context)
            return
        yield from check_results(result.checks)
        if result.end is not None:
            host.tag_outcome(str(result.end), result.note)
        yield dg.MaterializeResult(asset_key=key, metadata=facts_metadata(result.facts))

    spec = dg.AssetSpec(
        key,
        deps=[after],
        partitions_def=model_versions,
        group_name=PROMOTION_GROUP,
        kinds=set(stage.kinds),
        description=stage.description,
    )
    return dg.AssetsDefinition(
        node_def=op,
        keys_by_input_name={after: dg.AssetKey(after)},
        keys_by_output_name={_DONE: key},
        check_specs_by_output_name=checks,
        specs=[spec],
    )


def _ended(result: StageFailed, host: "_DagsterRun", context: dg.OpExecutionContext) -> Iterator[object]:
    """Show how a stage ended that did not do its work: what was judged in yellow, what is broken in red (decision 8).

    Raises:
        Failure: something is broken, or the exit code of this process must say that there is no champion.
    """
    yield from check_results(result.checks, judged=result.is_judgement)
    said = f"{result.outcome}: {result.problem}"
    host.tag_outcome(result.outcome, str(result.problem))
    metadata = problem_metadata(result.problem)
    for key in (registered_model.key, context.asset_key):
        shown = {"outcome": dg.MetadataValue.text(result.outcome), **metadata}
        context.log_event(dg.AssetObservation(key, description=said, partition=context.partition_key, metadata=shown))
    if not result.is_judgement or host.caller_waits:
        raise dg.Failure(said, metadata=metadata, allow_retries=False)
    context.log.warning(said)


class _DagsterRun:
    """Implements the runner's `Host` for one stage's step of a Dagster run."""

    def __init__(self, context: dg.OpExecutionContext, stage: Stage) -> None:
        self._context, self._stage = context, stage
        parsed = parse_partition_key(context.partition_key)
        if parsed is not None:
            self._tag({VERSION_TAG: str(parsed[1])})

    @property
    def run_id(self) -> str:
        return self._context.run.run_id

    @property
    def goes_on(self) -> bool:
        later = STAGES[STAGES.index(self._stage) + 1 :]
        selected = self._context.run.asset_selection
        return bool(later) and (selected is None or dg.AssetKey(later[0].name) in selected)

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
        if self._stage is STAGES[0]:
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

    def _tag(self, tags: Mapping[str, str]) -> None:
        self._context.instance.add_run_tags(self.run_id, tags)


stage_assets = tuple(
    stage_asset(stage, after)
    for stage, after in zip(STAGES, ("registered_model", *(stage.name for stage in STAGES)), strict=False)
)

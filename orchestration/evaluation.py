"""How good is the served champion still? Dagster's answer: the asset `champion_evaluation`, and a schedule for it."""

from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from orchestration.commands.evaluating import Evaluation, NotNow, evaluate_champion
from orchestration.metadata import facts_metadata, problem_metadata, table
from orchestration.partitions import policies
from orchestration.promotion.input_drift import FeatureDrift
from orchestration.promotion.platform import Platform
from orchestration.promotion.problems import InvalidInputError, ProblemError
from orchestration.promotion.served_quality import ServedQuality

_KEY = dg.AssetKey("champion_evaluation")
_CHECKS = {
    "keeps_baseline": "The served champion is at least 0.95 times as good as in training.",
    "inputs_as_trained": "No input differs significantly from the training sample.",
}


@dg.asset(
    key=_KEY,
    partitions_def=policies,
    group_name="live",
    kinds={"mlflow"},
    description="How good the served champion is, measured on newly labelled rows; the policy's field `evaluation` "
    "says where they are. evaluation_schedule evaluates every hour, once it is switched on.",
    check_specs=[
        dg.AssetCheckSpec(name, asset=_KEY, partitions_def=policies, description=description)
        for name, description in _CHECKS.items()
    ],
    output_required=False,
)
def champion_evaluation(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Iterator[object]:
    """Evaluate one policy's champion. While that cannot be done, the checks stay as the last evaluation left them."""
    try:
        evaluation = evaluate_champion(platform, context.partition_key, context.log.info)
    except ProblemError as error:
        raise dg.Failure(str(error), metadata=problem_metadata(error.problem), allow_retries=False) from None
    if isinstance(evaluation, NotNow):
        context.log.warning(f"not evaluated: {evaluation.problem}")
        yield from _checks(evaluation.last, ())
        return
    yield from _checks(evaluation.found, evaluation.drift)
    yield dg.MaterializeResult(metadata=facts_metadata(_facts(evaluation)))


def _checks(found: ServedQuality | None, drift: Sequence[FeatureDrift]) -> Iterator[dg.AssetCheckResult]:
    if found is None:
        yield from (_check(name, False, "Never evaluated yet.") for name in _CHECKS)
        return
    measured = f"{found.metric} {found.value:.4g} of {found.rows} rows, {found.baseline:.4g} in training"
    yield _check("keeps_baseline", found.keeps_baseline, measured)
    alike = found.not_compared or f"none of {found.compared_inputs} inputs has drifted"
    said = f"drifted: {', '.join(found.drifted_inputs)}" if found.drifted_inputs else alike
    rows = [
        {"input": each.name, "test": each.test, "statistic": each.statistic, "p": each.p_value, "drifted": each.drifted}
        for each in drift
    ]
    yield _check("inputs_as_trained", not found.drifted_inputs and not found.not_compared, said, rows)


def _check(name: str, passed: bool, said: str, rows: Sequence[Mapping[str, object]] = ()) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,  # a judgement; red means that something is broken (decision 8)
        description=said,
        metadata={"details": table(rows)} if rows else {},
    )


def _facts(evaluation: Evaluation) -> dict[str, object]:
    found = evaluation.found
    return {
        "version": found.version,
        found.metric: found.value,
        "baseline": found.baseline,
        "rows": found.rows,
        "newest_label_at": found.newest_label,
        "evaluated_at": found.at,
        "new_labels": evaluation.is_new,
        "evaluation_url": evaluation.url or None,
    }


evaluation_job = dg.define_asset_job(
    "evaluate",
    selection=[_KEY],
    description="Measure the served champion of one policy on newly labelled rows.",
    executor_def=dg.in_process_executor,
)


@dg.schedule(
    job=evaluation_job,
    cron_schedule="0 * * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Evaluates each policy that has the field `evaluation`, every hour.",
)
def evaluation_schedule(
    context: dg.ScheduleEvaluationContext, platform: dg.ResourceParam[Platform]
) -> list[dg.RunRequest] | dg.SkipReason:
    """Request a run for each policy with the field `evaluation`; live_models says which policies cannot be read."""
    known = set(context.instance.get_dynamic_partitions(policies.name or ""))
    due = [name for name in platform.policy_names() if name in known and _is_evaluated(platform, name)]
    at = context.scheduled_execution_time.isoformat()
    requests = [dg.RunRequest(run_key=f"{name} {at}", partition_key=name) for name in due]
    return requests or dg.SkipReason("no policy has the field evaluation")


def _is_evaluated(platform: Platform, name: str) -> bool:
    try:
        return platform.policy(name).evaluation is not None
    except InvalidInputError:
        return False

"""Whether a version is good enough to be promoted: its run, its metrics, and the champion on the same data."""

import math
from dataclasses import dataclass
from decimal import Decimal

from orchestration.promotion.model_version import ModelVersion, TrainingRun
from orchestration.promotion.policy import Policy, QualityBound
from orchestration.promotion.problems import Problem

EVALUATION_CONTEXTS = frozenset({"eval", "evaluation", "test", "testing", "validation"})
"""The contexts of data sets on which metrics are measured."""
_HOW_TO_LOG = (
    "Log the evaluation data in both runs, then train again: "
    '`data = mlflow.data.from_pandas(test_frame, name="iris-test")` and `mlflow.log_input(data, context="test")`, or '
    "`dataset=data` with each metric that is logged on the model."
)

TRAIN_BETTER = "Train a better model and register it as a new version."
"""The next step for a version that is not good enough; to try the same version again would not help."""


@dataclass(frozen=True)
class QualityRow:
    """One bound of the policy, and how the version meets it."""

    metric: str
    value: float | None
    """None when the run has no such metric, or one that is NaN or infinite."""
    logged_on: str
    """Where the number is that counts: `run 0a1b...`, or `logged model m-...`, which counts before its run."""
    bound: str
    """The policy's bound in words: `>= 0.85, no worse than the champion by more than 0`."""
    champion_value: float | None
    """None when there is no champion to compare with, or its metric is missing or not a finite number."""
    problem: Problem | None
    """Why the version is refused; None when it meets the bound."""


def run_problem(version: ModelVersion, run: TrainingRun | None) -> Problem | None:
    """Why a version's run does not prove that its training succeeded; None when the run is FINISHED.

    A run can register a model long before it ends, and may still fail afterwards.
    """
    expected = "a training run that is FINISHED"
    if run is None:
        missing = f"no run {version.run_id} in the registry" if version.run_id else "no training run"
        next_step = "Log the model with MLflow 3 or in a run, and register that: log_model(registered_model_name=)."
        return Problem(str(version), expected, missing, next_step)
    if run.status != "FINISHED":
        status = f"{run}, whose status is {run.status or 'empty'}"
        next_step = "Wait for the run to end, or train again and register the new run's model."
        return Problem(str(version), expected, status, next_step)
    return None


def judge_quality(policy: Policy, run: TrainingRun, champion_run: TrainingRun | None) -> tuple[QualityRow, ...]:
    """Judge each bound of the policy; the version is good enough when no row has a problem.

    Without a champion the thresholds alone decide. With one, a bound with `no_worse_than_champion_by` is met only if
    both runs were measured on the same data, by the digests of their MLflow datasets: a better number on easier data
    proves nothing.

    Args:
        policy: the bounds to judge.
        run: the version's training run.
        champion_run: the champion's training run; None when there is no champion.
    """
    return tuple(_judge(bound, run, champion_run) for bound in policy.quality)


def evaluation_digests(run: TrainingRun) -> frozenset[str]:
    """The digests of the data that a run was measured on; empty when they are unknown.

    These are the inputs that were logged with an evaluation context (test, eval, validation, ...), or all inputs when
    none was. An empty digest identifies no data, so if there is one, the whole set is empty.
    """
    digests = context_digests(run) or frozenset(dataset.digest for dataset in run.datasets)
    return digests if all(digests) else frozenset()


def context_digests(run: TrainingRun) -> frozenset[str]:
    """The digests of the inputs that a run logged with an evaluation context."""
    contexts = {dataset: (dataset.context or "").strip().lower() for dataset in run.datasets}
    return frozenset(dataset.digest for dataset, context in contexts.items() if context in EVALUATION_CONTEXTS)


def _measured_on(run: TrainingRun, metric: str) -> frozenset[str]:
    return run.measured_on[metric] if metric in run.measured_on else evaluation_digests(run)


def _judge(bound: QualityBound, run: TrainingRun, champion_run: TrainingRun | None) -> QualityRow:
    value = run.metrics.get(bound.metric)
    champion_value: float | None = None
    problem = _threshold_problem(bound, run, value)
    if champion_run is not None and bound.no_worse_than_champion_by is not None:
        champion_value = champion_run.metrics.get(bound.metric)
        problem = problem or _comparison_problem(bound, run, champion_run)
    logged_on = run.place_of(bound.metric)
    return QualityRow(bound.metric, _finite(value), logged_on, _in_words(bound), _finite(champion_value), problem)


def _threshold_problem(bound: QualityBound, run: TrainingRun, value: float | None) -> Problem | None:
    subject = f"metric {bound.metric} of {run.place_of(bound.metric)}"
    if value is None and bound.metric in run.measured_on:
        return Problem(
            subject,
            "one value, or one on the evaluation data of its run",
            f"values on several data sets ({', '.join(sorted(run.measured_on[bound.metric]))})",
            f"Say in {run} which data counts: "
            'mlflow.log_input(data, context="test"); or train and evaluate again on one data set.',
        )
    if value is None or not math.isfinite(value):
        return Problem(
            subject,
            f"a number {bound.bound}",
            "no such metric" if value is None else f"{value}, which is not a finite number",
            f'Log it with mlflow.log_metric("{bound.metric}", value), or correct the metric\'s name in the policy.',
        )
    if bound.is_kept_by(value):
        return None
    return Problem(
        subject,
        bound.bound,
        f"{value:.6g}",
        TRAIN_BETTER,
    )


def _comparison_problem(bound: QualityBound, run: TrainingRun, champion_run: TrainingRun) -> Problem | None:
    subject = f"metric {bound.metric} of {run.place_of(bound.metric)}"
    digests, champion_digests = _measured_on(run, bound.metric), _measured_on(champion_run, bound.metric)
    champion = f"the champion's {champion_run.place_of(bound.metric)}"
    if not digests or digests != champion_digests:
        return Problem(
            subject,
            f"the same evaluation data as {champion} ({_listed(champion_digests)})",
            f"{_listed(digests)}, so that the two cannot be compared",
            _HOW_TO_LOG,
        )
    value, champion_value = run.metrics[bound.metric], champion_run.metrics.get(bound.metric)
    if champion_value is None or not math.isfinite(champion_value):
        return Problem(
            f"metric {bound.metric} of {champion}",
            "a number to compare with",
            "no such metric" if champion_value is None else f"{champion_value}, which is not a finite number",
            "Log the metric there, or remove no_worse_than_champion_by from the policy.",
        )
    margin = _decimal(bound.no_worse_than_champion_by or 0.0)
    limit = _decimal(champion_value) + (-margin if bound.higher_is_better else margin)
    if _decimal(value) >= limit if bound.higher_is_better else _decimal(value) <= limit:
        return None
    return Problem(
        subject,
        f"{bound.sign} {limit:.6g} (the champion's {champion_value:.6g} with a margin of {margin:.6g})",
        f"{value:.6g}, worse than the champion on the same data",
        TRAIN_BETTER,
    )


def _finite(value: float | None) -> float | None:
    """Keep NaN and infinity out of tables and charts; the row's problem reports them."""
    return value if value is not None and math.isfinite(value) else None


def _decimal(value: float) -> Decimal:
    """The number as it is written, so that 0.8 - 0.1 is exactly 0.7 and a value on the limit keeps it."""
    return Decimal(repr(float(value)))


def _in_words(bound: QualityBound) -> str:
    margin = bound.no_worse_than_champion_by
    against = "" if margin is None else f", no worse than the champion by more than {margin:g}"
    return bound.bound + against


def _listed(digests: frozenset[str]) -> str:
    return "dataset " + ", ".join(sorted(digests)) if digests else "no dataset with a digest"

"""Whether a version is good enough to be promoted: its run, its metrics, and the champion's on the same data."""

import math
from dataclasses import dataclass
from decimal import Decimal

from orchestration.promotion.model_version import ModelVersion, TrainingRun
from orchestration.promotion.policy import Policy, QualityBound
from orchestration.promotion.problems import Problem

_EVALUATION_CONTEXTS = frozenset({"eval", "evaluation", "test", "testing", "validation"})
_HOW_TO_LOG = (
    "Log the evaluation data in both runs, then train again: "
    '`data = mlflow.data.from_pandas(test_frame, name="iris-test")` and `mlflow.log_input(data, context="test")`.'
)


@dataclass(frozen=True)
class QualityRow:
    """One bound of the policy, judged. `champion_value` is None when there was nothing to compare with."""

    metric: str
    value: float | None
    """None when the run has no such metric, or none that is a number."""
    bound: str
    """The policy's bound in words: `>= 0.85, no worse than the champion by more than 0`."""
    champion_value: float | None
    problem: Problem | None


def run_problem(version: ModelVersion, run: TrainingRun | None) -> Problem | None:
    """Why a version's run is no proof of training; None when it is FINISHED.

    An unfinished or failed run may have registered a model long before it ended.
    """
    expected = "a training run that is FINISHED"
    if run is None:
        found = f"run {version.run_id}, which the registry does not have" if version.run_id else "no run"
        return Problem(
            str(version), expected, found, "Register the model from a run: log_model(registered_model_name=)."
        )
    if run.status != "FINISHED":
        return Problem(
            str(version),
            expected,
            f"run {run.run_id}, which is {run.status or 'without a status'}",
            "Wait for the run to end, or train again and register the new run's model.",
        )
    return None


def judge_quality(policy: Policy, run: TrainingRun, champion_run: TrainingRun | None) -> tuple[QualityRow, ...]:
    """Each bound of the policy, judged; the version is good enough when no row has a problem.

    Without a champion the thresholds alone decide. A bound with `no_worse_than_champion_by` is compared only when both
    runs were measured on the same data, by the digests of their MLflow datasets; otherwise it is refused, because a
    better number on easier data proves nothing.
    """
    return tuple(_judge(bound, run, champion_run) for bound in policy.quality)


def evaluation_digests(run: TrainingRun) -> frozenset[str]:
    """The digests of the data that a run was measured on.

    Those are the inputs logged with a context of evaluation (test, eval, validation, ...), else all inputs. An empty
    digest identifies nothing, so one among them makes the whole set empty.
    """
    tagged = [one for one in run.datasets if (one.context or "").strip().lower() in _EVALUATION_CONTEXTS]
    digests = frozenset(one.digest for one in tagged or run.datasets)
    return digests if all(digests) else frozenset()


def _judge(bound: QualityBound, run: TrainingRun, champion_run: TrainingRun | None) -> QualityRow:
    value = run.metrics.get(bound.metric)
    champion_value: float | None = None
    problem = _threshold_problem(bound, run, value)
    if champion_run is not None and bound.no_worse_than_champion_by is not None:
        champion_value = champion_run.metrics.get(bound.metric)
        problem = problem or _comparison_problem(bound, run, champion_run)
    return QualityRow(bound.metric, _finite(value), _in_words(bound), _finite(champion_value), problem)


def _threshold_problem(bound: QualityBound, run: TrainingRun, value: float | None) -> Problem | None:
    if value is None or not math.isfinite(value):
        return Problem(
            f"metric {bound.metric} of run {run.run_id}",
            f"a number {bound.bound}",
            "no such metric" if value is None else f"{value}",
            f'Log it with mlflow.log_metric("{bound.metric}", value), or correct the metric\'s name in the policy.',
        )
    if bound.is_kept_by(value):
        return None
    return Problem(
        f"metric {bound.metric} of run {run.run_id}",
        bound.bound,
        f"{value:.6g}",
        "Train a better model and register it as a new version.",
    )


def _comparison_problem(bound: QualityBound, run: TrainingRun, champion_run: TrainingRun) -> Problem | None:
    subject = f"metric {bound.metric} of run {run.run_id}"
    ours, theirs = evaluation_digests(run), evaluation_digests(champion_run)
    if not ours or ours != theirs:
        return Problem(
            subject,
            f"the same evaluation data as the champion's run {champion_run.run_id} ({_listed(theirs)})",
            f"{_listed(ours)}, so the two cannot be compared",
            _HOW_TO_LOG,
        )
    value, champion_value = run.metrics[bound.metric], champion_run.metrics.get(bound.metric)
    if champion_value is None or not math.isfinite(champion_value):
        return Problem(
            f"metric {bound.metric} of the champion's run {champion_run.run_id}",
            "a number to compare with",
            "no such metric" if champion_value is None else f"{champion_value}",
            "Log the metric to the champion's run, or take no_worse_than_champion_by out of the policy.",
        )
    margin = _decimal(bound.no_worse_than_champion_by or 0.0)
    limit = _decimal(champion_value) + (-margin if bound.higher_is_better else margin)
    if _decimal(value) >= limit if bound.higher_is_better else _decimal(value) <= limit:
        return None
    return Problem(
        subject,
        f"{bound.sign} {limit:.6g} (the champion's {champion_value:.6g} with a margin of {margin:.6g})",
        f"{value:.6g}, which is worse than the champion on the same data",
        "Train a better model and register it as a new version.",
    )


def _finite(value: float | None) -> float | None:
    """NaN and infinity go into no table and no chart; the row's problem says that they were found."""
    return value if value is not None and math.isfinite(value) else None


def _decimal(value: float) -> Decimal:
    """The number as it is written, so that 0.8 - 0.1 is exactly 0.7 and the bound itself is kept."""
    return Decimal(repr(float(value)))


def _in_words(bound: QualityBound) -> str:
    margin = bound.no_worse_than_champion_by
    against = "" if margin is None else f", no worse than the champion by more than {margin:g}"
    return bound.bound + against


def _listed(digests: frozenset[str]) -> str:
    return "dataset " + ", ".join(sorted(digests)) if digests else "no dataset with a digest"

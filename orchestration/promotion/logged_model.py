"""The metrics of a logged model (MLflow 3), and how they count together with those of its training run.

A run may log several models, and a model may be evaluated in other runs, later. So what is logged on the model itself
counts before what is logged on its run: it is about this model, and says on which data it was measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestration.promotion.model_version import TrainingRun
from orchestration.promotion.quality import context_digests, evaluation_digests


@dataclass(frozen=True)
class ModelMetric:
    """One value of a metric on a logged model."""

    name: str
    value: float
    digest: str
    """That of the data set on which it was measured (`log_metric(..., dataset=...)`); empty when it names none."""
    run_id: str
    """The run in which it was logged."""
    at: int
    """When it was logged, in milliseconds since the epoch."""
    step: int


def with_model_metrics(run: TrainingRun, model_id: str, logged: Sequence[ModelMetric]) -> TrainingRun:
    """Return the run with the metrics of its logged model in place of its own.

    Of a metric's values, those that name their data count before those that do not, and of these the newest. Where
    they name several data sets, the one counts that the run logged as evaluation data; if that does not decide either,
    the metric has no value.
    """
    by_name: dict[str, list[ModelMetric]] = {}
    for metric in logged:
        by_name.setdefault(metric.name, []).append(metric)
    metrics, measured_on = dict(run.metrics), {}
    for name, values in by_name.items():
        chosen, measured_on[name] = _chosen(run, values)
        if chosen is None:
            metrics.pop(name, None)
        else:
            metrics[name] = chosen.value
    return replace(run, model_id=model_id, metrics=metrics, measured_on=measured_on)


def _chosen(run: TrainingRun, values: Sequence[ModelMetric]) -> tuple[ModelMetric | None, frozenset[str]]:
    """Return the value that counts, and the digests of its data; no value when several data sets could count."""
    by_digest: Mapping[str, list[ModelMetric]] = {
        digest: [value for value in values if value.digest == digest] for digest in {value.digest for value in values}
    }
    named = {digest for digest in by_digest if digest}
    if not named:
        newest = _newest(values)
        # What another run measured without naming its data was measured on data that is unknown here.
        return newest, evaluation_digests(run) if newest.run_id == run.run_id else frozenset()
    deciding = named if len(named) == 1 else named & context_digests(run)
    if len(deciding) != 1:
        return None, frozenset(named)
    (digest,) = deciding
    return _newest(by_digest[digest]), frozenset(deciding)


def _newest(values: Sequence[ModelMetric]) -> ModelMetric:
    return max(values, key=lambda value: (value.at, value.step))

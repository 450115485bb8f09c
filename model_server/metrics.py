"""The model server's metrics; every series exists from the start, so that its first increment counts."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

OUTCOMES = ("ok", "invalid", "error")
SOURCES = ("real", "replayed")
# 0.25 s is the bound of the policies' p95; a quantile is exact only at a bucket boundary.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The metrics of one served model; `source` tells replayed (recorded) requests from real ones."""

    def __init__(self, *, model: str, version: str, image: str, run_id: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series of timestamps for each counter, which no one needs
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        names = {"model": model, "version": version}
        predictions = Counter(
            "model_predictions",
            "Prediction requests by outcome and source.",
            (*names, "outcome", "source"),
            registry=self._registry,
        )
        durations = Histogram(
            "model_inference_duration_seconds",
            "Time that a prediction took, by source.",
            (*names, "source"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._predictions = {
            (outcome, source): predictions.labels(**names, outcome=outcome, source=source)
            for outcome in OUTCOMES
            for source in SOURCES
        }
        self._durations = {source: durations.labels(**names, source=source) for source in SOURCES}
        info = Gauge("model_info", "The model that is served.", (*names, "image", "run_id"), registry=self._registry)
        info.labels(**names, image=image, run_id=run_id).set(1)

    def count(self, outcome: str, source: str, seconds: float | None) -> None:
        """Count one request.

        Args:
            outcome: one of `OUTCOMES`.
            source: one of `SOURCES`.
            seconds: how long the prediction took; None if there was none.
        """
        self._predictions[outcome, source].inc()
        if seconds is not None:
            self._durations[source].observe(seconds)

    def text(self) -> bytes:
        """Every metric in Prometheus' text format."""
        return generate_latest(self._registry)

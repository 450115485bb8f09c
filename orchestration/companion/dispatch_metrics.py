"""What the dispatcher exposes to Prometheus: counters since the process started, and the outbox as it is now."""

import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from orchestration.adapters.outbox import SqliteOutbox
from orchestration.dispatcher.configuration import Configuration
from orchestration.dispatcher.outbox import OutboxUnusableError, State

FAILURES = ("rate_limited", "not_permitted", "refused", "unavailable")


class DispatchMetrics(Collector):
    """Counts what happens, and reads the outbox at each scrape."""

    def __init__(self, outbox: SqliteOutbox, configuration: Configuration, registry: CollectorRegistry) -> None:
        self._outbox = outbox
        accepted = Counter(
            "incumbent_alerts_accepted", "Alerts that were taken, by whether they were known.", ("known",),
            registry=registry,
        )  # fmt: skip
        self._new, self._known = accepted.labels("no"), accepted.labels("yes")
        self._dispatched = Counter(
            "incumbent_dispatches", "Runs of workflows that GitHub acknowledged.", ("workflow",), registry=registry
        )
        self._failed = Counter(
            "incumbent_dispatch_failures", "Attempts that brought no run.", ("reason",), registry=registry
        )
        self._limited = Counter(
            "incumbent_alerts_limited", "Alerts that a limit kept back; they started no run.", registry=registry
        )
        self._left_out = Counter(
            "incumbent_alerts_left_out", "Alerts that Alertmanager left out of notifications.", registry=registry
        )
        for route in configuration.routes.values():
            self._dispatched.labels(route.workflow)
        for reason in FAILURES:
            self._failed.labels(reason)

    def accepted(self, new: int, known: int) -> None:
        """Count the alerts of a notification."""
        self._new.inc(new)
        self._known.inc(known)

    def left_out(self, alerts: int) -> None:
        """Count alerts of a group that did not come."""
        self._left_out.inc(alerts)

    def dispatched(self, workflow: str) -> None:
        """Count an acknowledged run."""
        self._dispatched.labels(workflow).inc()

    def failed(self, reason: str) -> None:
        """Count a failed attempt."""
        self._failed.labels(reason).inc()

    def limited(self, alerts: int) -> None:
        """Count alerts that were kept back."""
        self._limited.inc(alerts)

    def describe(self) -> Iterable[Metric]:
        """Name no metric in advance: registering must not read the outbox."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the state of the outbox; no state when it cannot be read, and that it cannot."""
        readable = GaugeMetricFamily("incumbent_outbox_usable", "Whether the outbox can be read.")
        aside = GaugeMetricFamily("incumbent_outbox_damaged_files", "Damaged outboxes that were moved aside.")
        aside.add_metric((), self._outbox.damaged_files)
        yield aside
        try:
            totals = self._outbox.totals()
        except OutboxUnusableError:
            readable.add_metric((), 0)
            yield readable
            return
        readable.add_metric((), 1)
        alerts = GaugeMetricFamily("incumbent_outbox_alerts", "Alerts in the outbox by state.", labels=("state",))
        for state in State:
            alerts.add_metric((state,), totals.by_state[state])
        oldest = totals.oldest_waiting
        age = GaugeMetricFamily(
            "incumbent_outbox_oldest_waiting_age_seconds", "How long the oldest waiting alert has waited; 0 for none."
        )
        age.add_metric((), 0.0 if oldest is None else max(0.0, time.time() - oldest))
        yield from (readable, alerts, age)

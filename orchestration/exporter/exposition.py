"""The findings as Prometheus reads them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from orchestration.exporter.durations import BUCKETS, Durations
from orchestration.exporter.ledger import ENDS, LEAD, RESTORE, STAGES
from orchestration.exporter.watcher import Findings

_BOUNDS = (*(f"{float(bound)}" for bound in BUCKETS), "+Inf")


class FindingsCollector(Collector):
    """Answers each scrape from the findings as they are at that moment."""

    def __init__(self, findings: Callable[[], Mapping[str, Findings]]) -> None:
        self._findings = findings

    def describe(self) -> Iterable[Metric]:
        return []  # nothing to collect yet when the registry asks for the names

    def collect(self) -> Iterator[Metric]:
        found = [one for _, one in sorted(self._findings().items())]
        yield from _what_happened(found)
        yield from _what_is_held(found)
        yield from _what_serves(found)
        yield from _looks(found)


def _what_happened(found: list[Findings]) -> Iterator[Metric]:
    promotions = CounterMetricFamily(
        "incumbent_promotions", "Requests that came to an end, by that end.", labels=("policy", "model", "end")
    )
    stages = HistogramMetricFamily(
        "incumbent_promotion_stage_duration_seconds",
        "How long each stage took: asked for to commit, commit to rolled out, the gate, rollback commit to serving.",
        labels=("policy", "stage"),
    )
    lead = HistogramMetricFamily(
        "incumbent_promotion_lead_time_seconds", "From asked for to champion.", labels=("policy",)
    )
    restore = HistogramMetricFamily(
        "incumbent_promotion_restore_seconds",
        "From the commit of a version that was taken back until its target served again.",
        labels=("policy",),
    )
    for one in found:
        if one.record is None:
            continue
        for end in ENDS:
            promotions.add_metric((one.policy, one.model or "", str(end)), one.record.ends.get(end, 0))
        for stage in STAGES:
            _add(stages, (one.policy, stage), one.record.durations.get(stage))
        _add(lead, (one.policy,), one.record.durations.get(LEAD))
        _add(restore, (one.policy,), one.record.durations.get(RESTORE))
    yield from (promotions, stages, lead, restore)


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], durations: Durations | None) -> None:
    durations = durations or Durations()
    family.add_metric(labels, list(zip(_BOUNDS, accumulate(durations.counts), strict=True)), durations.total)


def _what_is_held(found: list[Findings]) -> Iterator[Metric]:
    held = GaugeMetricFamily(
        "incumbent_promotions_held",
        "Promotions that are committed and could not be judged.",
        labels=("policy", "model"),
    )
    since = GaugeMetricFamily(
        "incumbent_held_since_timestamp_seconds", "Since when a version is held.", labels=("policy", "version")
    )
    for one in found:
        if one.record is not None and one.record_is_fresh:
            held.add_metric((one.policy, one.model or ""), len(one.record.held))
            for version, at in sorted(one.record.held.items()):
                since.add_metric((one.policy, str(version)), at)
    yield from (held, since)


def _what_serves(found: list[Findings]) -> Iterator[Metric]:
    names = ("policy", "model", "version", "image")
    champion = GaugeMetricFamily("incumbent_champion_info", "The version that the champion alias names.", labels=names)
    live = GaugeMetricFamily("incumbent_live_info", "The image that the live workload has.", labels=names)
    same = GaugeMetricFamily(
        "incumbent_live_is_champion", "Whether what serves is the champion's image.", labels=("policy", "model")
    )
    evidence = GaugeMetricFamily(
        "incumbent_champion_has_evidence",
        "Whether the champion's annotated tag names the digest that its evidence has.",
        labels=("policy", "model"),
    )
    for one in found:
        model = one.model or ""
        if one.champion is not None:
            champion.add_metric((one.policy, model, str(one.champion.version), one.champion.image), 1)
            evidence.add_metric((one.policy, model), one.champion.has_evidence)
        if one.live is not None:
            version = "" if one.live.version is None else str(one.live.version)
            if one.live.image is not None:
                live.add_metric((one.policy, model, version, one.live.image), 1)
            if one.live.is_champion is not None:
                same.add_metric((one.policy, model), one.live.is_champion)
    yield from (champion, live, same, evidence)


def _looks(found: list[Findings]) -> Iterator[Metric]:
    looked = GaugeMetricFamily(
        "incumbent_last_look_timestamp_seconds", "When all was last read without a failure.", labels=("policy",)
    )
    failures = CounterMetricFamily(
        "incumbent_look_failures", "Looks that failed, since this process started.", labels=("policy",)
    )
    for one in found:
        if one.looked_at is not None:
            looked.add_metric((one.policy,), one.looked_at)
        failures.add_metric((one.policy,), one.failures)
    yield from (looked, failures)

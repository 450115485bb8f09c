"""The findings as metrics in the form that Prometheus scrapes."""

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
    """Answers each scrape from the findings at that moment."""

    def __init__(self, findings: Callable[[], Mapping[str, Findings]]) -> None:
        self._findings = findings

    def describe(self) -> Iterable[Metric]:
        """Name no metric in advance: when the collector is registered, nothing has been found yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, with the policies in order of their names."""
        policies = [findings for _, findings in sorted(self._findings().items())]
        yield from _what_happened(policies)
        yield from _what_is_under_way(policies)
        yield from _last_ends(policies)
        yield from _what_serves(policies)
        yield from _how_good(policies)
        yield from _looks(policies)


def _what_happened(policies: list[Findings]) -> Iterator[Metric]:
    promotions = CounterMetricFamily(
        "incumbent_promotions", "Promotion requests that ended, by how they ended.", labels=("policy", "model", "end")
    )
    stages = HistogramMetricFamily(
        "incumbent_promotion_stage_duration_seconds",
        "How long each stage took: request to commit, commit to rolled out, the gate, rollback commit to serving.",
        labels=("policy", "stage"),
    )
    lead = HistogramMetricFamily(
        "incumbent_promotion_lead_time_seconds", "From the request to champion.", labels=("policy",)
    )
    restore = HistogramMetricFamily(
        "incumbent_promotion_restore_seconds",
        "From the commit of a version that was taken back until its target served again.",
        labels=("policy",),
    )
    for findings in policies:
        if findings.record is None:
            continue
        for end in ENDS:
            promotions.add_metric((findings.policy, findings.model or "", str(end)), findings.record.ends.get(end, 0))
        for stage in STAGES:
            _add(stages, (findings.policy, stage), findings.record.durations.get(stage))
        _add(lead, (findings.policy,), findings.record.durations.get(LEAD))
        _add(restore, (findings.policy,), findings.record.durations.get(RESTORE))
    yield from (promotions, stages, lead, restore)


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], durations: Durations | None) -> None:
    durations = durations or Durations()
    family.add_metric(labels, list(zip(_BOUNDS, accumulate(durations.counts), strict=True)), durations.total)


def _what_is_under_way(policies: list[Findings]) -> Iterator[Metric]:
    under_way = GaugeMetricFamily(
        "incumbent_promotion_under_way_since_timestamp_seconds",
        "Since when a promotion that has not ended is in its state.",
        labels=("policy", "model", "version", "state"),
    )
    held = GaugeMetricFamily(
        "incumbent_promotions_held",
        "Promotions that are committed but could not be judged.",
        labels=("policy", "model"),
    )
    since = GaugeMetricFamily(
        "incumbent_held_since_timestamp_seconds", "Since when a version has been held.", labels=("policy", "version")
    )
    for findings in policies:
        if findings.record is not None and findings.record_is_fresh:
            for promotion in findings.record.under_way:
                labels = (findings.policy, findings.model or "", str(promotion.version), str(promotion.state))
                under_way.add_metric(labels, promotion.since)
            held.add_metric((findings.policy, findings.model or ""), len(findings.record.held))
            for version, at in sorted(findings.record.held.items()):
                since.add_metric((findings.policy, str(version)), at)
    yield from (under_way, held, since)


def _last_ends(policies: list[Findings]) -> Iterator[Metric]:
    ended = GaugeMetricFamily(
        "incumbent_promotion_ended_timestamp_seconds",
        "When each of the last promotion requests ended, how, and why.",
        labels=("policy", "model", "version", "end", "reason"),
    )
    for findings in policies:
        for end in findings.record.latest if findings.record is not None else ():
            labels = (findings.policy, findings.model or "", str(end.version), str(end.state), end.reason)
            ended.add_metric(labels, end.at)
    yield ended


def _what_serves(policies: list[Findings]) -> Iterator[Metric]:
    names = ("policy", "model", "version", "image")
    champion = GaugeMetricFamily("incumbent_champion_info", "The version that the champion alias names.", labels=names)
    live = GaugeMetricFamily("incumbent_live_info", "The image of the live workload.", labels=names)
    since = GaugeMetricFamily(
        "incumbent_live_since_timestamp_seconds",
        "When the version that is live was committed.",
        labels=("policy", "model", "version"),
    )
    same = GaugeMetricFamily(
        "incumbent_live_is_champion",
        "Whether the live workload serves the champion's image.",
        labels=("policy", "model"),
    )
    evidence = GaugeMetricFamily(
        "incumbent_champion_has_evidence",
        "Whether the champion's annotated tag names the digest that its evidence has.",
        labels=("policy", "model"),
    )
    for findings in policies:
        model = findings.model or ""
        if findings.champion is not None:
            champion.add_metric((findings.policy, model, str(findings.champion.version), findings.champion.image), 1)
            evidence.add_metric((findings.policy, model), findings.champion.has_evidence)
        if findings.live is not None:
            version = "" if findings.live.version is None else str(findings.live.version)
            if findings.live.image is not None:
                live.add_metric((findings.policy, model, version, findings.live.image), 1)
            if findings.live.since is not None:
                since.add_metric((findings.policy, model, version), findings.live.since)
            if findings.live.is_champion is not None:
                same.add_metric((findings.policy, model), findings.live.is_champion)
    yield from (champion, live, since, same, evidence)


def _how_good(policies: list[Findings]) -> Iterator[Metric]:
    current = GaugeMetricFamily(
        "incumbent_model_metric",
        "Metrics that the policy bounds: the champion's as last evaluated, otherwise those of the training run.",
        labels=("policy", "model", "version", "role", "metric"),
    )
    baseline = GaugeMetricFamily(
        "incumbent_model_baseline",
        "The champion's metrics in training.",
        labels=("policy", "model", "metric"),
    )
    part = GaugeMetricFamily(
        "incumbent_model_part_of_baseline",
        "How good the champion was when last evaluated, as a part of its metric in training; below 1 is worse.",
        labels=("policy", "model", "version", "metric"),
    )
    evaluated = GaugeMetricFamily(
        "incumbent_model_evaluated_timestamp_seconds",
        "When the version that was the champion then was last evaluated on new labels.",
        labels=("policy", "model", "version"),
    )
    wanted = GaugeMetricFamily(
        "incumbent_model_evaluation_wanted",
        "Whether the policy says how its champion is evaluated; no sample where it does not.",
        labels=("policy", "model"),
    )
    drifted = GaugeMetricFamily(
        "incumbent_model_drifted_inputs",
        "How many inputs differed from the training sample when the champion was last evaluated.",
        labels=("policy", "model", "version"),
    )
    for findings in policies:
        quality, names = findings.quality, (findings.policy, findings.model or "")
        if quality is None:
            continue
        for role, number in quality.versions.items():
            for metric, value in sorted(quality.current(role).items()):
                current.add_metric((*names, str(number), role, metric), value)
        for metric, value in sorted(quality.training.get("champion", {}).items()):
            baseline.add_metric((*names, metric), value)
        if quality.is_evaluated:
            wanted.add_metric(names, 1)
        if (last := quality.last_evaluation) is not None:
            evaluated.add_metric((*names, str(last.version)), last.at)
        if (found := quality.evaluation) is None:
            continue
        version = (*names, str(found.version))
        if found.part_of_baseline is not None:
            part.add_metric((*version, found.metric), found.part_of_baseline)
        if found.compared_inputs:
            drifted.add_metric(version, len(found.drifted_inputs))
    yield from (current, baseline, part, wanted, evaluated, drifted)


def _looks(policies: list[Findings]) -> Iterator[Metric]:
    looked = GaugeMetricFamily(
        "incumbent_last_look_timestamp_seconds", "When everything was last read without a failure.", labels=("policy",)
    )
    failures = CounterMetricFamily(
        "incumbent_look_failures", "Looks that failed since this process started.", labels=("policy",)
    )
    for findings in policies:
        if findings.looked_at is not None:
            looked.add_metric((findings.policy,), findings.looked_at)
        failures.add_metric((findings.policy,), findings.failures)
    yield from (looked, failures)

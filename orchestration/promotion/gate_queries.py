"""The gate's queries as they would be asked about the pods that serve now: for a look ahead, never for a verdict."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestration.promotion.cluster_status import WorkloadStatus
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Metrics, QueryRejected, QueryResult
from orchestration.promotion.promql import expand
from orchestration.promotion.slo_sources import SLO_SOURCES

ANY_TRAFFIC = "real|replayed"


@dataclass(frozen=True)
class GateQuery:
    """One number that the gate will ask for, and how."""

    name: str
    """The SLO's name, or `requests`."""
    query: str
    """With its placeholders filled in; empty for an SLO that is read from the pods' status."""
    source: str
    """The traffic that it counts, or the source that it is read from."""
    bound: str = ""


@dataclass(frozen=True)
class QueryAnswer:
    """What a query of the gate gives now."""

    asked: GateQuery
    value: float | None
    """The one finite number; None when there is none."""
    finding: str
    usable: bool
    """Whether the query works for these pods: Prometheus accepts it, and it has exactly one result."""


def gate_queries(policy: Policy, pods: Sequence[str]) -> Iterator[GateQuery]:
    """Fill in all queries of a policy's gate for these pods, over a window of one soak.

    The SLOs are asked about real and replayed requests together, because real traffic may be too little for now.

    Raises:
        ValueError: there are no pods to ask about.
    """

    def filled_in(query: str, source: str) -> str:
        namespace = policy.manifest.namespace
        return expand(query, pods=pods, window=policy.gate.soak, namespace=namespace, source=source)

    for source in ("real", "replayed"):
        yield GateQuery("requests", filled_in(policy.gate.requests, source), source)
    for slo in policy.gate.slos:
        if slo.query is None:
            yield GateQuery(slo.name, "", str(slo.from_), slo.bound)
        else:
            yield GateQuery(slo.name, filled_in(slo.query, ANY_TRAFFIC), ANY_TRAFFIC, slo.bound)


def answer_now(asked: GateQuery, policy: Policy, workload: WorkloadStatus, metrics: Metrics) -> QueryAnswer:
    """Ask one query of the gate now.

    Raises:
        DependencyError: Prometheus does not answer.
    """
    if asked.source in SLO_SOURCES:
        value = SLO_SOURCES[asked.source][asked.name](workload, policy.manifest.container)
        return QueryAnswer(asked, value, f"{value:g}", True)
    return _read(asked, metrics.query(asked.query))


def _read(asked: GateQuery, answer: QueryResult | QueryRejected) -> QueryAnswer:
    if isinstance(answer, QueryRejected):
        return QueryAnswer(asked, None, f"Prometheus refuses the query: {answer.message}", False)
    if answer.warnings:
        return QueryAnswer(asked, None, f"an answer with warnings: {'; '.join(answer.warnings)}", False)
    if not answer.samples:
        return QueryAnswer(asked, None, "no data for these pods", False)
    if len(answer.samples) > 1:
        finding = f"{len(answer.samples)} results instead of one (aggregate with sum or max)"
        return QueryAnswer(asked, None, finding, False)
    value = answer.samples[0].value
    if not math.isfinite(value):  # a ratio or a quantile of nothing: its series exist
        shown = "NaN" if math.isnan(value) else f"{value:g}"
        return QueryAnswer(asked, None, f"{shown}, as no requests within the window give", True)
    return QueryAnswer(asked, value, f"{value:.6g}", True)

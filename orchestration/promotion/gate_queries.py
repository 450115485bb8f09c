"""The gate's queries as they would be asked about the pods that serve now: for a look ahead, never for a verdict."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestration.promotion.cluster_status import PodStatus, WorkloadStatus
from orchestration.promotion.evaluation import ANY_TRAFFIC
from orchestration.promotion.looks import Look, fits, noted, refused, waits
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Metrics, QueryRejected, QueryResult
from orchestration.promotion.problems import Problem
from orchestration.promotion.promql import expand, up_of_pods
from orchestration.promotion.slo_sources import SLO_SOURCES

REQUESTS = "requests"
"""The name of the query that counts requests."""
SCRAPES = "scrapes"


@dataclass(frozen=True)
class GateQuery:
    """One number that the gate will ask for, and how."""

    name: str
    """The SLO's name, or `requests`."""
    query: str
    """With its placeholders filled in; empty for an SLO that is read from the pods' status."""
    source: str
    """The traffic that it counts, or the source that it is read from; empty when the counters do not tell."""
    bound: str = ""


class Reply(StrEnum):
    """What kind of answer a query gives."""

    NUMBER = "number"
    NO_MEASUREMENT = "no measurement"
    """NaN or infinite, as a ratio or a quantile of nothing is: its series exist."""
    EMPTY = "empty"
    SEVERAL = "several"
    REJECTED = "rejected"
    DOUBTFUL = "doubtful"
    """With warnings, as a partial answer is."""


@dataclass(frozen=True)
class QueryAnswer:
    """What a query of the gate gives now."""

    asked: GateQuery
    value: float | None
    """The one finite number; None when there is none."""
    finding: str
    reply: Reply

    @property
    def usable(self) -> bool:
        """Whether the query works for these pods: Prometheus accepts it, and it has exactly one result."""
        return self.reply in (Reply.NUMBER, Reply.NO_MEASUREMENT)


def gate_queries(policy: Policy, pods: Sequence[str]) -> Iterator[GateQuery]:
    """Fill in all queries of a policy's gate for these pods, over a window of one soak.

    The SLOs are asked about real and replayed requests together, because real traffic may be too little for now.

    Raises:
        ValueError: there are no pods to ask about.
    """

    def filled_in(query: str, source: str) -> str:
        namespace = policy.manifest.namespace
        return expand(query, pods=pods, window=policy.gate.soak, namespace=namespace, source=source)

    for source in ("real", "replayed") if policy.gate.tells_replayed else ("",):
        yield GateQuery(REQUESTS, filled_in(policy.gate.requests, source), source)
    traffic = ANY_TRAFFIC if policy.gate.tells_replayed else ""
    for slo in policy.gate.slos:
        if slo.query is None:
            yield GateQuery(slo.name, "", str(slo.from_), slo.bound)
        else:
            yield GateQuery(slo.name, filled_in(slo.query, traffic), traffic, slo.bound)


def answer_now(asked: GateQuery, policy: Policy, workload: WorkloadStatus, metrics: Metrics) -> QueryAnswer:
    """Ask one query of the gate now.

    Raises:
        DependencyError: Prometheus does not answer.
    """
    if asked.source in SLO_SOURCES:
        value = SLO_SOURCES[asked.source][asked.name](workload, policy.manifest.container)
        return QueryAnswer(asked, value, f"{value:g}", Reply.NUMBER)
    return _read(asked, metrics.query(asked.query))


def _read(asked: GateQuery, answer: QueryResult | QueryRejected) -> QueryAnswer:
    if isinstance(answer, QueryRejected):
        return QueryAnswer(asked, None, f"Prometheus refuses the query: {answer.message}", Reply.REJECTED)
    if answer.warnings:
        return QueryAnswer(asked, None, f"an answer with warnings: {'; '.join(answer.warnings)}", Reply.DOUBTFUL)
    if not answer.samples:
        return QueryAnswer(asked, None, "no data for these pods", Reply.EMPTY)
    if len(answer.samples) > 1:
        finding = f"{len(answer.samples)} results instead of one (aggregate with sum or max)"
        return QueryAnswer(asked, None, finding, Reply.SEVERAL)
    value = answer.samples[0].value
    if not math.isfinite(value):
        shown = "NaN" if math.isnan(value) else f"{value:g}"
        return QueryAnswer(asked, None, f"{shown}, as no requests within the window give", Reply.NO_MEASUREMENT)
    return QueryAnswer(asked, value, f"{value:.6g}", Reply.NUMBER)


@dataclass(frozen=True)
class GateNow:
    """What Prometheus says about the pods that serve now."""

    pods: tuple[PodStatus, ...]
    answers: tuple[QueryAnswer, ...]
    scrapes: QueryResult | QueryRejected
    """The most scrapes of a pod within any soak of late, by each job whose last scrape succeeded."""
    up: QueryResult | QueryRejected
    """`up` of each pod that `scrapes` leaves out."""


def ask_gate(policy: Policy, workload: WorkloadStatus, metrics: Metrics) -> GateNow:
    """Ask each query of the gate once, and how often the pods are scraped; nothing when no pod is ready.

    Raises:
        DependencyError: Prometheus does not answer.
    """
    pods = tuple(pod for pod in workload.new_pods if pod.ready)
    names = [pod.name for pod in pods]
    if not names:
        return GateNow((), (), QueryResult(()), QueryResult(()))

    def ask(query: str) -> QueryResult | QueryRejected:
        window, namespace = policy.gate.soak, policy.manifest.namespace
        return metrics.query(expand(query, pods=names, window=window, namespace=namespace, source=""))

    answers = tuple(answer_now(asked, policy, workload, metrics) for asked in gate_queries(policy, names))
    # The most within any soak of the last minutes, so that a Prometheus that was away for a moment is not taken for a
    # rare scrape. A failed scrape counts: it tells the interval as well.
    up = up_of_pods(policy.gate.job)
    scrapes = ask(f"max_over_time(count_over_time({up}[$window])[5m:10s]) and ({up} == 1)")
    counted = {} if isinstance(scrapes, QueryRejected) else _by_pod(scrapes)
    is_complete = all(name in counted for name in names)
    return GateNow(pods, answers, scrapes, QueryResult(()) if is_complete else ask(up))


def _by_pod(answer: QueryResult) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for sample in answer.samples:
        found.setdefault(sample.labels.get("pod", ""), []).append(sample.value)
    return found


def look_at_gate(policy: Policy, now_serving: GateNow, *, is_proved: bool, now: float) -> Iterator[Look]:
    """Judge what Prometheus says about the pods that serve now: would it do for the new pods?

    Pods that serve a verified version, for longer than a soak, passed the gate by these metrics, so they must have
    them. What serves before the first promotion may never have had any.

    Args:
        policy: has the queries.
        now_serving: what Prometheus says.
        is_proved: whether a verified version is what serves.
        now: in seconds since the epoch.
    """
    if not now_serving.pods:
        yield noted(SCRAPES, "not asked: no pod is ready")
        return
    is_old = all(has_served(pod, policy, now) for pod in now_serving.pods)
    yield _look_at_scrapes(policy, now_serving, is_owed=is_proved, now=now)
    has_counted = any(answer.usable for answer in now_serving.answers if answer.asked.name == REQUESTS)
    for answer in now_serving.answers:
        yield _look_at_answer(policy, now_serving, answer, is_owed=is_proved and is_old, has_counted=has_counted)


def has_served(pod: PodStatus, policy: Policy, now: float) -> bool:
    """Whether a pod has served for longer than a soak, even if it took another one to start and be discovered."""
    return now - pod.created_at > 2 * policy.gate.soak + 30


def query_name(asked: GateQuery) -> str:
    """Name a query as a row of a table does."""
    return f"query {asked.name}" + (f" ({asked.source})" if asked.name == REQUESTS and asked.source else "")


def _look_at_answer(
    policy: Policy, now_serving: GateNow, answer: QueryAnswer, *, is_owed: bool, has_counted: bool
) -> Look:
    asked, what = answer.asked, query_name(answer.asked)
    if answer.usable:
        return fits(what, f"{answer.finding}{f', must be {asked.bound}' if asked.bound else ''}")
    is_count = asked.name == REQUESTS
    field = "gate.requests" if is_count else f"SLO {asked.name}"
    pods = "|".join(pod.name for pod in now_serving.pods)
    next_step = (
        f"Correct {field} in {policy.name}.yaml. What the pods have, in Prometheus: "
        f'count by (__name__) ({{namespace="{policy.manifest.namespace}",pod=~"{pods}"}}).'
    )
    problem = Problem(field, "one number about the pods that serve now", answer.finding, next_step)
    if answer.reply is Reply.DOUBTFUL:
        return waits(what, problem.then("The promotion goes on by itself when the warnings are over."))
    if answer.reply is not Reply.EMPTY:
        return refused(what, problem)
    if not is_owed or (is_count and has_counted):
        return noted(what, f"{answer.finding}{'; no such request was counted' if is_count else ''}")
    if is_count:  # pods that nobody has asked since they started have no series yet
        asked_now = "If nobody had asked these pods, they have been asked now, and the promotion goes on by itself."
        return waits(what, problem.then(asked_now))
    return refused(what, problem) if has_counted else noted(what, f"{answer.finding}; no request was counted")


def _look_at_scrapes(policy: Policy, now_serving: GateNow, *, is_owed: bool, now: float) -> Look:
    """Find out whether each pod is scraped, with success and often enough to judge a soak."""
    gate, namespace = policy.gate, policy.manifest.namespace
    if isinstance(now_serving.scrapes, QueryRejected) or isinstance(now_serving.up, QueryRejected):
        return noted(SCRAPES, "not known: Prometheus refuses to count them")
    counted, up = _by_pod(now_serving.scrapes), _by_pod(now_serving.up)
    for pod in now_serving.pods:
        jobs = max(len(counted.get(pod.name, ())), len(up.get(pod.name, ())))
        several = f"{jobs} jobs scrape it: name the right one in gate.job. " if jobs > 1 else ""
        next_step = f"{several}Correct the scrape configuration: docs/policies.md lists what Prometheus must provide."
        subject = f"Prometheus, pod {pod.name}"
        is_old = has_served(pod, policy, now)
        count = min(counted.get(pod.name, ()), default=0.0)
        if pod.name not in counted:
            found = "a last scrape that failed" if pod.name in up else "no such series"
            expected = f'a series up{{namespace="{namespace}",pod="{pod.name}"}} with the value 1'
            problem = Problem(subject, expected, found, next_step)
            if not is_owed or not is_old:
                return noted(SCRAPES, f"pod {pod.name}: {found}")
            return waits(SCRAPES, problem) if pod.name in up else refused(SCRAPES, problem)
        if count < gate.min_samples and is_old:
            expected = f"{gate.min_samples} scrapes within a soak of {gate.soak:g} s"
            found = f"{count:g} of them at most, about one each {gate.soak / max(count, 1):.0f} s"
            needed = gate.min_samples * gate.soak / max(count, 1)
            longer = f"{several}Scrape it more often, or set gate.soak to {needed:.0f}s."
            return refused(SCRAPES, Problem(subject, expected, found, longer))
    fewest = min((min(counts) for counts in counted.values()), default=0.0)
    finding = f"each of {len(now_serving.pods)} pods is scraped, at least {fewest:g}x within a soak of {gate.soak:g} s"
    return fits(SCRAPES, finding)

"""One evaluation of the gate, measured through the ports: recorded requests, metrics and the pods' status."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from orchestration.promotion.cluster_status import PodStatus, WorkloadStatus
from orchestration.promotion.evaluation import (
    ANY_TRAFFIC,
    REAL_TRAFFIC,
    Evaluation,
    PodFreshness,
    SloReading,
    newest_round,
    real_window_start,
)
from orchestration.promotion.gate import stale_after
from orchestration.promotion.identity import how_to_retry
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.policy import Policy, Slo
from orchestration.promotion.ports import Clients, QueryRejected, QueryResult, Sample
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.promql import Unusable, expand, read_by_pod, read_scalar, up_of_pods
from orchestration.promotion.served_model import NOT_TOLD_APART, ServedModel, served_model, unproved
from orchestration.promotion.slo_sources import SLO_SOURCES
from orchestration.stages.replay import Replay, replay_round
from orchestration.stages.results import Check

_INFO = 'model_info{namespace="$namespace",pod=~"$pods"}'


def measure(
    asked: Replay,
    version: ModelVersion,
    soak_started: float,
    *,
    earlier: Sequence[Evaluation] = (),
    live: Mapping[str, float] = MappingProxyType({}),
    doubt: str = NOT_TOLD_APART,
) -> Evaluation:
    """Measure everything that the gate judges about the new pods, now.

    A dependency that does not answer becomes a problem of the evaluation, never a pass (design rule 6). Counters that
    do not tell recorded requests from real ones are kept free of them: once a round is complete, no other is sent.

    Args:
        asked: the pods to measure, not all of which have to be ready, and what they are asked.
        version: the version that they must serve.
        soak_started: when the soak began, in seconds since the epoch; the queries look back to here at most.
        earlier: the evaluations of this soak so far, oldest first.
        live: what the pods measured that served before, by the SLOs' names.
        doubt: why right answers to the recorded requests do not prove which model a pod serves; empty when they do.
    """
    clock, policy, workload = asked.clients.clock, asked.policy, asked.workload
    problems: list[Problem] = []
    recorded, replayed_until = None, earlier[-1].replayed_until if earlier else None
    sent = newest_round(earlier)
    if policy.gate.tells_replayed or sent is None or not sent.is_complete:
        recorded, replayed_until = replay_round(asked, problems), clock.now()
    at = clock.now()
    prometheus = _Prometheus(asked.clients, policy, asked.pods, at, problems)
    newest = _newest_scrapes(prometheus)
    scraped = [_by_our_clock(scrapes, at) for scrapes in newest.values()]
    tells = policy.gate.tells_replayed
    real_since = soak_started if tells else real_window_start(earlier, replayed_until, scraped, at)
    traffic = _count(prometheus, policy, real_since, soak_started)
    freshness = _freshness(prometheus, newest, soak_started if real_since is None else real_since)
    served = _served(prometheus, asked.pods, version)
    scraped_pods = [one for one in served if _is_scraped(one.pod, freshness)]
    if silent := unproved(policy, scraped_pods, doubt=doubt):
        problems.append(silent.then("Then materialize serving_model."))
    readings = (_reading(prometheus, slo, policy, workload, traffic) for slo in policy.gate.slos)
    return Evaluation(
        at=at,
        window=0.0 if real_since is None else at - real_since,
        template_hash=workload.template_hash,
        wanted=workload.wanted,
        freshness=freshness,
        readings=tuple(replace(reading, live=live.get(reading.slo.name)) for reading in readings),
        recorded=recorded,
        real_requests=_known(traffic.real),
        replayed_requests=_known(traffic.replayed),
        served=served,
        problems=tuple(problems),  # evaluated last: all of the above may add to them
        rejected=tuple(prometheus.rejected),
        real_since=real_since,
        replayed_until=replayed_until,
    )


def _is_scraped(pod: str, freshness: Sequence[PodFreshness]) -> bool:
    """Whether Prometheus has asked a pod since it can say what it serves; one that was just added owes nothing yet."""
    return any(known.pod == pod and known.scrapes > 0 for known in freshness)


def measure_live(clients: Clients, policy: Policy, workload: WorkloadStatus | None) -> Mapping[str, float]:
    """Measure the pods that serve now, over the length of a soak, for the SLOs that are compared with them.

    Args:
        clients: the ports.
        policy: says which SLOs are compared.
        workload: what serves now; None when the cluster has no such workload.

    Returns:
        The values by the SLOs' names; without one where there were too few requests, or the query gave no number.

    Raises:
        DependencyError: Prometheus does not answer.
    """
    compared = [slo for slo in policy.gate.slos if slo.no_worse_than_live is not None]
    pods = [pod for pod in workload.new_pods if pod.ready] if workload is not None and compared else []
    problems: list[Problem] = []
    prometheus = _Prometheus(clients, policy, pods, clients.clock.now(), problems)
    since = prometheus.at - policy.gate.soak
    values: dict[str, float] = {}
    if pods:
        requests = _known(prometheus.number(policy.gate.requests, "the gate's count of requests", since, REAL_TRAFFIC))
        for slo in compared:
            assert slo.query is not None, "an SLO that is compared has a query"
            value = _known(prometheus.number(slo.query, f"SLO {slo.name}", since, REAL_TRAFFIC))
            if value is not None and (requests or 0.0) >= slo.min_requests:
                values[slo.name] = value
    if problems:
        raise DependencyError(problems[0])
    return values


def measure_answers(asked: Replay, evaluation: Evaluation) -> Evaluation:
    """Add the round of recorded requests that an evaluation kept back from the counters; see `gate.ReplayDue`."""
    problems = list(evaluation.problems)
    recorded = replay_round(asked, problems)
    return replace(evaluation, recorded=recorded, problems=tuple(problems), replayed_until=asked.clients.clock.now())


class _Prometheus:
    """Asks Prometheus about one workload's new pods; after the first query without an answer it asks nothing more."""

    def __init__(
        self, clients: Clients, policy: Policy, pods: Sequence[PodStatus], at: float, problems: list[Problem]
    ) -> None:
        self.clients, self.policy, self.at = clients, policy, at
        self.namespace = policy.manifest.namespace
        self.pods = [pod.name for pod in pods]
        self.tolerance = stale_after(policy.gate)
        self.problems = problems
        self.rejected: list[Problem] = []
        self.silent: Unusable | None = None

    def answer(
        self, query: str, subject: str, since: float | None = None, source: str = REAL_TRAFFIC
    ) -> QueryResult | Unusable:
        """Expand and ask a query.

        Args:
            query: as the policy has it.
            subject: what it is for, for a problem.
            since: how far `$window` reaches back, in seconds since the epoch.
            source: what `$source` stands for.
        """
        if not self.pods:
            return Unusable("no new pods", platform_fault=True)
        if self.silent is not None:
            return self.silent
        window = 0.0 if since is None else self.at - since
        expression = expand(query, pods=self.pods, window=window, namespace=self.namespace, source=source)
        try:
            result = self.clients.metrics.query(expression)
        except DependencyError as error:
            self.problems.append(error.problem)
            self.silent = Unusable(f"Prometheus does not answer: {error.problem.found}", platform_fault=True)
            return self.silent
        if isinstance(result, QueryRejected):
            next_step = f"Correct the query in {self.policy.name}.yaml."
            self.rejected.append(Problem(subject, "a query that Prometheus accepts", result.message, next_step))
            return Unusable(f"Prometheus refuses the query: {result.message}", platform_fault=True)
        return result

    def number(self, query: str, subject: str, since: float, source: str) -> float | Unusable:
        """The one number that a query gives."""
        result = self.answer(query, subject, since, source)
        # Prometheus evaluates by its own clock, so the result is compared with our clock as it is after the answer.
        return result if isinstance(result, Unusable) else read_scalar(result, now=self.now, tolerance=self.tolerance)

    def by_pod(self, query: str, subject: str, since: float | None = None) -> Mapping[str, Sequence[Sample]] | Unusable:
        """What a query gives for each pod."""
        result = self.answer(query, subject, since)
        return result if isinstance(result, Unusable) else read_by_pod(result, now=self.now, tolerance=self.tolerance)

    @property
    def now(self) -> float:
        """In seconds since the epoch, by our clock."""
        return self.clients.clock.now()


def _newest_scrapes(prometheus: _Prometheus) -> Mapping[str, Sequence[Sample]]:
    """When each new pod was last scraped with success, by each job whose last scrape succeeded."""
    up = up_of_pods(prometheus.policy.gate.job)
    # `up` is repeated because `timestamp` of anything but a plain selector is the time of the evaluation.
    found = prometheus.by_pod(f"timestamp({up}) and ({up} == 1)", "the times of the newest scrapes")
    samples = _by_pod_or_problem(prometheus, found, "times of scrapes")
    return {pod: samples.get(pod, ()) for pod in prometheus.pods}


def _by_our_clock(scrapes: Sequence[Sample], at: float) -> float | None:
    """When a pod's oldest newest scrape was, at the latest, by the clock that also dates the recorded requests.

    Prometheus's clock may be another. It says how long before its answer a scrape was, and it answered after `at`.
    """
    return min((at - (scrape.at - scrape.value) for scrape in scrapes), default=None)


def _freshness(
    prometheus: _Prometheus, newest: Mapping[str, Sequence[Sample]], since: float
) -> tuple[PodFreshness, ...]:
    """How often each new pod was scraped with success since then, and when it was last.

    Several jobs may scrape a pod, and nothing tells which one a query reads. A job whose last scrape failed is left
    out where another one succeeds; of the others, the evidence is as good as that of the worst.
    """
    found = prometheus.by_pod(f"sum_over_time({up_of_pods(prometheus.policy.gate.job)}[$window])", "the scrapes", since)
    counts = _by_pod_or_problem(prometheus, found, "scrapes")
    freshness = []
    for pod, scrapes in newest.items():
        seen = {_series(sample): sample.value for sample in counts.get(pod, ())}
        of_jobs = (seen.get(_series(scrape), 0.0) for scrape in scrapes)
        count = min(of_jobs, default=max(seen.values(), default=0.0))
        freshness.append(PodFreshness(pod, count, min((scrape.value for scrape in scrapes), default=None)))
    return tuple(freshness)


def _series(sample: Sample) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in sample.labels.items() if name != "__name__")


def _by_pod_or_problem(
    prometheus: _Prometheus, answer: Mapping[str, Sequence[Sample]] | Unusable, subject: str
) -> Mapping[str, Sequence[Sample]]:
    if not isinstance(answer, Unusable):
        return answer
    if answer.platform_fault and prometheus.silent is None and prometheus.pods:
        next_step = "Correct the scrape configuration; docs/policies.md lists the labels that it must set."
        prometheus.problems.append(
            Problem(f"Prometheus, {subject}", "one series `up` for each pod", answer.reason, next_step)
        )
    return {}


def served_models(
    clients: Clients, policy: Policy, pods: Sequence[PodStatus], version: ModelVersion
) -> tuple[ServedModel, ...]:
    """Find out what each pod serves, apart from a gate; while Prometheus does not answer, only the pods' specs say."""
    return _served(_Prometheus(clients, policy, pods, clients.clock.now(), []), pods, version)


def served_check(served: Sequence[ServedModel]) -> Check:
    """Return the check of what the pods say that they serve; what is not stated does not fail it."""
    wrong = next((pod.problem for pod in served if pod.problem), None)
    rows = [{"pod": pod.pod, "server says": pod.server, "pod's spec says": pod.pod_spec} for pod in served]
    confirmed = sum(pod.confirmed for pod in served)
    summary = f"{confirmed} of {len(rows)} new pods say that they serve this version, and none says otherwise"
    return Check("served_model", wrong is None, str(wrong) if wrong else summary, tuple(rows))


def _served(prometheus: _Prometheus, pods: Sequence[PodStatus], version: ModelVersion) -> tuple[ServedModel, ...]:
    """What each pod serves, by the `model_info` of its server and by its spec; an answer in doubt states nothing."""
    answer = prometheus.answer(_INFO, "what the pods serve")
    samples = () if isinstance(answer, Unusable) or answer.warnings else answer.samples
    policy = prometheus.policy
    container, retry = policy.manifest.container, how_to_retry(policy.name, version.version)
    served = []
    for pod in pods:
        labels = [sample.labels for sample in samples if sample.labels.get("pod") == pod.name]
        infos = [info for info in labels if info.get("container", container) == container]
        served.append(served_model(pod.name, pod.spec(container), infos, version, retry))
    return tuple(served)


@dataclass(frozen=True)
class _Traffic:
    """The requests that an SLO may be judged by, and since when each kind is counted."""

    real: float | Unusable
    real_since: float | None
    replayed: float | Unusable | None
    """None when the counters do not tell."""
    any: float | Unusable
    """Real and recorded requests; with counters that do not tell, since the soak began."""
    any_since: float
    may_stand_in: bool
    """Whether recorded requests may make up for missing traffic by now."""


_NOT_BEGUN = Unusable("the recorded requests may still count as real ones", platform_fault=False)


def _count(prometheus: _Prometheus, policy: Policy, real_since: float | None, soak_started: float) -> _Traffic:
    """Count the requests of each kind.

    Counters that do not tell are given the whole soak before recorded requests may stand in: a replay must not decide
    what real traffic would have decided a moment later.
    """
    gate = policy.gate
    if real_since is None or (not gate.tells_replayed and prometheus.at - real_since < 1):
        return _Traffic(_NOT_BEGUN, None, None, _NOT_BEGUN, soak_started, may_stand_in=False)

    def count(since: float, source: str) -> float | Unusable:
        found = prometheus.number(gate.requests, f"the gate's count of {source} requests", since, source)
        return 0.0 if isinstance(found, Unusable) and found.empty else found  # no series, so no requests

    real = count(real_since, REAL_TRAFFIC)
    if gate.tells_replayed:
        replayed = count(real_since, "replayed")
        unknown = next((each for each in (real, replayed) if isinstance(each, Unusable)), None)
        both = unknown or (_known(real) or 0.0) + (_known(replayed) or 0.0)
        return _Traffic(real, real_since, replayed, both, real_since, may_stand_in=gate.traffic == "replayed_ok")
    may_stand_in = gate.traffic == "replayed_ok" and prometheus.at - real_since >= gate.soak
    both = count(soak_started, ANY_TRAFFIC) if may_stand_in else _NOT_BEGUN
    return _Traffic(real, real_since, None, both, soak_started, may_stand_in)


def _reading(
    prometheus: _Prometheus, slo: Slo, policy: Policy, workload: WorkloadStatus, traffic: _Traffic
) -> SloReading:
    if slo.from_ is not None:
        read = SLO_SOURCES[slo.from_][slo.name]
        return SloReading(slo, read(workload, policy.manifest.container), 0.0, slo.from_)
    assert slo.query is not None, "a policy's SLO has a query or a source"
    source, since, requests = _judged_traffic(slo, traffic)
    if isinstance(requests, Unusable) or since is None:
        return SloReading(slo, requests if isinstance(requests, Unusable) else _NOT_BEGUN, 0.0, source)
    return SloReading(slo, prometheus.number(slo.query, f"SLO {slo.name}", since, source), requests, source)


def _judged_traffic(slo: Slo, traffic: _Traffic) -> tuple[str, float | None, float | Unusable]:
    """Which traffic an SLO is judged by (see `policy.Slo`), since when, and how many requests that is.

    Replayed requests count only while there are too few real ones, so they never dilute the errors of real traffic.
    """
    real = traffic.real
    if slo.min_requests == 0:
        return REAL_TRAFFIC, traffic.real_since, _known(real) or 0.0
    if isinstance(real, Unusable) or real >= slo.min_requests or not traffic.may_stand_in:
        return REAL_TRAFFIC, traffic.real_since, real
    return ANY_TRAFFIC, traffic.any_since, traffic.any


def _known(count: float | Unusable | None) -> float | None:
    return None if isinstance(count, Unusable) else count

"""One evaluation of the gate, measured through the ports: recorded requests, metrics and the pods' status."""

import json
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit, urlunsplit

from orchestration.promotion.cluster_status import PodStatus, WorkloadStatus
from orchestration.promotion.evaluation import AnswerFault, Evaluation, PodFreshness, RecordedRound, SloReading
from orchestration.promotion.gate import stale_after
from orchestration.promotion.identity import how_to_retry
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.pods import lost_with_its_node
from orchestration.promotion.policy import Policy, Slo
from orchestration.promotion.ports import Answer, Clients, QueryRejected, QueryResult
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.promql import Unusable, expand, read_by_pod, read_scalar
from orchestration.promotion.recorded_requests import REPLAY_HEADER, RecordedRequest, Recording, compare
from orchestration.promotion.served_model import ServedModel, served_model
from orchestration.promotion.slo_sources import SLO_SOURCES
from orchestration.stages.results import Check

DEFAULT_PATH = "/predict"
"""The path that requests go to when `service_url` has none."""
_ASK_SECONDS = 10.0
_NOT_ROUTED = frozenset((0, 502, 503, 504))
"""Statuses of `service_url` that no model gives: routes lag behind Healthy by about a second (design rule 4)."""

# The last scrape must have succeeded, or a series that ended in failures would count as fresh. The selector is repeated
# because `timestamp` of anything but a plain selector is the time of the evaluation.
_UP = '{namespace="$namespace",pod=~"$pods"}'
_SCRAPES = f"sum_over_time(up{_UP}[$window])"
_NEWEST = f"timestamp(up{_UP}) and (up{_UP} == 1)"
_INFO = f"model_info{_UP}"


def measure(
    clients: Clients,
    policy: Policy,
    workload: WorkloadStatus,
    pods: Sequence[PodStatus],
    version: ModelVersion,
    recording: Recording,
    soak_started: float,
    promotion: str,
) -> Evaluation:
    """Measure everything that the gate judges about the new pods, now.

    A dependency that does not answer becomes a problem of the evaluation, never a pass (design rule 6).

    Args:
        clients: the ports to measure through.
        policy: says what to measure.
        workload: the Deployment as it was last read.
        pods: the new pods to measure; not all of `workload` has to be ready.
        version: the version that they must serve.
        recording: the requests to replay.
        soak_started: when the soak began, in seconds since the epoch; the queries look back to here.
        promotion: the promotion's id, which marks the replayed requests.
    """
    problems: list[Problem] = []
    recorded = replay(clients, policy, workload, pods, recording, promotion, problems)
    at = clients.clock.now()
    prometheus = _Prometheus(clients, policy, pods, at - soak_started, problems)
    freshness = _freshness(prometheus)
    counts: dict[str, float | Unusable] = {}
    for source in ("real", "replayed"):
        count = prometheus.number(policy.gate.requests, source, f"the gate's count of {source} requests")
        counts[source] = 0.0 if isinstance(count, Unusable) and count.empty else count  # no series, so no requests
    readings = tuple(_reading(prometheus, slo, policy, workload, counts) for slo in policy.gate.slos)
    served = _served(prometheus, pods, version)
    return Evaluation(
        at=at,
        window=at - soak_started,
        template_hash=workload.template_hash,
        wanted=workload.wanted,
        freshness=freshness,
        readings=readings,
        recorded=recorded,
        real_requests=_known(counts["real"]),
        replayed_requests=_known(counts["replayed"]),
        problems=tuple(problems),
        rejected=tuple(prometheus.rejected),
        served=served,
    )


class _Prometheus:
    """Asks Prometheus about one workload's new pods; after the first query without an answer it asks nothing more."""

    def __init__(
        self, clients: Clients, policy: Policy, pods: Sequence[PodStatus], window: float, problems: list[Problem]
    ) -> None:
        self.clients, self.policy, self.window = clients, policy, window
        self.namespace = policy.manifest.namespace
        self.pods = [pod.name for pod in pods]
        self.tolerance = stale_after(policy.gate)
        self.problems = problems
        self.rejected: list[Problem] = []
        self.silent: Unusable | None = None

    def answer(self, query: str, source: str, subject: str) -> QueryResult | Unusable:
        """Expand and ask a query; `subject` says in a problem what it is for."""
        if not self.pods:
            return Unusable("no new pods", platform_fault=True)
        if self.silent is not None:
            return self.silent
        expression = expand(query, pods=self.pods, window=self.window, namespace=self.namespace, source=source)
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

    def number(self, query: str, source: str, subject: str) -> float | Unusable:
        """The one number that a query gives."""
        result = self.answer(query, source, subject)
        # Prometheus evaluates by its own clock, so the result is compared with our clock as it is after the answer.
        return result if isinstance(result, Unusable) else read_scalar(result, now=self.now, tolerance=self.tolerance)

    def by_pod(self, query: str, subject: str) -> Mapping[str, float] | Unusable:
        """The number that a query gives for each pod."""
        result = self.answer(query, "real", subject)
        return result if isinstance(result, Unusable) else read_by_pod(result, now=self.now, tolerance=self.tolerance)

    @property
    def now(self) -> float:
        """In seconds since the epoch, by our clock."""
        return self.clients.clock.now()


def _freshness(prometheus: _Prometheus) -> tuple[PodFreshness, ...]:
    """How often and how recently each new pod was scraped, by `up`: the only series that a failed scrape writes too."""
    scrapes = prometheus.by_pod(_SCRAPES, "the count of scrapes")
    times = prometheus.by_pod(_NEWEST, "the times of the newest scrapes")
    for subject, answer in (("scrapes", scrapes), ("times of scrapes", times)):
        if isinstance(answer, Unusable) and answer.platform_fault and prometheus.silent is None and prometheus.pods:
            next_step = "Correct the scrape configuration; docs/policies.md lists the labels that it must set."
            prometheus.problems.append(
                Problem(f"Prometheus, {subject}", "one series `up` for each pod", answer.reason, next_step)
            )
    counts: Mapping[str, float] = {} if isinstance(scrapes, Unusable) else scrapes
    newest: Mapping[str, float] = {} if isinstance(times, Unusable) else times
    return tuple(PodFreshness(pod, counts.get(pod, 0.0), newest.get(pod)) for pod in prometheus.pods)


def served_models(
    clients: Clients, policy: Policy, pods: Sequence[PodStatus], version: ModelVersion
) -> tuple[ServedModel, ...]:
    """Find out what each pod serves, apart from a gate; while Prometheus does not answer, only the pods' specs say."""
    return _served(_Prometheus(clients, policy, pods, policy.gate.soak, []), pods, version)


def served_check(served: Sequence[ServedModel]) -> Check:
    """Return the check of what the pods say that they serve; what is not stated does not fail it."""
    wrong = next((pod.problem for pod in served if pod.problem), None)
    rows = [{"pod": pod.pod, "server says": pod.server, "pod's spec says": pod.pod_spec} for pod in served]
    confirmed = sum(pod.confirmed for pod in served)
    summary = f"{confirmed} of {len(rows)} new pods say that they serve this version, and none says otherwise"
    return Check("served_model", wrong is None, str(wrong) if wrong else summary, tuple(rows))


def _served(prometheus: _Prometheus, pods: Sequence[PodStatus], version: ModelVersion) -> tuple[ServedModel, ...]:
    """What each pod serves, by the `model_info` of its server and by its spec; an answer in doubt states nothing."""
    answer = prometheus.answer(_INFO, "real", "what the pods serve")
    samples = () if isinstance(answer, Unusable) or answer.warnings else answer.samples
    policy = prometheus.policy
    container, retry = policy.manifest.container, how_to_retry(policy.name, version.version)
    served = []
    for pod in pods:
        labels = [sample.labels for sample in samples if sample.labels.get("pod") == pod.name]
        infos = [info for info in labels if info.get("container", container) == container]
        served.append(served_model(pod.name, pod.spec(container), infos, version, retry))
    return tuple(served)


def _reading(
    prometheus: _Prometheus, slo: Slo, policy: Policy, workload: WorkloadStatus, counts: Mapping[str, float | Unusable]
) -> SloReading:
    if slo.from_ is not None:
        read = SLO_SOURCES[slo.from_][slo.name]
        return SloReading(slo, read(workload, policy.manifest.container), 0.0, slo.from_)
    assert slo.query is not None, "a policy's SLO has a query or a source"
    source, requests = _judged_traffic(slo, policy, counts)
    if isinstance(requests, Unusable):
        return SloReading(slo, requests, 0.0, source)
    return SloReading(slo, prometheus.number(slo.query, source, f"SLO {slo.name}"), requests, source)


def _judged_traffic(slo: Slo, policy: Policy, counts: Mapping[str, float | Unusable]) -> tuple[str, float | Unusable]:
    """Which traffic an SLO is judged by (see `policy.Slo`), and how many requests that is.

    Replayed requests count only while there are too few real ones, so they never dilute the errors of real traffic.
    """
    real, replayed = counts["real"], counts["replayed"]
    if slo.min_requests == 0:
        return "real", _known(real) or 0.0
    if isinstance(real, Unusable) or real >= slo.min_requests or policy.gate.traffic == "real_only":
        return "real", real
    return "real|replayed", replayed if isinstance(replayed, Unusable) else real + replayed


def _known(count: float | Unusable) -> float | None:
    return None if isinstance(count, Unusable) else count


def replay(
    clients: Clients,
    policy: Policy,
    workload: WorkloadStatus,
    pods: Sequence[PodStatus],
    recording: Recording,
    promotion: str,
    problems: list[Problem],
) -> RecordedRound:
    """Send every recorded request to each new pod through the pod proxy, and to the service.

    Args:
        clients: The ports to ask through.
        policy: Names the service and the container.
        workload: The Deployment as it was last read.
        pods: The new pods to ask.
        recording: The requests.
        promotion: The promotion's id, which marks the requests as replayed.
        problems: Receives why a dependency did not answer.
    """
    url, path = _service_address(policy.service_url)
    headers = {REPLAY_HEADER: promotion}
    container, namespace = policy.manifest.container, workload.namespace
    port = workload.ports.get(container)
    targets: list[tuple[str, PodStatus | None, Callable[[bytes], Answer]]] = []  # None: the service
    if port is None:
        next_step = f"Give container {container} a containerPort in {policy.manifest.path}."
        expected = f"a containerPort of container {container}"
        problems.append(Problem(str(workload), expected, "no containerPort", next_step))
    else:
        for pod in pods:
            targets.append((f"pod {pod.name}", pod, _pod_asker(clients, namespace, pod.name, port, path, headers)))
    targets.append((url, None, lambda body: clients.service.ask(url, body, headers, _ASK_SECONDS)))
    asked = 0
    wrong: list[AnswerFault] = []
    unanswered: list[AnswerFault] = []
    for target, target_pod, ask in targets:
        count, bad, silent = _ask_all(target, ask, recording.requests, problems, behind_routes=target_pod is None)
        if bad and target_pod is not None and (excuse := _excuse(clients, policy, target_pod, problems)):
            bad, silent = [], [*silent, *(AnswerFault(fault.asked, excuse) for fault in bad)]
        asked += count
        wrong += bad
        unanswered += silent
    due = len(recording.requests) * (len(pods) + 1)
    return RecordedRound(due, asked, tuple(wrong), tuple(unanswered))


def _pod_asker(
    clients: Clients, namespace: str, pod: str, port: int, path: str, headers: Mapping[str, str]
) -> Callable[[bytes], Answer]:
    return lambda body: clients.cluster.ask_pod(namespace, pod, port, path, body, headers, _ASK_SECONDS)


def _excuse(clients: Clients, policy: Policy, pod_before: PodStatus, problems: list[Problem]) -> str | None:
    """Why a pod's wrong answers are not the model's: the pod is being deleted, or starts again after its node failed.

    The pod is read again after it has answered, because its status from before may be older than its restart.
    """
    target = policy.manifest
    try:
        workload = clients.cluster.workload(target.kind, target.namespace, target.name)
    except DependencyError as error:
        problems.append(error.problem)
        return f"the pod's status cannot be read: {error.problem.found}"
    new_pods = workload.new_pods if workload is not None else ()
    pod = next((pod for pod in new_pods if pod.uid == pod_before.uid), None)
    if pod is None:
        return "the pod is being deleted"
    if lost_with_its_node(pod, target.container):
        return f"its node {pod.node} went down, and the pod is not ready yet"
    return None


def _ask_all(
    target: str,
    ask: Callable[[bytes], Answer],
    requests: Sequence[RecordedRequest],
    problems: list[Problem],
    *,
    behind_routes: bool,
) -> tuple[int, list[AnswerFault], list[AnswerFault]]:
    """Send all requests to one target: how many were sent, the wrong answers, and the request without an answer.

    One request without an answer ends the target's round, so that time-outs do not add up.
    """
    wrong: list[AnswerFault] = []
    for number, recorded in enumerate(requests, start=1):
        label = f"{target}, recorded request {number} of {len(requests)}"
        try:
            answer = ask(json.dumps(recorded.request).encode())
        except DependencyError as error:
            problems.append(error.problem)
            return number, wrong, [AnswerFault(label, error.problem.found)]
        if silence := _silence(answer, behind_routes=behind_routes):
            return number, wrong, [AnswerFault(label, silence)]
        if reason := compare(recorded, answer.status, answer.body):
            wrong.append(AnswerFault(label, reason))
    return len(requests), wrong, []


def _silence(answer: Answer, *, behind_routes: bool) -> str | None:
    """Why no pod answered: the API server did itself (`kind: Status`), time ran out, or the route leads to no pod."""
    if answer.from_api:
        return f"the API server answered {answer.status} itself"
    if answer.status == 0:
        return "no answer"
    if behind_routes and answer.status in _NOT_ROUTED:
        return f"status {answer.status}: the route leads to no pod yet"
    return None


def _service_address(service_url: str) -> tuple[str, str]:
    """The URL for requests to the service, and the path (with its query) for the same requests to a pod."""
    parts = urlsplit(service_url)
    path = parts.path if parts.path not in ("", "/") else DEFAULT_PATH
    url = urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
    return url, f"{path}?{parts.query}" if parts.query else path

"""One evaluation of the gate, measured through the ports: recorded requests, metrics and the pods' own status."""

import json
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit, urlunsplit

from orchestration.promotion.cluster_status import PodStatus, WorkloadStatus
from orchestration.promotion.gate import (
    AnswerFault,
    Evaluation,
    PodFreshness,
    RecordedRound,
    SloReading,
    stale_after,
)
from orchestration.promotion.pods import lost_with_its_node, own_restarts
from orchestration.promotion.policy import Policy, Slo
from orchestration.promotion.ports import Answer, Clients, QueryRejected, QueryResult
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.promql import Unusable, expand, read_by_pod, read_scalar
from orchestration.promotion.recorded_requests import REPLAY_HEADER, RecordedRequest, Recording, compare

DEFAULT_PATH = "/predict"
"""Where a model is asked when `service_url` has no path of its own."""
_ASK_SECONDS = 10.0
_NOT_ROUTED = frozenset((0, 502, 503, 504))
"""Statuses of `service_url` that no model has sent: routes lag about a second behind Healthy (design rule 4)."""

# The last value must be a success, so that a series which ended in failures is not taken for fresh. The selector is
# repeated because `timestamp` of anything but a plain selector is the time of the evaluation.
_UP = '{namespace="$namespace",pod=~"$pods"}'
_SCRAPES = f"sum_over_time(up{_UP}[$window])"
_NEWEST = f"timestamp(up{_UP}) and (up{_UP} == 1)"


def measure(
    clients: Clients,
    policy: Policy,
    workload: WorkloadStatus,
    pods: Sequence[PodStatus],
    recording: Recording,
    soak_started: float,
    promotion: str,
) -> Evaluation:
    """Measure everything that the gate judges of these new pods, now. `promotion` marks the replayed requests.

    A dependency that does not answer becomes a problem of the evaluation, never a pass (design rule 6).
    """
    problems: list[Problem] = []
    recorded = _replay(clients, policy, workload, pods, recording, promotion, problems)
    at = clients.clock.now()
    asker = _Asker(clients, policy, pods, at, at - soak_started, problems)
    freshness = _freshness(asker)
    counted: dict[str, float | Unusable] = {}
    for source in ("real", "replayed"):
        count = asker.number(policy.gate.requests, source, f"the gate's count of {source} requests")
        counted[source] = 0.0 if isinstance(count, Unusable) and count.empty else count  # no series, so no requests
    readings = tuple(_reading(asker, slo, policy, workload, counted) for slo in policy.gate.slos)
    return Evaluation(
        at=at,
        window=at - soak_started,
        template_hash=workload.template_hash,
        wanted=workload.wanted,
        freshness=freshness,
        readings=readings,
        recorded=recorded,
        real_requests=_known(counted["real"]),
        replayed_requests=_known(counted["replayed"]),
        problems=tuple(problems),
        rejected=tuple(asker.rejected),
    )


class _Asker:
    """Asks Prometheus about one workload's new pods, and stops asking when it has once not answered."""

    def __init__(
        self,
        clients: Clients,
        policy: Policy,
        pods: Sequence[PodStatus],
        at: float,
        window: float,
        problems: list[Problem],
    ) -> None:
        self.clients, self.policy, self.at, self.window = clients, policy, at, window
        self.namespace = policy.manifest.namespace
        self.pods = [pod.name for pod in pods]
        self.tolerance = stale_after(policy.gate)
        self.problems = problems
        self.rejected: list[Problem] = []
        self.silent: Unusable | None = None

    def answer(self, query: str, source: str, what: str) -> QueryResult | Unusable:
        if not self.pods:
            return Unusable("there are no new pods", platform_fault=True)
        if self.silent is not None:
            return self.silent
        expression = expand(query, pods=self.pods, window=self.window, namespace=self.namespace, source=source)
        try:
            found = self.clients.metrics.query(expression)
        except DependencyError as error:
            self.problems.append(error.problem)
            self.silent = Unusable(f"Prometheus does not answer: {error.problem.found}", platform_fault=True)
            return self.silent
        if isinstance(found, QueryRejected):
            next_step = f"Correct it in {self.policy.name}.yaml."
            self.rejected.append(Problem(what, "a query that Prometheus accepts", found.message, next_step))
            return Unusable(f"Prometheus refuses the query: {found.message}", platform_fault=True)
        return found

    def number(self, query: str, source: str, what: str) -> float | Unusable:
        found = self.answer(query, source, what)
        # Prometheus answers at its own clock, so its answer is compared with ours as it is after the answer.
        return found if isinstance(found, Unusable) else read_scalar(found, now=self.now, tolerance=self.tolerance)

    def by_pod(self, query: str, what: str) -> Mapping[str, float] | Unusable:
        found = self.answer(query, "real", what)
        return found if isinstance(found, Unusable) else read_by_pod(found, now=self.now, tolerance=self.tolerance)

    @property
    def now(self) -> float:
        return self.clients.clock.now()


def _freshness(asker: _Asker) -> tuple[PodFreshness, ...]:
    """How often and how lately each new pod was scraped, by `up`, the one series that a failed scrape has too."""
    scrapes = asker.by_pod(_SCRAPES, "the count of scrapes")
    times = asker.by_pod(_NEWEST, "the times of the newest scrapes")
    for what, found in (("scrapes", scrapes), ("times of scrapes", times)):
        if isinstance(found, Unusable) and found.platform_fault and asker.silent is None and asker.pods:
            next_step = "Correct the scrape configuration; docs/policies.md says which labels it must give."
            asker.problems.append(
                Problem(f"Prometheus, {what}", "one series `up` for each pod", found.reason, next_step)
            )
    counts: Mapping[str, float] = {} if isinstance(scrapes, Unusable) else scrapes
    newest: Mapping[str, float] = {} if isinstance(times, Unusable) else times
    return tuple(PodFreshness(pod, counts.get(pod, 0.0), newest.get(pod)) for pod in asker.pods)


def _reading(
    asker: _Asker, slo: Slo, policy: Policy, workload: WorkloadStatus, counted: Mapping[str, float | Unusable]
) -> SloReading:
    source, requests = _judged_traffic(slo, policy, counted)
    if slo.query is None:
        return SloReading(slo, _restarts(workload, policy.manifest.container), 0.0, "pods")
    if isinstance(requests, Unusable):
        return SloReading(slo, requests, 0.0, source)
    return SloReading(slo, asker.number(slo.query, source, f"SLO {slo.name}"), requests, source)


def _judged_traffic(slo: Slo, policy: Policy, counted: Mapping[str, float | Unusable]) -> tuple[str, float | Unusable]:
    """Which traffic an SLO is judged by (see `policy.Slo`), and how many requests that is.

    Replayed requests join only while real ones are too few, so they never dilute enough real errors.
    """
    real, replayed = counted["real"], counted["replayed"]
    if slo.min_requests == 0:
        return "real", _known(real) or 0.0
    if isinstance(real, Unusable) or real >= slo.min_requests or policy.gate.traffic == "real_only":
        return "real", real
    return "real|replayed", replayed if isinstance(replayed, Unusable) else real + replayed


def _restarts(workload: WorkloadStatus, container: str) -> float:
    statuses = (pod.container(container) for pod in workload.current_pods)
    return float(sum(own_restarts(status) for status in statuses if status is not None))


def _known(count: float | Unusable) -> float | None:
    return None if isinstance(count, Unusable) else count


def _replay(
    clients: Clients,
    policy: Policy,
    workload: WorkloadStatus,
    pods: Sequence[PodStatus],
    recording: Recording,
    promotion: str,
    problems: list[Problem],
) -> RecordedRound:
    """Ask every recorded request of each new pod through the pod proxy, and of the service."""
    url, path = _service_address(policy.service_url)
    headers = {REPLAY_HEADER: promotion}
    container, namespace = policy.manifest.container, workload.namespace
    port = workload.ports.get(container)
    targets: list[tuple[str, PodStatus | None, Callable[[bytes], Answer]]] = []
    if port is None:
        next_step = f"Give container {container} a containerPort in {policy.manifest.path}."
        problems.append(Problem(str(workload), f"a containerPort of container {container}", "none", next_step))
    else:
        for pod in pods:
            targets.append((f"pod {pod.name}", pod, _pod_asker(clients, namespace, pod.name, port, path, headers)))
    targets.append((url, None, lambda body: clients.service.ask(url, body, headers, _ASK_SECONDS)))
    asked = 0
    wrong: list[AnswerFault] = []
    unanswered: list[AnswerFault] = []
    for name, asked_pod, ask in targets:
        count, bad, silent = _ask_all(name, ask, recording.requests, problems, behind_routes=asked_pod is None)
        if bad and asked_pod is not None and (excuse := _excuse(clients, policy, asked_pod, problems)):
            bad, silent = [], [*silent, *(AnswerFault(one.asked, excuse) for one in bad)]
        asked += count
        wrong += bad
        unanswered += silent
    due = len(recording.requests) * (len(pods) + 1)
    return RecordedRound(due, asked, tuple(wrong), tuple(unanswered))


def _pod_asker(
    clients: Clients, namespace: str, pod: str, port: int, path: str, headers: Mapping[str, str]
) -> Callable[[bytes], Answer]:
    return lambda body: clients.cluster.ask_pod(namespace, pod, port, path, body, headers, _ASK_SECONDS)


def _excuse(clients: Clients, policy: Policy, asked: PodStatus, problems: list[Problem]) -> str | None:
    """Why wrong answers of a pod are not the model's: it is going away, or coming up again after its node went down.

    The pod is looked at after it has answered: what was seen before may be older than its restart.
    """
    target = policy.manifest
    try:
        workload = clients.cluster.workload(target.kind, target.namespace, target.name)
    except DependencyError as error:
        problems.append(error.problem)
        return f"the pod cannot be looked at: {error.problem.found}"
    pod = next((one for one in workload.new_pods if one.uid == asked.uid), None) if workload is not None else None
    if pod is None:
        return "the pod is going away"
    if lost_with_its_node(pod, target.container):
        return f"its node {pod.node} went down, and the pod is not ready again"
    return None


def _ask_all(
    name: str,
    ask: Callable[[bytes], Answer],
    requests: Sequence[RecordedRequest],
    problems: list[Problem],
    *,
    behind_routes: bool,
) -> tuple[int, list[AnswerFault], list[AnswerFault]]:
    """Ask one target everything; one request without an answer ends its round, so that time-outs do not add up."""
    wrong: list[AnswerFault] = []
    for number, recorded in enumerate(requests, start=1):
        asked = f"{name}, recorded request {number} of {len(requests)}"
        try:
            answer = ask(json.dumps(recorded.request).encode())
        except DependencyError as error:
            problems.append(error.problem)
            return number, wrong, [AnswerFault(asked, error.problem.found)]
        if silence := _silence(answer, behind_routes=behind_routes):
            return number, wrong, [AnswerFault(asked, silence)]
        if reason := compare(recorded, answer.status, answer.body):
            wrong.append(AnswerFault(asked, reason))
    return len(requests), wrong, []


def _silence(answer: Answer, *, behind_routes: bool) -> str | None:
    """Why an answer is nobody's: the API server's own (`kind: Status`), a time-out, or a route without a pod."""
    if answer.from_api:
        return f"the API server answered {answer.status} itself"
    if answer.status == 0:
        return "no answer"
    if behind_routes and answer.status in _NOT_ROUTED:
        return f"status {answer.status}: no pod is routed yet"
    return None


def _service_address(service_url: str) -> tuple[str, str]:
    """The URL that the service is asked at, and the path (with its query) by which a pod is asked the same."""
    parts = urlsplit(service_url)
    path = parts.path if parts.path not in ("", "/") else DEFAULT_PATH
    url = urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
    return url, f"{path}?{parts.query}" if parts.query else path

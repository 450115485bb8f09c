"""One evaluation of the gate, measured through the ports: with scripted fakes, and with a real Prometheus."""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from orchestration.adapters.clock import SystemClock
from orchestration.adapters.prometheus import Prometheus
from orchestration.promotion.cluster_status import ClusterService, ContainerPort, PodStatus, ServicePort
from orchestration.promotion.evaluation import Evaluation, RecordedRound
from orchestration.promotion.gate import Verdict, VerdictKind, judge
from orchestration.promotion.gate_queries import ask_gate, look_at_gate
from orchestration.promotion.looks import Bearing, Look
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.policy import HeaderFile, Policy, ServicePolicy, parse_policy
from orchestration.promotion.ports import Answer, Clients, Headers, QueryRejected, QueryResult, Sample
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.recorded_requests import REPLAY_HEADER, RecordedAnswer, RecordedRequest, Recording
from orchestration.promotion.slo_sources import SLO_SOURCES
from orchestration.stages.measure import measure, measure_live
from orchestration.stages.replay import Replay
from testbeds.common.processes import wait_until
from testbeds.common.services import free_ports
from testbeds.common.tools import find_tool
from tests.adapters.conftest import START_SECONDS, serving
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import DOWN, FakeArgoCD, FakeCluster, FakeService, a_deployment, a_pod
from tests.fakes.metrics import FakeMetrics

POLICY_TEXT = """
model: iris
image: {repository: ghcr.io/o/model}
manifest: {path: a.yaml, namespace: ml-apps, name: iris, container: model-server}
argocd: {application: iris, namespace: argocd}
cluster: edge
service: {url: http://edge:30808, protocol: features}
quality: [{metric: accuracy, at_least: 0.8}]
gate:
  soak: 60s
  every: 10s
  traffic: replayed_ok
  requests: requests_of{pod=~"$pods",source=~"$source"}[$window]
  slos:
    - {name: success_ratio, query: 'ratio_of{pod=~"$pods",source=~"$source"}', at_least: 0.99, min_requests: 20}
    - {name: memory, query: 'memory_of{pod=~"$pods"}', at_most: 0.9}
    - {name: restarts, from: pods, at_most: 0}
"""
POLICY = parse_policy("iris-edge", POLICY_TEXT)
IMAGE = "ghcr.io/o/model:v7@sha256:" + "a" * 64
PODS = (a_pod("p1", IMAGE), a_pod("p2", IMAGE))
WORKLOAD = a_deployment(IMAGE, PODS, namespace="ml-apps", name="iris")
RECORDING = Recording(
    requests=tuple(
        RecordedRequest(request={"features": [n]}, response=RecordedAnswer(body={"prediction": n})) for n in range(3)
    )
)
ID = "iris-edge/7/aaaaaaaaaaaa/1"
VERSION = ModelVersion("iris", 7, "r7", None)


def right(target: str, path: str, body: bytes, headers: Headers) -> Answer:
    """The model's right answer, from whichever target is asked."""
    (number,) = json.loads(body)["features"]
    return Answer(200, json.dumps({"prediction": number, "inference_time_ms": 1.5}).encode(), 0.01)


class World:
    """Healthy pods, sixty seconds into their soak; each test breaks what it is about."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.cluster, self.service, self.metrics = FakeCluster(WORKLOAD), FakeService(right), FakeMetrics(self.clock)
        self.cluster.respond = right
        now = self.clock.now()
        self.requests: dict[str, Any] = {"real": 30.0, "replayed": 12.0}
        self.metrics.script = {
            "sum_over_time(up": {"p1": 4, "p2": 4},
            "timestamp(up": {"p1": now - 3, "p2": now - 2},
            'requests_of{pod=~"p1|p2",source=~"real"}[60s]': lambda _: self.requests["real"],
            'requests_of{pod=~"p1|p2",source=~"replayed"}[60s]': lambda _: self.requests["replayed"],
            "ratio_of": 1.0,
            "memory_of": 0.4,
        }

    def measure(self, policy: Policy = POLICY, workload: Any = WORKLOAD) -> Evaluation:
        started = self.clock.now() - 60
        return measure(_asked(self, policy, workload), VERSION, started)

    def kind(self, evaluation: Evaluation, *, late: bool = False) -> VerdictKind | None:
        """The gate's verdict on this one evaluation, at once or when its time is over; None for no verdict."""
        started, now = evaluation.at - 60, self.clock.now()
        gate = POLICY.gate.model_copy(update={"judge_within": 60.0}) if late else POLICY.gate
        decision = judge([evaluation], soak_started=started, now=now, gate=gate)
        return decision.kind if isinstance(decision, Verdict) else None


@pytest.fixture
def world() -> World:
    return World()


def slo(evaluation: Evaluation, name: str = "success_ratio") -> Any:
    return next(reading for reading in evaluation.readings if reading.slo.name == name)


def recorded(evaluation: Evaluation) -> RecordedRound:
    """The evaluation's round of recorded requests, which must have been sent."""
    assert evaluation.recorded is not None
    return evaluation.recorded


def test_a_healthy_model_is_measured_completely_and_passes(world: World) -> None:
    """Each pod and the service get every request, marked as replayed, and every SLO has a number."""
    evaluation = world.measure()
    assert (recorded(evaluation).due, recorded(evaluation).asked, evaluation.problems) == (9, 9, ())
    assert [(pod, port, path) for pod, port, path, _, _ in world.cluster.asked] == (
        [("p1", 8080, "/predict")] * 3 + [("p2", 8080, "/predict")] * 3
    )
    assert [url for url, _, _ in world.service.asked] == ["http://edge:30808/predict"] * 3
    headers = [request[-1] for request in (*world.cluster.asked, *world.service.asked)]
    assert all(header == {REPLAY_HEADER: ID} for header in headers)
    assert (evaluation.real_requests, evaluation.replayed_requests) == (30, 12)
    assert [reading.value for reading in evaluation.readings] == [1.0, 0.4, 0.0]
    assert world.kind(evaluation) is VerdictKind.PASSED


def asking(**service: Any) -> Policy:
    """The policy, with another service."""
    return POLICY.model_copy(update={"service": ServicePolicy.model_validate({"url": "http://edge:1", **service})})


def test_the_path_of_the_service_is_used_for_the_pods_too(world: World) -> None:
    """Other model servers than ours answer at other paths."""
    world.measure(asking(url="http://edge:1/v2/models/iris/infer?x=1"))
    assert world.cluster.asked[0][2] == "/v2/models/iris/infer?x=1"
    assert world.service.asked[0][0] == "http://edge:1/v2/models/iris/infer?x=1"


def test_pods_are_asked_as_the_policy_says(world: World) -> None:
    """Port and headers are the policy's; the mark of a recorded request is added."""
    key = HeaderFile(file="/run/key")
    world.measure(asking(port=9000, headers={"Host": "iris.example", "X-Key": {"file": "/run/key"}}))
    assert {port for _, port, _, _, _ in world.cluster.asked} == {9000}
    expected = {"Host": "iris.example", "X-Key": key, REPLAY_HEADER: ID}
    assert world.cluster.asked[0][-1] == world.service.asked[0][-1] == expected


def test_pods_are_asked_where_their_service_leads(world: World) -> None:
    """A port for metrics that the container declares first is not asked for predictions."""
    ports = (ContainerPort("metrics", 9090), ContainerPort("http", 8080))
    workload = replace(WORKLOAD, ports={"model-server": ports}, pod_labels={"app": "iris"})
    world.cluster.service_list = (ClusterService("iris", {"app": "iris"}, (ServicePort(80, "http"),)),)
    assert world.kind(world.measure(workload=workload)) is VerdictKind.PASSED
    assert {port for _, port, _, _, _ in world.cluster.asked} == {8080}


def test_the_lease_is_kept_between_requests(world: World) -> None:
    """A round of slow answers takes longer than a lease, and another run would take the promotion over."""
    asked: list[int] = []

    def keep() -> None:
        asked.append(len(world.cluster.asked) + len(world.service.asked))

    measure(replace(_asked(world), keep_lease=keep), VERSION, world.clock.now() - 60)
    assert asked == list(range(9))


def test_an_answer_is_wrong_only_when_it_is_wrong_again_at_once(world: World) -> None:
    """One answer that differs may be chance; the same request to the same pod is sent a second time."""
    answers = iter([Answer(200, b'{"prediction": 9}', 0.01)])
    world.cluster.respond = lambda *asked: next(answers, None) or right(*asked)
    evaluation = world.measure()
    assert evaluation.recorded is not None
    assert (evaluation.recorded.wrong, evaluation.recorded.asked) == ((), evaluation.recorded.due)
    assert [pod for pod, *_ in world.cluster.asked] == ["p1"] * 4 + ["p2"] * 3
    assert world.kind(evaluation) is VerdictKind.PASSED


def test_the_policy_says_how_many_wrong_answers_reject(world: World) -> None:
    """Fewer are shown and fail nothing."""
    wrong = Answer(200, b'{"prediction": 9}', 0.01)
    world.service.respond = lambda url, path, body, headers: (
        wrong if b"[0]" in body else right(url, path, body, headers)
    )
    evaluation = world.measure()
    assert evaluation.recorded is not None
    assert len(evaluation.recorded.wrong) == 1
    assert world.kind(evaluation) is VerdictKind.FAILED
    for limit, kind in ((1, VerdictKind.FAILED), (2, VerdictKind.PASSED)):
        gate = POLICY.gate.model_copy(update={"wrong_answers": limit})
        verdict = judge([evaluation], soak_started=evaluation.at - 60, now=evaluation.at, gate=gate)
        assert isinstance(verdict, Verdict)
        assert verdict.kind is kind


def test_a_wrong_answer_of_one_pod_fails(world: World) -> None:
    """The service can hide one bad pod behind good ones, so each pod is asked by itself."""
    wrong = Answer(200, b'{"prediction": 9}', 0.01)
    world.cluster.respond = lambda pod, path, body, headers: wrong if pod == "p2" else right(pod, path, body, headers)
    evaluation = world.measure()
    assert len(recorded(evaluation).wrong) == 3
    assert recorded(evaluation).wrong[0].asked == "pod p2, recorded request 1 of 3"
    assert world.kind(evaluation) is VerdictKind.FAILED


@pytest.mark.parametrize(
    ("now", "excuse"),
    [
        (a_pod("p2", IMAGE, ready=False, last_terminated_reason="Unknown", restarts=1), "its node edge-0 went down"),
        (replace(a_pod("p2", IMAGE), deleting=True), "the pod is being deleted"),
        (a_pod("another", IMAGE), "the pod is being deleted"),
    ],
    ids=["its node went down", "deleting", "gone"],
)
def test_the_answers_of_a_pod_that_is_lost_meanwhile_do_not_count(world: World, now: PodStatus, excuse: str) -> None:
    """What it answers while it starts again or ends is neither right nor wrong; the verdict waits."""
    loading = Answer(503, b"the model is being loaded", 0.01)
    world.cluster.respond = lambda pod, path, body, headers: loading if pod == "p2" else right(pod, path, body, headers)
    world.cluster.status = a_deployment(IMAGE, (PODS[0], now), namespace="ml-apps", name="iris")
    evaluation = world.measure()
    assert recorded(evaluation).wrong == ()
    assert [excuse in fault.reason for fault in recorded(evaluation).unanswered] == [True] * 3
    assert (world.kind(evaluation), world.kind(evaluation, late=True)) == (None, VerdictKind.ERROR)


def test_wrong_answers_of_a_pod_whose_status_cannot_be_read_are_not_judged(world: World) -> None:
    """Only the cluster knows whether the pod is to blame; while it does not answer, no pod is."""

    def wrong_and_down(*_: object) -> Answer:
        world.cluster.down = DOWN if len(world.cluster.asked) == 2 * 3 else None  # each is asked twice
        return Answer(200, b'{"prediction": 9}', 0.01)

    world.cluster.respond = wrong_and_down
    evaluation = world.measure()
    assert recorded(evaluation).wrong == ()
    assert any("the pod's status cannot be read" in fault.reason for fault in recorded(evaluation).unanswered)
    assert DOWN in evaluation.problems


def test_the_models_own_5xx_is_wrong_and_the_apis_is_not(world: World) -> None:
    """A body of `kind: Status` is the API server's answer (design rule 6)."""
    world.cluster.respond = lambda *_: Answer(503, b"model is broken", 0.01)
    assert world.kind(world.measure()) is VerdictKind.FAILED
    world.cluster.respond = lambda *_: Answer(503, b'{"kind": "Status"}', 0.01, from_api=True)
    evaluation = world.measure()
    assert (len(recorded(evaluation).wrong), len(recorded(evaluation).unanswered)) == (0, 2)
    assert (world.kind(evaluation), world.kind(evaluation, late=True)) == (None, VerdictKind.ERROR)


@pytest.mark.parametrize("status", [0, 502, 503, 504])
def test_a_service_without_a_route_to_a_pod_has_not_answered(world: World, status: int) -> None:
    """Routes lag behind Healthy by about a second (design rule 4)."""
    world.service.respond = lambda *_: Answer(status, b"", 0.01)
    evaluation = world.measure()
    assert (recorded(evaluation).wrong, len(recorded(evaluation).unanswered)) == ((), 1)
    assert (world.kind(evaluation), world.kind(evaluation, late=True)) == (None, VerdictKind.ERROR)


def test_a_wrong_answer_of_the_service_fails(world: World) -> None:
    """An answer that came through the route is the model's."""
    world.service.respond = lambda *_: Answer(500, b"oops", 0.01)
    assert world.kind(world.measure()) is VerdictKind.FAILED


def test_a_cluster_that_is_down_is_asked_once_per_pod_and_is_the_platforms_fault(world: World) -> None:
    """Otherwise the time-outs of a long recording would add up."""
    world.cluster.respond = lambda *_: DOWN
    evaluation = world.measure()
    assert len(world.cluster.asked) == 2
    assert evaluation.problems == (DOWN, DOWN)
    assert world.kind(evaluation, late=True) is VerdictKind.ERROR


def test_a_prometheus_that_is_down_is_asked_once_and_is_the_platforms_fault(world: World) -> None:
    """A metric backend that is down is not a bad release (argo-rollouts#2866), and not a pass either."""
    world.metrics.down = Problem("Prometheus", "an answer", "connection refused", "Start it.")
    evaluation = world.measure()
    assert evaluation.problems == (world.metrics.down,)
    assert (world.kind(evaluation), world.kind(evaluation, late=True)) == (None, VerdictKind.ERROR)


def test_a_refused_query_names_its_slo(world: World) -> None:
    """It is the policy's fault, so waiting does not help."""
    world.metrics.script["ratio_of"] = QueryRejected("parse error")
    evaluation = world.measure()
    assert (evaluation.rejected[0].subject, evaluation.rejected[0].found) == ("SLO success_ratio", "parse error")
    assert world.kind(evaluation) is VerdictKind.ERROR


def test_enough_real_traffic_is_judged_alone(world: World) -> None:
    """Replayed requests never dilute real errors."""
    reading = slo(world.measure())
    assert (reading.source, reading.requests) == ("real", 30)
    assert 'ratio_of{pod=~"p1|p2",source=~"real"}' in world.metrics.queries


def test_replayed_requests_stand_in_for_missing_traffic(world: World) -> None:
    """At night a model may get no requests; the evidence says which traffic it was judged by."""
    world.requests = {"real": QueryResult(()), "replayed": 24.0}
    reading = slo(world.measure())
    assert (reading.source, reading.requests, reading.enough) == ("real|replayed", 24, True)
    assert 'ratio_of{pod=~"p1|p2",source=~"real|replayed"}' in world.metrics.queries


def test_with_real_only_replayed_requests_never_meet_a_minimum(world: World) -> None:
    """The policy wants real traffic, so without enough of it there is no verdict."""
    world.requests = {"real": 5.0, "replayed": 1000.0}
    real_only = POLICY.model_copy(update={"gate": POLICY.gate.model_copy(update={"traffic": "real_only"})})
    evaluation = world.measure(real_only)
    assert (slo(evaluation).source, slo(evaluation).requests) == ("real", 5)
    assert world.kind(evaluation, late=True) is VerdictKind.INCONCLUSIVE


@pytest.mark.parametrize("count", [float("nan"), QueryResult((Sample({}, 99.0, 1e6),), ("partial",))])
def test_a_count_that_cannot_be_believed_meets_no_minimum(world: World, count: Any) -> None:
    """Unknown real traffic does not count as none: replayed requests would then hide its errors."""
    world.requests["real"] = count
    evaluation = world.measure()
    assert slo(evaluation).value is None
    assert world.kind(evaluation) is None


def test_a_scrape_that_is_old_or_missing_keeps_the_gate_shut(world: World) -> None:
    """Queries go on answering for five minutes after the last scrape; each pod's `up` shows that they are old."""
    now = world.clock.now()
    world.metrics.script["timestamp(up"] = {"p1": now - 3, "p2": now - 21}
    assert world.kind(world.measure(), late=True) is VerdictKind.ERROR
    world.metrics.script["timestamp(up"] = {"p1": now - 3}
    assert world.kind(world.measure(), late=True) is VerdictKind.INCONCLUSIVE


RELATIVE = parse_policy(
    "iris-edge",
    POLICY_TEXT.replace("at_least: 0.99, min_requests: 20", "at_least: 0.5, min_requests: 20, no_worse_than_live: 1%"),
)


def test_what_serves_is_measured_by_real_requests_over_the_length_of_a_soak(world: World) -> None:
    """Only for the SLOs that are compared with it; the evaluation then has the value beside its own."""
    world.cluster.status = WORKLOAD
    assert measure_live(_clients(world), POLICY, WORKLOAD) == {}
    assert measure_live(_clients(world), RELATIVE, WORKLOAD) == {"success_ratio": 1.0}
    assert 'ratio_of{pod=~"p1|p2",source=~"real"}' in world.metrics.queries
    started = world.clock.now() - 60
    evaluation = measure(_asked(world, RELATIVE), VERSION, started, live={"success_ratio": 0.9})
    assert [reading.live for reading in evaluation.readings] == [0.9, None, None]


@pytest.mark.parametrize("requests", [19.0, QueryResult(()), float("nan")])
def test_what_serves_has_no_value_with_too_few_requests(world: World, requests: Any) -> None:
    """The same minimum counts before and after; neither has it without any pods."""
    world.cluster.status = WORKLOAD
    world.requests["real"] = requests
    assert measure_live(_clients(world), RELATIVE, WORKLOAD) == {}
    world.requests["real"] = 30.0
    for workload in (replace(WORKLOAD, pods=()), None):
        assert measure_live(_clients(world), RELATIVE, workload) == {}


def test_what_serves_is_not_left_out_because_prometheus_is_down(world: World) -> None:
    """The commit waits for it instead, because the value can never be measured again."""
    world.cluster.status = WORKLOAD
    world.metrics.down = Problem("Prometheus", "an answer", "connection refused", "Start it.")
    with pytest.raises(DependencyError, match="connection refused"):
        measure_live(_clients(world), RELATIVE, WORKLOAD)


def up(now: float, *series: tuple[str, float]) -> QueryResult:
    """One series per job of pod p1, and one of pod p2."""
    samples = [Sample({"pod": "p1", "job": job}, value, now) for job, value in series]
    return QueryResult((*samples, Sample({"pod": "p2", "job": "app"}, series[0][1], now)))


def test_of_several_jobs_the_slowest_that_succeeds_decides(world: World) -> None:
    """Nothing tells which one a query reads; one whose scrapes fail is left out, because the other proves the pod."""
    now = world.clock.now()
    world.metrics.script["timestamp(up"] = up(now, ("app", now - 12), ("mesh", now - 1))
    world.metrics.script["sum_over_time(up"] = up(now, ("app", 4.0), ("mesh", 9.0), ("dead", 0.0))
    p1 = world.measure().freshness[0]
    assert (p1.scrapes, p1.newest_at) == (4.0, now - 12)


def test_the_policy_may_name_the_job(world: World) -> None:
    """Then no other job is asked about."""
    named = POLICY.model_copy(update={"gate": POLICY.gate.model_copy(update={"job": "app"})})
    world.measure(named)
    asked = [query for query in world.metrics.queries if "up{" in query]
    assert len(asked) == 2
    assert all(query.count('up{namespace="ml-apps",pod=~"p1|p2",job="app"}') == query.count("up{") for query in asked)


UNAWARE = parse_policy("iris-edge", POLICY_TEXT.replace(',source=~"$source"', ""))


@pytest.mark.parametrize(("ahead", "begins"), [(0.0, True), (15.0, False), (-15.0, True)])
def test_the_window_of_real_traffic_begins_by_one_clock(world: World, ahead: float, begins: bool) -> None:
    """Prometheus's clock may be ahead, and date a scrape from before the last recorded request after it."""
    now = world.clock.now()
    age = 9.0 if ahead > 0 else 1.0  # the recorded requests ended 5 s ago
    scrape = Sample({"pod": "p1"}, now + ahead - age, now + ahead)
    world.metrics.script["timestamp(up"] = QueryResult((scrape, replace(scrape, labels={"pod": "p2"})))
    first = replace(world.measure(UNAWARE), replayed_until=now - 5)
    found = measure(_asked(world, UNAWARE), VERSION, now - 60, earlier=[first])
    assert found.recorded is None
    assert found.real_since == (now if begins else None)


def test_a_scrape_that_is_read_twice_stays_the_same(world: World) -> None:
    """It is dated as Prometheus dates it, whenever it is asked: a violation is confirmed by newer scrapes alone."""
    now = world.clock.now()
    for _ in range(2):
        scrape = Sample({"pod": "p1"}, now - 3, world.clock.now())
        world.metrics.script["timestamp(up"] = QueryResult((scrape, replace(scrape, labels={"pod": "p2"})))
        assert [pod.newest_at for pod in world.measure().freshness] == [now - 3, now - 3]
        world.clock.sleep(0.2)


def test_restarts_are_counted_over_all_pods_of_the_template(world: World) -> None:
    """An evicted pod's restarts count too: its crashes happened."""
    crashed = a_pod("p3", IMAGE, restarts=2)
    pods = (*PODS, replace(crashed, phase="Failed", reason="Evicted"))
    assert slo(world.measure(workload=replace(WORKLOAD, pods=pods)), "restarts").value == 2


def test_whatever_the_table_of_sources_offers_is_measured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another value needs an entry there and no change here; the evidence names the source that it came from."""
    monkeypatch.setitem(SLO_SOURCES, "nodes", {"pods_ready": lambda workload, _: float(workload.ready)})
    policy = parse_policy("iris-edge", POLICY_TEXT.replace("restarts, from: pods", "pods_ready, from: nodes"))
    reading = slo(world.measure(policy), "pods_ready")
    assert (reading.value, reading.source) == (2.0, "nodes")


def test_pods_that_are_missing_or_have_no_port_cannot_pass(world: World) -> None:
    """Evidence about some of the pods is not complete."""
    missing = world.measure(workload=replace(WORKLOAD, wanted=3))
    portless = world.measure(workload=replace(WORKLOAD, ports={}))
    empty = world.measure(workload=replace(WORKLOAD, pods=()))
    assert [world.kind(evaluation) for evaluation in (missing, portless, empty)] == [None, None, None]
    assert portless.problems[0].expected.startswith("one port to ask its pods at")


def test_a_pod_that_serves_another_version_fails_at_once(world: World) -> None:
    """Its recorded answers may be right and its SLOs kept: another version of the same model serves, too."""
    now = world.clock.now()
    labels = {"model": "iris", "version": "7", "run_id": "r7", "container": "model-server"}
    infos = [Sample({**labels, "pod": "p1"}, 1.0, now), Sample({**labels, "pod": "p2", "version": "2"}, 1.0, now)]
    world.metrics.script["model_info"] = QueryResult(tuple(infos))
    evaluation = world.measure()
    assert [served.confirmed for served in evaluation.served] == [True, False]
    verdict = judge([evaluation], soak_started=evaluation.at - 60, now=evaluation.at, gate=POLICY.gate)
    assert isinstance(verdict, Verdict)
    assert verdict.kind is VerdictKind.FAILED
    assert verdict.reason == "pod p2 serves version 2 of iris (run r7), as its server says in model_info"
    assert "incumbent retry iris-edge 7" in verdict.problem.next_step


def test_a_sidecars_word_and_an_answer_in_doubt_state_nothing(world: World) -> None:
    """Only the container whose image was promoted is asked, and a partial answer is not believed."""
    other = {"pod": "p1", "model": "iris", "version": "2"}
    for answer in (
        QueryResult((Sample({**other, "container": "proxy"}, 1.0, 0.0),)),
        QueryResult((Sample(other, 1.0, 0.0),), ("partial response",)),
    ):
        world.metrics.script["model_info"] = answer
        evaluation = world.measure()
        assert [served.server for served in evaluation.served] == ["not stated", "not stated"]
        assert world.kind(evaluation) is VerdictKind.PASSED


class _Metrics(BaseHTTPRequestHandler):
    """A model server's metrics: forty more requests at each scrape, until it is told to fail."""

    scrapes = 0
    broken = False

    def do_GET(self) -> None:
        type(self).scrapes += 1
        self.send_response(500 if self.broken else 200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(f'requests_total{{source="real"}} {40 * self.scrapes}\n'.encode())
        self.wfile.write(b'model_info{model="iris",version="2",run_id="r2"} 1\n')

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def scraped(tmp_path: Path) -> Iterator[str]:
    """A real Prometheus that scrapes one pod five times a second, with the labels that a cluster's scrapes have."""
    _Metrics.broken = False
    exporter = ThreadingHTTPServer(("127.0.0.1", 0), _Metrics)
    threading.Thread(target=exporter.serve_forever, daemon=True).start()
    target = f"127.0.0.1:{exporter.server_address[1]}"
    settings = tmp_path / "prometheus.yml"
    (port,) = free_ports(1)
    settings.write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\nscrape_configs: [{job_name: edge, static_configs: ["
        f"{{targets: ['{target}'], labels: {{namespace: ml-apps, pod: p1}}}}]}}]\n"
    )
    command = [
        *(str(find_tool("prometheus")), f"--config.file={settings}", f"--storage.tsdb.path={tmp_path / 'data'}"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    try:
        with serving(command, f"http://127.0.0.1:{port}/-/ready", tmp_path):
            yield f"http://127.0.0.1:{port}"
    finally:
        exporter.shutdown()
        exporter.server_close()


def test_a_real_prometheus_counts_good_scrapes_and_dates_them(scraped: str) -> None:
    """A pod is fresh while its scrapes succeed; failed scrapes neither count nor look fresh."""
    clock = SystemClock()
    world = World()
    one_pod = replace(WORKLOAD, wanted=1, pods=PODS[:1])
    text = POLICY_TEXT.replace("requests_of{pod", "increase(requests_total{pod").replace("[$window]\n", "[$window])\n")
    policy = parse_policy("iris-edge", text)
    world.metrics = cast(Any, Prometheus(scraped))
    world.clock = cast(Any, clock)
    started = clock.now()
    seen: list[Evaluation] = []

    def look() -> Evaluation:
        seen.append(measure(_asked(world, policy, one_pod), VERSION, started))
        return seen[-1]

    wait_until(
        lambda: look().freshness[0].scrapes >= 3 and (seen[-1].real_requests or 0) > 20, START_SECONDS, "three scrapes"
    )
    (freshness,) = seen[-1].freshness
    assert freshness.newest_at is not None
    assert started - 1 <= freshness.newest_at <= clock.now() + 1
    assert seen[-1].problems == seen[-1].rejected == ()
    assert seen[-1].replayed_requests == 0.0
    assert [served.server for served in seen[-1].served] == ["version 2 of iris (run r2)"]
    assert seen[-1].served[0].problem is not None
    _Metrics.broken = True
    wait_until(lambda: look().freshness[0].newest_at is None, START_SECONDS, "a failed scrape")
    failing = seen[-1].freshness[0].scrapes
    assert look().freshness[0].scrapes <= failing


def test_a_real_prometheus_answers_what_is_asked_before_a_commit(scraped: str) -> None:
    """It takes the query that counts scrapes within a soak, refuses a wrong one, and shows a failed scrape."""
    clock, prometheus = SystemClock(), Prometheus(scraped)
    one_pod = replace(WORKLOAD, wanted=1, pods=(replace(PODS[0], created_at=clock.now() - 3600),))
    text = POLICY_TEXT.replace("requests_of{pod", "increase(requests_total{pod").replace("[$window]\n", "[$window])\n")
    text = text.replace("ratio_of{", "ratio_of)(")

    def looks(policy: str) -> Mapping[str, Look]:
        parsed = parse_policy("iris-edge", policy)
        now_serving = ask_gate(parsed, one_pod, prometheus)
        return {look.what: look for look in look_at_gate(parsed, now_serving, is_proved=True, now=clock.now())}

    often = text.replace("soak: 60s", "soak: 60s\n  min_samples: 5")
    wait_until(lambda: looks(often)["scrapes"].bearing is Bearing.FITS, START_SECONDS, "five scrapes within a soak")
    found = looks(text.replace("soak: 60s", "soak: 60s\n  min_samples: 100000"))
    assert found["scrapes"].bearing is Bearing.REFUSED
    assert found["query success_ratio"].bearing is Bearing.REFUSED
    assert found["query requests (real)"].bearing is Bearing.FITS
    _Metrics.broken = True
    wait_until(lambda: looks(often)["scrapes"].bearing is Bearing.WAITS, START_SECONDS, "a failed scrape")


def _asked(world: World, policy: Policy = POLICY, workload: Any = WORKLOAD) -> Replay:
    return Replay(_clients(world), policy, workload, workload.new_pods, RECORDING, ID, lambda: None)


def _clients(world: World) -> Clients:
    unused = cast(Any, None)  # the gate uses neither the model registry nor Git nor the image registry
    return Clients(world.clock, unused, unused, FakeArgoCD(), world.cluster, world.service, world.metrics, unused)

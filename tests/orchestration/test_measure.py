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
from orchestration.promotion.cluster_status import PodStatus
from orchestration.promotion.evaluation import Evaluation
from orchestration.promotion.gate import Verdict, VerdictKind, judge
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.policy import Policy, parse_policy
from orchestration.promotion.ports import Answer, Clients, QueryRejected, QueryResult, Sample
from orchestration.promotion.problems import Problem
from orchestration.promotion.recorded_requests import REPLAY_HEADER, RecordedRequest, Recording
from orchestration.promotion.slo_sources import SLO_SOURCES
from orchestration.stages.measure import measure
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
service_url: http://edge:30808
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
    requests=tuple(RecordedRequest(request={"features": [n]}, response={"prediction": n}) for n in range(3))
)
ID = "iris-edge/7/aaaaaaaaaaaa/1"
VERSION = ModelVersion("iris", 7, "r7", None)


def right(target: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
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
        return measure(_clients(self), policy, workload, workload.new_pods, VERSION, RECORDING, started, ID)

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


def test_a_healthy_model_is_measured_completely_and_passes(world: World) -> None:
    """Each pod and the service get every request, marked as replayed, and every SLO has a number."""
    evaluation = world.measure()
    assert (evaluation.recorded.due, evaluation.recorded.asked, evaluation.problems) == (9, 9, ())
    assert [(pod, port, path) for pod, port, path, _, _ in world.cluster.asked] == (
        [("p1", 8080, "/predict")] * 3 + [("p2", 8080, "/predict")] * 3
    )
    assert [url for url, _, _ in world.service.asked] == ["http://edge:30808/predict"] * 3
    headers = [request[-1] for request in (*world.cluster.asked, *world.service.asked)]
    assert all(header == {REPLAY_HEADER: ID} for header in headers)
    assert (evaluation.real_requests, evaluation.replayed_requests) == (30, 12)
    assert [reading.value for reading in evaluation.readings] == [1.0, 0.4, 0.0]
    assert world.kind(evaluation) is VerdictKind.PASSED


def test_the_path_of_the_service_url_is_used_for_the_pods_too(world: World) -> None:
    """Other model servers than ours answer at other paths."""
    world.measure(POLICY.model_copy(update={"service_url": "http://edge:1/v2/models/iris/infer?x=1"}))
    assert world.cluster.asked[0][2] == "/v2/models/iris/infer?x=1"
    assert world.service.asked[0][0] == "http://edge:1/v2/models/iris/infer?x=1"


def test_a_wrong_answer_of_one_pod_fails(world: World) -> None:
    """The service can hide one bad pod behind good ones, so each pod is asked by itself."""
    wrong = Answer(200, b'{"prediction": 9}', 0.01)
    world.cluster.respond = lambda pod, path, body, headers: wrong if pod == "p2" else right(pod, path, body, headers)
    evaluation = world.measure()
    assert len(evaluation.recorded.wrong) == 3
    assert evaluation.recorded.wrong[0].asked == "pod p2, recorded request 1 of 3"
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
    assert evaluation.recorded.wrong == ()
    assert [excuse in fault.reason for fault in evaluation.recorded.unanswered] == [True] * 3
    assert (world.kind(evaluation), world.kind(evaluation, late=True)) == (None, VerdictKind.ERROR)


def test_wrong_answers_of_a_pod_whose_status_cannot_be_read_are_not_judged(world: World) -> None:
    """Only the cluster knows whether the pod is to blame; while it does not answer, no pod is."""

    def wrong_and_down(*_: object) -> Answer:
        world.cluster.down = DOWN
        return Answer(200, b'{"prediction": 9}', 0.01)

    world.cluster.respond = wrong_and_down
    evaluation = world.measure()
    assert evaluation.recorded.wrong == ()
    assert any("the pod's status cannot be read" in fault.reason for fault in evaluation.recorded.unanswered)
    assert DOWN in evaluation.problems


def test_the_models_own_5xx_is_wrong_and_the_apis_is_not(world: World) -> None:
    """A body of `kind: Status` is the API server's answer (design rule 6)."""
    world.cluster.respond = lambda *_: Answer(503, b"model is broken", 0.01)
    assert world.kind(world.measure()) is VerdictKind.FAILED
    world.cluster.respond = lambda *_: Answer(503, b'{"kind": "Status"}', 0.01, from_api=True)
    evaluation = world.measure()
    assert (len(evaluation.recorded.wrong), len(evaluation.recorded.unanswered)) == (0, 2)
    assert (world.kind(evaluation), world.kind(evaluation, late=True)) == (None, VerdictKind.ERROR)


@pytest.mark.parametrize("status", [0, 502, 503, 504])
def test_a_service_without_a_route_to_a_pod_has_not_answered(world: World, status: int) -> None:
    """Routes lag behind Healthy by about a second (design rule 4)."""
    world.service.respond = lambda *_: Answer(status, b"", 0.01)
    evaluation = world.measure()
    assert (evaluation.recorded.wrong, len(evaluation.recorded.unanswered)) == ((), 1)
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
    assert portless.problems[0].expected == "a containerPort of container model-server"
    assert portless.problems[0].found == "no containerPort"


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
        seen.append(measure(_clients(world), policy, one_pod, one_pod.new_pods, VERSION, RECORDING, started, ID))
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


def _clients(world: World) -> Clients:
    unused = cast(Any, None)  # the gate uses neither the model registry nor Git nor the image registry
    return Clients(world.clock, unused, unused, FakeArgoCD(), world.cluster, world.service, world.metrics, unused)

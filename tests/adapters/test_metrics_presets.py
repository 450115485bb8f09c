"""The queries of each preset, asked of a real Prometheus that scrapes what the server's exporter says.

An exposition under `tests/expositions` names its source in its first line. Between `before` and `after`, 24 requests
are answered well, and where the server tells, 8 are the client's fault and 8 the model's; these create new series.
"""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from model_server.metrics import Metrics
from orchestration.adapters.prometheus import Prometheus
from orchestration.promotion.metrics_presets import DEFAULT_MIN_REQUESTS, LATENCY_P95, PRESETS, SUCCESS_RATIO
from orchestration.promotion.policy import GatePolicy
from orchestration.promotion.ports import QueryResult
from orchestration.promotion.promql import expand
from testbeds.common.processes import wait_until
from testbeds.common.services import free_ports
from testbeds.common.tools import find_tool
from tests.adapters.conftest import START_SECONDS, serving

EXPOSITIONS = Path(__file__).parents[1] / "expositions"
SCRAPED = sorted(PRESETS)
JUDGED = dict.fromkeys(SCRAPED, 32.0) | {"kserve": 40.0, "mlflow-fastapi": 40.0}
"""How many requests count: these servers do not tell that 8 of them were the client's fault."""


def own_metrics() -> Metrics:
    """Our own server's metrics, which need no copy: 6 requests were answered well."""
    own = Metrics(model="iris", version="1", image="iris:1", run_id="r1")
    for _ in range(6):
        own.count("ok", "real", 0.02)
    return own


def answer_more(own: Metrics) -> None:
    """Count what the other expositions have more in `after`, and recorded requests that must not count."""
    for outcome, count in (("ok", 24), ("invalid", 8), ("error", 8)):
        for _ in range(count):
            own.count(outcome, "real", 0.02 if outcome == "ok" else None)
    for _ in range(50):
        own.count("ok", "replayed", 0.02)


class Exporters(BaseHTTPRequestHandler):
    """One page of metrics for each preset."""

    phase = "before"
    own = own_metrics()

    def do_GET(self) -> None:
        name = self.path.strip("/")
        page = EXPOSITIONS / f"{name}-{self.phase}.prom"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(self.own.text() if name == "incumbent" else page.read_bytes())

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, float, float]]:
    """A Prometheus with both scrapes of every exposition; when it was asked, and how many seconds to look back."""
    folder = tmp_path_factory.mktemp("presets")
    exporters = ThreadingHTTPServer(("127.0.0.1", 0), Exporters)
    threading.Thread(target=exporters.serve_forever, daemon=True).start()
    target = f"127.0.0.1:{exporters.server_address[1]}"
    jobs = [
        f"{{job_name: {name}, metrics_path: /{name}, static_configs: "
        f"[{{targets: ['{target}'], labels: {{namespace: ml-apps, pod: {name}-1}}}}]}}"
        for name in SCRAPED
    ]
    settings = folder / "prometheus.yml"
    settings.write_text(
        f"global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}\nscrape_configs: [{','.join(jobs)}]"
    )
    (port,) = free_ports(1)
    command = [
        *(str(find_tool("prometheus")), f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    try:
        with serving(command, f"http://127.0.0.1:{port}/-/ready", folder):
            metrics = Prometheus(f"http://127.0.0.1:{port}")
            all_scraped(metrics, 10, "5m")
            changed = time.time()
            Exporters.phase = "after"
            answer_more(Exporters.own)
            all_scraped(metrics, 2, "1s", since=changed)
            now = time.time()
            yield metrics, now, now - changed + 1
    finally:
        exporters.shutdown()
        exporters.server_close()


def all_scraped(metrics: Prometheus, times: int, window: str, since: float = 0.0) -> None:
    """Wait until every exposition was scraped that often with success within the window, a second after `since`."""
    query = f"count(sum_over_time(up[{window}]) >= {times})"

    def done() -> bool:
        answer = metrics.query(query)
        found = isinstance(answer, QueryResult) and [sample.value for sample in answer.samples]
        return time.time() > since + 1 and found == [float(len(SCRAPED))]

    wait_until(done, START_SECONDS, "scrapes of all expositions")


def gate_of(name: str) -> GatePolicy:
    slos = [{"name": SUCCESS_RATIO, "at_least": 0.99}, {"name": LATENCY_P95, "at_most": 0.5}]
    return GatePolicy.model_validate({"metrics": name, "job": name, "slos": slos})


@pytest.mark.parametrize("name", SCRAPED)
def test_a_presets_queries_give_what_the_server_answered(name: str, scraped: tuple[Prometheus, float, float]) -> None:
    """Failures that began within the window count in full, and the client's faults do not count."""
    metrics, now, window = scraped

    def ask(query: str | None) -> float:
        assert query is not None
        pods = [f"{name}-1"]
        answer = metrics.query(expand(query, pods=pods, window=window, namespace="ml-apps", source="real"), now)
        assert isinstance(answer, QueryResult), answer
        assert not answer.warnings
        (sample,) = answer.samples
        return sample.value

    gate = gate_of(name)
    # `increase()` adds up to one interval at each end of the window to the counters that began before it.
    assert ask(gate.requests) == pytest.approx(JUDGED[name], rel=0.3)
    ratio, latency = gate.slos
    assert ask(ratio.query) == pytest.approx(24 / JUDGED[name], rel=0.1)
    assert 0 < ask(latency.query) <= 0.1, "the exporters answer within the first buckets"
    assert (ratio.min_requests, latency.min_requests) == (DEFAULT_MIN_REQUESTS, DEFAULT_MIN_REQUESTS)


@pytest.mark.parametrize("name", SCRAPED)
def test_a_pod_that_answered_no_request_is_no_success(name: str, scraped: tuple[Prometheus, float, float]) -> None:
    """A ratio of nothing is no number, so that it cannot keep a bound."""
    metrics, now, window = scraped
    query = gate_of(name).slos[0].query
    assert query is not None
    answer = metrics.query(expand(query, pods=["other-1"], window=window, namespace="ml-apps", source="real"), now)
    assert isinstance(answer, QueryResult)
    assert not [sample for sample in answer.samples if sample.value == sample.value]


def test_each_exposition_says_what_it_is_from() -> None:
    """A program and its version, or the files that it was written after."""
    assert {path.name for path in EXPOSITIONS.iterdir()} == {
        f"{name}-{phase}.prom" for name in SCRAPED if name != "incumbent" for phase in ("before", "after")
    }
    for path in EXPOSITIONS.iterdir():
        assert path.read_text(encoding="utf-8").startswith(("# Source: scraped from ", "# Source: written after "))

"""A whole soak in real time: a real Prometheus scrapes counters that do not tell recorded requests from real ones."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from orchestration.adapters.prometheus import Prometheus
from orchestration.promotion.ports import Answer, Headers
from testbeds.common.services import free_ports
from testbeds.common.tools import find_tool
from tests.adapters.conftest import serving
from tests.fakes.runs import run_until
from tests.fakes.world import POLICY_TEXT, World

GATE = """
gate:
  soak: 6s
  every: 1s
  judge_within: 60s
  metrics: fastapi
  slos: [{name: success_ratio, at_least: 0.9, min_requests: 20}]
"""


class Server(BaseHTTPRequestHandler):
    """The metrics of each pod, as prometheus-fastapi-instrumentator has them: a series begins with its first event."""

    answered: Counter[tuple[str, str]]
    """By pod and class of status."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        for (pod, status), count in list(self.answered.items()):
            if self.path == f"/{pod}":
                line = f'http_requests_total{{handler="/invocations",method="POST",status="{status}"}} {count}\n'
                self.wfile.write(line.encode())

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@contextmanager
def scraping(pods: list[str], folder: Path) -> Iterator[str]:
    """A Prometheus that scrapes each pod five times a second."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    target = f"127.0.0.1:{server.server_address[1]}"
    jobs = ",".join(
        f"{{job_name: {pod}, metrics_path: /{pod}, static_configs: "
        f"[{{targets: ['{target}'], labels: {{namespace: ml-apps, pod: {pod}}}}}]}}"
        for pod in pods
    )
    settings = folder / "prometheus.yml"
    settings.write_text(f"global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs: [{jobs}]\n")
    (port,) = free_ports(1)
    command = [
        *(str(find_tool("prometheus")), f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    try:
        with serving(command, f"http://127.0.0.1:{port}/-/ready", folder):
            yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        server.server_close()


def soak(folder: Path, *, wrong: int) -> Mapping[str, Any]:
    """Promote a version with twenty real requests a second, of which every so-manieth goes wrong; 0 for none."""
    world = World(POLICY_TEXT[: POLICY_TEXT.index("\ngate:")] + GATE)
    world.clock.now, world.clock.sleep = time.time, time.sleep  # type: ignore[method-assign,assignment]
    world.register()
    run_until(world, 1, "rollout")
    assert world.cluster.status is not None
    pods = [pod.name for pod in world.cluster.status.new_pods]
    Server.answered = Counter()
    over = threading.Event()

    def clients() -> None:
        number = 0
        while not over.wait(0.05):
            number += 1
            Server.answered[pods[number % 2], "5xx" if wrong and number % wrong == 0 else "2xx"] += 1

    def replayed(target: str, path: str, body: bytes, headers: Headers) -> Answer:
        Server.answered[target if target in pods else pods[0], "2xx"] += 10  # a long recording
        (number,) = json.loads(body)["features"]
        return Answer(200, json.dumps({"prediction": number}).encode(), 0.01)

    world.cluster.respond = world.service.respond = replayed
    with scraping(pods, folder) as url:
        world.metrics = cast(Any, Prometheus(url))
        thread = threading.Thread(target=clients)
        thread.start()
        try:
            run_until(world, 1, "serving_model")
        finally:
            over.set()
            thread.join()
    found: Mapping[str, Any] = json.loads(world.registry.artifacts["run1", "incumbent/iris-edge/1-1.json"])
    return found


def test_real_requests_alone_are_counted_by_a_real_prometheus(tmp_path: Path) -> None:
    """240 recorded answers are in the same counters, and none of them is among the requests that were judged."""
    found = soak(tmp_path, wrong=0)
    assert found["verdict"] == "Passed", found["reason"]
    last = found["evaluations"][-1]
    seconds = last["at"] - last["real_since"]
    assert seconds >= 6
    (reading,) = last["slos"]
    assert (reading["source"], reading["value"]) == ("real", pytest.approx(1))
    assert reading["requests"] <= 20 * seconds * 1.25
    assert last["recorded"]["asked"] == 24


def test_real_errors_fail_the_version_however_many_recorded_answers_are_right(tmp_path: Path) -> None:
    """Every fifth real answer is wrong, which all answers together would hide."""
    found = soak(tmp_path, wrong=5)
    assert found["verdict"] == "Failed"
    assert "success_ratio violated" in found["reason"]
    (reading,) = found["evaluations"][-1]["slos"]
    assert reading["source"] == "real"
    assert reading["value"] == pytest.approx(0.8, abs=0.08)

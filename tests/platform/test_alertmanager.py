"""Alertmanager's configuration: accepted, routed by severity, and sent with its credential to the one webhook."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from testbeds.sandbox.processes import Processes, wait_until
from testbeds.sandbox.services import HOST, answers, free_ports
from testbeds.sandbox.tools import CHECKOUT
from tests.platform.programs import BUILD_SECONDS, alertmanager, amtool, says

pytestmark = pytest.mark.timeout(BUILD_SECONDS)

CONFIG = CHECKOUT / "manifests/platform/monitoring/config/alertmanager.yml"
POD = {"cluster": "edge", "namespace": "ml-apps", "pod": "iris-1", "container": "model-server"}
_SECONDS = 60.0


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path / "processes")
    yield started
    started.stop_all()


def test_the_configuration_is_accepted() -> None:
    """Alertmanager takes it."""
    assert "SUCCESS" in says(amtool(), "check-config", CONFIG)


@pytest.mark.parametrize(
    ("severity", "receiver"), [("critical", "critical"), ("warning", "warning"), (None, "warning")]
)
def test_alerts_are_routed_by_severity(severity: str | None, receiver: str) -> None:
    """A critical alert and a warning go their ways, and one that says nothing is not lost."""
    labels = ["alertname=any", *([f"severity={severity}"] if severity else [])]
    said = says(amtool(), "config", "routes", "test", f"--config.file={CONFIG}", *labels)
    assert said.strip() == receiver


def test_an_alert_reaches_the_webhook(processes: Processes, httpserver: HTTPServer, tmp_path: Path) -> None:
    """Alerts of one name and cluster come together, with the token; what a worse one explains does not come."""
    told: list[tuple[str, dict[str, Any]]] = []

    def take(request: Request) -> Response:
        told.append((request.headers["Authorization"], json.loads(request.data)))
        return Response()

    httpserver.expect_request("/alerts", method="POST").respond_with_handler(take)
    (tmp_path / "url").write_text(httpserver.url_for("/alerts"), encoding="utf-8")
    (tmp_path / "token").write_text("the-token", encoding="utf-8")
    text = CONFIG.read_text(encoding="utf-8").replace("/etc/alertmanager/webhook", str(tmp_path))
    config = tmp_path / "alertmanager.yml"
    config.write_text(text.replace("group_wait: 10s", "group_wait: 1s"), encoding="utf-8")
    (port,) = free_ports(1)
    url = f"http://{HOST}:{port}"
    command: list[str | Path] = [alertmanager(), f"--config.file={config}", f"--storage.path={tmp_path / 'data'}"]
    service = processes.start(
        "alertmanager", [*command, f"--web.listen-address={HOST}:{port}", "--cluster.listen-address="]
    )
    wait_until(lambda: answers(f"{url}/-/ready"), _SECONDS, "Alertmanager is ready", service)

    _alert(url, {"alertname": "ModelPodOOMKilled", "severity": "critical", **POD})
    _alert(url, {"alertname": "ModelPodOOMKilled", "severity": "critical", **POD, "pod": "iris-2"})
    _alert(url, {"alertname": "ModelPodFrequentRestarts", "severity": "warning", **POD})
    _alert(url, {"alertname": "ModelPodFrequentRestarts", "severity": "warning", **POD, "pod": "iris-3"})

    wait_until(lambda: len(told) == 2, _SECONDS, "both groups were told of", service)
    assert {authorization for authorization, _ in told} == {"Bearer the-token"}
    pods = {
        (one["receiver"], one["groupLabels"]["alertname"]): sorted(each["labels"]["pod"] for each in one["alerts"])
        for _, one in told
    }
    assert pods == {
        ("critical", "ModelPodOOMKilled"): ["iris-1", "iris-2"],
        ("warning", "ModelPodFrequentRestarts"): ["iris-3"],
    }


def _alert(url: str, labels: Mapping[str, str]) -> None:
    pairs = [f"{name}={value}" for name, value in labels.items()]
    says(amtool(), f"--alertmanager.url={url}", "alert", "add", *pairs)

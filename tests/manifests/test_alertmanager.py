"""Alertmanager's configuration is valid, routes alerts by severity, and sends them to the webhook with a token."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlencode

import pytest
from ruamel.yaml import YAML

from orchestration.companion.requests import LARGEST_BODY
from testbeds.common.processes import Processes, wait_until
from testbeds.common.services import HOST, answers, free_ports
from testbeds.common.tools import CHECKOUT
from testbeds.homelab.alerts import log_file, received_alerts
from testbeds.homelab.receiver import PATH, Receiver
from tests.fakes.companion import SECONDS, companion_of
from tests.fakes.github import running_github
from tests.fakes.plain_http import HTTP
from tests.platform.programs import alertmanager, amtool, output_of

CONFIG = CHECKOUT / "manifests/platform/monitoring/config/alertmanager.yml"
RULES = CHECKOUT / "manifests/platform/monitoring/rules"
_LABELS = ("cluster", "environment", "location", "namespace", "pod", "container")
POD = {"cluster": "edge", "namespace": "ml-apps", "pod": "iris-1", "container": "model-server"}
_SECONDS = 60.0


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path / "processes")
    yield started
    started.stop_all()


@pytest.mark.platform
def test_the_configuration_is_accepted() -> None:
    """amtool finds no fault with Alertmanager's configuration."""
    assert "SUCCESS" in output_of(amtool(), "check-config", CONFIG)


@pytest.mark.platform
@pytest.mark.parametrize(
    ("severity", "receiver"), [("critical", "critical"), ("warning", "warning"), (None, "warning")]
)
def test_alerts_are_routed_by_severity(severity: str | None, receiver: str) -> None:
    """Critical alerts and warnings go to their receivers, and an alert without a severity is sent as a warning."""
    labels = ["alertname=any", *([f"severity={severity}"] if severity else [])]
    output = output_of(amtool(), "config", "routes", "test", f"--config.file={CONFIG}", *labels)
    assert output.strip() == receiver


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """Start the homelab's receiver, which records the notifications that carry its token."""
    log_file(tmp_path).parent.mkdir()
    server = Receiver(HOST, 0, "the-token", log_file(tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def start_alertmanager(processes: Processes, folder: Path, webhook: str) -> str:
    """Run Alertmanager with the manifests' configuration, sending to a webhook; return its address."""
    (folder / "url").write_text(webhook, encoding="utf-8")
    (folder / "token").write_text("the-token", encoding="utf-8")
    text = CONFIG.read_text(encoding="utf-8").replace("/etc/alertmanager/webhook", str(folder))
    config = folder / "alertmanager.yml"
    config.write_text(text.replace("group_wait: 10s", "group_wait: 1s"), encoding="utf-8")
    (port,) = free_ports(1)
    url = f"http://{HOST}:{port}"
    command: list[str | Path] = [alertmanager(), f"--config.file={config}", f"--storage.path={folder / 'data'}"]
    service = processes.start(
        "alertmanager", [*command, f"--web.listen-address={HOST}:{port}", "--cluster.listen-address="]
    )
    wait_until(lambda: answers(f"{url}/-/ready"), _SECONDS, "Alertmanager is ready", service)
    return url


@pytest.mark.platform
def test_an_alert_reaches_the_webhook(processes: Processes, receiver: Receiver, tmp_path: Path) -> None:
    """Alerts of one name and cluster are sent together with the token, and those a worse one explains are not sent."""
    url = start_alertmanager(processes, tmp_path, f"http://{HOST}:{receiver.server_port}{PATH}")

    _alert(url, {"alertname": "ModelPodOOMKilled", "severity": "critical", **POD})
    _alert(url, {"alertname": "ModelPodOOMKilled", "severity": "critical", **POD, "pod": "iris-2"})
    _alert(url, {"alertname": "ModelPodFrequentRestarts", "severity": "warning", **POD})
    _alert(url, {"alertname": "ModelPodFrequentRestarts", "severity": "warning", **POD, "pod": "iris-3"})

    wait_until(lambda: len(received_alerts(tmp_path)) == 3, _SECONDS, "both groups are sent")
    lines = log_file(tmp_path).read_text(encoding="utf-8").splitlines()
    notifications = [json.loads(line)["notification"] for line in lines]
    pods = {
        (group["receiver"], group["groupLabels"]["alertname"]): sorted(
            alert["labels"]["pod"] for alert in group["alerts"]
        )
        for group in notifications
    }
    assert pods == {
        ("critical", "ModelPodOOMKilled"): ["iris-1", "iris-2"],
        ("warning", "ModelPodFrequentRestarts"): ["iris-3"],
    }
    assert {alert.status for alert in received_alerts(tmp_path)} == {"firing"}


@pytest.mark.platform
def test_an_alert_starts_a_run(processes: Processes, tmp_path: Path) -> None:
    """Alertmanager's own notifications go through the dispatcher, also those that it sends again after an outage."""
    (tmp_path / "dispatcher").mkdir()
    with running_github() as github, companion_of(github, tmp_path / "dispatcher") as dispatcher:
        (dispatcher.folder / "webhook-token").write_text("the-token", encoding="utf-8")
        url = start_alertmanager(processes, tmp_path, f"{dispatcher.url}/alerts")
        for pod in ("iris-1", "iris-2"):
            _alert(url, {"alertname": "ModelPodOOMKilled", "severity": "critical", **POD, "pod": pod})
        dispatcher.start()  # after the first attempt, which found nobody
        wait_until(lambda: len(github.dispatches) == 2 and dispatcher.waits == 0, SECONDS, "both runs start")
        runs = sorted((dict(run.inputs) for run in github.dispatches), key=lambda inputs: inputs["pod_name"])
        wanted = {"cluster": "k3d", "alert_name": "ModelPodOOMKilled", "alert_severity": "critical"}
        assert runs == [{**wanted, "pod_name": pod, "namespace": "ml-apps"} for pod in ("iris-1", "iris-2")]
        assert dispatcher.sample("incumbent_requests_refused_total", reason="unauthorized") == 0


def test_a_storm_is_no_larger_than_the_dispatcher_takes() -> None:
    """Of each rule, as many alerts as one notification may have are below its limit, with long names and texts."""
    name, most = "n" * 63, most_alerts()
    for file in RULES.glob("*.yml"):
        for group in YAML(typ="safe").load(file)["groups"]:
            for rule in (each for each in group["rules"] if "alert" in each):
                labels = {"alertname": rule["alert"], **rule["labels"], **dict.fromkeys(_LABELS, name)}
                texts = {key: re.sub(r"{{.*?}}", name, text) for key, text in rule["annotations"].items()}
                times = {"startsAt": "2026-01-31T12:00:00.000000000Z", "endsAt": "2026-01-31T12:00:00.000000000Z"}
                page = f"http://prometheus.monitoring:9090/graph?{urlencode({'g0.expr': rule['expr'], 'g0.tab': 1})}"
                sent = {"status": "firing", "labels": labels, "annotations": texts, **times, "generatorURL": page}
                size = most * len(json.dumps({**sent, "fingerprint": "0123456789abcdef"}, separators=(",", ":")))
                assert size < LARGEST_BODY - 10_000, (rule["alert"], size)


@pytest.mark.parametrize("authorization", [None, "Bearer another", "the-token", "Bearer thé-token"])
def test_a_notification_without_the_token_is_refused(
    receiver: Receiver, tmp_path: Path, authorization: str | None
) -> None:
    """The homelab's receiver answers 401 to a request without its token, and records nothing of it."""
    headers = {} if authorization is None else {b"Authorization": authorization.encode("latin-1")}
    url = f"http://{HOST}:{receiver.server_port}{PATH}"
    assert HTTP.post(url, json={"alerts": []}, headers=headers).status_code == 401
    assert received_alerts(tmp_path) == []


def most_alerts() -> int:
    """Return how many alerts of a group Alertmanager sends at most; all receivers with a webhook have the same."""
    receivers = YAML(typ="safe").load(CONFIG)["receivers"]
    (most,) = {hook["max_alerts"] for each in receivers for hook in each.get("webhook_configs", ())}
    return int(most)


def _alert(url: str, labels: Mapping[str, str]) -> None:
    pairs = [f"{name}={value}" for name, value in labels.items()]
    output_of(amtool(), f"--alertmanager.url={url}", "alert", "add", *pairs)

"""`incumbent companion` with the metrics of the promotions alone: its answers, help, errors, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from orchestration.cli import main
from testbeds.common.services import free_ports
from tests.fakes.plain_http import HTTP

ROOT = Path(__file__).parents[2]
POLICIES = {file.stem for file in (ROOT / "policies").glob("*.yaml")}
DEAD = "http://127.0.0.1:1"
SETTINGS = ("MLFLOW_TRACKING_URI", "INCUMBENT_GIT_URL", "INCUMBENT_KUBECONFIG")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Settings whose addresses nothing listens on."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("INCUMBENT_", "MLFLOW_"))}
    return {
        **clean,
        "MLFLOW_TRACKING_URI": DEAD,
        "INCUMBENT_GIT_URL": f"{DEAD}/gitops.git",
        "INCUMBENT_KUBECONFIG": str(tmp_path / "kubeconfig"),
        "INCUMBENT_POLICIES": str(ROOT / "policies"),
        "INCUMBENT_STATE": str(tmp_path / "state"),
    }


def run_companion(listen: str, environment: Mapping[str, str]) -> Result:
    """Run the command in this process, with this environment instead of the process's own."""
    removed = dict.fromkeys(os.environ.keys() - environment.keys())
    return CliRunner().invoke(main, ["companion", "--listen", listen], env={**removed, **environment})


@pytest.fixture
def running(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command as a process without any server to read from, and its address."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "orchestration.cli", "companion", "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        yield process, f"http://127.0.0.1:{port}/metrics"
    finally:
        process.kill()
        process.wait()


def scraped(process: subprocess.Popen[str], url: str, name: str, policies: set[str]) -> dict[str, float]:
    """Scrape until each of these policies has a sample of that name above zero; return the samples by policy."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answer = HTTP.get(url, timeout=5)
        except httpx2.TransportError:
            time.sleep(0.2)
            continue
        assert answer.headers["Content-Type"].startswith("text/plain")
        samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
        values = {sample.labels["policy"]: sample.value for sample in samples if sample.name == name}
        if policies <= {policy for policy, value in values.items() if value > 0}:
            return values
        time.sleep(0.2)
    pytest.fail(f"no {name}")


def test_it_answers_without_its_servers_and_ends_when_told(
    running: tuple[subprocess.Popen[str], str],
) -> None:
    """A failed look is counted and reported in one line without a traceback; SIGTERM ends the process soon, with 0."""
    process, url = running
    failures = scraped(process, url, "incumbent_look_failures_total", POLICIES)
    assert failures.keys() == POLICIES
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"listening at {url.removesuffix('/metrics')} (promotions)" in output
    for policy in POLICIES:
        assert f"policy {policy}: MLflow at http://127.0.0.1:1" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("missing", SETTINGS)
def test_a_missing_setting_is_named(environment: dict[str, str], missing: str) -> None:
    """A missing setting is reported in one line, before anything is contacted."""
    del environment[missing]
    ran = run_companion("127.0.0.1:0", environment)
    assert ran.exit_code == 3
    assert f"setting {missing}: expected a value" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_address_that_is_taken_is_named(environment: dict[str, str]) -> None:
    """The error names the option that gives another address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = run_companion(where, environment)
    assert ran.exit_code == 3
    assert f"address {where}" in ran.stderr
    assert "--listen" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("listen", ["9464", ":9464", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000"])
def test_a_malformed_address_is_wrong_usage(listen: str) -> None:
    """The error shows the expected form."""
    ran = CliRunner().invoke(main, ["companion", "--listen", listen])
    assert ran.exit_code == 2
    assert "HOST:PORT" in ran.output


def test_the_help_names_every_metric_and_setting() -> None:
    """A person who reads the help can begin without another page."""
    shown = CliRunner().invoke(main, ["companion", "--help"]).output
    for word in (*SETTINGS, "127.0.0.1:9464", "incumbent_promotions_total", "incumbent_held_since_timestamp_seconds"):
        assert word in shown

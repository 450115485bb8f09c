"""`incumbent metrics` as a process: its answers over HTTP, its help, its errors and how it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from orchestration.cli import main
from tests.adapters.conftest import free_port

ROOT = Path(__file__).parents[2]
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


def command(listen: str) -> list[str]:
    return [sys.executable, "-m", "orchestration.cli", "metrics", "--listen", listen]


@pytest.fixture
def running(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command without any server to read from, and its address."""
    port = free_port()
    process = subprocess.Popen(
        command(f"127.0.0.1:{port}"), env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process, f"http://127.0.0.1:{port}/metrics"
    finally:
        process.kill()
        process.wait()


def scraped(process: subprocess.Popen[str], url: str, name: str) -> dict[str, float]:
    """Scrape until samples of that name appear; return them by policy."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answer = httpx2.get(url, timeout=5)
        except httpx2.TransportError:
            time.sleep(0.2)
            continue
        assert answer.headers["Content-Type"].startswith("text/plain")
        samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
        values = {sample.labels["policy"]: sample.value for sample in samples if sample.name == name}
        if values:
            return values
        time.sleep(0.2)
    pytest.fail(f"no {name}")


def test_it_answers_without_its_servers_and_ends_when_told(
    running: tuple[subprocess.Popen[str], str],
) -> None:
    """A failed look is counted and reported in one line without a traceback; SIGTERM ends the process soon, with 0."""
    process, url = running
    failures = scraped(process, url, "incumbent_look_failures_total")
    assert failures.keys() == {"iris-classifier-edge"}
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"metrics at {url}" in output
    assert "policy iris-classifier-edge: MLflow at http://127.0.0.1:1" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("missing", SETTINGS)
def test_a_missing_setting_is_named(environment: dict[str, str], missing: str) -> None:
    """A missing setting is reported in one line, before anything is contacted."""
    del environment[missing]
    ran = subprocess.run(command("127.0.0.1:0"), env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 3
    assert f"setting {missing}: expected a value" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_address_that_is_taken_is_named(environment: dict[str, str]) -> None:
    """The error names the option that gives another address."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = subprocess.run(command(where), env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 3
    assert f"address {where}" in ran.stderr
    assert "--listen" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("listen", ["9464", ":9464", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000"])
def test_a_malformed_address_is_wrong_usage(listen: str) -> None:
    """The error shows the expected form."""
    ran = CliRunner().invoke(main, ["metrics", "--listen", listen])
    assert ran.exit_code == 2
    assert "HOST:PORT" in ran.output


def test_the_help_names_every_metric_and_setting() -> None:
    """A person who reads the help can begin without another page."""
    shown = CliRunner().invoke(main, ["metrics", "--help"]).output
    for word in (*SETTINGS, "127.0.0.1:9464", "incumbent_promotions_total", "incumbent_held_since_timestamp_seconds"):
        assert word in shown

"""Real servers for the adapters: MLflow, an OCI registry and Prometheus, each started once per session."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from testbeds.common.services import free_ports
from testbeds.common.tools import find_tool

_DEADLINE = 180.0


@contextmanager
def serving(command: list[str], url: str, log: Path, environment: dict[str, str] | None = None) -> Iterator[str]:
    """Run a server in its own process group until the block ends; `url` answers 200 before the block begins."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        try:
            wait_until(lambda: _answers(process, url, log), f"{command[0]} at {url}; its log is {log}")
            yield url
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, and fail with its name when it does not become true."""
    deadline = time.monotonic() + _DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"gave up waiting for {what}")
        time.sleep(0.1)


def _answers(process: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    if process.poll() is not None:
        pytest.fail(f"{process.args!r} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    try:
        return httpx2.get(url, timeout=2).status_code == 200
    except httpx2.TransportError:
        return False


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server: one worker, SQLite, proxied artifacts."""
    folder = tmp_path_factory.mktemp("mlflow")
    (port,) = free_ports(1)
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--serve-artifacts"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with serving(command, f"http://127.0.0.1:{port}/health", folder / "log", quiet):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def oci_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real OCI registry, empty, without authentication."""
    folder = tmp_path_factory.mktemp("registry")
    (port,) = free_ports(1)
    settings = folder / "config.yml"
    settings.write_text(
        "version: 0.1\nlog: {level: warn}\n"
        f"storage: {{filesystem: {{rootdirectory: '{folder}/data'}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with serving(
        [str(find_tool("docker-registry")), "serve", str(settings)], f"http://127.0.0.1:{port}/v2/", folder / "log"
    ):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus that scrapes itself."""
    folder = tmp_path_factory.mktemp("prometheus")
    (port,) = free_ports(1)
    settings = folder / "prometheus.yml"
    settings.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: itself, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
    )
    command = [
        *(str(find_tool("prometheus")), f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with serving(command, f"http://127.0.0.1:{port}/-/ready", folder / "log"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def free_address() -> str:
    """An address (`host:port`) that nothing listens on."""
    (port,) = free_ports(1)
    return f"127.0.0.1:{port}"

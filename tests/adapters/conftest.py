"""Real servers for the adapters: MLflow, an OCI registry and Prometheus, each started once per session."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbeds.common.mlflow_database import lay_out_mlflow
from testbeds.common.processes import Processes, wait_until
from testbeds.common.services import answers, free_ports
from testbeds.common.tools import find_tool

START_SECONDS = 180.0
ANY_PATH = re.compile("/")


@contextmanager
def serving(
    command: list[str],
    url: str,
    folder: Path,
    settings: Mapping[str, str] | None = None,
    seconds: float = START_SECONDS,
) -> Iterator[str]:
    """Run a server until the block ends, or this process does; `url` answers before the block begins.

    Args:
        command: the program and its arguments.
        url: what answers when the server is ready.
        folder: where its log goes.
        settings: more environment variables.
        seconds: within how many it must answer.
    """
    processes = Processes(folder)
    try:
        service = processes.start("server", command, settings)
        wait_until(lambda: answers(url), seconds, f"{url} answers", service)
        yield url
    finally:
        processes.stop_all()


@contextmanager
def mlflow_of(
    folder: Path, python: str, *options: str, health: str = "/health", settings: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run a real MLflow server: one worker, SQLite, proxied artifacts.

    Args:
        folder: where its database, its artifacts and its log go.
        python: the interpreter that has MLflow's server.
        options: more of the command's options.
        health: the path that answers when the server is ready.
        settings: more environment variables.
    """
    if python == sys.executable:
        lay_out_mlflow(folder / "mlflow.db")
    (port,) = free_ports(1)
    command = [
        *(python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--serve-artifacts"),
        *("--artifacts-destination", str(folder / "artifacts"), *options),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with serving(command, f"http://127.0.0.1:{port}{health}", folder, {**quiet, **(settings or {})}):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server of the project's own version."""
    with mlflow_of(tmp_path_factory.mktemp("mlflow"), sys.executable) as url:
        yield url


@contextmanager
def registry_of(content: Path, folder: Path, auth: str = "") -> Iterator[str]:
    """Run a real OCI registry.

    Args:
        content: where its images are; several registries may serve the same ones.
        folder: where its settings and its log go.
        auth: the value of its setting `auth`, in YAML; empty asks for no login.
    """
    (port,) = free_ports(1)
    settings = folder / "config.yml"
    settings.write_text(
        "version: 0.1\nlog: {level: warn}\n"
        f"storage: {{filesystem: {{rootdirectory: '{content}'}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n" + (f"auth: {auth}\n" if auth else "")
    )
    with serving([str(find_tool("docker-registry")), "serve", str(settings)], f"http://127.0.0.1:{port}/", folder):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def oci_content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the images of `oci_url` are."""
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="session")
def oci_url(oci_content: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real OCI registry, empty, without authentication."""
    with registry_of(oci_content, tmp_path_factory.mktemp("registry")) as url:
        yield url


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
    with serving(command, f"http://127.0.0.1:{port}/-/ready", folder):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def free_address() -> str:
    """An address (`host:port`) that nothing listens on."""
    (port,) = free_ports(1)
    return f"127.0.0.1:{port}"

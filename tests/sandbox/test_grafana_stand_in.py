"""The homelab's stand-in for Grafana starts exactly when Grafana would."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbeds.common.processes import wait_until
from testbeds.common.services import answers, free_ports
from testbeds.common.tools import CHECKOUT

_GRAFANA = CHECKOUT / "manifests/platform/grafana"
_PROGRAM = CHECKOUT / "testbeds/homelab/offline/files/grafana.py"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The settings at the paths that the pod has, but below a temporary folder."""
    folders = {"/etc/grafana": tmp_path, "/var/lib/grafana-dashboards": tmp_path / "dashboards"}
    mounted = {
        "grafana.ini": "grafana.ini",
        "datasource.yml": "provisioning/datasources/prometheus.yml",
        "dashboards.yml": "provisioning/dashboards/incumbent.yml",
    }
    for name, path in mounted.items():
        text = (_GRAFANA / "config" / name).read_text(encoding="utf-8")
        for in_pod, folder in folders.items():
            text = text.replace(in_pod, str(folder))
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    shutil.copytree(_GRAFANA / "dashboards", tmp_path / "dashboards")
    (tmp_path / "secret").mkdir()
    for name in ("password", "secret-key"):
        (tmp_path / "secret" / name).write_text("a random value", encoding="utf-8")
    return tmp_path


@contextmanager
def started(home: Path, port: int = 0) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, str(_PROGRAM), f"--home={home}", f"--data={home}", f"--port={port}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_it_is_healthy_with_the_manifests_settings_and_the_secret(home: Path) -> None:
    """With the manifests' settings, dashboards and a Secret, the stand-in answers at the probes' paths."""
    probes = re.findall(r"httpGet:\n +path: (\S+)\n", (_GRAFANA / "grafana.yaml").read_text(encoding="utf-8"))
    assert len(probes) == 2
    (port,) = free_ports(1)
    with started(home, port):
        urls = [f"http://127.0.0.1:{port}{path}" for path in probes]
        wait_until(lambda: all(answers(url) for url in urls), 20, "the stand-in answers")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("secret/password", None, "secret/password: No such file"),
        ("secret/secret-key", "", "secret-key is empty"),
        ("grafana.ini", "[security]\nadmin_password = admin\n", "admin_password is not read from a file"),
        ("provisioning/datasources/prometheus.yml", "apiVersion: 1\n", "has no url"),
        ("dashboards/models.json", "{", "not to be started"),
    ],
)
def test_it_ends_when_grafana_would(home: Path, file: str, content: str | None, message: str) -> None:
    """A missing or default password and an unusable file end the stand-in with an error that names them."""
    (home / file).unlink()
    if content is not None:
        (home / file).write_text(content, encoding="utf-8")
    with started(home) as process:
        _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert message in error

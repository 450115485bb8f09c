"""The homelab's stand-in for Grafana starts with what Grafana starts with, and with nothing less."""

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
    """Its settings where the pod has them, but below a folder of the test's own."""
    places = {"/etc/grafana": tmp_path, "/var/lib/grafana-dashboards": tmp_path / "dashboards"}
    mounted = {
        "grafana.ini": "grafana.ini",
        "datasource.yml": "provisioning/datasources/prometheus.yml",
        "dashboards.yml": "provisioning/dashboards/incumbent.yml",
    }
    for name, place in mounted.items():
        text = (_GRAFANA / "config" / name).read_text(encoding="utf-8")
        for there, here in places.items():
            text = text.replace(there, str(here))
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text, encoding="utf-8")
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


def test_it_is_healthy_with_what_git_and_the_secret_have(home: Path) -> None:
    """The manifests' own settings and dashboards are found, and the probes' addresses answer."""
    probes = re.findall(r"httpGet:\n +path: (\S+)\n", (_GRAFANA / "grafana.yaml").read_text(encoding="utf-8"))
    assert len(probes) == 2
    (port,) = free_ports(1)
    with started(home, port):
        urls = [f"http://127.0.0.1:{port}{path}" for path in probes]
        wait_until(lambda: all(answers(url) for url in urls), 20, "the stand-in answers")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("secret/password", None, "secret/password: No such file"),
        ("secret/secret-key", "", "secret-key is empty"),
        ("grafana.ini", "[security]\nadmin_password = admin\n", "admin_password is not read from a file"),
        ("provisioning/datasources/prometheus.yml", "apiVersion: 1\n", "has no url"),
        ("dashboards/models.json", "{", "not to be started"),
    ],
)
def test_it_ends_where_grafana_would(home: Path, file: str, content: str | None, said: str) -> None:
    """A missing or default secret, and a useless file, end it with the reason."""
    (home / file).unlink()
    if content is not None:
        (home / file).write_text(content, encoding="utf-8")
    with started(home) as process:
        _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert said in error

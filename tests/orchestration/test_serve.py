"""`incumbent serve`: Dagster's processes as one family, and how it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestration.cli import main
from orchestration.warm_runs import channel
from testbeds.common.processes import wait_until
from testbeds.common.services import answers, free_ports
from testbeds.common.tools import CHECKOUT

SECONDS = 120.0
NAMES = {"code-server", "dagster-daemon", "dagster-pages", "companion"}


class Family:
    def __init__(self, folder: Path) -> None:
        self.home, policies = folder / "home", folder / "policies"
        self.home.mkdir()
        policies.mkdir()
        (self.home / "dagster.yaml").write_text(
            (CHECKOUT / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8"
        )
        (folder / "kubeconfig").touch()
        pages, code, self.companion = free_ports(3)
        self.url = f"http://127.0.0.1:{pages}"
        command = [sys.executable, "-m", "orchestration.cli", "serve", f"--pages=127.0.0.1:{pages}"]
        command += [f"--code-port={code}", f"--companion=127.0.0.1:{self.companion}"]
        nowhere = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "INCUMBENT_GIT_URL": "http://127.0.0.1:9/gitops.git"}
        settings = {**nowhere, "INCUMBENT_KUBECONFIG": str(folder / "kubeconfig"), "INCUMBENT_POLICIES": str(policies)}
        self.environment = {**os.environ, **settings, "DAGSTER_HOME": str(self.home), "PYTHONPATH": str(CHECKOUT)}
        self.command, self.output = command, folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(command, env=self.environment, stderr=output, stdout=output)

    def children(self) -> dict[str, int]:
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="utf-8").split()
        return {Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip(): int(pid) for pid in listed}

    def await_pages(self) -> None:
        wait_until(lambda: answers(f"{self.url}/server_info"), SECONDS, "Dagster's pages answer")
        wait_until(lambda: answers(f"http://127.0.0.1:{self.companion}/live"), SECONDS, "the companion answers")
        wait_until(lambda: set(self.children()) == NAMES, SECONDS, "all of the family is there")

    def await_end(self) -> int:
        return self.process.wait(SECONDS)


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    made = Family(tmp_path)
    try:
        made.await_pages()
        yield made
    finally:
        left = made.children().values() if made.process.poll() is None else ()
        for pid in (*left, made.process.pid):
            if made.process.poll() is None:
                os.kill(pid, signal.SIGKILL)
        made.process.wait()


def test_the_family_runs_and_ends_together(family: Family) -> None:
    """Pages and companion answer, runs can be forked, a second one is refused, and SIGTERM ends all of them with 0."""
    with channel.connected(family.home, "incumbent", SECONDS) as connection:
        environment = channel.environment_digest(family.environment)
        channel.say(connection, {"op": "here", "environment": environment})
        assert channel.hear(connection) == {"stays": True}
    second = subprocess.run(family.command, env=family.environment, capture_output=True, text=True, timeout=SECONDS)
    assert second.returncode == 3
    assert "no other pipeline that uses it" in second.stderr
    pids = family.children()
    family.process.terminate()
    assert family.await_end() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())
    assert "Traceback" not in family.output.read_text(encoding="utf-8")


def test_when_one_ends_all_end(family: Family) -> None:
    """Whoever started the family sees a failure, with the name of the process that ended, and can start it again."""
    pids = family.children()
    os.kill(pids["dagster-daemon"], signal.SIGKILL)
    assert family.await_end() == 4
    assert "dagster-daemon has ended" in family.output.read_text(encoding="utf-8")
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())


def test_a_secret_without_a_companion_is_a_mistake() -> None:
    """The option would otherwise do nothing."""
    result = CliRunner().invoke(main, ["serve", "--mlflow-webhook", "file"])
    assert result.exit_code == 2
    assert "--companion" in result.stderr

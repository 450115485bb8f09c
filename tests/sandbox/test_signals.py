"""Ctrl-C ends the programs that handle it even when they inherited that SIGINT is ignored, as background jobs do."""

import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from testbeds.common.guardian import marked
from testbeds.common.tools import CHECKOUT
from testbeds.homelab import __main__ as homelab
from testbeds.sandbox import __main__ as sandbox

UNREACHABLE = "http://127.0.0.1:9"
SETTINGS = {
    "MLFLOW_TRACKING_URI": UNREACHABLE,
    "INCUMBENT_GIT_URL": UNREACHABLE,
    "INCUMBENT_KUBECONFIG": "/nowhere",
    "INCUMBENT_POLICIES": str(CHECKOUT / "policies"),
    "MODEL_URI": "models:/nothing/1",
    "PORT": "0",
}
SECONDS = 120.0


@pytest.fixture(autouse=True)
def _ignored_sigint() -> Iterator[None]:
    """Processes that the test starts inherit that SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("arguments", "ready"),
    [
        pytest.param(["orchestration.cli", "companion", "--listen", "127.0.0.1:0"], "listening at", id="companion"),
        pytest.param(["model_server"], "listening on port", id="model server"),
        pytest.param(
            ["testbeds.common.git_server", "--root", ".", "--token-file", "token", "--port-file", "ready"],
            "",
            id="Git server",
        ),
        pytest.param(["testbeds.story.client", UNREACHABLE, "--log", "ready"], "", id="client"),
    ],
)
def test_a_program_that_inherits_an_ignored_sigint_ends_at_ctrl_c(
    tmp_path: Path, arguments: list[str], ready: str
) -> None:
    """A program that is started with SIGINT ignored ends at SIGINT with exit code 0."""
    (tmp_path / "token").write_text("token", encoding="utf-8")
    settings = {**os.environ, **SETTINGS, "INCUMBENT_STATE": str(tmp_path / "state"), "PYTHONPATH": str(CHECKOUT)}
    log = tmp_path / ("log" if ready else "ready")
    with (tmp_path / "log").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-um", *arguments], cwd=tmp_path, env=settings, stdout=output, stderr=output
        )
    try:
        wait_for(process, log, ready)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("command_name", "code"), [("demo", 130), ("ui", 0)])
def test_a_sandbox_that_inherits_an_ignored_sigint_ends_at_ctrl_c(tmp_path: Path, command_name: str, code: int) -> None:
    """Demo and UI end with the exit codes that shells expect, and none of their processes is left."""
    identity, log = tmp_path / "state" / "sandbox.id", tmp_path / "log"
    command = [sys.executable, "-m", "testbeds.sandbox", command_name, "--state", str(tmp_path / "state")]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=output, stderr=output)
    try:
        wait_for(process, identity, "\n")
        mark = identity.read_text(encoding="utf-8").strip()
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == code, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert marked(mark) == {}


@pytest.mark.parametrize("program", [sandbox, homelab], ids=["sandbox", "homelab"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_every_command_of_a_testbed_can_be_interrupted(
    program: ModuleType, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main program of each testbed turns SIGINT and SIGTERM into the exit code for an interruption."""

    def run(*_: object) -> int:
        os.kill(os.getpid(), number)
        return 0

    monkeypatch.setattr("testbeds.sandbox.__main__.die_with_parent", lambda: None)  # pytest may outlive its parent
    monkeypatch.setattr(program, "_arguments", lambda: Namespace(run=run, interrupted=7))
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        assert program.main() == 7
    finally:
        signal.signal(signal.SIGTERM, terminate)


def wait_for(process: "subprocess.Popen[bytes]", file: Path, text: str) -> None:
    """Wait until a file of a running program contains a text."""
    deadline = time.monotonic() + SECONDS
    while not file.exists() or text not in file.read_text(encoding="utf-8"):
        assert process.poll() is None, file.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, file.parent
        time.sleep(0.05)

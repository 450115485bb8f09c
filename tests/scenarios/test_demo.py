"""The demo leaves no process behind, however it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from testbeds.common.guardian import marked
from testbeds.common.tools import CHECKOUT

_BOUND = 120.0


class RunningDemo:
    """A demo as a process, with its output in a file."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.output = state.parent / "output"
        command = [sys.executable, "-m", "testbeds.sandbox", "demo", "--state", str(state)]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(command, cwd=CHECKOUT, stdout=output, stderr=output)

    @property
    def printed(self) -> str:
        return self.output.read_text()

    @property
    def mark(self) -> str:
        return (self.state / "sandbox.id").read_text().strip()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds, while the demo must keep running."""
        deadline = time.monotonic() + 2 * _BOUND
        while not condition():
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.05)


def left_running(mark: str) -> dict[int, str]:
    """Return the processes of a sandbox that still run after they had time to end."""
    deadline = time.monotonic() + 10
    while (processes := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return processes


@pytest.mark.scenarios
@pytest.mark.timeout(600)
def test_a_killed_demo_leaves_no_process_and_runs_again(tmp_path: Path) -> None:
    """No process is left when the demo is killed as services start, as models are trained, or during a promotion."""
    state = tmp_path / "a state" / "sandbox"
    state.parent.mkdir()
    moments: list[Callable[[RunningDemo], bool]] = [
        lambda demo: (state / "logs" / "mlflow.log").exists() and len(marked(demo.mark)) > 1,
        lambda demo: (state / "models.jsonl").exists() and (state / "models.jsonl").stat().st_size > 0,
        lambda demo: "version 1: requested" in demo.printed,
    ]
    for moment in moments:
        demo = RunningDemo(state)
        demo.wait_until(lambda demo=demo, moment=moment: moment(demo))  # type: ignore[misc]
        mark = demo.mark
        assert marked(mark)
        os.kill(demo.process.pid, signal.SIGKILL)
        demo.process.wait()
        assert left_running(mark) == {}


@pytest.mark.scenarios
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path) -> None:
    """Ctrl-C ends the demo and its services without a traceback, with the exit code that shells expect."""
    demo = RunningDemo(tmp_path / "sandbox")
    demo.wait_until(lambda: (demo.state / "logs" / "mlflow.log").exists())
    mark = demo.mark
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(_BOUND) == 130
    assert "Traceback" not in demo.printed
    assert "stopped" in demo.printed
    assert left_running(mark) == {}

"""The demo ends clean, whatever ends it."""

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
    """A demo in a session of its own, as a terminal would run it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.output = state.parent / "output"
        command = [sys.executable, "-m", "testbeds.sandbox", "demo", "--state", str(state)]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(command, cwd=CHECKOUT, stdout=output, stderr=output)

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def mark(self) -> str:
        return (self.state / "sandbox.id").read_text().strip()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for a moment of a demo that must still be running then."""
        deadline = time.monotonic() + 2 * _BOUND
        while not condition():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)


def left_of(mark: str) -> dict[int, str]:
    """What still runs of a sandbox when it had time to end."""
    deadline = time.monotonic() + 10
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


@pytest.mark.scenarios
@pytest.mark.timeout(600)
def test_a_killed_demo_leaves_nothing_and_runs_again(tmp_path: Path) -> None:
    """SIGKILL of its first process while services start, while models are trained, and in the middle of a promotion."""
    state = tmp_path / "a state" / "sandbox"
    state.parent.mkdir()
    moments: list[Callable[[RunningDemo], bool]] = [
        lambda demo: (state / "logs" / "mlflow.log").exists() and len(marked(demo.mark)) > 1,
        lambda demo: (state / "models.jsonl").exists() and (state / "models.jsonl").stat().st_size > 0,
        lambda demo: "version 1: requested" in demo.said,
    ]
    for moment in moments:
        demo = RunningDemo(state)
        demo.wait_until(lambda demo=demo, moment=moment: moment(demo))  # type: ignore[misc]
        mark = demo.mark
        assert marked(mark)
        os.kill(demo.process.pid, signal.SIGKILL)
        demo.process.wait()
        assert left_of(mark) == {}


@pytest.mark.scenarios
def test_an_interrupted_demo_ends_clean(tmp_path: Path) -> None:
    """Ctrl-C ends everything, without a traceback, with the exit code that shells expect."""
    demo = RunningDemo(tmp_path / "sandbox")
    demo.wait_until(lambda: (demo.state / "logs" / "mlflow.log").exists())
    mark = demo.mark
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(_BOUND) == 130
    assert "Traceback" not in demo.said
    assert "stopped" in demo.said
    assert left_of(mark) == {}

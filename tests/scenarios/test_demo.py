"""The demo's face: its table, and that it ends whole, whatever ends it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from testbeds.sandbox.guardian import marked
from testbeds.sandbox.table import WIDTH, Stages, client_summary, story_table, wrapped
from testbeds.sandbox.tools import CHECKOUT
from tests.scenarios.environment import Environment
from tests.scenarios.stories import Told, registry
from tests.scenarios.true_story import STORY, asked_at, true_story

_BOUND = 120.0

STATES = {1: "champion", 2: "champion", 3: "rolled_back", 4: "refused", 5: "refused"}
TOLD = [
    Told(version, asked_at(version), state, "" if state == "champion" else f"reason {version}", asked_at(version) + 25)
    for version, state in STATES.items()
]


def test_the_table_has_a_row_a_promotion() -> None:
    """Each stage stands there in seconds since the event; what was not reached is a dash."""
    stages = {1: Stages(asked_at(1) + 6.25, asked_at(1) + 7, asked_at(1) + 9, asked_at(1) + 24)}
    table = story_table(STORY, TOLD, true_story(), stages)
    rows = [line.split() for line in table.splitlines() if re.match(r"[1-5] ", line)]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[0][2:] == [
        true_story().commits[1].commit[:8], "+5", "+6.2", "+9.0", "Passed", "+16.0", "+24.0", "champion",
    ]  # fmt: skip
    assert rows[2][6:] == ["Failed", "+16.0", "-", "rolled", "back", "+25.0"]
    assert rows[3][2:] == ["-", "-", "-", "-", "-", "refused", "+25.0"]
    assert "version 4: reason 4" in table
    assert f"version 3 (taken back by {true_story().commits[4].commit[:8]}): reason 3" in table
    assert max(map(len, table.splitlines())) <= WIDTH


def test_the_clients_summary_counts_harm_apart() -> None:
    """Requests of the good promotions are told from those that the bad version answered."""
    text = client_summary(STORY, true_story())
    assert "sent 660 requests" in text
    assert re.search(r"versions 1 and 2: \d+ sent, 0 failed", text)
    assert "harmed by version 3: 30 of the 30 that it answered (6 failed, 24 took longer" in text


def test_long_lines_are_wrapped_and_digests_cut() -> None:
    """A reason fits the terminal, and a digest is cut to the part that tells it apart."""
    text = wrapped(f"image host/model@sha256:{'ab' * 32} " + "not found " * 20, "12.0 s  ", "        ")
    assert "@sha256:abababab not" in text
    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert all(line.startswith("        ") for line in text.splitlines()[1:])


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


def test_a_users_own_registry_stays_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stories' client writes to the testbed's registry, also where MLflow is set to another one."""
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://registry.example.org")
    environment = SimpleNamespace(mlflow_url="http://127.0.0.1:9")
    assert registry(cast(Environment, environment)).__dict__["_registry_uri"] == environment.mlflow_url


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

"""A dispatcher that is killed before any statement of its outbox: nothing answered is lost, one run repeats."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from orchestration.adapters.outbox import SqliteOutbox, open_outbox
from orchestration.dispatcher.outbox import State
from orchestration.dispatcher.sending import Sender
from orchestration.promotion.github import RefusedError
from orchestration.promotion.problems import Problem
from tests.fakes.clock import FakeClock
from tests.fakes.dispatching import Counted, alert, configuration

SENT = [alert("ModelA"), alert("ModelB"), alert("ModelRefused")]


class GitHubInAFile:
    """Appends each run that it starts, so that it outlives a killed process."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def dispatch(self, workflow: str, ref: str, inputs: Mapping[str, str]) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(f"{inputs['alert_name']}\n")
        if inputs["alert_name"] == "ModelRefused":
            raise RefusedError(Problem("GitHub", "a dispatch", "HTTP 404", "Correct it."))


def serve(folder: Path, kill_before: int | None) -> int:
    """Take the alerts unless they were answered before, send all, and return how many statements that took."""
    outbox, count = open_outbox(folder), 0

    def trace(_statement: str) -> None:
        nonlocal count
        count += 1
        if count == kill_before:
            os.kill(os.getpid(), signal.SIGKILL)

    outbox._connection.set_trace_callback(trace)
    if not (folder / "answered").exists():
        outbox.accept([(each, State.WAITING) for each in SENT], 0.0)
        (folder / "answered").touch()
    github = GitHubInAFile(folder / "runs")
    sender = Sender(outbox, github, configuration(folder), FakeClock(0.0), Counted(), lambda _: None)
    while sender.step() == 0:
        pass
    outbox._connection.set_trace_callback(None)
    outbox.close()
    return count


def killed(folder: Path, before: int) -> None:
    """Serve in a process that is killed before that statement."""
    child = os.fork()
    if child == 0:
        serve(folder, before)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


def states(folder: Path) -> dict[str, State]:
    outbox: SqliteOutbox = open_outbox(folder)
    found = {entry.alert.name: entry.state for entry in outbox.entries(tuple(State), 9)}
    outbox.close()
    return found


def test_a_kill_at_any_write_loses_nothing_and_repeats_one_run_at_most(tmp_path: Path) -> None:
    """Whatever the moment, the next process ends with every alert sent or dead, and one request more at most."""
    (tmp_path / "whole").mkdir()
    statements = serve(tmp_path / "whole", None)
    assert statements > 20
    repeated = 0
    for before in range(1, statements + 1):
        folder = tmp_path / str(before)
        folder.mkdir()
        killed(folder, before)
        serve(folder, None)
        assert states(folder) == {
            "ModelA": State.DISPATCHED, "ModelB": State.DISPATCHED, "ModelRefused": State.DEAD,
        }, before  # fmt: skip
        runs = (folder / "runs").read_text(encoding="utf-8").split()
        assert set(runs) == {each.name for each in SENT}, before
        assert len(runs) <= len(SENT) + 1, before
        repeated += len(runs) - len(SENT)
    assert repeated > 0, "a kill between GitHub's answer and its record repeats the run"

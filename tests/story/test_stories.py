"""How a story is told: by the testbed's own registry, and with what its services say when a promotion is stuck."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from testbeds.common.processes import Processes, Service
from testbeds.common.service_watch import ServiceWatch
from testbeds.story import stories
from testbeds.story.environment import Environment
from testbeds.story.stories import StoryStuckError, registry, wait_for_state

_ERROR = "ERROR: cannot start a run\nTraceback (most recent call last):\n  File x\nPermissionError: /dev/shm\n"


def test_a_users_own_registry_stays_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stories' client writes to the testbed's registry, also where MLflow is set to another one."""
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://registry.example.org")
    environment = SimpleNamespace(mlflow_url="http://127.0.0.1:9")
    assert registry(cast(Environment, environment)).__dict__["_registry_uri"] == environment.mlflow_url


@dataclass
class Place:
    """A testbed with one service, whose registry has a version in the next of these states each time it is asked."""

    processes: Processes
    states: list[str]
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.daemon = self.start("dagster-daemon")

    def start(self, name: str) -> Service:
        return self.processes.start(name, [sys.executable, "-c", "import time; time.sleep(600)"])

    def get_model_version(self, model: str, version: str) -> SimpleNamespace:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return SimpleNamespace(tags={"incumbent.p.state": state, "incumbent.p.reason": "", "incumbent.p.commit": ""})

    def wait_for(self, *wanted: str) -> tuple[str, str]:
        environment = SimpleNamespace(
            policy="p", model="m", logs=self.processes.logs, watch_services=lambda: ServiceWatch(self.processes)
        )
        return wait_for_state(cast(Environment, environment), self, 1, wanted, time.time(), self.said.append)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place that is quiet at once, and in which no promotion moves."""
    monkeypatch.setattr(stories, "QUIET_SECONDS", 0.0)
    processes = Processes(tmp_path / "a state")
    yield Place(processes, ["requested"])
    processes.stop_all()


def log_when_asked(place: Place, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let the daemon log something once the story waits."""
    get = place.get_model_version

    def logs(model: str, version: str) -> SimpleNamespace:
        with place.daemon.log.open("a", encoding="utf-8") as file:
            file.write(text)
        return get(model, version)

    monkeypatch.setattr(place, "get_model_version", logs)


def test_a_version_that_does_not_move_is_told_with_the_services_errors(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log's error is a line of progress at once, and part of the error when the time is over."""
    monkeypatch.setattr(stories, "END_SECONDS", 1.0)
    log_when_asked(place, monkeypatch, _ERROR)
    with pytest.raises(StoryStuckError) as stuck:
        place.wait_for("champion", "refused")
    errors = [line for line in place.said if "logs an error" in line]
    log = place.daemon.log
    assert errors == [f"version 1 does not move, and dagster-daemon logs an error: PermissionError: /dev/shm ({log})"]
    first, second, *rest = str(stuck.value).splitlines()
    assert first == "version 1 of m: expected champion or refused within 1 s, found requested."
    assert second.startswith("dagster-daemon logged ")
    assert second.endswith(f"in {log}:")
    assert rest == [
        "    ERROR: cannot start a run",
        "    PermissionError: /dev/shm",
        f"All logs are in {place.processes.logs}.",
    ]


def test_errors_are_not_told_while_the_version_moves(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A promotion that goes on needs no explanation."""
    monkeypatch.setattr(stories, "QUIET_SECONDS", 60.0)
    log_when_asked(place, monkeypatch, _ERROR)
    place.states = ["", "requested", "committed", "champion"]
    assert place.wait_for("champion") == ("champion", "")
    assert len(place.said) == 4
    assert not any("error" in line for line in place.said)


def test_a_service_that_ends_ends_the_wait(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before the time is over, with the exit code and the log."""
    get = place.get_model_version

    def kills(model: str, version: str) -> SimpleNamespace:
        os.kill(place.daemon.process.pid, signal.SIGKILL)
        return get(model, version)

    log_when_asked(place, monkeypatch, "the last words\n")
    monkeypatch.setattr(place, "get_model_version", kills)
    with pytest.raises(StoryStuckError, match=r"(?s)expected champion, found requested\..*") as stuck:
        place.wait_for("champion")
    assert f"dagster-daemon has ended with exit code -9; its log ({place.daemon.log}) ends:" in str(stuck.value)


def test_a_stuck_story_without_errors_says_that_there_are_none(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads it need not search the logs for what is not there."""
    monkeypatch.setattr(stories, "END_SECONDS", 0.0)
    with pytest.raises(StoryStuckError, match=r"found requested\.\nNo service has ended, and none has logged an error"):
        place.wait_for("champion")

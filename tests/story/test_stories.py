"""How a story plays: in the testbed's own registry, and with its services' errors when a promotion is stuck."""

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


def test_the_users_own_registry_stays_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stories' client writes to the testbed's registry even when MLflow is set to another one."""
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://registry.example.org")
    environment = SimpleNamespace(mlflow_url="http://127.0.0.1:9")
    assert registry(cast(Environment, environment)).__dict__["_registry_uri"] == environment.mlflow_url


@dataclass
class OneServiceTestbed:
    """A testbed with one service, whose registry returns a version in the next of these states at each query."""

    processes: Processes
    states: list[str]
    progress: list[str] = field(default_factory=list)

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
        return wait_for_state(cast(Environment, environment), self, 1, wanted, time.time(), self.progress.append)


@pytest.fixture
def testbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OneServiceTestbed]:
    """A testbed on which no promotion makes progress, and the story looks for errors at once."""
    monkeypatch.setattr(stories, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(stories, "_POLL_SECONDS", 0.1)
    processes = Processes(tmp_path / "a state")
    yield OneServiceTestbed(processes, ["requested"])
    processes.stop_all()


def log_once_waiting(testbed: OneServiceTestbed, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Have the daemon log a text each time the story queries the registry."""
    get = testbed.get_model_version

    def log_and_get(model: str, version: str) -> SimpleNamespace:
        with testbed.daemon.log.open("a", encoding="utf-8") as file:
            file.write(text)
        return get(model, version)

    monkeypatch.setattr(testbed, "get_model_version", log_and_get)


def test_a_stuck_promotion_is_reported_with_the_services_errors(
    testbed: OneServiceTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in a service's log is shown as progress at once, and is part of the story's error when time runs out."""
    monkeypatch.setattr(stories, "END_SECONDS", 1.0)
    log_once_waiting(testbed, monkeypatch, _ERROR)
    with pytest.raises(StoryStuckError) as stuck:
        testbed.wait_for("champion", "refused")
    errors = [line for line in testbed.progress if "logs an error" in line]
    log = testbed.daemon.log
    assert errors == [
        f"version 1 makes no progress, and dagster-daemon logs an error: PermissionError: /dev/shm ({log})"
    ]
    first, second, *rest = str(stuck.value).splitlines()
    assert first == "version 1 of m: expected champion or refused within 1 s, found requested."
    assert second.startswith("dagster-daemon logged ")
    assert second.endswith(f"in {log}:")
    assert rest == [
        "    ERROR: cannot start a run",
        "    PermissionError: /dev/shm",
        f"All logs are in {testbed.processes.logs}.",
    ]


def test_logged_errors_are_not_shown_while_a_promotion_makes_progress(
    testbed: OneServiceTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors in the logs are not shown as progress while the version's state changes."""
    monkeypatch.setattr(stories, "QUIET_SECONDS", 60.0)
    log_once_waiting(testbed, monkeypatch, _ERROR)
    testbed.states = ["", "requested", "committed", "champion"]
    assert testbed.wait_for("champion") == ("champion", "")
    assert len(testbed.progress) == 4
    assert not any("error" in line for line in testbed.progress)


def test_the_wait_stops_when_a_service_ends(testbed: OneServiceTestbed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The story stops waiting when a service ends, with an error that has its exit code and log."""
    get = testbed.get_model_version

    def kill_and_get(model: str, version: str) -> SimpleNamespace:
        os.kill(testbed.daemon.process.pid, signal.SIGKILL)
        return get(model, version)

    log_once_waiting(testbed, monkeypatch, "the last words\n")
    monkeypatch.setattr(testbed, "get_model_version", kill_and_get)
    with pytest.raises(StoryStuckError, match=r"(?s)expected champion, found requested\..*") as stuck:
        testbed.wait_for("champion")
    assert f"dagster-daemon has ended with exit code -9; its log ({testbed.daemon.log}) ends:" in str(stuck.value)


def test_a_stuck_story_says_when_no_service_logged_an_error(
    testbed: OneServiceTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a stuck story says so when no service has ended or logged an error."""
    monkeypatch.setattr(stories, "END_SECONDS", 0.0)
    with pytest.raises(StoryStuckError, match=r"found requested\.\nNo service has ended, and none has logged an error"):
        testbed.wait_for("champion")

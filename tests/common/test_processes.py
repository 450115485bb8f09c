"""Every process that a testbed starts ends: on request and after a kill, even a stubborn one or a grandchild."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestration.promotion.problems import ProblemError
from testbeds.common.guardian import MARK, end_all, marked
from testbeds.common.processes import Processes, wait_until
from testbeds.common.tools import CHECKOUT

# An awkward service: it and its grandchild, which has its own session, ignore SIGTERM.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleeper = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", sleeper], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print("both up", flush=True)
time.sleep(600)
"""
FIRST = """
import sys, time
from pathlib import Path
from testbeds.common.processes import Processes, wait_until
processes = Processes(Path(sys.argv[1]))
service = processes.start("stubborn", [sys.executable, "-c", sys.argv[2]])
wait_until(lambda: "both up" in service.log.read_text(), 60, "up", service)
print(processes.identity, flush=True)
time.sleep(600)
"""


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Return whether a condition becomes true; the time limit only matters when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "a state"


@pytest.fixture
def processes(state: Path) -> Iterator[Processes]:
    started = Processes(state)
    yield started
    started.stop_all()


def start_first(state: Path) -> tuple["subprocess.Popen[str]", str]:
    """Start a process that runs a stubborn service; return it with its sandbox's identity."""
    first = subprocess.Popen(
        [sys.executable, "-c", FIRST, str(state), STUBBORN], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    )
    assert first.stdout is not None
    identity = first.stdout.readline().strip()
    assert len(marked(identity)) == 2
    return first, identity


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_stopping_ends_services_that_ignore_sigterm(processes: Processes) -> None:
    """A service that ignores SIGTERM, and its grandchild in another session, have ended after `stop_all`."""
    service = processes.start("stubborn", [sys.executable, "-c", STUBBORN])
    wait_until(lambda: "both up" in service.log.read_text(), 60, "both up", service)
    processes.stop_all()
    assert marked(processes.identity) == {}


def test_a_killed_first_process_leaves_no_process(state: Path) -> None:
    """Killing the process that started the services ends all of them."""
    first, identity = start_first(state)
    kill(first)
    assert eventually(lambda: not marked(identity))


def test_the_next_start_ends_what_a_killed_sandbox_left(state: Path) -> None:
    """When even the guardian was killed, the next sandbox in that folder ends the processes that were left."""
    first, identity = start_first(state)
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text(encoding="utf-8").split()
    (guardian,) = (int(pid) for pid in children if int(pid) not in marked(identity))
    os.kill(guardian, signal.SIGKILL)
    kill(first)
    assert len(marked(identity)) == 2
    successor = Processes(state)
    assert marked(identity) == {}
    successor.stop_all()


def test_other_sandboxes_are_left_alone(processes: Processes, tmp_path: Path) -> None:
    """Ending one sandbox does not end the services of another."""
    other = Processes(tmp_path / "other")
    service = other.start("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"])
    end_all(processes.identity)
    assert service.ended is None
    other.stop_all()


def test_a_process_dies_with_its_parent() -> None:
    """A process that called `die_with_parent` ends when its parent, for example `make`, is killed."""
    child = (
        "from testbeds.common.processes import die_with_parent; import os, time; die_with_parent();"
        " print(os.getpid(), flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    kill(parent)

    def ended() -> bool:
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"

    assert eventually(ended)


def test_the_users_own_settings_do_not_leak_in(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service does not inherit settings of another MLflow, Git or pipeline, and uses no proxy for the loopback."""
    for name in ("MLFLOW_TRACKING_URI", "INCUMBENT_GIT_URL", "DAGSTER_HOME", "GIT_DIR", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.setenv(name, "the user's")
    monkeypatch.setenv("NO_PROXY", "example.org")
    environment = processes.environment(DAGSTER_HOME="the testbed's")
    assert "the user's" not in environment.values()
    assert environment["DAGSTER_HOME"] == "the testbed's"
    assert environment[MARK] == processes.identity
    assert environment["NO_PROXY"] == "example.org,127.0.0.1,localhost"


def test_a_service_that_ends_shows_its_log(processes: Processes) -> None:
    """The error of a service that ended has its exit code, the last lines of its log and the log's path."""
    service = processes.start("broken", [sys.executable, "-c", "print('no space left'); raise SystemExit(3)"])
    with pytest.raises(ProblemError, match=r"(?s)broken ended with exit code 3.*no space left.*broken\.log"):
        wait_until(lambda: None, 60, "it answers", service)


def test_waiting_ends_at_its_deadline(processes: Processes) -> None:
    """When a condition is not met in time, the error names the condition."""
    with pytest.raises(ProblemError, match="expected pigs fly, found nothing after 0"):
        wait_until(lambda: None, 0.0, "pigs fly")


def test_a_long_wait_is_reported(processes: Processes, capsys: pytest.CaptureFixture[str]) -> None:
    """A wait of more than a second prints a line of progress, and a short one prints none."""
    assert wait_until(lambda: "at once", 60, "nothing") == "at once"
    service = processes.start("slow", [sys.executable, "-c", "import time; time.sleep(1.5); print('done', flush=True)"])
    wait_until(lambda: "done" in service.log.read_text(), 60, "the slow service is done")
    progress = capsys.readouterr().err
    assert "waiting: the slow service is done" in progress
    assert "nothing" not in progress


def test_a_program_that_does_not_show_its_mark_yet_is_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose environment in /proc is still empty just after its start is ended, and not waited for."""
    processes = Processes(tmp_path / "state")
    service = processes.start("slow", [sys.executable, "-c", "import time; time.sleep(600)"])
    monkeypatch.setattr("testbeds.common.processes.end_all", lambda identity: None)
    processes.stop_all()
    assert service.ended is not None

"""A testbed's processes: started with a mark and a log, waited for by condition, and ended whatever happens."""

import ctypes
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from orchestration.promotion.problems import Problem, ProblemError
from testbeds.common import guardian
from testbeds.common.guardian import MARK, end_all

Value = TypeVar("Value")
_LOG_LINES = 12
_POLL_SECONDS = 0.1
_QUIET_SECONDS = 1.0
# A user's own settings must not leak into the testbed, and bytecode must not be compiled again at each start.
_NOT_INHERITED = ("INCUMBENT_", "MLFLOW_", "DAGSTER_", "PROMETHEUS_", "GIT_", "PYTHONDONTWRITEBYTECODE")
_LOOPBACK = "127.0.0.1,localhost"


@dataclass(frozen=True)
class Service:
    """One program of a testbed."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    ends_by_itself: bool = False
    """True for a program that does its work and ends; every other program runs until it is stopped."""

    @property
    def ended(self) -> int | None:
        """The exit code; None while the program runs."""
        return self.process.poll()

    @property
    def failed(self) -> bool:
        """Whether the program has ended though it should run, or has not done its work."""
        return self.ended is not None and not (self.ends_by_itself and self.ended == 0)

    def log_tail(self) -> str:
        """Return the log's last lines, as an error shows them."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-_LOG_LINES:])


class Processes:
    """All processes of one testbed. When this process ends, however it ends, the guardian ends them.

    `state` remembers their mark, so that a start after a killed one also ends what that one left.
    """

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self.logs = state / "logs"
        self.logs.mkdir(exist_ok=True)
        self._remembered = state / "sandbox.id"
        if self._remembered.exists():
            end_all(self._remembered.read_text(encoding="utf-8").strip())
        self.identity = uuid.uuid4().hex
        self._remembered.write_text(f"{self.identity}\n", encoding="utf-8")
        self._services: list[Service] = []
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", "-S", guardian.__file__, self.identity],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def environment(self, **settings: str) -> dict[str, str]:
        """Build the environment of a child: what is left of this process's own, the mark, and these settings."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        for name in ("NO_PROXY", "no_proxy"):
            inherited[name] = ",".join(filter(None, (inherited.get(name), _LOOPBACK)))
        return {**inherited, "PYTHONUNBUFFERED": "1", MARK: self.identity, **settings}

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        settings: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        *,
        ends_by_itself: bool = False,
    ) -> Service:
        """Start a program that writes its output to its log.

        Args:
            name: the program's name here, and its log's.
            command: the program and its arguments.
            settings: more environment variables.
            cwd: the folder in which it runs; this process's own unless another is given.
            ends_by_itself: True for a program that does its work and ends, so that its end is no failure.
        """
        log = self.logs / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                env=self.environment(**(settings or {})),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the others in order
            )
        service = Service(name, process, log, ends_by_itself)
        self._services.append(service)
        return service

    @property
    def services(self) -> tuple[Service, ...]:
        """What was started here and has not been stopped."""
        return tuple(self._services)

    def stop(self, service: Service, seconds: float = 5.0) -> None:
        """End a program, and kill it when it takes longer than `seconds`."""
        service.process.terminate()
        try:
            service.process.wait(seconds)
        except subprocess.TimeoutExpired:
            service.process.kill()
            service.process.wait()
        self._services.remove(service)

    def kill(self, service: Service) -> None:
        """End a program and all processes of its session at once, so that none of them can clean up."""
        os.killpg(service.process.pid, signal.SIGKILL)
        service.process.wait()
        self._services.remove(service)

    def stop_all(self) -> None:
        """End everything that was started, and everything that it started."""
        end_all(self.identity)
        # A program that has only just been started may not have shown its mark yet, and so was not ended with the rest.
        for service in list(self._services):
            self.stop(service)
        assert self._guardian.stdin is not None, "the guardian was started with a pipe"
        self._guardian.stdin.close()
        self._guardian.wait()
        self._remembered.unlink(missing_ok=True)


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent dies, so that a killed `make` takes the testbed along."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died just before
        os.kill(os.getpid(), signal.SIGKILL)


def wait_until(
    condition: Callable[[], Value | None], seconds: float, what: str, service: Service | None = None
) -> Value:
    """Wait until `condition` returns something true, and return that.

    A line on standard error says so when the wait takes more than a second.

    Args:
        condition: asked again and again.
        seconds: how long to wait.
        what: what is waited for, as a statement.
        service: the program that it depends on.

    Raises:
        ProblemError: it did not come true in time, or the service has ended; with the log's last lines.
    """
    began = time.monotonic()
    said = False
    while True:
        value = condition()
        if value:
            if said:
                print(f"  {what}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
            return value
        waited = time.monotonic() - began
        if service is not None and service.ended is not None:
            raise _not_up(what, f"{service.name} ended with exit code {service.ended}", service)
        if waited > seconds:
            raise _not_up(what, f"nothing after {seconds:g} s", service)
        if waited > _QUIET_SECONDS and not said:
            said = True
            print(f"  waiting: {what} ...", file=sys.stderr, flush=True)
        time.sleep(_POLL_SECONDS)


def await_end(service: Service, seconds: float, what: str) -> None:
    """Wait for the end of a program that ends by itself.

    Raises:
        ProblemError: the program took too long, or ended with another exit code than 0.
    """
    code = wait_until(lambda: None if service.ended is None else str(service.ended), seconds, what)
    if code != "0":
        raise ProblemError(
            Problem(
                service.name,
                "exit code 0",
                f"{code}; its log ends:\n{service.log_tail()}\n",
                f"The whole log: {service.log}",
            )
        )


def _not_up(what: str, found: str, service: Service | None) -> ProblemError:
    if service is None:
        return ProblemError(Problem("testbed", what, found, "Try again."))
    found = f"{found}; its log ends:\n{service.log_tail()}\n"
    return ProblemError(Problem(service.name, what, found, f"The whole log: {service.log}"))

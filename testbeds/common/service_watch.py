"""What a testbed's services say while something is waited for: errors in their logs, and services that have ended.

A promotion that does not move often has its cause in the log of a service that still runs: Dagster's daemon, for
example, logs why it cannot start a run and tries again, without end.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testbeds.common.processes import Processes, Service

_MOST_BYTES = 1024 * 1024
"""Read from the end of a log at most; a service that logs errors without end fills it fast."""
_MOST_LINES = 12
_MOST_CHARACTERS = 240
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RECORD = re.compile(
    r"\d{4}[-/]\d\d[-/]\d\d[ T]"  # Dagster, Python's logging
    r"|\d\d:\d\d:\d\d "  # the stand-in for Kubernetes
    r"|(?:time|ts)="  # Go's programs
    r"|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\b"  # uvicorn
)
"""How a record of a log begins; all lines up to the next such line belong to it."""
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL|FATAL|level=\w+)\b")
_ERRORS = ("ERROR", "CRITICAL", "FATAL", "level=error", "level=fatal", "level=panic")
_UNCAUGHT = re.compile(r"Traceback \(most recent call last\)|panic: |fatal error: ")
_ORDINARY = re.compile(
    r"\bhttp\.response\.status=4\d\d\b"  # the registry's answer to a client that asks for a missing image
    r"|^dagster\._core\.definitions\.events\.Failure: "  # a stage's verdict, which is the version's reason as well
    r"| - Dependencies for step ",  # the stages that are not run after it
    re.MULTILINE,
)
"""What services log as errors, though it is no trouble of the services."""
_STACK = re.compile(
    r"  |Traceback \(most recent call last\)|Stack Trace:|The above exception |During handling of the above |>?\s*$"
)
"""Lines of a traceback that say where, and not what."""


@dataclass(frozen=True)
class LoggedErrors:
    """The errors that a service has logged since the watch began."""

    service: str
    log: Path
    excerpts: tuple[str, ...]
    """Each error in a few lines, oldest first; never empty."""

    @property
    def cause(self) -> str:
        """What the last error says, without the line that tells when and of which run."""
        first, newline, rest = self.excerpts[-1].partition("\n")
        return rest if newline else first

    def __str__(self) -> str:
        last = "\n".join(f"    {line}" for line in self.excerpts[-1].splitlines())
        count = "an error" if len(self.excerpts) == 1 else f"{len(self.excerpts)} errors; the last"
        return f"{self.service} logged {count}, in {self.log}:\n{last}"


class ServiceWatch:
    """Watches the services of a testbed from the moment in which it is made."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._begin_of = {service.process.pid: _size(service.log) for service in processes.services}
        self._told: set[tuple[str, str]] = set()

    def has_failed(self) -> bool:
        """Check for services that have ended though they should run; without them nothing moves any more."""
        return bool(self._failed())

    def new_errors(self) -> list[str]:
        """Return what services have logged as errors since the watch began, each cause once."""
        news = [errors for errors in self._errors() if (errors.service, errors.cause) not in self._told]
        self._told.update((errors.service, errors.cause) for errors in news)
        return [f"{errors.service} logs an error: {errors.cause} ({errors.log})" for errors in news]

    def report(self) -> str:
        """Describe ended services and logged errors for a person who must find out why nothing moves."""
        ended = [
            f"{service.name} has ended with exit code {service.ended}; its log ({service.log}) ends:\n"
            f"{service.log_tail() or '    (nothing was logged)'}"
            for service in self._failed()
        ]
        return "\n".join([*ended, *map(str, self._errors())]) or "No service has ended, and none has logged an error."

    def _failed(self) -> list[Service]:
        return [service for service in self._processes.services if service.failed]

    def _errors(self) -> list[LoggedErrors]:
        logged = []
        for service in self._processes.services:
            text = _read(service.log, self._begin_of.get(service.process.pid, 0))
            if excerpts := tuple(_excerpts(text)):
                logged.append(LoggedErrors(service.name, service.log, excerpts))
        return logged


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _read(log: Path, begin: int) -> str:
    """Read what was added to a log, as far as its lines are whole."""
    size = _size(log)
    begin = begin if size >= begin else 0  # begun anew meanwhile
    if size == begin:
        return ""
    with log.open("rb") as file:
        file.seek(max(begin, size - _MOST_BYTES))
        text = file.read().decode("utf-8", "replace")
    return _COLOUR.sub("", text[: text.rfind("\n") + 1])


def _excerpts(text: str) -> Iterator[str]:
    """Cut a log into records and yield what its errors say."""
    record: list[str] = []
    for line in text.splitlines():
        if record and _RECORD.match(line):
            yield from _excerpt(record)
            record = []
        record.append(line)
    yield from _excerpt(record)


def _excerpt(record: list[str]) -> Iterator[str]:
    """Yield what a record says when it is an error: its own line and the exceptions' lines, without the stack."""
    if not record or _ORDINARY.search("\n".join(record)):
        return
    uncaught = (number for number, line in enumerate(record) if _UNCAUGHT.match(line))
    begin = 0 if _is_error(record[0]) else next(uncaught, None)
    if begin is None:
        return
    lines = [line[:_MOST_CHARACTERS] for line in record[begin:] if not _STACK.match(line)]
    if len(lines) > _MOST_LINES:
        lines = [lines[0], "...", *lines[2 - _MOST_LINES :]]
    if lines:
        yield "\n".join(lines)


def _is_error(line: str) -> bool:
    """Check the level of a record that begins with this line; what follows the level is the record's text."""
    level = _LEVEL.search(line)
    return _RECORD.match(line) is not None and level is not None and level[1] in _ERRORS

"""The guardian: ends everything that belongs to a testbed when the testbed's first process has ended, for any reason.

It holds a pipe whose other end only that process has, so it notices even SIGKILL. It knows what belongs to a testbed by
a mark in the environment, which children and grandchildren inherit (Dagster's run workers, MLflow's server workers).
It is run as a file with `-I -S`, and so with the standard library alone, because that starts within milliseconds.
"""

import contextlib
import os
import signal
import sys
import time

MARK = "INCUMBENT_SANDBOX_ID"
_PATIENCE = 3.0
"""Seconds between SIGTERM and SIGKILL; everything has ended well before 10 s."""


def marked(identity: str) -> dict[int, str]:
    """Find the processes with that mark, except this one: pid and start time, which together identify a process."""
    wanted = f"{MARK}={identity}".encode()
    processes = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  making thousands of Paths takes longer than the sweep
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # ended meanwhile, or another user's
            with open(f"/proc/{name}/environ", "rb") as environment:  # noqa: PTH123  the same
                if wanted not in environment.read().split(b"\0"):
                    continue
            state, started = _state(name)
            if state != "Z":
                processes[int(name)] = started
    return processes


def _state(pid: str) -> tuple[str, str]:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:  # noqa: PTH123  the same
        fields = stat.read().rpartition(")")[2].split()
    return fields[0], fields[19]


def end_all(identity: str, patience: float = _PATIENCE) -> None:
    """End all processes with that mark: SIGTERM first, SIGKILL after `patience` seconds, until none is left."""
    asked: set[tuple[int, str]] = set()
    kill_at = time.monotonic() + patience
    while left := marked(identity):
        killing = time.monotonic() >= kill_at
        for process in left.items():
            if killing or process not in asked:
                asked.add(process)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process[0], signal.SIGKILL if killing else signal.SIGTERM)
        time.sleep(0.05)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()  # ends when the first process has ended
    end_all(sys.argv[1])


if __name__ == "__main__":
    main()

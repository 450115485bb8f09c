"""The guardian: ends everything that belongs to a sandbox when the sandbox's first process is gone, however it went.

It holds a pipe whose other end only that process has, so even SIGKILL is noticed. What belongs to a sandbox is known by
a mark in its environment, which children and grandchildren inherit (Dagster's run workers, MLflow's server workers).
Run as a file with `-I -S`, and so with the standard library alone: it is there within milliseconds.
"""

import contextlib
import os
import signal
import sys
import time

MARK = "INCUMBENT_SANDBOX_ID"
_PATIENCE = 3.0
"""Seconds between asking to end and killing; all is over well before 10 s."""


def marked(identity: str) -> dict[int, str]:
    """The processes of that sandbox, this one excepted: pid and start time, which together no other process has."""
    wanted = f"{MARK}={identity}".encode()
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  a Path each for thousands of entries takes longer than the sweep
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # ended meanwhile, or another user's
            with open(f"/proc/{name}/environ", "rb") as environment:  # noqa: PTH123  the same
                if wanted not in environment.read().split(b"\0"):
                    continue
            state, started = _state(name)
            if state != "Z":
                found[int(name)] = started
    return found


def _state(pid: str) -> tuple[str, str]:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:  # noqa: PTH123  the same
        fields = stat.read().rpartition(")")[2].split()
    return fields[0], fields[19]


def end_all(identity: str, patience: float = _PATIENCE) -> None:
    """End all processes of that sandbox: asked first, killed after `patience` seconds, until none is left."""
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

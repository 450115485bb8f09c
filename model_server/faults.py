"""Faults that an image can be published with, so that stories have a bad version to take back.

Request faults spare the recorded requests, so such a version becomes ready, and only real traffic shows that it is bad.
Faults come from the image's environment, because a bad build is part of the image too. Only an image published with
`FAULT_REMOTE=1` accepts other faults while it runs, by `POST /faults`; that way one of several pods can be the bad one.
"""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

CRASH_EXIT_CODE = 70


class InjectedError(Exception):
    """A faulty version answers with this instead of a prediction."""


@dataclass
class Faults:
    """What is wrong with this image; all values are zero if nothing is."""

    fail_every: int = 0
    """`FAULT_FAIL_EVERY`: every n-th request is answered with 500."""
    delay_seconds: float = 0.0
    """`FAULT_DELAY_SECONDS`: each request takes this much longer, in seconds."""
    crash_after: int | None = None
    """`FAULT_CRASH_AFTER`: the process exits after this many requests; 0 crashes at the start."""
    allocate_mb: int = 0
    """`FAULT_ALLOCATE_MB`: each request leaks this many mebibytes."""
    allocate_at_start_mb: int = 0
    """`FAULT_ALLOCATE_AT_START_MB`: the process allocates this many mebibytes before it does anything else."""
    never_ready: bool = False
    """`FAULT_NEVER_READY=1`: it loads its model, and never becomes ready."""
    remote: bool = False
    """`FAULT_REMOTE=1`: `POST /faults` changes all of these in one running server."""
    _seen: int = 0
    _leaked: list[bytes] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Faults":
        """The faults in an image's environment.

        Raises:
            ValueError: the value of a variable is not a number.
        """
        crash_after = environ.get("FAULT_CRASH_AFTER")
        return cls(
            fail_every=int(environ.get("FAULT_FAIL_EVERY", "0")),
            delay_seconds=float(environ.get("FAULT_DELAY_SECONDS", "0")),
            crash_after=None if crash_after is None else int(crash_after),
            allocate_mb=int(environ.get("FAULT_ALLOCATE_MB", "0")),
            allocate_at_start_mb=int(environ.get("FAULT_ALLOCATE_AT_START_MB", "0")),
            never_ready=environ.get("FAULT_NEVER_READY") == "1",
            remote=environ.get("FAULT_REMOTE") == "1",
        )

    @property
    def never_ready_because(self) -> str | None:
        return "this image never becomes ready (FAULT_NEVER_READY)" if self.never_ready else None

    def at_start(self) -> None:
        """Crash or allocate memory, if this image does so before it serves."""
        if self.crash_after == 0:
            _crash()
        for _ in range(self.allocate_at_start_mb):
            self._leak(1)

    def on_request(self) -> None:
        """Apply this image's faults to one request.

        Raises:
            InjectedError: this request is one of those that fail.
        """
        with self._lock:
            self._seen += 1
            seen = self._seen
            if self.allocate_mb:
                self._leak(self.allocate_mb)
        if self.crash_after is not None and seen > self.crash_after:
            _crash()
        if self.delay_seconds:
            time.sleep(self.delay_seconds)
        if self.fail_every and seen % self.fail_every == 0:
            raise InjectedError(f"request {seen} fails: FAULT_FAIL_EVERY is {self.fail_every}")

    def _leak(self, mebibytes: int) -> None:
        self._leaked.append(os.urandom(1024) * (1024 * mebibytes))


def _crash() -> None:
    print("fatal: this image crashes (FAULT_CRASH_AFTER)", flush=True)
    os._exit(CRASH_EXIT_CODE)

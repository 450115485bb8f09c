"""The process of one run: how it is told from every other process, now and later, and how it is interrupted."""

import json
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_START_TIME, _STATE = 19, 0


@dataclass(frozen=True)
class Worker:
    """A process of a machine; process ids are used again, and the time of its start tells it from later ones."""

    host: str
    pid: int
    started: str
    """Clock ticks since the machine started, as the kernel counts them."""

    @classmethod
    def this(cls) -> Self:
        """Return this process.

        Raises:
            OSError: the system does not tell.
        """
        return cls(socket.gethostname(), os.getpid(), _fields(os.getpid())[_START_TIME])

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what `text` returned."""
        host, pid, started = json.loads(text)
        return cls(host, pid, started)

    def text(self) -> str:
        """Return it as one line."""
        return json.dumps([self.host, self.pid, self.started])

    @property
    def is_here(self) -> bool:
        """Whether it is of this machine; of another's processes nothing is known."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended. One that waits to be reaped has."""
        try:
            fields = _fields(self.pid)
        except OSError:
            return False
        return fields[_START_TIME] == self.started and fields[_STATE] != "Z"

    def interrupt(self) -> bool:
        """Send it SIGINT, as Dagster's own launcher does; False when it has ended."""
        try:
            held = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.is_alive:  # asked while the id is held: another process may have got it before
                return False
            signal.pidfd_send_signal(held, signal.SIGINT)
        except ProcessLookupError:
            return False
        finally:
            os.close(held)
        return True


def _fields(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()

"""The bell that wakes the sensor's ticks: the companion, which MLflow tells of aliases, rings it for a model.

Each tick that waits has a socket in a folder below INCUMBENT_STATE, and whoever rings writes to all of them. It is
worth a question to the registry and nothing else, so a call that is lost costs a second.
"""

import logging
import select
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from orchestration.adapters.unix_sockets import address, private_folder

_FOLDER = "bell"
_LONGEST = 1024
"""Bytes of a model's name; MLflow's have 256 characters at most."""
_log = logging.getLogger(__name__)


class SocketBell:
    """Implements the `Bell` port with sockets that become readable; with none, it never rings."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets

    def wait(self, seconds: float) -> frozenset[str]:
        """Return when that many seconds have passed, or at once when it has rung since the last call, and for whom."""
        rung, _, _ = select.select(self._sockets, [], [], max(0.0, seconds))
        return frozenset(name for each in rung for name in _names(each))


def _names(receiver: socket.socket) -> Iterator[str]:
    while True:
        try:
            yield receiver.recv(_LONGEST).decode(errors="replace")
        except BlockingIOError:
            return


@contextmanager
def bell(state: Path) -> Iterator[SocketBell]:
    """Let the bell ring as long as the block lasts; where no socket can be made, a warning says that it never does.

    Args:
        state: the folder of INCUMBENT_STATE.
    """
    folder, name = state / _FOLDER, uuid.uuid4().hex
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as receiver:
        try:
            with address(private_folder(folder), name) as place:
                receiver.bind(place)
        except OSError as error:
            _log.warning("MLflow's webhooks wake no tick: no socket in %s (%s)", folder, error.strerror)
            yield SocketBell(())
            return
        try:
            yield SocketBell((receiver,))
        finally:
            (folder / name).unlink(missing_ok=True)


def ring(state: Path, model: str) -> int:
    """Wake all ticks that wait below an INCUMBENT_STATE for a model, and return how many there are.

    Raises:
        OSError: the folder cannot be used.
    """
    woken, folder = 0, private_folder(state / _FOLDER)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        for file in folder.iterdir():
            try:
                with address(folder, file.name) as place:
                    sender.sendto(model.encode()[:_LONGEST], place)
            except BlockingIOError:  # it has not come to the calls before this one yet
                woken += 1
            except ConnectionRefusedError:  # of a tick whose process was killed
                file.unlink(missing_ok=True)
            except FileNotFoundError:  # it has just ended
                continue
            else:
                woken += 1
    return woken

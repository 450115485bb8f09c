"""How the launcher, the sensor and the warm process talk: lines of JSON over a Unix socket in DAGSTER_HOME.

`here` (environment) asks whether the process may stay; the answer is `stays`. `run` (arguments) forks a run, which
answers itself with its `pid` and when it `started`, and executes nothing before it is told `go`. So a launcher that
gets no answer, or ends before it has noted whom it started, can let Dagster start the run without any risk of two.
"""

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from orchestration.adapters.unix_sockets import address, private_folder

_FOLDER = "warm_runs"
_LARGEST = 1024 * 1024
"""Bytes of a message. The arguments of a run are some kilobytes: Dagster's configuration and two names."""


class NoAnswerError(Exception):
    """The other side is not there, hung up, or refused; the text says which."""


def folder_of(home: Path) -> Path:
    """Return the folder of the sockets below a DAGSTER_HOME; only its owner may enter it.

    Raises:
        OSError: it cannot be made.
    """
    return private_folder(home / _FOLDER)


def name_of(location: str) -> str:
    """Return the name of a code location's files; a location may be called anything."""
    return hashlib.sha256(location.encode()).hexdigest()[:16]


@contextmanager
def connected(home: Path, location: str, seconds: float) -> Iterator[socket.socket]:
    """Yield a connection to a location's warm process, which waits for no answer longer than `seconds`.

    Raises:
        NoAnswerError: there is none.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        try:
            with address(folder_of(home), name_of(location)) as place:
                connection.connect(place)
        except OSError as error:
            raise NoAnswerError(error.strerror or str(error)) from error
        yield connection


def say(connection: socket.socket, message: Mapping[str, object]) -> None:
    """Send a message.

    Raises:
        NoAnswerError: the other side hung up.
    """
    try:
        connection.sendall(json.dumps(message).encode() + b"\n")
    except OSError as error:
        raise NoAnswerError(error.strerror or str(error)) from error


def hear(connection: socket.socket) -> dict[str, object]:
    """Read one message.

    Raises:
        NoAnswerError: the other side hung up, was silent for too long, or sent something else.
    """
    received = b""
    try:
        while not received.endswith(b"\n") and len(received) <= _LARGEST:
            piece = connection.recv(1 << 16)
            if not piece:
                raise NoAnswerError("it hung up")
            received += piece
        message = json.loads(received)
    except TimeoutError as error:
        raise NoAnswerError("it is silent") from error
    except (OSError, ValueError) as error:
        raise NoAnswerError(str(error)) from error
    if not isinstance(message, dict):
        raise NoAnswerError("it sent something else than an object")
    return message


def environment_digest(environment: Mapping[str, str]) -> str:
    """Return what tells two environments apart without their secrets."""
    return hashlib.sha256(json.dumps(sorted(environment.items())).encode()).hexdigest()


def initial_environment() -> dict[str, str]:
    """Return the environment that this process was started with; libraries have changed it since.

    Raises:
        OSError: the system does not tell.
    """
    pairs = Path("/proc/self/environ").read_bytes().split(b"\0")
    return {
        os.fsdecode(name): os.fsdecode(value) for name, _, value in (pair.partition(b"=") for pair in pairs if pair)
    }

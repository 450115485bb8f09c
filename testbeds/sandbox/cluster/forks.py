"""Pods' processes, seen from the stand-in: start them, signal them, await their ends.

They are children of `fork_parent`, a process that speaks lines of JSON over a socket. To it: `start` (id, argv or
nothing for the model server, env, log, folder) and `signal` (id, signal). From it: `started` (id, pid) and `exited`
(id, code).
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# One thread: a process that is forked must have no other, so pyarrow's jemalloc and OpenBLAS are told to start none.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class Forks:
    """The processes of all pods; `open_forks` makes it."""

    def __init__(self, process: "subprocess.Popen[bytes]", writer: asyncio.StreamWriter) -> None:
        self._process = process
        self._writer = writer
        self._started: dict[str, asyncio.Future[int]] = {}
        self._exited: dict[str, asyncio.Future[int]] = {}
        self._closed = False

    async def start(self, key: str, argv: Sequence[str], env: Mapping[str, str], log: Path, folder: Path) -> int:
        """Start a process in a folder and return its pid; `key` is its name from now on."""
        loop = asyncio.get_running_loop()
        self._started[key], self._exited[key] = loop.create_future(), loop.create_future()
        self._send(op="start", id=key, argv=list(argv), env=dict(env), log=str(log), folder=str(folder))
        return await asyncio.shield(self._started[key])

    def signal(self, key: str, number: int) -> None:
        """Send a signal; SIGKILL goes to the whole process group. Nothing is sent to a process that has ended."""
        self._send(op="signal", id=key, signal=int(number))

    async def ended(self, key: str) -> int:
        """Wait until a process ends, and return its exit code, or 128 + the signal that killed it."""
        return await asyncio.shield(self._exited[key])

    def close(self) -> None:
        """Kill all processes."""
        self._closed = True
        self._writer.close()
        self._process.kill()  # its children die with it, by PR_SET_PDEATHSIG
        self._process.wait()

    def _send(self, **message: object) -> None:
        if not self._closed:
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def listen(self, reader: asyncio.StreamReader, lost: Callable[[], None]) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            if message["op"] == "started":
                self._started.pop(message["id"]).set_result(message["pid"])
            else:
                self._exited[message["id"]].set_result(message["code"])
        if not self._closed:
            lost()


async def open_forks(preload: bool, lost: Callable[[], None]) -> tuple[Forks, "asyncio.Task[None]"]:
    """Start the parent of the pods' processes; to be called in the main thread, with whose end it ends.

    With `preload` it imports what the model server needs. `lost` is called when it ends by itself. The task that is
    returned listens to it: keep it.
    """
    own_end, parent_end = socket.socketpair()
    command = [
        sys.executable,
        "-m",
        "testbeds.sandbox.cluster.fork_parent",
        str(parent_end.fileno()),
        str(os.getpid()),
    ]
    command += ["preload"] if preload else []
    process = subprocess.Popen(command, pass_fds=[parent_end.fileno()], env=os.environ | ONE_THREAD)
    parent_end.close()
    reader, writer = await asyncio.open_connection(sock=own_end)
    forks = Forks(process, writer)
    return forks, asyncio.create_task(forks.listen(reader, lost))

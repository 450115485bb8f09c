"""The parent of the pods' processes: it has one thread, forks, reaps, and ends with the stand-in and all its children.

`python -m testbeds.sandbox.cluster.fork_parent FD PARENT_PID [preload]`. It imports what the model server needs once,
as a node's page cache keeps an image's files, so a pod's process is there in milliseconds. The kernel kills it when the
stand-in's main thread ends, and each child when this process ends (PR_SET_PDEATHSIG): nothing is left running.
"""

import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends; exit at once when it has already ended."""
    if _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os._exit(1)


class ForkParent:
    def __init__(self, connection: socket.socket, *, warm: bool) -> None:
        self._connection = connection
        self._warm = warm
        self._children: dict[int, str] = {}
        self._pid = os.getpid()

    def run(self) -> None:
        """Serve until the stand-in hangs up."""
        wake, signalled = socket.socketpair()
        wake.setblocking(False)
        signalled.setblocking(False)
        signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        selector = selectors.DefaultSelector()
        selector.register(self._connection, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        pending = b""
        while True:
            for key, _ in selector.select():
                if key.fileobj is wake:
                    wake.recv(4096)
                    continue
                received = self._connection.recv(1 << 16)
                if not received:
                    return
                *lines, pending = (pending + received).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))
            self._reap()

    def _obey(self, message: dict[str, Any]) -> None:
        if message["op"] == "start":
            pid = os.fork()
            if pid == 0:
                self._become(message)
            self._children[pid] = message["id"]
            self._tell(op="started", id=message["id"], pid=pid)
            return
        for pid, key in self._children.items():
            if key == message["id"]:  # not reaped yet, so the pid is still its own
                os.kill(pid, message["signal"])
                if message["signal"] == signal.SIGKILL:
                    _kill_group(pid)

    def _become(self, message: dict[str, Any]) -> NoReturn:
        """Turn the forked child into the pod's process."""
        code: object = 1
        try:
            die_with_parent(self._pid)
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(message["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 1)
            os.dup2(1, 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.closerange(3, 256)
            argv = message["argv"] or [] if self._warm else message["argv"] or _COLD
            if argv:
                os.chdir(message["folder"])
                os.execvpe(argv[0], argv, message["env"])
            os.environ.clear()
            os.environ.update(message["env"])
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
            from model_server.server import main as serve

            code = serve(dict(os.environ))
        except SystemExit as leaving:
            code = leaving.code
        except BaseException:  # noqa: BLE001  # the child's last frame: its log gets the traceback
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            _kill_group(pid)  # the processes that it left end with it, as in a container
            code = os.waitstatus_to_exitcode(status)
            self._tell(op="exited", id=self._children.pop(pid), code=code if code >= 0 else 128 - code)

    def _tell(self, **message: object) -> None:
        self._connection.sendall(json.dumps(message).encode() + b"\n")


_COLD = [sys.executable, "-m", "model_server"]


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # the group is empty


def main() -> None:
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stand-in answers Ctrl-C
    warm = False
    if sys.argv[3:] == ["preload"]:
        from model_server.from_mlflow import preload

        preload()
        gc.freeze()
        # A process with several threads cannot fork safely: then each pod starts cold.
        threads = len(list(Path("/proc/self/task").iterdir()))
        warm = threads == 1
        print(
            f"fork parent: model server imported, pods start {'warm' if warm else f'cold ({threads} threads)'}",
            flush=True,
        )
    ForkParent(socket.socket(fileno=descriptor), warm=warm).run()


if __name__ == "__main__":
    main()

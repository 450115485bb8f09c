"""The warm process: `python -m orchestration.warm_runs.parent DAGSTER_HOME LOCATION`.

It imports what runs need, and forks one process for each run. It has one thread and neither a channel of gRPC nor a
connection to a database, because none of these survives a fork. It ends when nobody has asked for it for a while, when
its code or settings have changed, and when it is told to; its runs go on. A run that ends unexpectedly is reported as
failed by another fork.
"""

import fcntl
import gc
import os
import random
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from orchestration.adapters.unix_sockets import address
from orchestration.warm_runs.channel import (
    NoAnswerError,
    environment_digest,
    folder_of,
    hear,
    initial_environment,
    name_of,
    say,
)
from orchestration.warm_runs.preload import code_version, preload, threads
from orchestration.warm_runs.worker import Worker

_UNWANTED_SECONDS = 180.0
"""How long it stays when no tick of the sensor asks for it; a tick lasts half a minute and may take its time."""
_HEAR_SECONDS = 1.0
"""How long a client may take for its question, because meanwhile nobody else is heard."""
_GO_SECONDS = 60.0
"""How long a forked run waits for its launcher to note who it is, in a database that others may be writing to."""


class Forked(Exception):  # noqa: N818 - not an error: it unwinds the parent's frames in the child
    """Raised in a forked child; `become` is what the child is for."""

    def __init__(self, become: Callable[[], None]) -> None:
        super().__init__()
        self.become = become


class WarmParent:
    """Answers at the socket, forks and reaps."""

    def __init__(self, listener: socket.socket, *, stays: bool = False) -> None:
        """Begin with this process's settings, and the code as it is now.

        Args:
            listener: the socket at which it answers.
            stays: whether it does not end by itself, because it has started others.
        """
        self._listener, self._stays = listener, stays
        self._environment = environment_digest(initial_environment())
        self._code = code_version()
        self._runs: dict[int, str] = {}
        """The arguments of each run that has not ended, by process id."""
        self._ending = False

    def serve(self, services: Collection[int] = ()) -> int | None:
        """Answer until it is told to end, one of the services has ended, or nobody has asked for it for a while.

        Args:
            services: process ids of children that are to stay.

        Returns:
            The service that has ended by itself; None when none has.

        Raises:
            Forked: in the children.
        """
        with _signals() as signalled, selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(signalled, selectors.EVENT_READ)
            wanted = time.monotonic()
            while not self._ending and (self._stays or time.monotonic() < wanted + _UNWANTED_SECONDS):
                if (ended := self._reap(services)) is not None:
                    return ended
                for key, _ in selector.select(_UNWANTED_SECONDS):
                    if key.fileobj is signalled:
                        self._ending |= bool(set(signalled.recv(4096)) & self._told_by)
                    else:
                        wanted = time.monotonic()
                        self._answer()
        return None

    @property
    def _told_by(self) -> set[int]:
        """Ctrl-C is for the runs, and for Dagster, without whom nobody asks; of a family this is the first process."""
        return {signal.SIGTERM, signal.SIGINT} if self._stays else {signal.SIGTERM}

    def _answer(self) -> None:
        connection, _ = self._listener.accept()
        with ExitStack() as open_here:
            open_here.enter_context(connection)
            connection.settimeout(_HEAR_SECONDS)
            try:
                message = hear(connection)
                settings = message.get("environment", self._environment)
                has_changed = settings != self._environment or code_version() != self._code
                self._ending |= has_changed and not self._stays
                if message.get("op") == "run" and not has_changed:
                    arguments = str(message.get("arguments"))
                    self._runs[self.fork(partial(_execute, connection, arguments), open_here)] = arguments
                elif message.get("op") == "here" and not self._ending:
                    say(connection, {"stays": True})
                else:
                    say(connection, {"refused": "the code or the settings have changed since the process started"})
            except NoAnswerError:
                return  # whoever asked has hung up

    def fork(self, become: Callable[[], None], keep: ExitStack | None = None) -> int:
        """Fork a child that unwinds and then does what it is for, and return its process id.

        Args:
            become: what the child is for.
            keep: what the child does not close.

        Raises:
            Forked: in the child.
        """
        pid = os.fork()
        if pid == 0:
            if keep is not None:
                keep.pop_all()
            raise Forked(become)
        return pid

    def _reap(self, services: Collection[int]) -> int | None:
        """Look who has ended, and fork who says so where a run broke off: that takes a connection to the database."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None
            if pid == 0 or pid in services:
                return pid or None
            arguments, code = self._runs.pop(pid, ""), os.waitstatus_to_exitcode(status)
            if arguments and code != 0:
                self.fork(partial(_report, arguments, code))


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """Yield what becomes readable with each signal that matters, and holds its number."""
    signalled, write = socket.socketpair()
    with signalled, write:
        write.setblocking(False)
        signalled.setblocking(False)
        signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        try:
            yield signalled
        finally:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _execute(connection: socket.socket, arguments: str) -> None:
    """Execute a run as `dagster api execute_run` does, once its launcher has noted who this is."""
    _forget_random_state()
    with connection:
        connection.settimeout(_GO_SECONDS)
        try:
            say(connection, {"worker": Worker.this().text()})
            hear(connection)
        except NoAnswerError:
            return  # the launcher let Dagster start the run
    from dagster._cli.api import api_cli

    api_cli.main(["execute_run", arguments], prog_name="dagster api", standalone_mode=False)


def _report(of_run: str, exit_code: int) -> None:
    """Report a run as failed whose process has ended before the run did."""
    from dagster import DagsterInstance
    from dagster._grpc.types import ExecuteRunArgs
    from dagster._serdes import deserialize_value
    from dagster._utils import get_run_crash_explanation

    arguments = deserialize_value(of_run, ExecuteRunArgs)
    assert arguments.instance_ref is not None, "the launcher sends it"
    with DagsterInstance.from_ref(arguments.instance_ref) as instance:
        run = instance.get_run_by_id(arguments.run_id)
        if run is not None and not run.is_finished:
            message = get_run_crash_explanation(f"Run execution process for {run.run_id}", exit_code)
            instance.report_engine_event(message, run)
            instance.report_run_failed(run)


def _forget_random_state() -> None:
    """Let each run draw numbers of its own: what was drawn from before the fork would repeat."""
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def listen(home: Path, location: str, held: ExitStack) -> socket.socket | None:
    """Import everything, and return a socket that only the owner may connect to.

    Args:
        home: DAGSTER_HOME.
        location: the code location's name.
        held: closes the socket, and gives the location free for others.

    Returns:
        None, and nothing is imported, when another process serves the location already.

    Raises:
        OSError: the folder cannot be used.
        SystemExit: the process cannot fork.
    """
    lock = held.enter_context((folder_of(home) / f"{name_of(location)}.lock").open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    preload()
    if (count := threads()) != 1:
        sys.exit(f"runs start without a warm process: it has {count} threads after its imports, and so cannot fork")
    listener = held.enter_context(socket.socket(socket.AF_UNIX))
    before = os.umask(0o177)
    try:
        with address(folder_of(home), name_of(location)) as place:
            Path(place).unlink(missing_ok=True)  # of one that was killed; the lock says that it has ended
            listener.bind(place)
    finally:
        os.umask(before)
    listener.listen(16)
    return listener


def main() -> None:
    """Serve until the end, or be a run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    home, location = Path(sys.argv[1]), sys.argv[2]
    become: Callable[[], None] | None = None
    try:
        with ExitStack() as held:
            listener = listen(home, location, held)
            if listener is None:
                return
            gc.collect()
            gc.freeze()  # what was imported is never looked at again, and so stays shared with the runs
            WarmParent(listener).serve()
    except Forked as forked:
        become = forked.become
    except OSError as error:  # such as a full disk
        sys.exit(f"runs start without a warm process: {error}")
    if become is not None:  # not above, where it would be part of an exception that is handled
        become()


if __name__ == "__main__":
    main()

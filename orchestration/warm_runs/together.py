"""The whole pipeline as one family: everything is imported once, and all its processes are forked from there.

They share what was imported, which is most of what each of them takes. When one of them ends, the others are ended, so
that whoever started the family (systemd, a container) starts it again as a whole.
"""

import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.warm_runs.parent import Forked, WarmParent, listen
from orchestration.warm_runs.preload import DEFINITIONS

LOCATION = "incumbent"
"""The code location's name, as in `workspace.yaml`: Dagster keeps the sensors' state under it."""
HOST = "127.0.0.1"
_END_SECONDS = 65.0
"""Dagster's code server waits for the ticks that it is evaluating, up to 60 s."""
_WORKSPACE = """\
load_from:
  - grpc_server: {{host: {host}, port: {port}, location_name: {location}}}
"""


@dataclass(frozen=True)
class Service:
    """One process of the family."""

    name: str
    """What `ps` shows."""
    run: Callable[[], object]
    """Returns, or raises SystemExit, when the process is to end."""
    waits_for: int | None = None
    """The port of this machine that must accept connections first."""


def dagster_services(home: Path, code_port: int, pages: tuple[str, int]) -> tuple[Service, ...]:
    """Return Dagster's processes: its code server, its daemon and its pages.

    Args:
        home: DAGSTER_HOME, into which their workspace is written.
        code_port: the port of the code server, at 127.0.0.1.
        pages: host and port of the pages.

    Raises:
        OSError: the workspace cannot be written.
    """
    workspace = home / "workspace-of-incumbent.yaml"
    text = _WORKSPACE.format(host=HOST, port=code_port, location=LOCATION)
    workspace.write_text(text, encoding="utf-8")

    def code() -> None:
        from dagster._cli import ENV_PREFIX, cli

        arguments = ["api", "grpc", "-m", DEFINITIONS, "--location-name", LOCATION, "-h", HOST, "-p", str(code_port)]
        cli(arguments, auto_envvar_prefix=ENV_PREFIX)

    def daemon() -> None:
        from dagster._daemon.cli import cli

        cli(["run", "-w", str(workspace)])

    def webserver() -> None:
        from dagster_webserver.cli import dagster_webserver

        dagster_webserver(["-w", str(workspace), "-h", pages[0], "-p", str(pages[1])])

    return (
        Service("code-server", code),
        Service("dagster-daemon", daemon, code_port),
        Service("dagster-pages", webserver, code_port),
    )


def serve_together(home: Path, family: Sequence[Service], say: Callable[[str], None]) -> None:
    """Run the family until SIGTERM or Ctrl-C.

    Args:
        home: DAGSTER_HOME.
        family: its processes.
        say: receives each line of progress.

    Raises:
        InvalidInputError: another process serves this DAGSTER_HOME already.
        DependencyError: one of the family has ended by itself.
    """
    become: Callable[[], None] | None = None
    try:
        with ExitStack() as held:
            listener = listen(home, LOCATION, held)
            if listener is None:
                next_step = "End that one first, or give this one a DAGSTER_HOME of its own."
                raise InvalidInputError(
                    Problem(f"DAGSTER_HOME {home}", "no other pipeline that uses it", "one that runs", next_step)
                )
            gc.collect()
            gc.freeze()
            _run(WarmParent(listener, stays=True), family, say)
    except Forked as forked:
        become = forked.become
    if become is not None:  # not above, where it would be part of an exception that is handled
        become()
        sys.exit(0)


def _run(parent: WarmParent, family: Sequence[Service], say: Callable[[str], None]) -> None:
    """Start the family, and end it as a whole."""
    _, status = os.waitpid(parent.fork(_lay_out), 0)
    if status != 0:
        raise _broken("what makes Dagster's databases has ended with a failure")
    pids: dict[int, str] = {}
    try:
        pids = {parent.fork(partial(_be, service)): service.name for service in family}
        say(f"running: {', '.join(pids.values())}")
        ended = parent.serve(pids)
    except Forked:
        pids = {}  # they are the parent's
        raise
    finally:
        _end(list(pids))
    if ended is not None:
        raise _broken(f"{pids[ended]} has ended")


def _broken(found: str) -> DependencyError:
    return DependencyError(Problem("the pipeline", "processes that stay", found, "The lines before this one say why."))


def _end(pids: Sequence[int]) -> None:
    """End services, the last that was started first, so that none misses another; kill those that take too long."""
    until = time.monotonic() + _END_SECONDS
    for pid in reversed(pids):
        try:
            held = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended by itself, and was waited for
            continue
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(held, number)
            if select.select([held], [], [], max(0.0, until - time.monotonic()))[0]:
                break
        os.close(held)
        os.waitpid(pid, 0)


def _lay_out() -> None:
    """Make the databases: processes that all do it at once on an empty DAGSTER_HOME trip over each other."""
    from dagster import DagsterInstance

    with DagsterInstance.get() as instance:
        instance.get_runs_count()
        instance.all_instigator_state()


def _be(service: Service) -> None:
    Path("/proc/self/comm").write_text(service.name[:15], encoding="utf-8")
    while service.waits_for is not None and not _accepts(service.waits_for):
        time.sleep(0.1)
    service.run()


def _accepts(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex((HOST, port)) == 0

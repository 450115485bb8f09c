"""A PostgreSQL of this machine for one test: an ordinary user's, without a password, on loopback alone."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbeds.common.processes import Processes, Service, wait_until
from testbeds.common.services import HOST, accepts, free_ports
from testbeds.common.tools import find_tool

_NOBODY = 65534
_START_SECONDS = 60.0


class PostgreSQL:
    """A server that can be killed and started again on the same data."""

    def __init__(self, processes: Processes, data: Path, port: int) -> None:
        self.url = f"postgresql+psycopg2://dagster@{HOST}:{port}/postgres"
        self._processes, self._data, self._port = processes, data, port
        self._service: Service | None = None

    def start(self) -> None:
        """Start it, and return when it accepts connections; after a kill it recovers first."""
        settings = {
            "listen_addresses": HOST,
            "port": str(self._port),
            "unix_socket_directories": "",
            "max_connections": "200",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command: list[str | Path] = [*_as_ordinary_user(), find_tool("postgres"), "-D", self._data, *options]
        self._service = self._processes.start("postgresql", command, cwd=self._data)
        wait_until(lambda: accepts(self._port), _START_SECONDS, "PostgreSQL answers", self._service)

    def crash(self) -> None:
        """End it at once with all its processes, without finishing anything; its connections break."""
        assert self._service is not None, "it was started"
        self._service.process.send_signal(signal.SIGQUIT)
        self._service.process.wait(_START_SECONDS)
        self._processes.stop(self._service)
        self._service = None


@contextmanager
def postgresql(processes: Processes) -> Iterator[PostgreSQL]:
    """Provide a running server with empty data, which is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="incumbent-postgresql-"))  # the folders above a test's own let nobody else in
    try:
        if os.geteuid() == 0:
            os.chown(folder, _NOBODY, _NOBODY)
        data = folder / "data"
        initdb = find_tool("postgres").with_name("initdb")
        command: list[str | Path] = [
            *_as_ordinary_user(),
            initdb,
            "-D",
            data,
            "-U",
            "dagster",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-sync",
        ]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
        server = PostgreSQL(processes, data, free_ports(1)[0])
        server.start()
        yield server
        server.crash()
    finally:
        shutil.rmtree(folder)


def _as_ordinary_user() -> list[str]:
    """Return what runs a command as nobody where this is root, as whom PostgreSQL does not start."""
    return ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []

"""The process: one thread that looks, one that answers scrapes, until it is told to end."""

import signal
import threading
from collections.abc import Callable

from orchestration.exporter.watcher import Sources, Watcher
from orchestration.promotion.problems import InvalidInputError, Problem

LOOK_SECONDS = 15.0
_LAST_LOOK_SECONDS = 5.0
"""How long a look that is under way may go on after the end was asked for; it only reads."""


def serve(sources: Sources, host: str, port: int, say: Callable[[str], None]) -> None:
    """Look and answer until SIGTERM or Ctrl-C.

    Raises:
        InvalidInputError: nobody can listen at that address, or a setting is missing.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    from orchestration.exporter.exposition import FindingsCollector

    watcher, stopping = Watcher(sources, say), threading.Event()
    registry = CollectorRegistry()
    registry.register(FindingsCollector(lambda: watcher.findings))
    try:
        server, answering = start_http_server(port, host, registry)
    except OSError as error:
        problem = Problem(
            f"address {host}:{port}", "one to listen at", error.strerror or str(error), "Give another by --listen."
        )
        raise InvalidInputError(problem) from error

    def look_until_stopped() -> None:
        while not stopping.is_set():
            watcher.look()
            stopping.wait(LOOK_SECONDS)

    looking = threading.Thread(target=look_until_stopped, name="looking", daemon=True)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.set())
    looking.start()
    say(f"metrics at http://{host}:{server.server_port}/metrics")
    stopping.wait()
    looking.join(_LAST_LOOK_SECONDS)
    server.shutdown()
    server.server_close()
    answering.join()

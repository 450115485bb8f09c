"""The process: one thread looks at the policies and one answers scrapes, until the process is told to end."""

import signal
import threading
from collections.abc import Callable

from orchestration.exporter.watcher import Watcher
from orchestration.promotion.platform import Platform
from orchestration.promotion.problems import InvalidInputError, Problem

LOOK_SECONDS = 15.0
_LAST_LOOK_SECONDS = 5.0
"""How long a look that is under way may go on after the process was told to end; a look only reads."""


def serve(platform: Platform, host: str, port: int, say: Callable[[str], None]) -> None:
    """Look and answer scrapes until SIGTERM or Ctrl-C.

    Args:
        platform: where policies, Git, the registry and the clusters are.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        say: receives each line of progress or trouble.

    Raises:
        InvalidInputError: the address cannot be listened on, or a setting is missing.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    from orchestration.exporter.exposition import FindingsCollector

    watcher, stopping = Watcher(platform, say), threading.Event()
    registry = CollectorRegistry()
    registry.register(FindingsCollector(lambda: watcher.findings))
    try:
        server, answering = start_http_server(port, host, registry)
    except OSError as error:
        problem = Problem(
            f"address {host}:{port}",
            "an address to listen on",
            error.strerror or str(error),
            "Give another with --listen.",
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

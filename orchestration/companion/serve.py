"""The process: one HTTP server, and a thread for the work of each part, until it is told to end."""

import signal
import socket
import threading
from collections.abc import Callable, Sequence

import uvicorn
from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from orchestration.companion.part import Part
from orchestration.companion.requests import Refusals
from orchestration.promotion.problems import InvalidInputError, Problem

_LAST_SECONDS = 5
"""How long requests may go on after the process was told to end."""
_BACKLOG = 128


def serve(parts: Sequence[Part], registry: CollectorRegistry, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve and work until SIGTERM or Ctrl-C.

    Args:
        parts: what to serve and to do.
        registry: has the metrics; those of the parts are added to it.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        say: receives each line of progress or trouble.

    Raises:
        InvalidInputError: the address cannot be listened on.
        Exception: what the work of a part raised; the process cannot go on without it.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call] # they would double the number of series
    with _listening(host, port) as listener:
        server = uvicorn.Server(_config(_application(parts, registry)))
        failed: list[BaseException] = []

        def work(part: Part) -> None:
            try:
                part.work()
            except BaseException as error:  # noqa: BLE001 - raised below, in the thread that ends the process
                failed.append(error)
                server.should_exit = True

        threads = [threading.Thread(target=work, args=(part,), name=part.name, daemon=True) for part in parts]
        for name in (signal.SIGTERM, signal.SIGINT):
            # Until uvicorn has its own handlers, and after it: it raises the signal that ended it once more.
            signal.signal(name, lambda *_: setattr(server, "should_exit", True))
        for part in parts:
            for collector in part.collectors:
                registry.register(collector)
        for thread in threads:
            thread.start()
        say(f"listening at http://{host}:{listener.getsockname()[1]} ({', '.join(part.name for part in parts)})")
        server.run(sockets=[listener])
        for part in parts:
            part.stop()
        for part, thread in zip(parts, threads, strict=True):
            thread.join(part.patience)
            if not thread.is_alive():
                part.close()
        if failed:
            raise failed[0]


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        found, next_step = error.strerror or str(error), "Give another with --listen."
        raise InvalidInputError(
            Problem(f"address {host}:{port}", "an address to listen on", found, next_step)
        ) from error


def _config(application: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_LAST_SECONDS,
    )


def _application(parts: Sequence[Part], registry: CollectorRegistry) -> Starlette:
    def metrics(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry), headers={"Content-Type": media_type})

    def live(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    def ready(_request: Request) -> Response:
        troubles = [f"{part.name}: {trouble}" for part in parts if (trouble := part.trouble()) is not None]
        return PlainTextResponse("".join(f"{line}\n" for line in troubles or ["ok"]), 503 if troubles else 200)

    routes = [Route("/metrics", metrics), Route("/live", live), Route("/ready", ready)]
    application = Starlette(
        routes=[*routes, *(route for part in parts for route in part.routes)],
        exception_handlers={HTTPException: Refusals(registry).answer},
    )
    application.router.redirect_slashes = False  # a redirect would be given the token
    return application

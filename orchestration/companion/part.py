"""A part of the companion process: what it serves, what it does in the background, and what it exposes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client.registry import Collector
from starlette.routing import Route


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Part:
    """One part. `work` runs in a thread of its own until `stop` was called; if it raises, the process ends."""

    name: str
    work: Callable[[], None]
    stop: Callable[[], None]
    """Lets `work` return soon."""
    patience: float
    """Seconds in which `work` has to return then; later, the process ends without it."""
    routes: Sequence[Route] = ()
    collectors: Sequence[Collector] = ()
    trouble: Callable[[], str | None] = _nothing
    """Why the part cannot serve now; None while it can."""
    close: Callable[[], None] = _nothing
    """Called once `work` has returned."""

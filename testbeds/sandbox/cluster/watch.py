"""Watches: what changed since a resource version as a stream of events, a bookmark at the end, 410 when too old."""

import asyncio
import copy
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from testbeds.sandbox.cluster.objects import ApiError, Json, Resource, Store

_KEPT = 2000
_DEFAULT_SECONDS = 1800.0


@dataclass(frozen=True)
class Change:
    version: int
    event: str
    """ADDED, MODIFIED or DELETED."""
    item: Json


class Changes:
    """The latest changes of a store, each with the object as it was then; each change wakes the watchers."""

    def __init__(self, store: Store) -> None:
        self._kept: deque[Change] = deque(maxlen=_KEPT)
        self._known: set[str] = set()
        self._watchers: set[asyncio.Event] = set()
        self._store = store
        self._first = int(store.version)
        store.listeners.append(self._notice)

    def _notice(self, _: str, item: Json) -> None:
        uid, alive = item["metadata"]["uid"], self._store.alive(item)
        event = "DELETED" if not alive else "MODIFIED" if uid in self._known else "ADDED"
        (self._known.add if alive else self._known.discard)(uid)
        if len(self._kept) == _KEPT:
            self._first = self._kept[0].version
        self._kept.append(Change(int(self._store.version), event, copy.deepcopy(item)))
        for watcher in self._watchers:
            watcher.set()

    async def stream(
        self,
        resource: Resource,
        start: str,
        choose: Callable[[list[Json]], list[Json]],
        seconds: float | None,
        *,
        bookmarks: bool,
    ) -> AsyncIterator[str]:
        """Yield lines of JSON for the objects that `choose` accepts, for a number of seconds.

        Begins behind the version `start`; with none, or 0, with all that is there. A version that is older than what is
        kept gets one ERROR event with a Status of 410, after which a client lists anew.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + (seconds or _DEFAULT_SECONDS)
        seen = int(start or 0)
        if not seen:
            seen = int(self._store.version)
            for item in choose(self._store.all(resource.kind)):
                yield _line("ADDED", item)
        elif seen < self._first:
            message = f"too old resource version: {seen} ({self._first})"
            yield _line("ERROR", ApiError(410, "Expired", message).status)
            return
        stirred = asyncio.Event()
        self._watchers.add(stirred)
        try:
            while True:
                stirred.clear()
                news = [change for change in self._kept if change.version > seen]
                seen = int(self._store.version)
                for change in news:
                    if change.item["kind"] == resource.kind and choose([change.item]):
                        yield _line(change.event, change.item)
                try:
                    await asyncio.wait_for(stirred.wait(), max(0.0, ends - loop.time()))
                except TimeoutError:
                    break
        finally:
            self._watchers.discard(stirred)
        if bookmarks:
            about = {"kind": resource.kind, "apiVersion": resource.api_version}
            yield _line("BOOKMARK", about | {"metadata": {"resourceVersion": str(seen)}})


def _line(event: str, item: Json) -> str:
    return json.dumps({"type": event, "object": item}) + "\n"

"""When a controller looks: as soon as something that it is about has changed, and otherwise again and again."""

import asyncio
import contextlib

from testbeds.sandbox.cluster.objects import Store

_PERIOD = 0.2
"""Seconds; deadlines pass without any change."""


class Stirred:
    """Lets one controller wait for changes."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def listen(self, store: Store, *kinds: str) -> None:
        """Count each change of an object of these kinds."""
        store.listeners.append(lambda kind, _item: self.stir() if kind in kinds else None)

    def stir(self) -> None:
        """End the wait, now or as soon as it begins."""
        self._changed.set()

    async def wait(self) -> None:
        """Return after a change since the last wait, or after a while without one."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), _PERIOD)
        self._changed.clear()

"""The part that looks at the promotions and exposes their metrics."""

import threading
from collections.abc import Callable

from orchestration.companion.part import Part
from orchestration.exporter.exposition import FindingsCollector
from orchestration.exporter.watcher import Watcher
from orchestration.promotion.platform import Platform

LOOK_SECONDS = 15.0
_LAST_LOOK_SECONDS = 5.0
"""How long a look that is under way may go on after the process was told to end; a look only reads."""


def promotions_part(platform: Platform, say: Callable[[str], None]) -> Part:
    """Return the part that looks at the policies every 15 s; a look only reads.

    Args:
        platform: where policies, Git, the registry and the clusters are.
        say: receives each line of trouble.
    """
    watcher, stopping = Watcher(platform, say), threading.Event()

    def look_until_stopped() -> None:
        while not stopping.is_set():
            watcher.look()
            stopping.wait(LOOK_SECONDS)

    collector = FindingsCollector(lambda: watcher.findings)
    return Part("promotions", look_until_stopped, stopping.set, _LAST_LOOK_SECONDS, collectors=[collector])

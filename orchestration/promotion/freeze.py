"""Freeze windows: times in which a policy lets nothing be committed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from orchestration.promotion.cron import last_start
from orchestration.promotion.policy import FreezeWindow

_MOST_WINDOWS = 1000
"""How many windows in a row are followed to the end of a freeze, so that one without an end is found out."""


@dataclass(frozen=True)
class Freeze:
    """A freeze that is on: the windows that are open, and when nothing is frozen any more."""

    windows: tuple[FreezeWindow, ...]
    until: float | None
    """Seconds since the epoch; None when the windows follow each other without a gap."""

    def __str__(self) -> str:
        reasons = " and ".join(dict.fromkeys(window.reason for window in self.windows))
        if self.until is None:
            return f"a freeze without an end: one window begins before the other is over ({reasons})"
        return f"a freeze until {_shown(self.until, self.windows[0].timezone)} ({reasons})"


def current_freeze(windows: Sequence[FreezeWindow], now: float) -> Freeze | None:
    """Return the freeze that is on at a time (seconds since the epoch); None when nothing is frozen.

    A window lasts its duration in real time: one that contains a change of the clock ends an hour earlier or later on
    the clock. Windows that overlap or touch are one freeze.
    """
    ends = {window: end for window in windows if (end := _end(window, now)) is not None and end > now}
    if not ends:
        return None
    until = max(ends.values())
    for _ in range(_MOST_WINDOWS):
        later = max(end for window in windows if (end := _end(window, until)) is not None)
        if later <= until:
            return Freeze(tuple(ends), until)
        until = later
    return Freeze(tuple(ends), None)


def _end(window: FreezeWindow, at: float) -> float | None:
    """Return when the newest window that has begun at a time ends; None when none has begun yet."""
    start = last_start(window.cron, ZoneInfo(window.timezone), at)
    return None if start is None else start + window.for_


def _shown(at: float, zone: str) -> str:
    """Show a time in UTC, and in a time zone as well."""
    moment = datetime.fromtimestamp(at, UTC)
    local = moment.astimezone(ZoneInfo(zone))
    shown = f"{moment:%Y-%m-%d %H:%M} UTC"
    return shown if zone == "UTC" else f"{shown} ({local:%a %Y-%m-%d %H:%M} {zone})"

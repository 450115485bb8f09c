"""How long things took, as a histogram counts it."""

from bisect import bisect_left
from dataclasses import dataclass, replace

BUCKETS = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 900, 1800, 3600)
"""Upper bounds in seconds: from a commit that was waited for by nobody to a soak of an hour."""
_WHOLE_SECOND = 1.0


@dataclass(frozen=True)
class Durations:
    counts: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)
    """How many fell into each bucket, and at last how many took longer than all of them."""
    total: float = 0.0

    def with_one(self, seconds: float) -> "Durations":
        """These and one more."""
        at = bisect_left(BUCKETS, seconds)
        counts = (*self.counts[:at], self.counts[at] + 1, *self.counts[at + 1 :])
        return replace(self, counts=counts, total=self.total + seconds)


def seconds_between(start: float | None, end: float | None) -> float | None:
    """How long it took; None when a moment is unknown, or clocks disagree so that it ended before it began.

    Git keeps whole seconds, so what took no time at all may seem to have ended almost a second early.
    """
    if start is None or end is None or end - start <= -_WHOLE_SECOND:
        return None
    return max(0.0, end - start)

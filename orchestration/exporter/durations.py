"""How long things took, counted as a Prometheus histogram counts."""

from bisect import bisect_left
from dataclasses import dataclass, replace

BUCKETS = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 900, 1800, 3600)
"""Upper bounds in seconds: from a commit that had to wait for nothing to a soak of an hour."""
_WHOLE_SECOND = 1.0


@dataclass(frozen=True)
class Durations:
    """Durations in seconds, by bucket and in total."""

    counts: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)
    """How many fell into each bucket; the last number counts those longer than all bounds."""
    total: float = 0.0

    def with_one(self, seconds: float) -> "Durations":
        """Return these durations and one more."""
        bucket = bisect_left(BUCKETS, seconds)
        counts = (*self.counts[:bucket], self.counts[bucket] + 1, *self.counts[bucket + 1 :])
        return replace(self, counts=counts, total=self.total + seconds)


def seconds_between(start: float | None, end: float | None) -> float | None:
    """Return the seconds from start to end; None when either is unknown, or when clocks disagree on their order.

    Git keeps whole seconds, so something that took no time at all may seem to have ended almost a second early; that
    counts as 0.
    """
    if start is None or end is None or end - start <= -_WHOLE_SECOND:
        return None
    return max(0.0, end - start)

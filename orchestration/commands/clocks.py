"""Whether other machines' clocks agree with this one's, as `incumbent doctor` asks."""

from collections.abc import Callable

from orchestration.commands.probes import Finding, failed, ok, unknown
from orchestration.promotion.ports import Clock
from orchestration.promotion.problems import Problem

_SKEW_SECONDS = 5.0
"""How far two clocks may differ: less than the scrape intervals and lease times that depend on them."""


def clock_of(
    clock: Clock, name: str, ask: Callable[[], float | None], resolution: float = 1.0
) -> Callable[[], Finding]:
    """Return the question whether another machine's clock agrees with this one's.

    The ages of scrapes and pods, deadlines and leases are judged by both.

    Args:
        clock: this machine's.
        name: what has the clock.
        ask: asks it for its time, in seconds since the epoch; None when it does not tell.
        resolution: by how many seconds that time may be rounded down; an HTTP header `Date` has whole seconds.
    """

    def look() -> Finding:
        before = clock.now()
        at = ask()
        after = clock.now()
        if at is None:
            return unknown(f"{name} does not tell its time")
        skew = max(0.0, before - (at + resolution), at - after)
        if skew <= _SKEW_SECONDS:
            return ok(f"agrees with this machine's to {max(skew, resolution, 0.1):.1f} s")
        expected, found = f"to agree to {_SKEW_SECONDS:g} s", f"a difference of {skew:.0f} s"
        next_step = "Synchronise both by NTP; on each machine: timedatectl set-ntp true."
        return failed(Problem(f"this machine's clock and that of {name}", expected, found, next_step))

    return look

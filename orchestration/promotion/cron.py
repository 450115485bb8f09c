"""Cron expressions in a time zone, as Debian's cron understands them; the zones are those of the system or of tzdata.

On the day that summer time begins, a time that the clock skips counts as the end of the gap; on the day that it ends, a
time that occurs twice counts once, the first time.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_CHANGE = timedelta(hours=4)
"""Longer than any change of the clock's offset, which is two hours at most."""
_SOME_DAY = 1_800_000_000.0


def cron_fault(expression: str) -> str | None:
    """Say why a text cannot be used as a cron expression of five fields; None when it can."""
    if len(expression.split()) != 5:
        return f"expected a cron expression of five fields such as '0 18 * * 5', found {expression!r}"
    try:
        start = last_start(expression, ZoneInfo("UTC"), _SOME_DAY)
    except (CronSimError, ValueError, TypeError, AssertionError) as error:  # the last three for what it did not foresee
        detail = f" ({error})" if isinstance(error, CronSimError) else ""
        return f"expected a cron expression such as '0 18 * * 5', found {expression!r}{detail}"
    return None if start is not None else f"expected a cron expression with a time to come, found {expression!r}"


def zone_fault(name: str) -> str | None:
    """Say why a text is not the name of a time zone; None when it is."""
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # not known; not a name; a folder of zones
        return f"expected a time zone such as Europe/Zurich, found {name!r}"
    return None


def last_start(expression: str, zone: ZoneInfo, at: float) -> float | None:
    """Return the newest time of a cron expression that is not after `at`; None when there is none in 50 years.

    Args:
        expression: Five fields.
        zone: The time zone of the expression.
        at: Seconds since the epoch, as the result.
    """
    moment = datetime.fromtimestamp(int(at), UTC)
    begin = moment + timedelta(seconds=1)  # the walk begins before the time that it is given
    if (moment - _CHANGE).astimezone(zone).utcoffset() != (moment + _CHANGE).astimezone(zone).utcoffset():
        begin += _CHANGE  # cronsim reads a clock that shows an hour twice as the first of the two
    for start in CronSim(expression, begin.astimezone(zone), reverse=True):
        if start.timestamp() <= at:
            return start.timestamp()
    return None

"""Freeze windows, also where summer time begins and ends, and cron expressions that cannot be used."""

from bisect import bisect_right
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.cron import cron_fault, last_start, zone_fault
from orchestration.promotion.freeze import current_freeze
from orchestration.promotion.policy import FreezeWindow

ZURICH = ZoneInfo("Europe/Zurich")
BEGINS, ENDS = datetime(2026, 3, 29, tzinfo=ZURICH), datetime(2026, 10, 25, tzinfo=ZURICH)
"""The days on which summer time begins (02:00 becomes 03:00) and ends (03:00 becomes 02:00)."""


def window(cron: str, lasts: str, zone: str = "Europe/Zurich", reason: str = "weekend") -> FreezeWindow:
    return FreezeWindow.model_validate({"cron": cron, "for": lasts, "timezone": zone, "reason": reason})


def at(local: str, *, fold: int = 0) -> float:
    """Seconds since the epoch of a time on Zurich's clock; `fold=1` is the second of two such times."""
    return datetime.fromisoformat(local).replace(tzinfo=ZURICH, fold=fold).timestamp()


def until(windows: list[FreezeWindow], now: float) -> float | None:
    freeze = current_freeze(windows, now)
    assert freeze is not None, "frozen"
    return freeze.until


def test_a_window_is_open_from_its_start_and_not_at_its_end() -> None:
    """Friday 18:00 for 62 hours ends on Monday at 08:00, and before and after nothing is frozen."""
    weekend = [window("0 18 * * 5", "62h")]
    assert current_freeze(weekend, at("2026-11-27 17:59:59")) is None
    for moment in ("2026-11-27 18:00:00", "2026-11-28 00:00:00", "2026-11-30 07:59:59"):
        assert until(weekend, at(moment)) == at("2026-11-30 08:00")
    assert current_freeze(weekend, at("2026-11-30 08:00")) is None


def test_the_end_is_told_in_utc_and_on_the_local_clock() -> None:
    """A person need not convert, and the reasons are named once each."""
    freeze = current_freeze([window("0 18 * * 5", "62h"), window("0 20 * * 5", "1h")], at("2026-11-27 20:30"))
    assert str(freeze) == "a freeze until 2026-11-30 07:00 UTC (Mon 2026-11-30 08:00 Europe/Zurich) (weekend)"
    assert str(current_freeze([window("0 0 * * *", "1h", "UTC")], 0.0)) == (
        "a freeze until 1970-01-01 01:00 UTC (weekend)"
    )


def test_a_window_lasts_real_time_where_the_clock_changes() -> None:
    """62 hours are 62 hours: on the clock they end an hour later in March, and an hour earlier in October."""
    weekend = [window("0 18 * * 5", "62h")]
    assert until(weekend, at("2026-03-28 12:00")) == at("2026-03-30 09:00")
    assert until(weekend, at("2026-10-24 12:00")) == at("2026-10-26 07:00")


def test_a_start_that_the_clock_skips_is_the_end_of_the_gap() -> None:
    """02:30 does not exist on 29 March 2026, so the window begins at 03:00 summer time, and is not left out."""
    night = [window("30 2 * * *", "1h")]
    assert current_freeze(night, at("2026-03-29 01:59:59")) is None
    assert until(night, at("2026-03-29 03:00")) == at("2026-03-29 04:00")
    assert current_freeze(night, at("2026-03-29 04:00")) is None


def test_a_start_that_occurs_twice_counts_once() -> None:
    """02:30 comes twice on 25 October 2026; the first begins the window, which ends an hour of real time later."""
    night = [window("30 2 * * *", "1h")]
    first, second = at("2026-10-25 02:30"), at("2026-10-25 02:30", fold=1)
    assert second - first == 3600
    assert until(night, first) == until(night, second - 1) == second
    assert current_freeze(night, second) is None


def test_a_window_over_midnight() -> None:
    """It belongs to the day on which it began."""
    nights = [window("0 22 * * 1-5", "8h")]
    assert until(nights, at("2026-11-28 05:59")) == at("2026-11-28 06:00")
    assert current_freeze(nights, at("2026-11-29 01:00")) is None


def test_windows_that_overlap_or_touch_are_one_freeze() -> None:
    """The end is that of the last one, also when another begins only later; the reasons are those of the open ones."""
    windows = [
        window("0 18 * * 5", "62h", reason="weekend"),
        window("0 8 * * 1", "2h", reason="stand-up"),
        window("0 9 * * 1", "1h", "UTC", reason="batch"),
    ]
    freeze = current_freeze(windows, at("2026-11-28 12:00"))
    assert freeze is not None
    assert freeze.until == at("2026-11-30 11:00")
    assert [open_window.reason for open_window in freeze.windows] == ["weekend"]
    assert current_freeze(windows, at("2026-11-30 11:00")) is None


def test_a_window_longer_than_its_period_never_ends() -> None:
    """It is frozen for good, and the words say so, whether one window does it or two."""
    for windows in (
        [window("0 0 * * *", "25h")],
        [window("0 0 * * *", "24h", "UTC")],
        [window("0 0 * * *", "12h", "UTC"), window("0 12 * * *", "12h", "UTC")],
    ):
        freeze = current_freeze(windows, at("2026-11-28 12:00"))
        assert freeze is not None
        assert freeze.until is None
        assert "without an end" in str(freeze)
    daily = [window("0 0 * * *", "24h")]
    assert until(daily, at("2026-10-01 12:00")) == at("2026-10-25 23:00"), "the day of 25 hours has one that is free"


def test_a_window_before_its_first_time_is_closed() -> None:
    """An expression for one day of four years, and no window at all, freeze nothing now."""
    assert current_freeze([window("0 0 29 2 *", "24h")], at("2026-11-28 12:00")) is None
    assert current_freeze([], 0.0) is None


_EXPRESSIONS = ["0 18 * * 5", "30 2 * * *", "0 3 * * *", "*/15 2 * * *", "0 */2 * * *", "15 1,2,3 * * 0", "* * * * *"]


@pytest.fixture(scope="module")
def starts() -> dict[tuple[str, datetime], list[float]]:
    """The starts around both days as a walk forward in time finds them."""
    found: dict[tuple[str, datetime], list[float]] = {}
    for expression in _EXPRESSIONS:
        for day in (BEGINS, ENDS):
            walk = found[expression, day] = []
            for start in CronSim(expression, day - timedelta(days=8)):
                if start > day + timedelta(days=2):
                    break
                walk.append(start.timestamp())
    return found


@given(
    expression=st.sampled_from(_EXPRESSIONS),
    day=st.sampled_from([BEGINS, ENDS]),
    after=st.floats(min_value=-6 * 3600, max_value=30 * 3600),
)
def test_the_last_start_is_the_newest_of_all_starts(
    starts: dict[tuple[str, datetime], list[float]], expression: str, day: datetime, after: float
) -> None:
    """Around both changes of the clock, looking back finds what a walk forward in time finds."""
    moment = day.timestamp() + after
    walk = starts[expression, day]
    assert last_start(expression, ZURICH, moment) == walk[bisect_right(walk, moment) - 1]


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "@daily", "0 0 0 * * *", "61 * * * *", "0 0 31 2 *", "* * */20 * 1L", "1#2/3 * * * *", "² * * * *"],
)
def test_an_expression_that_cannot_be_used_is_refused(expression: str) -> None:
    """Also one that never comes true, and one with seconds; the message shows it."""
    assert repr(expression) in str(cron_fault(expression))
    with pytest.raises(ValueError, match="cron"):
        window(expression, "1h")


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Europe", "a\0b", "x" * 5000])
def test_a_zone_that_does_not_exist_is_refused(name: str) -> None:
    """A path is no zone, and neither is a folder of zones."""
    assert zone_fault(name) is not None
    with pytest.raises(ValueError, match="time zone"):
        window("0 0 * * *", "1h", name)

"""Values that come from a clock or a counter, among those that do not."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestration.promotion.answer_comparison import Rules, Tolerance
from orchestration.promotion.clock_values import clock_paths
from orchestration.promotion.json_paths import format_path

NOW = datetime(2026, 11, 26, 15, 27, 35, tzinfo=UTC)
RULES = Rules(Tolerance())


def found(*answers: Any, request: Any = "a request") -> list[str]:
    return [format_path(path) for path in clock_paths([request], [answers], RULES, NOW.timestamp())]


@pytest.mark.parametrize(
    "value",
    [
        NOW.timestamp(),
        int(NOW.timestamp()) - 20,
        NOW.timestamp() * 1e3,
        int(NOW.timestamp() * 1e6),
        NOW.isoformat(),
        "2026-11-26T15:27:30Z",
        "2026-11-26 16:27:30.123",
        "2026-11-26",
        "Thu, 26 Nov 2026 15:27:35 GMT",
        "26.11.2026",
        "26/11/2026",
        "11/26/2026 15:27",
        "2026/11/26",
        "26 Nov 2026",
        "November 26, 2026",
    ],
)
def test_the_time_of_an_answer_is_found(value: object) -> None:
    """Seconds and their parts since the epoch, and dates as servers write them."""
    assert found({"p": 1, "at": value}) == ["$.at"]


@pytest.mark.parametrize(
    "value",
    [
        1795,
        0.97,
        2026,
        "2026",
        20261126,
        "15",
        "v1.2",
        "",
        (NOW - timedelta(days=3)).isoformat(),
        True,
        None,
        "26.10.2026",
        f"26.11.2026 {'x' * 30}",
    ],
)
def test_what_is_not_about_now_is_compared(value: object) -> None:
    """A year, a version or the date of a model's training stays the same."""
    assert found({"p": value}) == []


def test_a_date_that_was_asked_for_is_compared() -> None:
    """It comes from the request, and will come back the next time."""
    assert found({"ds": "2026-11-26", "yhat": 3.5}, request={"rows": [{"ds": "2026-11-26"}]}) == []


@pytest.mark.parametrize(
    "dates",
    [("2026-11-27", "2026-11-26", "2026-11-27"), ("2026-11-26", "2026-12-24"), ("2026-11-26", "soon")],
)
def test_a_date_that_is_predicted_is_compared(dates: tuple[str, ...]) -> None:
    """It depends on the request, so it goes back and forth, or is not always near now."""
    days = [[{"eta": date}] * 3 for date in dates]
    assert clock_paths(range(len(dates)), days, RULES, NOW.timestamp()) == ()
    moving = [[{"at": (NOW + timedelta(seconds=second)).isoformat()}] for second in (0, 1, 0, 2)]
    assert clock_paths(range(4), moving, RULES, NOW.timestamp()) == (("at",),)


def test_what_counts_upwards_with_each_answer_is_found() -> None:
    """A counter or the time since a start moves by less than the tolerance; noise goes up and down."""
    uptime = [{"p": 0.5 + noise * 1e-9, "up": 1e6 + n / 100} for n, noise in enumerate((1, 3, 2, 5, 4, 6))]
    assert found(*uptime) == ["$.up"]
    assert found(*uptime[:5]) == []

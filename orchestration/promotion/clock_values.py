"""Values in answers that come from a clock or a counter: they look stable while a recording is made, and are not.

A time in seconds moves by less than a tolerance between two answers, and a date by nothing at all.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import pairwise
from typing import Any

from orchestration.promotion.answer_comparison import Rules, is_number
from orchestration.promotion.json_paths import Path, leaves
from orchestration.promotion.steady_answers import compared_leaves

ENOUGH = 6
"""How many answers must count upwards to be called a clock: numbers that vary by chance do so once in 720 times."""
_CLOCKS_DIFFER = 300.0
_DAY = 26 * 3600.0
"""Seconds. A time without a zone may be off by half a day, and a date by a whole one."""
_UNITS = (1.0, 1e3, 1e6, 1e9)
"""In which parts of a second times are counted."""
_LAST_TIME = 1e20
"""No time in any of the units; an integer in JSON may be larger than a float can be."""
_LONGEST_TIME = 40
"""Characters; a longer text has a time in it at most, and is something else."""
_DATES = (
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d"),
    *("%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%b %d %Y", "%b %d, %Y", "%B %d, %Y"),
)
"""Dates as people write them, beside those of ISO 8601 and RFC 5322."""
_HOURS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p")


def clock_paths(
    requests: Sequence[Any], repeated: Sequence[Sequence[Any]], rules: Rules, now: float
) -> tuple[Path, ...]:
    """Find what is the time of the answer, or counts upwards from answer to answer.

    Args:
        requests: what was asked; a date in an answer that is also in its request comes from there.
        repeated: for each request its answers, in the order in which they came.
        rules: what is not compared anyway.
        now: in seconds since the epoch, when the answers came.
    """
    candidates: dict[Path, None] = {}
    asked_values = [_values_of(request) for request in requests]
    for asked, answers in zip(asked_values, repeated, strict=True):
        for path, value in compared_leaves(answers[0], rules):
            if value not in asked and _time_near(value, now) is not None:
                candidates[path] = None
    readings = [dict(compared_leaves(answer, rules)) for answers in repeated for answer in answers]
    asked_each = [asked for asked, answers in zip(asked_values, repeated, strict=True) for _ in answers]
    found = {path: None for path in candidates if _never_goes_back(path, readings, asked_each, now)}
    found |= dict.fromkeys(_rising(readings))
    return tuple(found)


def _values_of(request: Any) -> set[int | float | str]:
    return {value for _, value in leaves(request) if isinstance(value, int | float | str)}


def _never_goes_back(
    path: Path, readings: Sequence[dict[Path, Any]], asked: Sequence[set[int | float | str]], now: float
) -> bool:
    """Whether a place has a time near now in each answer, and none before that of the answer before it.

    A date that is predicted depends on the request, and so it goes back and forth.
    """
    values = [
        reading[path]
        for reading, own in zip(readings, asked, strict=True)
        if path in reading and reading[path] not in own
    ]
    times = [time for value in values if (time := _time_near(value, now)) is not None]
    if len(times) < len(values):
        return False
    return all(later >= earlier - _CLOCKS_DIFFER for earlier, later in pairwise(times))


def _time_near(value: Any, now: float) -> float | None:
    """Return the time that a value says, in seconds since the epoch; None unless it is a time near now."""
    if is_number(value):
        if abs(value) > _LAST_TIME:
            return None
        return next((value / unit for unit in _UNITS if abs(value / unit - now) <= _CLOCKS_DIFFER), None)
    if not isinstance(value, str) or len(value) > _LONGEST_TIME or not any(map(str.isdigit, value)):
        return None
    return next((at for at in _times(value) if abs(at - now) <= _DAY), None)


def _times(text: str) -> Iterator[float]:
    """Yield the times that a text may stand for; 11/12/2026 is a day in November or in December."""
    readers: list[Callable[[str], datetime]] = [datetime.fromisoformat, parsedate_to_datetime]
    readers += (partial(_read_as, form=f"{date}{hour}") for date in _DATES for hour in _HOURS)
    for read in readers:
        with suppress(ValueError, TypeError, OverflowError, OSError):
            yield read(text).timestamp()


def _read_as(text: str, form: str) -> datetime:
    return datetime.strptime(text, form)


def _rising(readings: Sequence[dict[Path, Any]]) -> Iterator[Path]:
    """Yield where every answer has a larger number than the one before."""
    if len(readings) < ENOUGH:
        return
    for path in readings[0]:
        values = [reading.get(path) for reading in readings]
        if all(map(is_number, values)) and all(before < after for before, after in pairwise(values)):  # type: ignore[operator]
            yield path

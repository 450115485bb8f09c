"""Durations in files that people write, such as `90s` or `1h30m`."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

_DURATION = re.compile(r"(?:(?P<h>[0-9]{1,6})h)?(?:(?P<m>[0-9]{1,6})m)?(?:(?P<s>[0-9]{1,9})s)?")
_LONGEST = 30 * 24 * 3600.0
"""Seconds. A longer wait is a typing error: nobody holds a promotion open for more than a month."""


def parse_duration(text: str) -> float:
    """Read a duration such as `90s`, `10m` or `1h30m`, in seconds.

    Raises:
        ValueError: the text does not have that form, or the duration is zero.
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"expected a duration such as 90s, 10m or 1h30m, found {text!r}")
    hours, minutes, seconds = (int(match[unit] or 0) for unit in "hms")
    total = hours * 3600 + minutes * 60 + seconds
    if total == 0:
        raise ValueError("expected a duration above zero")
    return float(total)


def _duration_to_seconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


Seconds = Annotated[float, BeforeValidator(_duration_to_seconds), Field(gt=0, le=_LONGEST, strict=True)]

"""What Alertmanager sends: one group of alerts as JSON (https://prometheus.io/docs/alerting/latest/configuration/).

Label values come from whoever writes metrics, so each is bounded and freed from control characters before it is kept.
"""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from orchestration.promotion.timestamps import parse_time

LONGEST_VALUE = 1000
"""Characters that are kept of a value: a workflow's inputs may have 65,535 together."""
MOST_VALUES = 100
"""Labels, and annotations, that are kept of one alert."""
_VERSION = "4"
_LONGEST_FINGERPRINT = 64
_MOST_LEFT_OUT = 2**53
"""Numbers that a counter of Prometheus can hold."""


class Status(StrEnum):
    """Whether an alert fires."""

    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True)
class Alert:
    """One alert of a notification. The first three fields together recognise it when it is sent again."""

    fingerprint: str
    """Alertmanager's hash of the labels."""
    starts_at: str
    """Since when it fires, as Alertmanager writes it."""
    status: Status
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of its rule; empty when it has none."""
        return self.labels.get("alertname", "")


@dataclass(frozen=True)
class Notification:
    """One group of alerts."""

    alerts: tuple[Alert, ...]
    left_out: int = 0
    """How many more alerts of the group Alertmanager did not send, because of its `max_alerts`."""


class NotificationError(ValueError):
    """A body that is not a notification that can be kept."""

    def __init__(self, reason: str, found: str, status: int) -> None:
        super().__init__(found)
        self.reason = reason
        """One word, for a metric."""
        self.status = status
        """The HTTP status that says so."""


def read_notification(body: bytes) -> Notification:
    """Read a notification, all of its alerts or none.

    Raises:
        NotificationError: the body is not JSON, has another version, or has another shape.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # bytes that are not UTF-8 are a ValueError, too
        raise NotificationError("not_json", "expected a JSON document", 400) from None
    if not isinstance(document, dict):
        raise _misshapen("the document", "an object")
    if document.get("version") != _VERSION:
        raise NotificationError("version", f'expected Alertmanager\'s payload of version "{_VERSION}"', 422)
    alerts = document.get("alerts")
    if not isinstance(alerts, list):
        raise _misshapen("alerts", "a list")
    left_out = document.get("truncatedAlerts") or 0
    if not isinstance(left_out, int) or not 0 <= left_out < _MOST_LEFT_OUT:
        raise _misshapen("truncatedAlerts", "a number of alerts")
    return Notification(tuple(_alert(raw, f"alerts[{at}]") for at, raw in enumerate(alerts)), left_out)


def _alert(raw: Any, where: str) -> Alert:
    if not isinstance(raw, dict):
        raise _misshapen(where, "an object")
    fingerprint, starts_at, status = (raw.get(name) for name in ("fingerprint", "startsAt", "status"))
    if not isinstance(fingerprint, str) or not fingerprint or len(fingerprint) > _LONGEST_FINGERPRINT:
        raise _misshapen(f"{where}.fingerprint", f"a text of 1 to {_LONGEST_FINGERPRINT} characters")
    if not isinstance(starts_at, str) or parse_time(starts_at) is None:
        raise _misshapen(f"{where}.startsAt", "a time such as 2026-01-31T12:00:00Z")
    if status not in tuple(Status):
        raise _misshapen(f"{where}.status", "firing or resolved")
    return Alert(
        plain(fingerprint),
        plain(starts_at),
        Status(status),
        _values(raw.get("labels"), f"{where}.labels"),
        _values(raw.get("annotations", {}), f"{where}.annotations"),
    )


def _values(raw: Any, where: str) -> Mapping[str, str]:
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise _misshapen(where, "an object of texts")
    return {plain(name): plain(value) for name, value in islice(raw.items(), MOST_VALUES)}


def plain(text: str) -> str:
    """Return the beginning of a text without what could steer a terminal or a file: each such character is a space."""
    cut = text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
    # C: control, format (such as a change of direction), surrogate, private and unassigned; Z: separators.
    return "".join(" " if unicodedata.category(each)[0] in "CZ" else each for each in cut)


def _misshapen(where: str, expected: str) -> NotificationError:
    return NotificationError("shape", f"expected {expected} as {where}", 422)

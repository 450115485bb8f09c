"""Whose closing of a pull request the last one was: ours leaves a mark, which counts until the request is reopened."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

WITHDRAWN = "<!-- incumbent: withdrawn -->"
"""Ends the comment with which a request of ours is closed, so that it is never taken for a person's refusal."""


class What(Enum):
    """What happened to a request."""

    COMMENTED = auto()
    CLOSED = auto()
    REOPENED = auto()


@dataclass(frozen=True)
class Event:
    """One thing that happened to a request."""

    what: What
    by: str
    """The account; empty when the host does not say."""
    text: str = ""


def last_closing(events: Iterable[Event]) -> tuple[str, bool]:
    """Return who closed a request last, and whether that was we who withdrew it.

    It was we when the same account has left our mark since the request was opened, or opened again. So neither a person
    who finds our comment counts as us, nor do we when we died before the closing and a person came first.

    Args:
        events: What happened, oldest first.
    """
    marked: set[str] = set()
    by = ""
    for event in events:
        match event.what:
            case What.COMMENTED:
                marked |= {event.by} if WITHDRAWN in event.text else set()
            case What.CLOSED:
                by = event.by
            case What.REOPENED:
                marked.clear()
    return by, by in marked

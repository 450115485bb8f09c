"""The outbox as the dispatcher uses it: what is kept of an alert, and in which states it may be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from orchestration.dispatcher.notification import Alert


class State(StrEnum):
    """Where a kept alert stands. Only `WAITING` ones are looked at again."""

    WAITING = "waiting"
    """For its run to be started."""
    DISPATCHED = "dispatched"
    """GitHub has acknowledged its run."""
    DEAD = "dead"
    """GitHub will refuse it each time, or it waited too long: a person has to look."""
    LIMITED = "limited"
    """Kept back by a limit: it started no run."""
    RECORDED = "recorded"
    """It was resolved, or no route matches it: there is nothing to start."""


@dataclass(frozen=True)
class Entry:
    """One alert in the outbox."""

    id: int
    """In the order of arrival."""
    alert: Alert
    state: State
    received_at: float
    """Seconds since the epoch, as are the other times."""
    attempts: int
    """Requests to GitHub, including one that was begun and whose end is not known."""
    ended_at: float | None
    """None while it waits."""
    answer: str
    """The last thing that GitHub said, or why it is in its state."""


@dataclass(frozen=True)
class Totals:
    """The outbox at one moment."""

    by_state: dict[State, int]
    oldest_waiting: float | None
    """When the alert arrived that has waited the longest; None when none waits."""


class OutboxUnusableError(Exception):
    """The outbox could not be written or read, as on a full disk; nothing of what was asked for has happened."""


class OutboxDamagedError(OutboxUnusableError):
    """The file is damaged, and stays so: only opening it anew, which moves it aside, helps."""


class Outbox(Protocol):
    """Kept alerts, safe on disk once a method has returned.

    Every method raises `OutboxUnusableError`.
    """

    def accept(self, alerts: Sequence[tuple[Alert, State]], now: float) -> int:
        """Keep alerts, each in its first state, all or none; return how many of them were not known already."""

    def next_due(self, now: float, longest_wait: float) -> Entry | None:
        """Return the alert that has been due the longest.

        One that is due later than `longest_wait` from now is due as well: the clock was set back.
        """

    def next_due_at(self) -> float | None:
        """Return when the next alert that waits is due; None when none waits."""

    def begin_attempt(self, entry: Entry) -> None:
        """Count an attempt before it is made."""

    def retry(self, entry: Entry, due_at: float, answer: str) -> None:
        """Let an alert wait until then."""

    def end(self, entry: Entry, state: State, now: float, answer: str) -> None:
        """Move an alert to its last state."""

    def keep_back(self, name: str, now: float, reason: str) -> int:
        """Move all waiting alerts of a name to `LIMITED`, and return how many they were."""

    def ended_since(self, since: float, until: float, name: str | None = None) -> int:
        """Count the alerts, of one name or of all, whose run was acknowledged or refused in that time."""

    def kept_back_since_last(self, name: str) -> int:
        """Count the `LIMITED` alerts of a name that arrived after the last one of that name that was dispatched."""

    def totals(self) -> Totals:
        """Count what is there."""

    def entries(self, states: Sequence[State], most: int) -> Iterator[Entry]:
        """Yield the newest alerts in these states."""

    def move_dead(self, state: State, now: float) -> int:
        """Move every dead alert to another state, and return how many there were."""

    def remove_old(self, before: float, now: float) -> None:
        """Remove what ended before a time, and let what has waited since then become dead."""

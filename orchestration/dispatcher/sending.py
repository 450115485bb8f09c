"""How kept alerts become runs: one after the other, within the limits, with pauses that GitHub asks for."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orchestration.dispatcher.configuration import Configuration
from orchestration.dispatcher.outbox import Entry, Outbox, OutboxDamagedError, OutboxUnusableError, State
from orchestration.dispatcher.routing import inputs_of, route_of
from orchestration.promotion.github import NotPermittedError, RateLimitedError, RefusedError
from orchestration.promotion.problems import DependencyError

if TYPE_CHECKING:
    from orchestration.promotion.ports import Clock  # with the types of a policy, which cost the process 10 MB

HOUR = 3600.0
LONGEST_WAIT = HOUR
"""Seconds. Nothing waits longer by itself, so a time beyond that was written by a clock that was wrong."""
IDLE_SECONDS = 60.0
"""How long at most until the outbox is looked at again, whether or not anything arrived."""
_NOT_PERMITTED_SECONDS = 300.0
_FIRST_BACKOFF, _LONGEST_BACKOFF = 2.0, 300.0
_STORAGE_SECONDS = 5.0
_CLEAN_UP_SECONDS = 600.0


class Dispatches(Protocol):
    """The part of the `GitHub` port that sends."""

    def dispatch(self, workflow: str, ref: str, inputs: dict[str, str]) -> None:
        """Start a run of a workflow."""


class Counts(Protocol):
    """What is counted for metrics."""

    def dispatched(self, workflow: str) -> None:
        """A run was acknowledged."""

    def failed(self, reason: str) -> None:
        """An attempt brought no run."""

    def limited(self, alerts: int) -> None:
        """Alerts were kept back."""


@dataclass(frozen=True)
class Failure:
    """What follows from an attempt that brought no run."""

    reason: str
    """One word, for a metric."""
    pause: float
    """Seconds in which nothing is sent at all."""
    is_final: bool


def failure_of(error: DependencyError, failures: int, chance: Callable[[], float]) -> Failure:
    """Decide what follows from an error.

    Args:
        error: What the client of GitHub raised.
        failures: How many attempts in a row have failed, this one included.
        chance: Returns a number from 0 to 1, so that many dispatchers do not come back at the same moment.
    """
    backoff = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(failures - 1, 16))
    match error:
        case RateLimitedError():
            # Whoever asks at the same rate again and again is banned, so a pause grows even where GitHub asks for less.
            pause = max(error.wait_seconds, backoff) + chance()
            return Failure("rate_limited", min(pause, LONGEST_WAIT), is_final=False)
        case NotPermittedError():
            return Failure("not_permitted", _NOT_PERMITTED_SECONDS, is_final=False)
        case RefusedError():
            return Failure("refused", 0.0, is_final=True)
        case _:
            return Failure("unavailable", backoff * (0.5 + chance() / 2), is_final=False)


class Sender:
    """Sends what waits in an outbox; one thread calls `step` again and again."""

    def __init__(
        self,
        outbox: Outbox,
        github: Dispatches,
        configuration: Configuration,
        clock: "Clock",
        counts: Counts,
        say: Callable[[str], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._outbox, self._github, self._configuration = outbox, github, configuration
        self._clock, self._counts, self._say, self._chance = clock, counts, say, chance
        self._paused_until = 0.0
        self._failures = 0
        self._cleaned_up_at: float | None = None
        self._unwritten: Callable[[], None] | None = None
        """What an answer of GitHub changed and the disk did not take: until it does, nothing else is sent."""
        self._told = ""

    def step(self) -> float:
        """Do the next thing, if anything is to be done now; return the seconds until something may be.

        What fails is said, counted, and tried again.

        Raises:
            OutboxDamagedError: the outbox has to be opened anew.
        """
        try:
            return self._step()
        except OutboxDamagedError:
            raise
        except OutboxUnusableError as error:
            self._tell(str(error))
            return _STORAGE_SECONDS

    def _step(self) -> float:
        if self._unwritten is not None:
            self._unwritten()
            self._unwritten = None
        now = self._clock.now()
        self._clean_up(now)
        pause = self._paused_until - now
        if 0 < pause <= LONGEST_WAIT:
            return min(pause, IDLE_SECONDS)
        entry = self._outbox.next_due(now, LONGEST_WAIT)
        if entry is None:
            due = self._outbox.next_due_at()
            return IDLE_SECONDS if due is None else min(max(0.0, due - now), IDLE_SECONDS)
        self._handle(entry, now)
        return 0.0

    def _handle(self, entry: Entry, now: float) -> None:
        """Send one alert, or keep back all of its name."""
        route = route_of(entry.alert, self._configuration.routes)
        if route is None:  # the configuration was changed while it waited
            self._outbox.end(entry, State.RECORDED, now, "no route matches it any more")
            return
        reached = self._limit_reached(entry.alert.name, now)
        if reached is not None:
            self._counts.limited(self._outbox.keep_back(entry.alert.name, now, reached))
            return
        more = self._outbox.kept_back_since_last(entry.alert.name)
        inputs = inputs_of(entry.alert, route, self._configuration, more)
        self._outbox.begin_attempt(entry)
        try:
            self._github.dispatch(route.workflow, self._configuration.ref, inputs)
        except DependencyError as error:
            self._note_failure(entry, error, now)
        else:
            self._failures, self._told = 0, ""
            self._counts.dispatched(route.workflow)
            self._write(lambda: self._outbox.end(entry, State.DISPATCHED, self._clock.now(), route.workflow))

    def _limit_reached(self, name: str, now: float) -> str | None:
        limits = self._configuration.limits
        if self._outbox.ended_since(now - HOUR, now, name) >= limits.per_alert:
            return f"{limits.per_alert} runs of this alert in an hour (limits.per_alert)"
        if self._outbox.ended_since(now - HOUR, now) >= limits.per_hour:
            return f"{limits.per_hour} runs in an hour (limits.per_hour)"
        return None

    def _note_failure(self, entry: Entry, error: DependencyError, now: float) -> None:
        self._failures += 1
        failure = failure_of(error, self._failures, self._chance)
        self._counts.failed(failure.reason)
        self._tell(str(error))
        if failure.is_final:
            self._failures = 0  # GitHub answers, and another alert may fare better
            self._write(lambda: self._outbox.end(entry, State.DEAD, now, str(error)))
            return
        self._paused_until = now + failure.pause
        self._write(lambda: self._outbox.retry(entry, now + failure.pause, str(error)))

    def _write(self, change: Callable[[], None]) -> None:
        """Write what GitHub's answer changed; if the disk does not take it, `step` tries that again first."""
        self._unwritten = change
        change()
        self._unwritten = None

    def _clean_up(self, now: float) -> None:
        cleaned_up_at = self._cleaned_up_at
        if cleaned_up_at is None or abs(now - cleaned_up_at) >= _CLEAN_UP_SECONDS:
            self._outbox.remove_old(now - self._configuration.keep, now)
            self._cleaned_up_at = now

    def _tell(self, line: str) -> None:
        """Say a thing once, and again only after something else."""
        if line != self._told:
            self._say(line)
            self._told = line

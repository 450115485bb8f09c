"""A clock that stands still until someone sleeps on it."""

from collections.abc import Callable


class FakeClock:
    """Implements the `Clock` port; what is scheduled with `after` happens during a sleep."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.time = now
        self.slept: list[float] = []
        self.scheduled: list[tuple[float, Callable[[], object]]] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        """Let the time pass, and do what was scheduled for it on the way, each action at its own time."""
        assert seconds >= 0, "nobody sleeps backwards"
        self.slept.append(seconds)
        until = self.time + seconds
        while due := sorted((entry for entry in self.scheduled if entry[0] <= until), key=lambda entry: entry[0])[:1]:
            at, action = due[0]
            self.scheduled.remove(due[0])
            self.time = max(self.time, at)
            action()
        self.time = until

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Schedule an action for that many seconds from now."""
        self.scheduled.append((self.time + seconds, action))


class FakeBell:
    """Implements the `Bell` port on such a clock; what is scheduled there may `ring` it."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._rung: frozenset[str] = frozenset()

    def ring(self, model: str) -> None:
        self._rung |= {model}

    def wait(self, seconds: float) -> frozenset[str]:
        """Let the time pass up to the next action that is scheduled, and so on, until it has rung."""
        until = self._clock.now() + seconds
        while not self._rung and self._clock.now() < until:
            coming = min((at for at, _ in self._clock.scheduled), default=until)
            self._clock.sleep(min(max(coming, self._clock.now()), until) - self._clock.now())
        rung, self._rung = self._rung, frozenset()
        return rung

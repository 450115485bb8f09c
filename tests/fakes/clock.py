"""A clock that stands still until somebody sleeps on it."""

from collections.abc import Callable


class FakeClock:
    """Plays the port `Clock`; what is scheduled with `after` happens while somebody sleeps."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.time = now
        self.slept: list[float] = []
        self.scheduled: list[tuple[float, Callable[[], object]]] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        """Let the time pass, and do on the way what was scheduled, each thing at its own time."""
        assert seconds >= 0, "nobody sleeps backwards"
        self.slept.append(seconds)
        until = self.time + seconds
        while due := sorted((one for one in self.scheduled if one[0] <= until), key=lambda one: one[0])[:1]:
            at, action = due[0]
            self.scheduled.remove(due[0])
            self.time = max(self.time, at)
            action()
        self.time = until

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Schedule an action for when that much time has passed."""
        self.scheduled.append((self.time + seconds, action))

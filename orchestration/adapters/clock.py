"""The machine's own clock."""

import time


class SystemClock:
    """Seconds since the epoch, and real sleep."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Sleep; a moment that has passed already is no sleep."""
        time.sleep(max(0.0, seconds))

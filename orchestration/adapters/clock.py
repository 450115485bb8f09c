"""The machine's own clock."""

import time


class SystemClock:
    """Implements the `Clock` port with the system's time and real sleep."""

    def now(self) -> float:
        """Return the seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Sleep; a negative time is no sleep at all."""
        time.sleep(max(0.0, seconds))

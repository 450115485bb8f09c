"""One thread beside the caller's, for work that nobody should wait for."""

import threading
from collections.abc import Callable


class Courier:
    """Does one piece of work at a time, in a thread that does not keep the process alive."""

    def __init__(self) -> None:
        self._at_work = threading.Lock()

    @property
    def is_idle(self) -> bool:
        """Whether no work is under way."""
        return not self._at_work.locked()

    def start(self, work: Callable[[], None]) -> bool:
        """Start the work and return at once; False when earlier work is still under way, and nothing was started."""
        if not self._at_work.acquire(blocking=False):
            return False

        def run() -> None:
            try:
                work()
            finally:
                self._at_work.release()

        try:
            threading.Thread(target=run, name="courier", daemon=True).start()
        except RuntimeError:  # the machine has no thread left
            self._at_work.release()
            return False
        return True

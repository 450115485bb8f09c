"""A few quick retries, for reads only: a hiccup must not end a promotion, a dead dependency must not stall it."""

import time
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from orchestration.promotion.problems import DependencyError

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 10.0
"""Seconds without a byte, and seconds for one whole answer unless a caller asks for less."""
TOTAL_TIMEOUT = 14.0
"""Seconds for all attempts of one call together."""
ATTEMPTS = 3
TRANSIENT_STATUSES = frozenset({429, 502, 503, 504})
"""What a proxy or an overloaded server answers; a plain 500 is a bug, and asking again does not mend it."""

_Value = TypeVar("_Value")


class UnansweredError(Exception):
    """One attempt came to nothing, but another one may not: the connection broke, or the answer was transient."""

    def __init__(self, problem: DependencyError) -> None:
        super().__init__(str(problem))
        self.problem = problem


def ask_again(attempt: Callable[[float], _Value], *, repeat: bool = True) -> _Value:
    """Call `attempt(seconds)` until it answers; `seconds` is what is left of the time for all attempts.

    Raises:
        DependencyError: what the last attempt raised, wrapped in `UnansweredError` or not.
    """
    import stamina

    _log_retries_by_logging()
    deadline = time.monotonic() + TOTAL_TIMEOUT
    try:
        for context in stamina.retry_context(
            on=UnansweredError,
            attempts=ATTEMPTS if repeat else 1,
            timeout=TOTAL_TIMEOUT,
            wait_initial=0.1,
            wait_max=1.0,
            wait_jitter=0.2,
        ):
            with context:
                return attempt(max(0.1, deadline - time.monotonic()))
    except UnansweredError as error:
        raise error.problem from error
    raise AssertionError("a retry context either returns or raises")


@cache
def _log_retries_by_logging() -> None:
    """Send notes about retries to `logging`: by default stamina prints them, which spoils a command's output."""
    from stamina.instrumentation import LoggingOnRetryHook, set_on_retry_hooks

    set_on_retry_hooks([LoggingOnRetryHook])

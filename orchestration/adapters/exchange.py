"""One exchange with a server over HTTP: its limits of time and size, and whether it is repeated.

The adapters speak through two libraries, httpx and the Kubernetes client. What they have in common is decided here.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, TypeVar

from orchestration.adapters.importing import importing
from orchestration.promotion.problems import DependencyError
from orchestration.promotion.redact import redact

CONNECT_TIMEOUT = 3.0
"""Seconds for making a connection."""
READ_TIMEOUT = 10.0
"""Seconds without a byte, and seconds for one whole answer unless a caller asks for less."""
TOTAL_TIMEOUT = 14.0
"""Seconds for all attempts of one exchange together: a dead dependency must not stall a promotion."""
ATTEMPTS = 3
TRANSIENT_STATUSES = frozenset({429, 502, 503, 504})
"""What a proxy or an overloaded server answers; a plain 500 is a bug, and asking again does not fix it."""


@dataclass(frozen=True)
class Reply:
    """An answer, read completely."""

    status: int
    body: bytes
    seconds: float

    @property
    def document(self) -> Any:
        """The body as JSON; None when it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def asks_to_wait(self) -> bool:
        """Whether asking again at once would break a limit; only an answer with headers can tell."""
        return False


AnyReply = TypeVar("AnyReply", bound=Reply)


class TransientError(Exception):
    """An attempt got no answer, but the next one may: the connection could not be made, or broke."""

    def __init__(self, problem: DependencyError) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _TransientStatusError(Exception):
    """An attempt got an answer that a proxy or an overloaded server gives."""


def exchange(attempt: Callable[[float], AnyReply], *, repeat: bool, total: float = TOTAL_TIMEOUT) -> AnyReply:
    """Call `attempt` until it brings an answer that asking again at once would not change.

    Args:
        attempt: asks once, within as many seconds as it is given: those that are left of the time for all attempts.
        repeat: whether to ask again after a transient failure; only for exchanges that change nothing.
        total: seconds for all attempts together.

    Returns:
        The answer, whatever its status; the last one when all attempts brought a transient status.

    Raises:
        DependencyError: the last attempt got no answer, or any attempt failed in a way that is not transient.
    """
    with importing:
        import stamina

    _log_retries_by_logging()
    deadline = time.monotonic() + total
    reply: AnyReply | None = None
    try:
        for context in stamina.retry_context(
            on=(TransientError, _TransientStatusError),
            attempts=ATTEMPTS if repeat else 1,
            timeout=total,
            wait_initial=0.1,
            wait_max=1.0,
            wait_jitter=0.2,
        ):
            with context:
                reply = attempt(max(0.1, deadline - time.monotonic()))
                if reply.status in TRANSIENT_STATUSES and not reply.asks_to_wait:
                    raise _TransientStatusError(f"HTTP {reply.status}")
                return reply
    except TransientError as error:
        raise error.problem from None
    except _TransientStatusError:
        assert reply is not None
        return reply
    raise AssertionError("a retry context either returns or raises")


def read_body(
    chunks: Iterable[bytes], *, cap: int, deadline: float, failure: Callable[[str, str], DependencyError]
) -> bytes:
    """Read a whole body, within a cap and a deadline.

    A client library's read time-out bounds only the silence between two chunks; the deadline bounds the whole.

    Args:
        chunks: the body's parts as they arrive.
        cap: bytes that the body may have at most.
        deadline: when the body must be complete, by `time.monotonic`.
        failure: makes the error to raise, from what was found and what was expected.

    Raises:
        DependencyError: made by `failure`, because the body is too large or takes too long.
    """
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > cap:
            raise failure(f"more than {cap} bytes", f"an answer of {cap} bytes at most")
        if time.monotonic() > deadline:
            raise failure("an answer that trickles in and is not complete in time", "an answer")
    return bytes(body)


def media_type(header: str | None) -> str:
    """Return a Content-Type in lower case, without its parameters; empty for none."""
    return (header or "").partition(";")[0].strip().lower()


def time_of_answer(header: str | None) -> float | None:
    """Return the time that a header `Date` says (RFC 9110, 6.6.1), in whole seconds since the epoch; None for none."""
    try:
        return parsedate_to_datetime(header or "").timestamp()
    except (ValueError, OverflowError):
        return None


def excerpt(text: str, secrets: Iterable[str] = (), characters: int = 300) -> str:
    """Return the beginning of an unexpected answer, on one line and without secrets, for an error to show."""
    # Cut before it is redacted, because that is slow. Half a secret is not recognized, so what is near that cut is not
    # shown.
    whole = " ".join(text.split())
    part = whole[: 20 * characters]
    line = redact(part, secrets)
    if part != whole:
        line = line[: -10 * characters]
    return line if part == whole and len(line) <= characters else f"{line[:characters]}…"


@cache
def _log_retries_by_logging() -> None:
    """Send notes about retries to `logging`: by default stamina prints them, which spoils a command's output."""
    from stamina.instrumentation import LoggingOnRetryHook, set_on_retry_hooks

    set_on_retry_hooks([LoggingOnRetryHook])

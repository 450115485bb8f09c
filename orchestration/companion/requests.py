"""What every request has in common: how it is refused and counted, who may send it, and how much of it is read."""

import asyncio
import base64
import binascii
import hmac

from prometheus_client import CollectorRegistry, Counter
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

LARGEST_BODY = 1024 * 1024
BODY_SECONDS = 10.0
"""How long a body may take to arrive. A client that is slower holds nothing but its own connection."""
REASONS = (
    *("no_such_path", "method", "unauthorized", "too_large", "too_slow"),
    *("not_json", "version", "shape", "storage", "no_token"),
)
_BY_STATUS = {404: "no_such_path", 405: "method"}


class RefusedRequestError(HTTPException):
    """A request that is answered with an error, and counted by its reason."""

    def __init__(self, status: int, reason: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)
        self.reason = reason


class Refusals:
    """Answers refused requests with one line of text, and counts them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "incumbent_requests_refused", "Requests that were refused.", ("reason",), registry=registry
        )
        for reason in REASONS:  # a series that begins later would have no increase for what it begins with
            self._counter.labels(reason)

    async def answer(self, _request: Request, error: Exception) -> Response:
        """Answer an `HTTPException`, ours or the router's."""
        assert isinstance(error, HTTPException)
        reason = error.reason if isinstance(error, RefusedRequestError) else _BY_STATUS[error.status_code]
        self._counter.labels(reason).inc()
        headers = {"Connection": "close", **(error.headers or {})}  # what is left of a body is no next request
        return PlainTextResponse(f"{error.detail}\n", error.status_code, headers)


def require_token(request: Request, token: str) -> None:
    """Refuse a request that carries the token neither as a bearer's nor as a password; any user name will do."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            given = ""
    elif scheme.lower() != "bearer":
        given = ""
    if not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
        detail = "expected the token in the header Authorization, as Bearer or as the password of Basic"
        raise RefusedRequestError(401, "unauthorized", detail, {"WWW-Authenticate": 'Bearer realm="incumbent"'})


async def read_body(request: Request, largest: int = LARGEST_BODY) -> bytes:
    """Read a body, unless it is larger than `largest` bytes or takes longer than `BODY_SECONDS`."""
    too_large = RefusedRequestError(413, "too_large", f"expected a body of {largest} bytes at most")
    declared = request.headers.get("Content-Length", "0")
    if declared.isdecimal() and int(declared) > largest:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > largest:
                    raise too_large
    except TimeoutError:
        raise RefusedRequestError(408, "too_slow", f"expected the body within {BODY_SECONDS:.0f} s") from None
    except ClientDisconnect:  # nobody reads the answer; it is counted all the same
        raise RefusedRequestError(400, "too_slow", "the connection ended within the body") from None
    return bytes(body)

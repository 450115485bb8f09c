"""The HTTP client that the adapters share: bounded in time and size, and silent about secrets."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestration.adapters.retries import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    TRANSIENT_STATUSES,
    UnansweredError,
    ask_again,
)
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.redact import redact

if TYPE_CHECKING:
    import httpx2

DEFAULT_CAP = 4 * 1024 * 1024
_SHOWN = 300
"""Characters of an unexpected answer that an error shows."""


@dataclass(frozen=True)
class Reply:
    """An HTTP answer, read whole."""

    status: int
    headers: Mapping[str, str]
    """With lower-case names."""
    body: bytes
    seconds: float

    def json(self) -> Any:
        """The body as JSON; None when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True)
class HttpClient:
    """A connection pool to one dependency, named by `subject` in every error.

    `secrets` are texts that no error may show; `next_step` is what a person does when the dependency does not answer.
    Reads (`get`, and `read_by_post`) are tried again as `retries` says; nothing else is.
    """

    subject: str
    next_step: str
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @cached_property
    def _client(self) -> httpx2.Client:
        import httpx2

        return httpx2.Client(max_redirects=5)

    def get(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        cap: int = DEFAULT_CAP,
        follow_redirects: bool = False,
    ) -> Reply:
        """Ask for `url`; any status is an answer, once retries of the transient ones are used up."""
        return self._ask(
            "GET",
            url,
            repeat=True,
            cap=cap,
            follow_redirects=follow_redirects,
            request={"params": params, "headers": headers, "auth": auth},
        )

    def read_by_post(self, url: str, form: Mapping[str, str]) -> Reply:
        """Post a form that changes nothing, such as a long query; tried again as `get` is."""
        return self._ask("POST", url, repeat=True, request={"data": dict(form)})

    def send(
        self,
        method: str,
        url: str,
        *,
        content: bytes,
        headers: Mapping[str, str] | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> Reply:
        """Send `content` once."""
        return self._ask(method, url, repeat=False, timeout=timeout, request={"content": content, "headers": headers})

    def unexpected(self, reply: Reply, expected: str, next_step: str | None = None) -> DependencyError:
        """The error of an answer that is not the `expected` one; for the caller to raise."""
        text = " ".join(reply.body.decode("utf-8", "replace").split())
        shown = text[:_SHOWN] + ("…" if len(text) > _SHOWN else "")
        return self.failure(f"HTTP {reply.status}: {shown}" if shown else f"HTTP {reply.status}", expected, next_step)

    def failure(self, found: str, expected: str = "an answer", next_step: str | None = None) -> DependencyError:
        return DependencyError(
            Problem(self.subject, expected, redact(found, self.secrets), next_step or self.next_step)
        )

    def _ask(
        self,
        method: str,
        url: str,
        *,
        repeat: bool,
        request: dict[str, Any],
        cap: int = DEFAULT_CAP,
        timeout: float = READ_TIMEOUT,
        follow_redirects: bool = False,
    ) -> Reply:
        last: list[Reply] = []

        def attempt(left: float) -> Reply:
            last.clear()
            reply = self._once(method, url, min(timeout, left), cap, follow_redirects, request)
            if repeat and reply.status in TRANSIENT_STATUSES:
                last.append(reply)
                raise UnansweredError(self.unexpected(reply, "an answer"))
            return reply

        try:
            return ask_again(attempt, repeat=repeat)
        except DependencyError:
            if last:
                return last[0]
            raise

    def _once(
        self, method: str, url: str, timeout: float, cap: int, follow_redirects: bool, request: dict[str, Any]
    ) -> Reply:
        import httpx2

        given = {name: value for name, value in request.items() if value is not None}
        started = time.monotonic()
        try:
            with self._client.stream(
                method,
                url,
                timeout=httpx2.Timeout(timeout, connect=min(CONNECT_TIMEOUT, timeout)),
                follow_redirects=follow_redirects,
                **given,
            ) as response:
                body = self._read(response.iter_bytes(), cap, started + timeout)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status_code, headers, body, time.monotonic() - started)
        except httpx2.TimeoutException as error:
            failure = self.failure(f"no answer in time ({type(error).__name__})")
            # A server that accepted the question and is silent is not asked again: that would only add to its load.
            if isinstance(error, httpx2.ConnectTimeout):
                raise UnansweredError(failure) from error
            raise failure from error
        except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
            raise UnansweredError(self.failure(f"{type(error).__name__}: {error}")) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self.failure(f"{type(error).__name__}: {error}") from error

    def _read(self, chunks: Iterable[bytes], cap: int, deadline: float) -> bytes:
        body = bytearray()
        for chunk in chunks:
            body += chunk
            if len(body) > cap:
                raise self.failure(f"more than {cap} bytes", f"an answer of {cap} bytes at most")
            # The client's read time-out bounds the silence between two chunks; this bounds the whole.
            if time.monotonic() > deadline:
                raise self.failure("an answer that trickles in and does not end in time")
        return bytes(body)


def secrets_of(user: str, password: str) -> tuple[str, ...]:
    """A password in the forms in which a server may repeat it: as it is, and as basic authentication carries it."""
    return password, base64.b64encode(f"{user}:{password}".encode()).decode()


def require_plain_url(subject: str, url: str) -> str:
    """`url` without a trailing slash, if it is an http(s) address that carries no password.

    Raises:
        InvalidInputError: it is not; the problem does not repeat what may be a secret (design rule 9).
    """

    def refuse(found: str, next_step: str) -> InvalidInputError:
        return InvalidInputError(Problem(subject, "an address such as http://host:5000", found, next_step))

    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        raise refuse("one that cannot be read", "Correct the setting.") from error
    if "@" in parts.netloc:
        raise refuse(
            f"user or password in it ({redact(url)})", "Take them out of the address; there are settings for them."
        )
    if parts.scheme not in ("http", "https") or not host:
        raise refuse(repr(redact(url)), "Correct the setting.")
    return url.rstrip("/")

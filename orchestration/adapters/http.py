"""The HTTP client that the adapters share: bounded in time and size, and silent about secrets."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestration.adapters.exchange import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    TOTAL_TIMEOUT,
    Reply,
    TransientError,
    excerpt,
    exchange,
    read_body,
)
from orchestration.adapters.importing import importing
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.redact import redact

if TYPE_CHECKING:
    import httpx2

DEFAULT_CAP = 4 * 1024 * 1024
_NEXT = re.compile(r"""<([^>]+)>\s*;[^,<]*\brel\s*=\s*"?next(?=["\s;,]|$)""", re.IGNORECASE)


@dataclass(frozen=True)
class HttpReply(Reply):
    """An HTTP answer with its headers."""

    headers: Mapping[str, str]
    """With lower-case names."""

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait as the header `Retry-After` says them (RFC 9110, 10.2.3); None when it does not."""
        value = self.headers.get("retry-after", "")
        if value.isascii() and value.isdigit():
            return float(value[:9])
        try:
            until = parsedate_to_datetime(value)
            return max(0.0, (until - datetime.now(until.tzinfo)).total_seconds())
        except ValueError:
            return None

    @property
    def asks_to_wait(self) -> bool:
        """Whether the server limits how often it is asked, and says that at once is too soon."""
        return self.status == 429 and (self.retry_after or 0.0) > 1.0


@dataclass(frozen=True)
class HttpClient:
    """A connection pool to one dependency.

    Reads (`get`, and `read_by_post`) are repeated as `exchange` decides; nothing else is.
    """

    subject: str
    """How every error names the dependency."""
    next_step: str
    """What a person does when the dependency does not answer."""
    secrets: Callable[[], Iterable[str]] = field(default=tuple, repr=False)
    """Returns the texts that no error may show, in any encoding; asked for each error, because they change."""
    tls: Callable[[], ssl.SSLContext] | None = None
    """Returns whom to trust, and our own certificate; None for the authorities that this machine trusts."""
    tls_step: str = (
        "Set SSL_CERT_FILE to a file with the authority that signed the server's certificate, beside those that this "
        "machine trusts."
    )
    """What a person does when one side does not accept the other's certificate."""
    plain_step: str = "Write http:// in place of https://, if it has no TLS."
    """What a person does when a server has no TLS where we expect it."""

    @cached_property
    def _client(self) -> httpx2.Client:
        """The pool, made when it is first needed.

        Raises:
            DependencyError: what the environment says of certificates and proxies cannot be used.
        """
        with importing:
            import httpx2

        own = self.tls() if self.tls is not None else None
        try:
            return httpx2.Client(max_redirects=5, verify=own or _trusted())
        except OSError as error:  # an ssl.SSLError is one, too
            found = f"no file of certificates ({error.strerror or type(error).__name__})"
            raise self.failure(found, "SSL_CERT_FILE to name one", "Correct SSL_CERT_FILE, or unset it.") from None
        except (ValueError, ImportError, httpx2.InvalidURL) as error:
            expected, next_step = "the address of a proxy", "Correct HTTP_PROXY, HTTPS_PROXY and ALL_PROXY."
            raise self.failure(f"another one in the environment: {error}", expected, next_step) from None

    def get(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        cap: int = DEFAULT_CAP,
        follow_redirects: bool = False,
    ) -> HttpReply:
        """Read `url`; any status is an answer, once the attempts for transient ones are used up.

        Args:
            url: the address.
            params: added to the address as its query.
            headers: sent with the request.
            auth: user and password for basic authentication.
            cap: bytes that the body may have at most.
            follow_redirects: whether to go where the server points; otherwise a redirect is the answer.

        Raises:
            DependencyError: no answer came, or it was too large or too slow.
        """
        return self._ask(
            "GET",
            url,
            repeat=True,
            cap=cap,
            follow_redirects=follow_redirects,
            request={"params": params, "headers": headers, "auth": auth},
        )

    def read_by_post(self, url: str, content: bytes, headers: Mapping[str, str]) -> HttpReply:
        """Post what changes nothing, such as a long query; repeated as `get` is."""
        return self._ask("POST", url, repeat=True, request={"content": content, "headers": headers})

    def send(
        self,
        method: str,
        url: str,
        *,
        content: bytes,
        headers: Mapping[str, str] | Mapping[str, bytes] | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> HttpReply:
        """Send `content` once; `timeout` is in seconds."""
        return self._ask(method, url, repeat=False, timeout=timeout, request={"content": content, "headers": headers})

    def unexpected(self, reply: Reply, expected: str, next_step: str | None = None) -> DependencyError:
        """Return the error for an answer that is not the `expected` one; the caller raises it."""
        shown = excerpt(reply.body.decode("utf-8", "replace"), self.secrets())
        return self.failure(f"HTTP {reply.status}: {shown}" if shown else f"HTTP {reply.status}", expected, next_step)

    def failure(self, found: str, expected: str = "an answer", next_step: str | None = None) -> DependencyError:
        """Return the error for what was found instead of what was expected; the caller raises it."""
        return DependencyError(
            Problem(self.subject, expected, redact(found, self.secrets()), next_step or self.next_step)
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
    ) -> HttpReply:
        return exchange(
            lambda seconds: self._once(method, url, min(timeout, seconds), cap, follow_redirects, request),
            repeat=repeat,
            total=max(TOTAL_TIMEOUT, timeout),
        )

    def _once(
        self, method: str, url: str, timeout: float, cap: int, follow_redirects: bool, request: dict[str, Any]
    ) -> HttpReply:
        client = self._client
        import httpx2

        options = {name: value for name, value in request.items() if value is not None}
        started = time.monotonic()
        try:
            with client.stream(
                method,
                url,
                timeout=httpx2.Timeout(timeout, connect=min(CONNECT_TIMEOUT, timeout)),
                follow_redirects=follow_redirects,
                **options,
            ) as response:
                body = read_body(response.iter_bytes(), cap=cap, deadline=started + timeout, failure=self.failure)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return HttpReply(response.status_code, body, time.monotonic() - started, headers)
        # None of these errors is kept as the cause: its own text quotes what the server sent, with the secrets in it.
        except httpx2.TimeoutException as error:
            failure = self.failure(f"no answer in time ({type(error).__name__})")
            # A server that accepted the request and is silent is not asked again: that would only add to its load.
            if isinstance(error, httpx2.ConnectTimeout):
                raise TransientError(failure) from None
            raise failure from None
        except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
            found = f"{type(error).__name__}: {error}"
            if _is_refused_certificate(error):  # it would be refused a moment later too
                raise self.failure(found, next_step=self.tls_step) from None
            if "WRONG_VERSION_NUMBER" in found:
                raise self.failure("an answer without TLS", next_step=self.plain_step) from None
            raise TransientError(self.failure(found)) from None
        except httpx2.LocalProtocolError as error:  # quotes the header that it refuses, as bytes
            raise self.failure(f"a request that cannot be sent ({str(error).partition(' b')[0]})") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self.failure(f"{type(error).__name__}: {error}") from None
        except UnicodeError as error:
            raise self.failure(_unsendable(error)) from None


def _trusted() -> ssl.SSLContext:
    """Return the authorities that this machine trusts, or those that OpenSSL's own variables name."""
    file = os.environ.get("SSL_CERT_FILE")
    changed_at = Path(file).stat().st_mtime_ns if file and Path(file).exists() else None
    return _authorities(file, changed_at, os.environ.get("SSL_CERT_DIR"))


@cache
def _authorities(file: str | None, changed_at: int | None, folder: str | None) -> ssl.SSLContext:
    """Read them once in a process: that takes longer than many requests, and every dependency has its own client."""
    with importing:
        import httpx2

    return httpx2.create_ssl_context()  # which reads the two variables itself


def _unsendable(error: UnicodeError) -> str:
    """Say what of a request could not be encoded, without the text: the client lets Python's own errors through."""
    if isinstance(error, UnicodeEncodeError) and error.encoding == "ascii":
        return "a header with characters beyond ASCII, which cannot be sent"
    return "a host's name, in the address or in a redirect, of which a part is empty or longer than 63 characters"


def _is_refused_certificate(error: BaseException | None) -> bool:
    """Whether we refused the server's certificate, or it refused ours, or that we sent none (by a TLS alert)."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return isinstance(error, ssl.SSLCertVerificationError) or (error is not None and "ALERT" in str(error.reason))


def next_link(header: str) -> str | None:
    """Return the address of the next page from a header `Link` (RFC 8288); None on the last page."""
    match = _NEXT.search(header)
    return match[1] if match is not None else None


def require_plain_url(subject: str, url: str) -> str:
    """Return `url` without a trailing slash, if it is as `require_url` wants it and paths can be added to it.

    Raises:
        InvalidInputError: it is not, or it has a query.
    """
    if "?" in require_url(subject, url):
        raise _refused_url(subject, "an address with a query (?...)", "Remove it: paths are added to the address.")
    return url.rstrip("/")


def _refused_url(subject: str, found: str, next_step: str) -> InvalidInputError:
    return InvalidInputError(Problem(subject, "an address such as http://host:5000", found, next_step))


def require_url(subject: str, url: str) -> str:
    """Return `url`, if it is an http(s) address that carries no password and no fragment.

    Raises:
        InvalidInputError: it is not; the problem does not repeat what may be a secret (design rule 9).
    """

    def refuse(found: str, next_step: str) -> InvalidInputError:
        return _refused_url(subject, found, next_step)

    if not url.isprintable() or " " in url:  # which `urlsplit` would leave out
        raise refuse("an address with white space or control characters in it", "Correct the setting.")
    if "#" in url:
        raise refuse("an address with a fragment (#...)", "Remove it: no server would see it.")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
        if host and host.isascii():
            host.encode("idna")  # as the resolver does; refuses empty and overlong parts
    except ValueError as error:
        raise refuse("an address that cannot be parsed", "Correct the setting.") from error
    if "@" in parts.netloc:
        raise refuse(
            f"an address with a user or password in it ({redact(url)})",
            "Remove them from the address; separate settings hold them.",
        )
    if parts.scheme not in ("http", "https") or not host:
        raise refuse(repr(redact(url)), "Correct the setting.")
    return url

"""The REST API of GitHub, GitLab or Gitea, as their clients ask it: a token, JSON, and errors by their classes."""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from orchestration.adapters.exchange import excerpt
from orchestration.adapters.http import HttpClient, HttpReply, next_link, require_plain_url
from orchestration.adapters.secret_files import read_secret
from orchestration.promotion.github import NotPermittedError, RateLimitedError, RefusedError
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.redact import redact

_PAUSE_SECONDS = 60.0
"""How long a limit lasts that names no time: GitLab counts by the minute, and a proxy limits Gitea."""
_TRANSIENT = frozenset({408, 425})
"""Statuses of proxies in between that say nothing about what was asked for: RFC 9110, 15.5.9, and RFC 8470, 5.2."""
_REMEMBERED_TOKENS = 8
"""The last tokens, which no error may show; they are rotated, and an App has another one every hour."""


class Credentials(Protocol):
    """Where the token of each request comes from."""

    @property
    def when_refused(self) -> str:
        """What a person does when the API refuses the token."""

    def token(self, http: HttpClient, api_url: str) -> str:
        """Return the token to use now.

        Raises:
            NotPermittedError: a file cannot be read or used.
            DependencyError: the API gave no token.
        """

    def refused(self) -> None:
        """Take note that the API refused the token, so that the next one is fetched anew."""


@dataclass(frozen=True)
class TokenFile:
    """A token in a file, which is read for each request: tokens are rotated."""

    path: Path
    setting: str
    """What names the file, for errors."""

    @property
    def when_refused(self) -> str:
        """Where another token goes."""
        return f"Replace the token in the file that {self.setting} names, or give it access to this repository."

    def token(self, http: HttpClient, api_url: str) -> str:
        """Return what the file holds now."""
        return api_secret(self.path, "a token", self.setting)

    def refused(self) -> None:
        """Do nothing: the next request reads the file again anyway."""


def api_secret(path: Path, what: str, setting: str, *, lines: bool = False) -> str:
    """Read a secret; without one, an API would permit nothing.

    Raises:
        NotPermittedError: the file cannot be read, or does not hold such a secret.
    """
    try:
        return read_secret(path, what, setting, lines=lines)
    except DependencyError as error:
        raise NotPermittedError(error.problem) from error


@dataclass(frozen=True)
class ApiNames:
    """Where a person wrote which API is asked about which repository, for errors."""

    address: str
    repository: str

    def when_not_found(self, kind: str) -> str:
        """Return what a person does when the API, or what is asked of it, is not there: a 404 is also for secrecy."""
        return (
            f"Correct {self.repository}, or let the token see it; or correct {self.address}, if that is not {kind}'s "
            "API. Redirects are not followed."
        )


def _short_pause(reply: HttpReply) -> float | None:
    if reply.status != 429:
        return None
    return _PAUSE_SECONDS if reply.retry_after is None else reply.retry_after


@dataclass(frozen=True)
class HostKind:
    """What one product does differently, and what a person does about its errors."""

    name: str
    authorize: Callable[[str], dict[str, str]]
    """Returns the headers that carry a token."""
    unreachable: str
    """What a person looks at when no answer comes."""
    rights: str = ""
    """What a token needs, as a sentence."""
    rights_header: str = ""
    """The header in which a refusal says what the token lacks; empty where none does."""
    pause: Callable[[HttpReply], float | None] = _short_pause
    """Returns how many seconds an answer asks us to wait; None when it is not about a limit."""

    def client(self, api_url: str, address: str, secrets: Callable[[], tuple[str, ...]]) -> HttpClient:
        """Return a client of the API, whose errors do not show the secrets.

        Args:
            api_url: The API's address.
            address: Where a person wrote it.
            secrets: Returns what no error may show.
        """
        return HttpClient(f"{self.name} at {api_url}", f"{self.unreachable} {address} says where it is.", secrets)


class HostApi:
    """What is below one address; reads are repeated after transient failures, writes never.

    Its methods raise what the port `GitHub` says.
    """

    def __init__(self, kind: HostKind, api_url: str, below: str, credentials: Credentials, named: ApiNames) -> None:
        """Connect nowhere yet.

        Args:
            kind: Which product it is.
            api_url: The API's address.
            below: The path that all others are below, such as a repository's.
            credentials: Where tokens come from.
            named: Where a person wrote address and repository.

        Raises:
            InvalidInputError: the address is not http(s), or carries a password.
        """
        self._api = require_plain_url(f"address of {kind.name}'s API ({named.address})", api_url)
        self._kind, self._below, self._named = kind, f"{self._api}{below}", named
        self._credentials = credentials
        self._secrets: deque[str] = deque(maxlen=_REMEMBERED_TOKENS)
        self._http = kind.client(self._api, named.address, lambda: tuple(self._secrets))

    def __str__(self) -> str:
        return self._http.subject

    def read(self, path: str, query: Mapping[str, str], what: str) -> Any:
        """GET a document."""
        reply = self._get(path, query)
        if reply.status != 200:
            raise self._failure(reply, what)
        return reply.document

    def read_if_any(self, path: str, query: Mapping[str, str], what: str) -> Any | None:
        """GET a document; None for 404."""
        reply = self._get(path, query)
        if reply.status not in (200, 404):
            raise self._failure(reply, what)
        return reply.document if reply.status == 200 else None

    def read_object(self, path: str, query: Mapping[str, str], what: str) -> dict[str, Any]:
        """GET a JSON object."""
        document = self.read(path, query, what)
        if not isinstance(document, dict):
            raise self._http.failure("something else than an object", what)
        return document

    def read_list(self, path: str, query: Mapping[str, str], what: str) -> list[dict[str, Any]]:
        """GET a list of JSON objects."""
        return self._list(self.read(path, query, what), what)

    def pages(self, path: str, query: Mapping[str, str], what: str) -> Iterator[dict[str, Any]]:
        """GET the objects of a list, page by page, as the header `Link` leads on."""
        url: str | None = f"{self._below}{path}{'?' if query else ''}{urlencode(query)}"
        while url is not None:
            reply = self._http.get(url, headers=self._headers())
            if reply.status != 200:
                raise self._failure(reply, what)
            yield from self._list(reply.document, what)
            url = self._next_page(reply, what)

    def write(
        self,
        method: str,
        path: str,
        content: Mapping[str, object],
        what: str,
        statuses: tuple[int, ...] = (200, 201),
    ) -> dict[str, Any]:
        """Send a JSON object once to a path, and return the answer; an empty one for an answer without an object.

        Args:
            method: The HTTP method.
            path: Where to, below the address.
            content: What is sent.
            what: What is wanted, for errors.
            statuses: Which answers say that it is so.
        """
        return self._send(method, f"{self._below}{path}", content, what, statuses)

    def post_to(self, url: str, content: Mapping[str, object], what: str) -> dict[str, Any]:
        """POST a JSON object once to another address of the same server, and return the answer."""
        return self._send("POST", url, content, what, (200,))

    def require_none(self, faults: Mapping[str, tuple[bool, str]], what: str) -> None:
        """Raise for the first fault that is one.

        Args:
            faults: By what was found: whether it is so, and what a person does then.
            what: What is wanted, for errors.
        """
        for found, (is_so, next_step) in faults.items():
            if is_so:
                raise RefusedError(Problem(str(self), what, found, next_step))

    def failure(self, found: str, what: str, next_step: str) -> DependencyError:
        """Return the error for what was found instead of what was wanted; the caller raises it."""
        return self._http.failure(found, what, next_step)

    def not_permitted(self, found: str, what: str) -> NotPermittedError:
        """Return the error for a token that may not do what was wanted; the caller raises it."""
        next_step = f"{self._credentials.when_refused} {self._kind.rights}".strip()
        return NotPermittedError(Problem(str(self), what, found, next_step))

    def _get(self, path: str, query: Mapping[str, str]) -> HttpReply:
        return self._http.get(f"{self._below}{path}", params=query or None, headers=self._headers())

    def _list(self, document: Any, what: str) -> list[dict[str, Any]]:
        if not isinstance(document, list) or not all(isinstance(item, dict) for item in document):
            raise self._http.failure("something else than a list of objects", what)
        return document

    def _next_page(self, reply: HttpReply, what: str) -> str | None:
        url = next_link(reply.headers.get("link", ""))
        if url is not None and urlsplit(url)[:2] != urlsplit(self._api)[:2]:  # it would be given the token
            raise self._http.failure("a next page on another server", what)
        return url

    def _send(
        self, method: str, url: str, content: Mapping[str, object], what: str, statuses: tuple[int, ...]
    ) -> dict[str, Any]:
        headers = {**self._headers(), "Content-Type": "application/json"}
        reply = self._http.send(method, url, content=json.dumps(content).encode(), headers=headers)
        if reply.status not in statuses:
            raise self._failure(reply, what)
        return reply.document if isinstance(reply.document, dict) else {}

    def _headers(self) -> dict[str, str]:
        token = self._credentials.token(self._http, self._api)
        if token not in self._secrets:
            self._secrets.append(token)
        return self._kind.authorize(token)

    def _failure(self, reply: HttpReply, what: str) -> DependencyError:
        if reply.status == 401:
            self._credentials.refused()
        refused, not_found = self._credentials.when_refused, self._named.when_not_found(self._kind.name)
        return failure_of(self._kind, self._http, reply, what, refused, not_found)


def failure_of(
    kind: HostKind, http: HttpClient, reply: HttpReply, what: str, when_refused: str, when_not_found: str
) -> DependencyError:
    """Return the error for an answer that does not acknowledge a request; its class says what to do about it.

    Args:
        kind: Which product answered.
        http: The client that it answered.
        reply: The answer.
        what: What was wanted.
        when_refused: What a person does when the login was refused.
        when_not_found: What a person does when nothing is there.
    """
    said = reply.document.get("message") if isinstance(reply.document, dict) else None
    text = str(said) if said else reply.body.decode("utf-8", "replace")
    found = redact(f"HTTP {reply.status}: {excerpt(text, http.secrets())}", http.secrets())

    def problem(next_step: str) -> Problem:
        return Problem(http.subject, what, found, next_step)

    pause = kind.pause(reply)
    if pause is not None:
        return RateLimitedError(problem(f"Wait {pause:.0f} s; fewer requests avoid it."), pause)
    if reply.status in (401, 403):
        lacks = excerpt(reply.headers.get(kind.rights_header, "")) if kind.rights_header else ""
        needs = f"It needs the permission {lacks}." if lacks else kind.rights
        return NotPermittedError(problem(f"{when_refused} {needs}".strip()))
    if reply.status == 404 or 300 <= reply.status < 400:
        return RefusedError(problem(when_not_found))
    if 400 <= reply.status < 500 and reply.status not in _TRANSIENT:
        return RefusedError(problem("Correct what it names; asking again does not help."))
    return http.unexpected(reply, what)

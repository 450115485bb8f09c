"""The REST API of GitLab and Gitea, as their clients ask it: a token from a file, JSON, and errors by their classes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration.adapters.exchange import excerpt
from orchestration.adapters.http import HttpClient, HttpReply, require_plain_url
from orchestration.adapters.secret_files import read_secret
from orchestration.promotion.github import NotPermittedError, RateLimitedError, RefusedError
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.redact import redact

_PAUSE_SECONDS = 60.0
"""How long a limit lasts that names no time: GitLab counts by the minute, and a proxy limits Gitea."""


@dataclass(frozen=True)
class HostKind:
    """What one product does differently, and what a person does about its errors."""

    name: str
    authorize: Callable[[str], dict[str, str]]
    """Returns the headers that carry a token."""
    unreachable: str
    not_permitted: str
    not_found: str
    """Both kinds hide what a token may not see behind 404."""


class HostApi:
    """What is below one address; reads are repeated after transient failures, writes never.

    Its methods raise what the port `PullRequests` says.
    """

    def __init__(self, kind: HostKind, api_url: str, below: str, token_file: Path) -> None:
        """Connect nowhere yet.

        Args:
            kind: Which product it is.
            api_url: The API's address.
            below: The path that all others are below, such as a repository's.
            token_file: A file with a token, read for each request.

        Raises:
            InvalidInputError: the address is not http(s), or carries a password.
        """
        api = require_plain_url(f"address of {kind.name}'s API", api_url)
        self._kind, self._below, self._token_file = kind, f"{api}{below}", token_file
        self._http = HttpClient(f"{kind.name} at {api}", kind.unreachable, self._secrets)

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
        document = self.read(path, query, what)
        if not isinstance(document, list) or not all(isinstance(item, dict) for item in document):
            raise self._http.failure("something else than a list of objects", what)
        return document

    def write(
        self,
        method: str,
        path: str,
        content: Mapping[str, object],
        what: str,
        statuses: tuple[int, ...] = (200, 201),
    ) -> dict[str, Any]:
        """Send a JSON object once, and return the answer; an empty one for an answer without an object.

        Args:
            method: The HTTP method.
            path: Where to.
            content: What is sent.
            what: What is wanted, for errors.
            statuses: Which answers say that it is so.
        """
        headers = {**self._headers(), "Content-Type": "application/json"}
        reply = self._http.send(method, f"{self._below}{path}", content=json.dumps(content).encode(), headers=headers)
        if reply.status not in statuses:
            raise self._failure(reply, what)
        return reply.document if isinstance(reply.document, dict) else {}

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

    def _get(self, path: str, query: Mapping[str, str]) -> HttpReply:
        return self._http.get(f"{self._below}{path}", params=query or None, headers=self._headers())

    def _headers(self) -> dict[str, str]:
        try:
            token = read_secret(self._token_file, f"the token of {self._kind.name}", "the path")
        except DependencyError as error:
            raise NotPermittedError(error.problem) from error
        return self._kind.authorize(token)

    def _secrets(self) -> tuple[str, ...]:
        try:
            return (read_secret(self._token_file, f"the token of {self._kind.name}", "the path"),)
        except DependencyError:
            return ()

    def _failure(self, reply: HttpReply, what: str) -> DependencyError:
        """Return the error for an answer that does not acknowledge a request; its class says what to do about it."""
        said = reply.document.get("message") if isinstance(reply.document, dict) else None
        text = str(said) if said else reply.body.decode("utf-8", "replace")
        found = redact(f"HTTP {reply.status}: {excerpt(text, self._secrets())}", self._secrets())

        def problem(next_step: str) -> Problem:
            return Problem(str(self), what, found, next_step)

        if reply.status == 429:
            pause = _PAUSE_SECONDS if reply.retry_after is None else reply.retry_after
            return RateLimitedError(problem(f"Wait {pause:.0f} s; fewer requests avoid it."), pause)
        if reply.status in (401, 403):
            return NotPermittedError(problem(self._kind.not_permitted))
        if reply.status == 404:
            return RefusedError(problem(self._kind.not_found))
        if 300 <= reply.status < 500:
            return RefusedError(problem("Correct what it names; asking again does not help."))
        return self._http.unexpected(reply, what)

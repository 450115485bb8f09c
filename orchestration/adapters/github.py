"""GitHub's REST API: workflow dispatches, issues and comments, with a token from a file or as a GitHub App.

The statuses, headers and limits are those of https://docs.github.com/rest; a table in the tests has each with its page.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote, urlencode, urlsplit

from orchestration.adapters.exchange import excerpt
from orchestration.adapters.http import HttpClient, HttpReply, next_link, require_plain_url
from orchestration.adapters.secret_files import read_secret
from orchestration.promotion.github import Comment, Issue, NotPermittedError, RateLimitedError, RefusedError
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.redact import redact
from orchestration.promotion.timestamps import parse_time

PUBLIC_API = "https://api.github.com"
API_VERSION = "2022-11-28"
"""The version that GitHub Enterprise Server knows, too; it is supported until 2028 at least."""
_SECONDARY_LIMIT_SECONDS = 60.0
"""The least pause after a secondary limit that names no time (docs.github.com: rate limits for the REST API)."""
_LONGEST_PAUSE = 3600.0
"""Seconds. Limits are counted by the hour; a longer time is a wrong clock or a wrong header."""
_TRANSIENT = frozenset({408, 425})
"""Statuses of proxies in between that say nothing about what was asked for: RFC 9110, 15.5.9, and RFC 8470, 5.2."""
_PAGE = 100
_REMEMBERED_TOKENS = 8
"""The last tokens, which no error may show; an App has another one every hour."""
_JWT_SECONDS = 540
"""GitHub accepts ten minutes at most, by its own clock."""
_CLOCK_DRIFT_SECONDS = 60
_RENEW_SECONDS = 120.0
"""How long before its end an installation's token is replaced."""


class Credentials(Protocol):
    """Where the token of each request comes from."""

    def token(self, http: HttpClient, api_url: str) -> str:
        """Return the token to use now.

        Raises:
            NotPermittedError: a file cannot be read or used.
            DependencyError: GitHub gave no token.
        """

    def refused(self) -> None:
        """Take note that GitHub refused the token, so that the next one is fetched anew."""


@dataclass(frozen=True)
class TokenFile:
    """A fine-grained personal access token in a file, which is read for each request: tokens are rotated."""

    path: Path

    def token(self, http: HttpClient, api_url: str) -> str:
        """Return what the file holds now."""
        return _read(self.path, "the token of GitHub")

    def refused(self) -> None:
        """Do nothing: the next request reads the file again anyway."""


@dataclass
class AppKey:
    """A GitHub App: its private key signs a request for an installation's token, which is valid for an hour."""

    app_id: str
    """The App's id or client id."""
    installation_id: int
    path: Path
    """The private key in PEM, as GitHub hands it out."""
    _token: str = field(default="", init=False, repr=False)
    _renew_at: float = field(default=0.0, init=False)
    """By `time.monotonic`: a wall clock that is set must not keep a token that has expired."""

    def token(self, http: HttpClient, api_url: str) -> str:
        """Return the installation's token, a new one shortly before the last one ends.

        Raises:
            NotPermittedError: the key cannot be read or used.
            DependencyError: GitHub gave no token.
        """
        if not self._token or time.monotonic() >= self._renew_at:
            self._fetch(http, api_url)
        return self._token

    @property
    def current(self) -> str:
        """The token that was fetched last; empty before the first one, and once it was refused."""
        return self._token

    def refused(self) -> None:
        """Forget the token: it may have been revoked."""
        self._token = ""

    def _fetch(self, http: HttpClient, api_url: str) -> None:
        url = f"{api_url}/app/installations/{self.installation_id}/access_tokens"
        reply = http.send("POST", url, content=b"{}", headers=_headers(self._signed()))
        if reply.status != 201:
            raise _failure(http, reply, f"a token of installation {self.installation_id} of GitHub App {self.app_id}")
        document = reply.document if isinstance(reply.document, dict) else {}
        token, ends = document.get("token"), parse_time(document.get("expires_at"))
        if not isinstance(token, str) or not token or ends is None:
            raise http.unexpected(reply, "a token with its end")
        self._token = token
        self._renew_at = time.monotonic() + max(0.0, ends - _server_time(reply) - _RENEW_SECONDS)

    def _signed(self) -> str:
        import jwt

        now = int(time.time())
        claims = {"iat": now - _CLOCK_DRIFT_SECONDS, "exp": now + _JWT_SECONDS, "iss": self.app_id}
        key = _read(self.path, "the key of the GitHub App", lines=True)
        try:
            return jwt.encode(claims, key, algorithm="RS256")
        except (jwt.PyJWTError, ValueError, TypeError):  # their texts may quote the key
            found, next_step = "something else", "Download a private key from the App's settings into that file."
            expected = "an RSA private key in PEM, without a passphrase"
            raise NotPermittedError(Problem(f"key file {self.path}", expected, found, next_step)) from None


def _read(path: Path, what: str, *, lines: bool = False) -> str:
    """Read a secret; without one, GitHub would permit nothing."""
    try:
        return read_secret(path, what, "the path", lines=lines)
    except DependencyError as error:
        raise NotPermittedError(error.problem) from error


def github_client(api_url: str, secrets: Callable[[], Iterable[str]]) -> HttpClient:
    """Return a client of GitHub's API, whose errors do not show the secrets."""
    next_step = "Check that it is reachable from here, and https://www.githubstatus.com."
    return HttpClient(f"GitHub at {api_url}", next_step, secrets)


class GitHubRepository:
    """Implements the `GitHub` port for one repository. Reads are repeated after transient failures, writes never."""

    def __init__(self, api_url: str, repository: str, credentials: Credentials) -> None:
        """Connect nowhere yet.

        Args:
            api_url: The API's address, such as `https://api.github.com` or `https://github.example.com/api/v3`.
            repository: `owner/name`.
            credentials: Where tokens come from.

        Raises:
            InvalidInputError: the address is not http(s), or carries a password.
        """
        self._api = require_plain_url("address of GitHub's API", api_url)
        self._repository = f"{self._api}/repos/{quote(repository)}"
        self._credentials = credentials
        self._secrets: deque[str] = deque(maxlen=_REMEMBERED_TOKENS)
        self._http = github_client(self._api, lambda: tuple(self._secrets))

    def __str__(self) -> str:
        return self._http.subject

    def dispatch(self, workflow: str, ref: str, inputs: Mapping[str, str]) -> None:
        """POST a workflow's dispatch event; the port says what is raised.

        GitHub acknowledges it with 204; servers that name the run in their answer, with 200.
        """
        path = f"/actions/workflows/{quote(workflow, safe='')}/dispatches"
        self.write("POST", path, {"ref": ref, "inputs": dict(inputs)}, (200, 204), f"a dispatch of {workflow}")

    def issues(self, labels: Sequence[str] = (), state: Literal["open", "closed", "all"] = "open") -> Iterator[Issue]:
        """Yield issues page by page; the port says what is raised."""
        query = {"state": state, "labels": ",".join(labels), "sort": "created", "direction": "desc"}
        for item in self.pages("/issues", {name: value for name, value in query.items() if value}, "a list of issues"):
            if "pull_request" not in item:  # GitHub's list of issues has both
                yield _issue(item)

    def create_issue(self, title: str, body: str, labels: Sequence[str] = ()) -> Issue:
        """POST an issue; the port says what is raised."""
        content = {"title": title, "body": body, "labels": list(labels)}
        return _issue(self.write("POST", "/issues", content, (201,), "a new issue"))

    def comments(self, number: int) -> Iterator[Comment]:
        """Yield comments page by page; the port says what is raised."""
        what = f"the comments on issue {number}"
        yield from map(_comment, self.pages(f"/issues/{number}/comments", {}, what))

    def comment(self, number: int, body: str) -> Comment:
        """POST a comment; the port says what is raised."""
        path, what = f"/issues/{number}/comments", f"a comment on issue {number}"
        return _comment(self.write("POST", path, {"body": body}, (201,), what))

    def close_issue(self, number: int, reason: Literal["completed", "not_planned"] = "completed") -> Issue:
        """PATCH an issue's state; the port says what is raised."""
        content = {"state": "closed", "state_reason": reason}
        return _issue(self.write("PATCH", f"/issues/{number}", content, (200,), f"issue {number} closed"))

    def write(
        self, method: str, path: str, content: Mapping[str, object], statuses: tuple[int, ...], what: str
    ) -> dict[str, Any]:
        """Send JSON to a path of the repository once, and return the answer; the port says what is raised."""
        return self._send(method, f"{self._repository}{path}", content, statuses, what)

    def graphql(self, url: str, content: Mapping[str, object], what: str) -> dict[str, Any]:
        """Ask GraphQL once; its own errors are in the answer. The port says what is raised."""
        return self._send("POST", url, content, (200,), what)

    def _send(
        self, method: str, url: str, content: Mapping[str, object], statuses: tuple[int, ...], what: str
    ) -> dict[str, Any]:
        headers = {**_headers(self._token()), "Content-Type": "application/json"}
        reply = self._http.send(method, url, content=json.dumps(content).encode(), headers=headers)
        if reply.status not in statuses:
            raise self._failure(reply, what)
        return reply.document if isinstance(reply.document, dict) else {}

    def read(self, path: str, what: str) -> dict[str, Any]:
        """GET one object below the repository; the port says what is raised."""
        reply = self._http.get(f"{self._repository}{path}", headers=_headers(self._token()))
        if reply.status != 200:
            raise self._failure(reply, what)
        if not isinstance(reply.document, dict):
            raise self._http.unexpected(reply, what)
        return reply.document

    def pages(self, path: str, query: Mapping[str, str], what: str) -> Iterator[dict[str, Any]]:
        """GET the objects of a list, page by page; the port says what is raised."""
        url: str | None = f"{self._repository}{path}?{urlencode({**query, 'per_page': _PAGE})}"
        while url is not None:
            reply = self._http.get(url, headers=_headers(self._token()))
            if reply.status != 200:
                raise self._failure(reply, what)
            if not isinstance(reply.document, list) or not all(isinstance(item, dict) for item in reply.document):
                raise self._http.unexpected(reply, what)
            yield from reply.document
            url = self._next_page(reply, what)

    def _next_page(self, reply: HttpReply, what: str) -> str | None:
        url = next_link(reply.headers.get("link", ""))
        if url is not None and urlsplit(url)[:2] != urlsplit(self._api)[:2]:  # it would be given the token
            raise self._http.failure("a next page on another server", what)
        return url

    def _token(self) -> str:
        token = self._credentials.token(self._http, self._api)
        if token not in self._secrets:
            self._secrets.append(token)
        return token

    def _failure(self, reply: HttpReply, what: str) -> DependencyError:
        if reply.status == 401:
            self._credentials.refused()
        return _failure(self._http, reply, what)


def _headers(token: str) -> dict[str, str]:
    return {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {token}",
        "User-Agent": "incumbent",  # GitHub refuses requests without one
        "X-GitHub-Api-Version": API_VERSION,
    }


def _failure(http: HttpClient, reply: HttpReply, what: str) -> DependencyError:
    """Return the error for an answer that does not acknowledge a request; its class says what to do about it."""
    pause = _pause(reply)
    said = reply.document.get("message") if isinstance(reply.document, dict) else None
    text = said if isinstance(said, str) else reply.body.decode("utf-8", "replace")
    found = redact(f"HTTP {reply.status}: {excerpt(text, http.secrets())}", http.secrets())

    def problem(next_step: str) -> Problem:
        return Problem(http.subject, what, found, next_step)

    if pause is not None:
        return RateLimitedError(problem(f"Wait {pause:.0f} s; fewer requests avoid it."), pause)
    if reply.status in (401, 403):
        needed = reply.headers.get("x-accepted-github-permissions")
        needs = f" It needs the permission {excerpt(needed)}." if needed else ""
        return NotPermittedError(problem(f"Replace the token, or give it access to this repository.{needs}"))
    if reply.status == 404:
        return RefusedError(problem("Check the names, and that the token may see them: GitHub hides what it may not."))
    if 300 <= reply.status < 500 and reply.status not in _TRANSIENT:
        return RefusedError(problem("Correct what it names; asking again does not help."))
    return http.unexpected(reply, what)


def _pause(reply: HttpReply) -> float | None:
    """Return how many seconds GitHub asks us to wait; None when the answer is not about a limit.

    The rules are those of "Exceeding the rate limit" (docs.github.com: rate limits for the REST API).
    """
    if reply.status not in (403, 429, 503):
        return None
    if reply.retry_after is not None:
        return min(reply.retry_after, _LONGEST_PAUSE)
    if reply.status == 503:
        return None
    if reply.headers.get("x-ratelimit-remaining") == "0":
        reset = reply.headers.get("x-ratelimit-reset", "")
        until = float(reset) - _server_time(reply) if reset.isascii() and reset.isdigit() else _SECONDARY_LIMIT_SECONDS
        return min(max(until, 1.0), _LONGEST_PAUSE)
    if reply.status == 429 or b"rate limit" in reply.body.lower():
        return _SECONDARY_LIMIT_SECONDS
    return None


def _server_time(reply: HttpReply) -> float:
    """Return when the server answered by its own clock, in seconds since the epoch; ours where it does not say."""
    try:
        return parsedate_to_datetime(reply.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return time.time()


def _issue(item: Mapping[str, Any]) -> Issue:
    labels = [label.get("name") if isinstance(label, dict) else label for label in item.get("labels") or []]
    return Issue(
        number=_number(item.get("number")),
        title=str(item.get("title") or ""),
        body=str(item.get("body") or ""),
        is_open=item.get("state") == "open",
        labels=tuple(label for label in labels if isinstance(label, str)),
        url=str(item.get("html_url") or ""),
        author=_author(item),
    )


def _comment(item: Mapping[str, Any]) -> Comment:
    return Comment(
        id=_number(item.get("id")),
        body=str(item.get("body") or ""),
        author=_author(item),
        url=str(item.get("html_url") or ""),
    )


def _author(item: Mapping[str, Any]) -> str:
    user = item.get("user")
    return str(user.get("login") or "") if isinstance(user, dict) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0

"""GitHub's REST API: workflow dispatches, issues and comments, with a token from a file or as a GitHub App.

The statuses, headers and limits are those of https://docs.github.com/rest; a table in the tests has each with its page.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from orchestration.adapters.exchange import time_of_answer
from orchestration.adapters.host_api import ApiNames, Credentials, HostApi, HostKind, api_secret, failure_of
from orchestration.adapters.http import HttpClient, HttpReply
from orchestration.promotion.github import Comment, Issue, NotPermittedError
from orchestration.promotion.problems import Problem
from orchestration.promotion.timestamps import parse_time

PUBLIC_API = "https://api.github.com"
API_VERSION = "2022-11-28"
"""The version that GitHub Enterprise Server knows, too; it is supported until 2028 at least."""
PAGE = "100"
"""How many objects of a list are asked for at a time."""
_SECONDARY_LIMIT_SECONDS = 60.0
"""The least pause after a secondary limit that names no time (docs.github.com: rate limits for the REST API)."""
_LONGEST_PAUSE = 3600.0
"""Seconds. Limits are counted by the hour; a longer time is a wrong clock or a wrong header."""
_JWT_SECONDS = 540
"""GitHub accepts ten minutes at most, by its own clock."""
_CLOCK_DRIFT_SECONDS = 60
_RENEW_SECONDS = 120.0
"""How long before its end an installation's token is replaced."""


def _headers(token: str) -> dict[str, str]:
    return {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {token}",
        "User-Agent": "incumbent",  # GitHub refuses requests without one
        "X-GitHub-Api-Version": API_VERSION,
    }


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
    at = time_of_answer(reply.headers.get("date"))
    return at if at is not None else time.time()


GITHUB = HostKind(
    "GitHub",
    _headers,
    unreachable="Check that it is reachable from here, and https://www.githubstatus.com.",
    rights_header="x-accepted-github-permissions",
    pause=_pause,
)


@dataclass
class AppKey:
    """A GitHub App: its private key signs a request for an installation's token, which is valid for an hour."""

    app_id: str
    """The App's id or client id."""
    installation_id: int
    path: Path
    """The private key in PEM, as GitHub hands it out."""
    named: str
    """Where a person wrote these three, for errors."""
    _token: str = field(default="", init=False, repr=False)
    _renew_at: float = field(default=0.0, init=False)
    """By `time.monotonic`: a wall clock that is set must not keep a token that has expired."""

    @property
    def when_refused(self) -> str:
        """What the App is given."""
        return f"Give the GitHub App what it needs, and its installation this repository ({self.named})."

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
            what = f"a token of installation {self.installation_id} of GitHub App {self.app_id}"
            next_step = f"Check {self.named}, and that the App is installed where the repository is."
            raise failure_of(GITHUB, http, reply, what, next_step, next_step)
        document = reply.document if isinstance(reply.document, dict) else {}
        token, ends = document.get("token"), parse_time(document.get("expires_at"))
        if not isinstance(token, str) or not token or ends is None:
            raise http.unexpected(reply, "a token with its end")
        self._token = token
        self._renew_at = time.monotonic() + max(0.0, ends - _server_time(reply) - _RENEW_SECONDS)

    def _signed(self) -> str:
        import jwt
        from cryptography.exceptions import UnsupportedAlgorithm

        now = int(time.time())
        claims = {"iat": now - _CLOCK_DRIFT_SECONDS, "exp": now + _JWT_SECONDS, "iss": self.app_id}
        key = api_secret(self.path, "the key of the GitHub App", self.named, lines=True)
        try:
            return jwt.encode(claims, key, algorithm="RS256")
        except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):  # their texts may quote the key
            found = "something else"
            next_step = f"Download a private key from the App's settings into that file, or correct {self.named}."
            expected = "an RSA private key in PEM, without a passphrase"
            raise NotPermittedError(Problem(f"key file {self.path}", expected, found, next_step)) from None


class GitHubRepository:
    """Implements the `GitHub` port for one repository. Reads are repeated after transient failures, writes never."""

    def __init__(self, api_url: str, repository: str, credentials: Credentials, named: ApiNames) -> None:
        """Connect nowhere yet.

        Args:
            api_url: The API's address, such as `https://api.github.com` or `https://github.example.com/api/v3`.
            repository: `owner/name`.
            credentials: Where tokens come from.
            named: Where a person wrote address and repository.

        Raises:
            InvalidInputError: the address is not http(s), or carries a password.
        """
        self._api = HostApi(GITHUB, api_url, f"/repos/{quote(repository)}", credentials, named)

    def __str__(self) -> str:
        return str(self._api)

    def dispatch(self, workflow: str, ref: str, inputs: Mapping[str, str]) -> None:
        """POST a workflow's dispatch event; the port says what is raised.

        GitHub acknowledges it with 204; servers that name the run in their answer, with 200.
        """
        path = f"/actions/workflows/{quote(workflow, safe='')}/dispatches"
        self._api.write("POST", path, {"ref": ref, "inputs": dict(inputs)}, f"a dispatch of {workflow}", (200, 204))

    def issues(self, labels: Sequence[str] = (), state: Literal["open", "closed", "all"] = "open") -> Iterator[Issue]:
        """Yield issues page by page; the port says what is raised."""
        query = {"state": state, "labels": ",".join(labels), "sort": "created", "direction": "desc", "per_page": PAGE}
        listed = {name: value for name, value in query.items() if value}
        for item in self._api.pages("/issues", listed, "a list of issues"):
            if "pull_request" not in item:  # GitHub's list of issues has both
                yield _issue(item)

    def create_issue(self, title: str, body: str, labels: Sequence[str] = ()) -> Issue:
        """POST an issue; the port says what is raised."""
        content = {"title": title, "body": body, "labels": list(labels)}
        return _issue(self._api.write("POST", "/issues", content, "a new issue", (201,)))

    def comments(self, number: int) -> Iterator[Comment]:
        """Yield comments page by page; the port says what is raised."""
        what = f"the comments on issue {number}"
        yield from map(_comment, self._api.pages(f"/issues/{number}/comments", {"per_page": PAGE}, what))

    def comment(self, number: int, body: str) -> Comment:
        """POST a comment; the port says what is raised."""
        path, what = f"/issues/{number}/comments", f"a comment on issue {number}"
        return _comment(self._api.write("POST", path, {"body": body}, what, (201,)))

    def close_issue(self, number: int, reason: Literal["completed", "not_planned"] = "completed") -> Issue:
        """PATCH an issue's state; the port says what is raised."""
        content = {"state": "closed", "state_reason": reason}
        return _issue(self._api.write("PATCH", f"/issues/{number}", content, f"issue {number} closed", (200,)))


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

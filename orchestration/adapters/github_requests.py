"""Pull requests on GitHub, for the `PullRequests` port.

The calls are those of https://docs.github.com/rest/pulls/pulls and https://docs.github.com/rest/issues; only automatic
merging has none, and is asked of https://docs.github.com/graphql/reference/mutations#enablepullrequestautomerge.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from orchestration.adapters.closings import WITHDRAWN, Event, What, last_closing
from orchestration.adapters.exchange import excerpt
from orchestration.adapters.github import GITHUB, PAGE
from orchestration.adapters.host_api import ApiNames, Credentials, HostApi
from orchestration.promotion.github import RefusedError
from orchestration.promotion.problems import Problem
from orchestration.promotion.pull_requests import MergeMethod, PullRequest, RequestState, RequestText
from orchestration.promotion.timestamps import parse_time

_GITHUB = replace(
    GITHUB, rights="It needs Contents, Pull requests and Issues (read and write); docs/pull-requests.md has the rest."
)
_EVENTS = {"commented": What.COMMENTED, "closed": What.CLOSED, "reopened": What.REOPENED}
_EMPTY = 422
"""What GitHub answers who may open a request, and asks for one from a branch into itself."""
_SETTING_OF = {"merge": "merge_commit", "squash": "squash_merge", "rebase": "rebase_merge", None: ""}
"""The repository's setting for each way of merging, after `allow_`."""
_AUTO_MERGE = (
    "mutation($id: ID!, $method: PullRequestMergeMethod!, $head: GitObjectID) { enablePullRequestAutoMerge("
    "input: {pullRequestId: $id, mergeMethod: $method, expectedHeadOid: $head}) { clientMutationId } }"
)


class GitHubPullRequests:
    """Implements the `PullRequests` port; reads are repeated after transient failures, writes never."""

    def __init__(self, api_url: str, repository: str, base: str, credentials: Credentials, named: ApiNames) -> None:
        """Connect nowhere yet.

        Args:
            api_url: The API's address, such as `https://api.github.com`.
            repository: `owner/name`.
            base: The branch that requests are merged into.
            credentials: Where tokens come from.
            named: Where a person wrote address and repository.

        Raises:
            InvalidInputError: the address is not http(s), or carries a password.
        """
        self._api = HostApi(_GITHUB, api_url, f"/repos/{quote(repository)}", credentials, named)
        self._owner, self._base, self._api_url = repository.partition("/")[0], base, api_url

    def __str__(self) -> str:
        return str(self._api)

    def check_open(self, auto_merge: MergeMethod | None) -> None:
        """GET the repository, and POST a request that cannot be one; the port says what is raised."""
        what = f"a repository in which we may open pull requests into {self._base}"
        shown = self._api.read_object("", {}, what)
        rights = shown.get("permissions")
        if isinstance(rights, dict) and rights.get("push") is False:  # of the account; a token may have less
            raise self._api.not_permitted("an account without the right to push (the role Write)", what)
        if shown.get("archived") is True:
            raise RefusedError(Problem(str(self), what, "an archived repository", "Unarchive it."))
        wanted = {"allow_auto_merge": "auto-merge", f"allow_{_SETTING_OF[auto_merge]}": f"the way {auto_merge}"}
        for setting, name in wanted.items() if auto_merge is not None else ():
            if shown.get(setting) is False:
                next_step = f"Allow {name} in the repository's settings, or correct auto_merge in the policy."
                raise RefusedError(Problem(str(self), f"{name} to be allowed", "that it is not", next_step))
        content = {"title": "A check of rights", "head": self._base, "base": self._base}
        self._api.write("POST", "/pulls", content, what, (_EMPTY,))

    def find(self, branch: str) -> PullRequest | None:
        """GET the newest request from a branch; the port says what is raised."""
        query = {"state": "all", "head": f"{self._owner}:{branch}", "base": self._base}
        query |= {"sort": "created", "direction": "desc", "per_page": "1"}
        listed = self._api.read_list("/pulls", query, f"the requests from branch {branch}")
        return self._show(int(listed[0]["number"])) if listed else None

    def open(self, branch: str, text: RequestText) -> PullRequest:
        """POST a request, unless one is open; the port says what is raised."""
        found = self.find(branch)
        if found is not None and found.state is RequestState.OPEN:
            return found
        content = {"title": text.title, "head": branch, "base": self._base, "body": text.body}
        created = self._api.write("POST", "/pulls", content, f"a new pull request from branch {branch}")
        return _shown(created, by="", was_withdrawn=False)

    def comment(self, number: int, text: str) -> None:
        """POST a comment; the port says what is raised."""
        self._api.write("POST", f"/issues/{number}/comments", {"body": text}, f"a comment on pull request {number}")

    def close(self, number: int, why: str) -> PullRequest:
        """POST a comment and PATCH the state of a request that is open; the port says what is raised."""
        if self._show(number).state is RequestState.OPEN:
            self.comment(number, f"{why}\n\n{WITHDRAWN}")
            self._api.write("PATCH", f"/pulls/{number}", {"state": "closed"}, f"pull request {number} closed")
        return self._show(number)

    def merge_when_ready(self, number: int, commit: str, method: MergeMethod) -> None:
        """Enable automatic merging, or merge at once what nothing keeps from it; the port says what is raised."""
        what = f"pull request {number} to be merged when it is ready"
        shown = self._api.read_object(f"/pulls/{number}", {}, what)
        variables = {"id": shown.get("node_id"), "method": method.upper(), "head": commit}
        said = self._api.post_to(_graphql(self._api_url), {"query": _AUTO_MERGE, "variables": variables}, what)
        errors = [str(error.get("message")) for error in said.get("errors") or [] if isinstance(error, dict)]
        if not errors:
            return
        if any("clean status" in error for error in errors):
            content = {"merge_method": method, "sha": commit}
            self._api.write("PUT", f"/pulls/{number}/merge", content, f"pull request {number} merged")
            return
        found = excerpt("; ".join(errors))
        next_step = "Allow auto-merge in the repository's settings, or remove auto_merge from the policy."
        raise RefusedError(Problem(str(self), what, found, next_step))

    def _show(self, number: int) -> PullRequest:
        item = self._api.read_object(f"/pulls/{number}", {}, f"pull request {number}")
        if item.get("state") == "open" or item.get("merged"):
            return _shown(item, by=login_of(item.get("merged_by")), was_withdrawn=False)
        by, was_withdrawn = last_closing(self._events(number))
        return _shown(item, by=by, was_withdrawn=was_withdrawn)

    def _events(self, number: int) -> Iterator[Event]:
        what = f"who closed pull request {number}"
        for event in self._api.pages(f"/issues/{number}/timeline", {"per_page": PAGE}, what):
            known = _EVENTS.get(str(event.get("event")))
            if known is not None:
                yield Event(known, login_of(event.get("actor")), str(event.get("body") or ""))


def _shown(item: Mapping[str, Any], *, by: str, was_withdrawn: bool) -> PullRequest:
    has_conflict = item.get("state") == "open" and item.get("mergeable") is False
    return read_pull_request(item, by=by, was_withdrawn=was_withdrawn, has_conflict=has_conflict)


def read_pull_request(item: Mapping[str, Any], *, by: str, was_withdrawn: bool, has_conflict: bool) -> PullRequest:
    """Return a pull request as GitHub's API shows it, and Gitea's in the same fields.

    Args:
        item: The JSON object.
        by: Who merged or closed it.
        was_withdrawn: Whether we closed it ourselves.
        has_conflict: Whether it conflicts with its base.
    """
    is_merged, is_open = bool(item.get("merged")), item.get("state") == "open"
    head = item.get("head")
    return PullRequest(
        number=int(item["number"]),
        url=str(item.get("html_url") or ""),
        state=RequestState.MERGED if is_merged else RequestState.OPEN if is_open else RequestState.CLOSED,
        opened_at=parse_time(item.get("created_at")) or 0.0,
        ended_at=None if is_open else parse_time(item.get("merged_at") or item.get("closed_at")),
        by=by,
        head=str(head.get("sha") or "") if isinstance(head, dict) else "",
        merge_commit=str(item.get("merge_commit_sha") or "") if is_merged else "",
        has_conflict=has_conflict,
        was_withdrawn=was_withdrawn,
    )


def login_of(user: object) -> str:
    """Return an account's name; empty for none."""
    return str(user.get("login") or "") if isinstance(user, dict) else ""


def _graphql(api_url: str) -> str:
    """Return where GraphQL is asked: beside `/api/v3` on GitHub Enterprise Server."""
    parts = urlsplit(api_url)
    path = parts.path.rstrip("/").removesuffix("/v3")
    return urlunsplit((parts.scheme, parts.netloc, f"{path}/graphql", "", ""))

"""Merge requests on GitLab, for the `PullRequests` port.

The calls and the fields are those of https://docs.gitlab.com/api/merge_requests/, https://docs.gitlab.com/api/notes/
and https://docs.gitlab.com/api/resource_state_events/; the limits those of
https://docs.gitlab.com/security/rate_limits/.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from orchestration.adapters.closings import WITHDRAWN, Event, What, last_closing
from orchestration.adapters.host_api import ApiNames, Credentials, HostApi, HostKind
from orchestration.promotion.pull_requests import MergeMethod, PullRequest, RequestState, RequestText
from orchestration.promotion.timestamps import parse_time

_GITLAB = HostKind(
    "GitLab",
    lambda token: {"PRIVATE-TOKEN": token},
    unreachable="Check that it is reachable from here, and https://status.gitlab.com.",
    rights="It needs the scope api, and the role Developer.",
)
_EMPTY = 422
"""What GitLab answers who may open a request, and asks for one from a branch into itself (`validate_branches`)."""
_REQUESTS = "/merge_requests"
_STATES = {"opened": RequestState.OPEN, "locked": RequestState.OPEN, "merged": RequestState.MERGED}
"""`locked` lasts while a merge is under way."""
_PAGE = "100"
"""How many comments, or changes of a request's state, are asked for: the most that GitLab gives at once."""
_REOPENED = "reopened"


class GitLabMergeRequests:
    """Implements the `PullRequests` port; reads are repeated after transient failures, writes never."""

    def __init__(self, api_url: str, repository: str, base: str, credentials: Credentials, named: ApiNames) -> None:
        """Connect nowhere yet.

        Args:
            api_url: The API's address, such as `https://gitlab.com/api/v4`.
            repository: The project's path, such as `group/subgroup/name`.
            base: The branch that requests are merged into.
            credentials: Where tokens of the scope `api` come from.
            named: Where a person wrote address and project.

        Raises:
            InvalidInputError: the address is not http(s), or carries a password.
        """
        self._api = HostApi(_GITLAB, api_url, f"/projects/{quote(repository, safe='')}", credentials, named)
        self._base = base

    def __str__(self) -> str:
        return str(self._api)

    def check_open(self, auto_merge: MergeMethod | None) -> None:
        """GET the project, and POST a request that cannot be one; the port says what is raised."""
        what = f"a project in which we may open merge requests into {self._base}"
        shown = self._api.read_object("", {}, what)
        faults = {
            "an archived project": (shown.get("archived") is True, "Unarchive it."),
            "merge requests turned off": (
                shown.get("merge_requests_access_level") == "disabled",
                "Turn them on in the project's settings.",
            ),
            "squashing turned off": (
                auto_merge == "squash" and shown.get("squash_option") == "never",
                "Allow it in the project's settings, or correct auto_merge in the policy.",
            ),
        }
        self._api.require_none(faults, what)
        content = {"title": "A check of rights", "source_branch": self._base, "target_branch": self._base}
        self._api.write("POST", _REQUESTS, content, what, (_EMPTY,))

    def find(self, branch: str) -> PullRequest | None:
        """GET the newest request from a branch; the port says what is raised."""
        query = {"state": "all", "source_branch": branch, "target_branch": self._base}
        query |= {"order_by": "created_at", "sort": "desc", "per_page": "1"}
        listed = self._api.read_list(_REQUESTS, query, f"the requests from branch {branch}")
        return self._show(int(listed[0]["iid"])) if listed else None

    def open(self, branch: str, text: RequestText) -> PullRequest:
        """POST a request, unless one is open; the port says what is raised."""
        found = self.find(branch)
        if found is not None and found.state is RequestState.OPEN:
            return found
        content: dict[str, object] = {"title": text.title, "description": text.body, "remove_source_branch": True}
        content |= {"source_branch": branch, "target_branch": self._base}
        created = self._api.write("POST", _REQUESTS, content, f"a new merge request from branch {branch}")
        return _request(created, was_withdrawn=False)

    def comment(self, number: int, text: str) -> None:
        """POST a note; the port says what is raised."""
        self._api.write("POST", f"{_REQUESTS}/{number}/notes", {"body": text}, f"a comment on merge request {number}")

    def close(self, number: int, why: str) -> PullRequest:
        """POST a note and PUT the state of a request that is open; the port says what is raised."""
        if self._show(number).state is RequestState.OPEN:
            self.comment(number, f"{why}\n\n{WITHDRAWN}")
            self._api.write("PUT", f"{_REQUESTS}/{number}", {"state_event": "close"}, f"merge request {number} closed")
        return self._show(number)

    def merge_when_ready(self, number: int, commit: str, method: MergeMethod) -> None:
        """PUT the merge, which waits for the pipeline and the checks; the port says what is raised.

        Whether commits are rebased is the project's setting. `auto_merge` is the name since GitLab 17.11; older
        versions know the other one.
        """
        content = {"sha": commit, "squash": method == "squash", "should_remove_source_branch": True}
        content |= {"auto_merge": True, "merge_when_pipeline_succeeds": True}
        self._api.write(
            "PUT", f"{_REQUESTS}/{number}/merge", content, f"merge request {number} to be merged when it is ready"
        )

    def _show(self, number: int) -> PullRequest:
        item = self._api.read_object(f"{_REQUESTS}/{number}", {}, f"merge request {number}")
        if item.get("state") != "closed":
            return _request(item, was_withdrawn=False)
        return _request(item, was_withdrawn=self._was_withdrawn(number, _username(item.get("closed_by"))))

    def _was_withdrawn(self, number: int, closed_by: str) -> bool:
        """Whether it was we who closed a request. The comments do not say when it was reopened, so that is asked."""
        query, what = {"sort": "desc", "per_page": _PAGE}, f"who closed merge request {number}"
        notes = self._api.read_list(f"{_REQUESTS}/{number}/notes", query, what)
        states = self._api.read_list(f"{_REQUESTS}/{number}/resource_state_events", {"per_page": _PAGE}, what)
        known = [(each, Event(What.COMMENTED, _username(each.get("author")), str(each.get("body")))) for each in notes]
        known += [(each, Event(What.REOPENED, "")) for each in states if each.get("state") == _REOPENED]
        known.sort(key=lambda each: parse_time(each[0].get("created_at")) or 0.0)
        return last_closing([*(event for _, event in known), Event(What.CLOSED, closed_by)])[1]


def _request(item: Mapping[str, Any], *, was_withdrawn: bool) -> PullRequest:
    state = _STATES.get(str(item.get("state")), RequestState.CLOSED)
    ended_by = (
        item.get("merged_by") or item.get("merge_user") if state is RequestState.MERGED else item.get("closed_by")
    )
    head = str(item.get("sha") or "")
    merge_commit = str(item.get("merge_commit_sha") or item.get("squash_commit_sha") or head)
    is_open = state is RequestState.OPEN
    return PullRequest(
        number=int(item["iid"]),
        url=str(item.get("web_url") or ""),
        state=state,
        opened_at=parse_time(item.get("created_at")) or 0.0,
        ended_at=None if is_open else parse_time(item.get("merged_at") or item.get("closed_at")),
        by=_username(ended_by),
        head=head,
        # A fast-forward makes no commit of its own, so the request's head is on the branch.
        merge_commit=merge_commit if state is RequestState.MERGED else "",
        has_conflict=is_open and item.get("has_conflicts") is True,
        was_withdrawn=was_withdrawn,
    )


def _username(user: object) -> str:
    """Return an account's name; empty for none."""
    return str(user.get("username") or "") if isinstance(user, dict) else ""

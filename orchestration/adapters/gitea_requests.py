"""Pull requests on Gitea and Forgejo, which have one API, for the `PullRequests` port.

The calls are those of `/api/swagger` on any of their servers. What they answer beyond that was read in the source of
Gitea 1.24.6 (`routers/api/v1/repo/pull.go`, `services/pull/check.go`, `services/automerge`) and seen on that server.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from orchestration.adapters.closings import WITHDRAWN, Event, What, last_closing
from orchestration.adapters.github_requests import login_of, read_pull_request
from orchestration.adapters.host_api import ApiNames, Credentials, HostApi, HostKind
from orchestration.promotion.github import RefusedError
from orchestration.promotion.ports import Clock
from orchestration.promotion.problems import Problem
from orchestration.promotion.pull_requests import MergeMethod, PullRequest, RequestState, RequestText

_GITEA = HostKind(
    "Gitea",
    lambda token: {"Authorization": f"token {token}"},
    unreachable="Check that it is reachable from here: an API is at https://HOST/api/v1.",
    rights=("It needs the scopes write:repository and write:issue, and an account that may write to the repository."),
)
_EVENTS = {"comment": What.COMMENTED, "close": What.CLOSED, "reopen": What.REOPENED}
_EMPTY = 422
"""What the server answers to a request from a branch into itself (`CreatePullRequest`)."""
_SETTING_OF = {"merge": "allow_merge_commits", "squash": "allow_squash_merge", "rebase": "allow_rebase"}
_PAGE = 20
"""How many requests are asked for at a time; the server looks up several things in Git for each."""
_CHECK_SECONDS = 10.0
"""How long the server may take to find out whether a request can be merged, which it does in the background."""
_CHECK_PAUSE = 0.5


class GiteaPullRequests:
    """Implements the `PullRequests` port; reads are repeated after transient failures, writes never."""

    def __init__(
        self, api_url: str, repository: str, base: str, credentials: Credentials, named: ApiNames, clock: Clock
    ) -> None:
        """Connect nowhere yet.

        Args:
            api_url: The API's address, such as `https://codeberg.org/api/v1`.
            repository: `owner/name`.
            base: The branch that requests are merged into.
            credentials: Where tokens of the scopes `write:repository` and `write:issue` come from.
            named: Where a person wrote address and repository.
            clock: By which the server's checks are waited for.

        Raises:
            InvalidInputError: the address is not http(s), or carries a password.
        """
        self._api = HostApi(_GITEA, api_url, f"/repos/{quote(repository)}", credentials, named)
        self._base, self._clock = base, clock

    def __str__(self) -> str:
        return str(self._api)

    def check_open(self, auto_merge: MergeMethod | None) -> None:
        """GET the repository, and POST a request that cannot be one; the port says what is raised.

        The account's rights are in the repository; the POST shows those of the token, which may have fewer.
        """
        what = f"a repository in which we may open pull requests into {self._base}"
        shown = self._api.read_object("", {}, what)
        if (shown.get("permissions") or {}).get("push") is not True:
            raise self._api.not_permitted("an account without the right to write", what)
        faults = {
            "an archived repository": (shown.get("archived") is True, "Unarchive it."),
            "pull requests turned off": (
                shown.get("has_pull_requests") is False,
                "Turn them on in the repository's settings.",
            ),
            f"the way {auto_merge} turned off": (
                auto_merge is not None and shown.get(_SETTING_OF[auto_merge]) is False,
                "Allow it in the repository's settings, or correct auto_merge in the policy.",
            ),
        }
        self._api.require_none(faults, what)
        content = {"title": "A check of rights", "head": self._base, "base": self._base}
        self._api.write("POST", "/pulls", content, what, (_EMPTY,))

    def find(self, branch: str) -> PullRequest | None:
        """GET the newest request from a branch; the port says what is raised.

        No list is of one branch, and what is of two branches is one request, and not always the newest. A list does not
        say who merged a request.
        """
        what = f"the requests from branch {branch}"
        one = self._api.read_if_any(f"/pulls/{quote(self._base, safe='')}/{quote(branch)}", {}, what)
        if one is None:
            # A token that may not see the repository gets a 404, too; for the list of requests that is an error.
            next(self._newest_first(what), None)
            return None
        if one["state"] == "open":
            return self._shown(one)
        newest = next((item for item in self._newest_first(what) if self._is_from(item, branch)), one)
        return self._show(int(newest["number"]))

    def open(self, branch: str, text: RequestText) -> PullRequest:
        """POST a request, unless one is open; the port says what is raised."""
        found = self.find(branch)
        if found is not None and found.state is RequestState.OPEN:
            return found
        content = {"title": text.title, "body": text.body, "head": branch, "base": self._base}
        created = self._api.write("POST", "/pulls", content, f"a new pull request from branch {branch}")
        return read_pull_request(created, by="", was_withdrawn=False, has_conflict=False)

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
        """POST the merge, which waits for reviews and checks; the port says what is raised.

        The server takes a commit only for a merge at once, so it is compared here. What it has scheduled already is a
        409 (`pull request is already scheduled to auto merge`).
        """
        what = f"pull request {number} to be merged when it is ready"
        self._await_check(number, commit, what)
        content: dict[str, object] = {"Do": method, "merge_when_checks_succeed": True, "head_commit_id": commit}
        content["delete_branch_after_merge"] = True
        self._api.write("POST", f"/pulls/{number}/merge", content, what, (200, 201, 409))

    def _await_check(self, number: int, commit: str, what: str) -> None:
        """Wait until the server has found that a request can be merged; before that it schedules nothing."""
        until = self._clock.now() + _CHECK_SECONDS
        while True:
            item = self._api.read_object(f"/pulls/{number}", {}, what)
            head = str(item["head"]["sha"])
            if head != commit:
                next_step = "Merge it yourself, or close it: its branch has another commit than the proposed one."
                raise RefusedError(Problem(str(self), what, f"the commit {head[:12]}", next_step))
            if item.get("mergeable"):
                return
            if self._clock.now() >= until:
                found = f"a request that conflicts, or was not checked within {_CHECK_SECONDS:.0f} s"
                raise self._api.failure(found, what, "No action needed: it is tried again. Solve a conflict, if any.")
            self._clock.sleep(_CHECK_PAUSE)

    def _newest_first(self, what: str) -> Iterator[dict[str, Any]]:
        page = 1
        while True:
            query = {"state": "all", "base_branch": self._base, "limit": str(_PAGE), "page": str(page)}
            items = self._api.read_list("/pulls", query, what)
            if not items:
                return
            yield from items
            page += 1

    def _is_from(self, item: Mapping[str, Any], branch: str) -> bool:
        """Whether a request is from a branch of the repository itself, and not from one of that name in a fork."""
        head, base = item["head"], item["base"]
        return (head["label"], base["ref"], head["repo_id"]) == (branch, self._base, base["repo_id"])

    def _show(self, number: int) -> PullRequest:
        return self._shown(self._api.read_object(f"/pulls/{number}", {}, f"pull request {number}"))

    def _shown(self, item: Mapping[str, Any]) -> PullRequest:
        number = int(item["number"])
        if item.get("merged"):
            return read_pull_request(item, by=login_of(item.get("merged_by")), was_withdrawn=False, has_conflict=False)
        if item["state"] == "open":
            return read_pull_request(item, by="", was_withdrawn=False, has_conflict=self._has_conflict(item))
        by, was_withdrawn = last_closing(self._events(number))
        return read_pull_request(item, by=by, was_withdrawn=was_withdrawn, has_conflict=False)

    def _events(self, number: int) -> Iterator[Event]:
        for event in self._timeline(number):
            known = _EVENTS.get(str(event.get("type")))
            if known is not None:
                yield Event(known, login_of(event.get("user")), str(event.get("body") or ""))

    def _timeline(self, number: int) -> Iterator[dict[str, Any]]:
        """Yield what happened to a request, oldest first: only this says who closed it.

        A page may be shorter than asked for, because some kinds of events are left out; after the last one comes null.
        """
        page = 1
        while True:
            what = f"who closed pull request {number}"
            events = self._api.read(f"/issues/{number}/timeline", {"page": str(page), "limit": "50"}, what)
            if not events:
                return
            yield from events
            page += 1

    def _has_conflict(self, item: Mapping[str, Any]) -> bool:
        """Whether an open request conflicts with the branch.

        Its `mergeable` is false also while the server has yet to look, after each push to either branch. So it counts
        only when the branch has another content now of a file that the request's newest commit changes.
        """
        if item.get("mergeable") is not False:
            return False
        what = f"what pull request {item['number']} changes"
        head = self._api.read_object(f"/git/commits/{quote(str(item['head']['sha']))}", {}, what)
        parent, base = str(head["parents"][0]["sha"]), str(item["base"]["sha"])
        if parent == base:
            return False
        names = [str(file["filename"]) for file in head.get("files") or ()]
        return any(self._blob(name, parent) != self._blob(name, base) for name in names)

    def _blob(self, name: str, commit: str) -> str | None:
        found = self._api.read_if_any(f"/contents/{quote(name)}", {"ref": commit}, f"file {name}")
        return str(found["sha"]) if isinstance(found, dict) else None

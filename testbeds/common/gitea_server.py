"""A server that answers as Gitea does, with pull requests of a real bare repository.

Statuses and bodies are those of Gitea 1.24.6, read in its source; `tests/platform/test_gitea.py` asks it the same:

- `routers/api/v1/repo/pull.go`, `services/pull/check.go`: the calls, and what a merge is refused for
- `services/convert/pull.go`, `models/issues/pull.go` (`Mergeable`): a request, of which `mergeable` is false also
  while it is being checked
- `routers/api/v1/repo/issue_comment.go`: the timeline, with null behind its last page
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from testbeds.common.github_server import Json, Refusal
from testbeds.common.host_server import HostHandler, HostServer, now
from testbeds.common.merging import BareRepository

MergeStyle = Literal["merge", "rebase", "rebase-merge", "squash"]


@dataclass
class Pull:
    """A pull request with its timeline."""

    item: Json
    branch: str
    timeline: list[Json] = field(default_factory=list)
    scheduled: MergeStyle | None = None


class GiteaServer(HostServer):
    """Serves one repository's pull requests; people act by its methods."""

    def __init__(self, token: str, name: str, bare: BareRepository, *, account: str = "incumbent") -> None:
        self.token, self.name, self.bare, self.account = token, name, bare, account
        self.may_write = True
        self.is_approved = True
        """Whether reviews and checks let anyone merge now."""
        self.checks_take = 0
        """How many more times a request is seen before the server has found out whether it can be merged."""
        self.keeps_messages = True
        """Whether a person keeps the commits' messages when they squash."""
        self.settings: Json = {"archived": False, "permissions": {"admin": False, "push": True, "pull": True}}
        """What is shown of the repository beside its name."""
        self.pulls: dict[int, Pull] = {}
        self.numbers = count(1)
        super().__init__(_Handler)

    @property
    def url(self) -> str:
        """The API's address."""
        return f"http://127.0.0.1:{self.server_address[1]}/api/v1"

    def merge(self, number: int, style: MergeStyle = "merge", by: str = "ana") -> str:
        """Merge a request, and return the branch's new head."""
        pull = self.refreshed(number)
        head, base = pull.item["head"]["sha"], self.bare.head("main") or ""
        if self.bare.has_conflict(base, head):
            raise Refusal(409, "merge conflicts")
        title = f"{pull.item['title']} (#{number})"
        if style == "squash":
            own = ["\n\n".join(self.bare.message(one)) for one in self.bare.commits(base, head)]
            new = self.bare.merge("main", head, "squash", "\n\n".join([title, *(own * self.keeps_messages)]), by)
        elif style == "rebase":
            new = self.bare.merge("main", head, "rebase", "", by)
        else:
            if style == "rebase-merge":
                head = self.bare.rebased(base, head, by)
            new = self.bare.merge("main", head, "merge", f"Merge pull request '{title}'", by)
        pull.item.update(state="closed", merged=True, merged_at=now(), merged_by={"login": by}, merge_commit_sha=new)
        pull.timeline.append({"type": "merge_pull", "user": {"login": by}, "body": ""})
        self.bare.delete(pull.branch)
        return new

    def close(self, number: int, by: str = "ana") -> None:
        """Close a request without a merge."""
        pull = self.refreshed(number)
        pull.item.update(state="closed", closed_at=now())
        pull.timeline.append({"type": "close", "user": {"login": by}, "body": ""})

    def reopen(self, number: int, by: str = "ana") -> None:
        """Open a closed request again."""
        pull = self.refreshed(number)
        pull.item.update(state="open", closed_at=None)
        pull.timeline.append({"type": "reopen", "user": {"login": by}, "body": ""})

    def refreshed(self, number: int) -> Pull:
        """Return a request as it is now: while it is open, it follows its branch."""
        pull = self.pulls.get(number)
        if pull is None:
            raise Refusal(404, "The target couldn't be found.")
        item = pull.item
        if item["state"] != "open":
            return pull
        head, base = self.bare.head(pull.branch), self.bare.head("main")
        if head is not None and base is not None:
            item["head"]["sha"], item["base"]["sha"] = head, base
            item["mergeable"] = self.checks_take <= 0 and not self.bare.has_conflict(base, head)
            self.checks_take -= 1
        return pull


class _Handler(HostHandler):
    server: GiteaServer

    def carried_out(self) -> tuple[int, object]:
        try:
            if self.headers.get("Authorization") != f"token {self.server.token}":
                raise Refusal(401, "invalid username, password or token")
            path = unquote(urlsplit(self.path).path)
            below = f"/api/v1/repos/{self.server.name}"
            if path != below and not path.startswith(f"{below}/"):
                raise Refusal(404, "The target couldn't be found.")
            if self.command != "GET" and not self.server.may_write:
                scopes = "required=[write:repository], token scope=read:repository"
                raise Refusal(403, f"token does not have at least one of required scope(s), {scopes}")
            for method, pattern, act in _ROUTES:
                match = re.fullmatch(pattern, path.removeprefix(below))
                if method == self.command and match:
                    return act(self, *match.groups())
            raise Refusal(404, "Not found.")
        except Refusal as refusal:
            return refusal.status, {"message": refusal.message, "url": "http://127.0.0.1/api/swagger"}

    def _page(self, items: list[Json]) -> list[Json]:
        query = dict(parse_qsl(urlsplit(self.path).query))
        size = min(int(query.get("limit", "30")), 50)
        first = (int(query.get("page", "1")) - 1) * size
        return items[first : first + size]

    def repository(self) -> tuple[int, object]:
        return 200, {"full_name": self.server.name, **self.server.settings}

    def list_all(self) -> tuple[int, object]:
        items = [self.server.refreshed(number).item for number in reversed(self.server.pulls)]
        return 200, self._page([{**item, "merged_by": None} for item in items])

    def show_of_branches(self, base: str, head: str) -> tuple[int, object]:
        """The oldest one: the product asks its database for one without an order."""
        own = (number for number, pull in self.server.pulls.items() if (base, head) == ("main", pull.branch))
        number = next(own, None)
        if number is None:
            raise Refusal(404, "The target couldn't be found.")
        return 200, self.server.refreshed(number).item

    def create(self) -> tuple[int, object]:
        content, server = self.content(), self.server
        if content["head"] == content["base"]:
            raise Refusal(422, "Invalid PullRequest: There are no changes between the head and the base")
        branch, sha = content["head"], server.bare.head(content["head"])
        if sha is None:
            raise Refusal(404, "The target couldn't be found.")
        if any(pull.branch == branch and pull.item["state"] == "open" for pull in server.pulls.values()):
            raise Refusal(409, "pull request already exists for these targets")
        number = next(server.numbers)
        item: Json = {
            **{"number": number, "title": content["title"], "body": content["body"], "state": "open"},
            **{"merged": False, "merged_at": None, "merged_by": None, "merge_commit_sha": None},
            **{"created_at": now(), "closed_at": None, "mergeable": False},
            "html_url": f"https://gitea.example/{server.name}/pulls/{number}",
            "head": {"label": branch, "ref": branch, "sha": sha, "repo_id": 1},
            "base": {"label": "main", "ref": "main", "sha": server.bare.head("main"), "repo_id": 1},
        }
        server.pulls[number] = Pull(item, branch)
        return 201, item

    def show(self, number: str) -> tuple[int, object]:
        return 200, self.server.refreshed(int(number)).item

    def edit(self, number: str) -> tuple[int, object]:
        pull = self.server.refreshed(int(number))
        if pull.item["merged"]:
            raise Refusal(412, "cannot change state of this pull request, it was already merged")
        if self.content().get("state") == "closed" and pull.item["state"] == "open":
            self.server.close(int(number), self.server.account)
        return 201, pull.item

    def merge(self, number: str) -> tuple[int, object]:
        pull, content, server = self.server.refreshed(int(number)), self.content(), self.server
        if not pull.item["mergeable"]:
            raise Refusal(405, "Please try again later")
        if pull.scheduled is not None:
            raise Refusal(409, "pull request is already scheduled to auto merge when checks succeed")
        pull.scheduled = content["Do"]
        if server.is_approved:
            server.merge(int(number), content["Do"], server.account)
        return 201, None

    def timeline(self, number: str) -> tuple[int, object]:
        return 200, self._page(self.server.refreshed(int(number)).timeline) or None

    def comment(self, number: str) -> tuple[int, object]:
        event = {"type": "comment", "user": {"login": self.server.account}, "body": self.content()["body"]}
        self.server.refreshed(int(number)).timeline.append(event)
        return 201, event

    def commit(self, sha: str) -> tuple[int, object]:
        parents = self.server.bare.run("rev-parse", f"{sha}^@").split()
        files = self.server.bare.run("diff-tree", "--name-only", "-r", "--no-commit-id", sha).splitlines()
        return 200, {
            "sha": sha,
            "parents": [{"sha": parent} for parent in parents],
            "files": [{"filename": name} for name in files],
        }

    def file(self, path: str) -> tuple[int, object]:
        ref = dict(parse_qsl(urlsplit(self.path).query))["ref"]
        found = self.server.bare.run("ls-tree", ref, "--", path).split()
        if not found:
            raise Refusal(404, "The target couldn't be found.")
        return 200, {"path": path, "sha": found[2]}


_ROUTES: tuple[tuple[str, str, Callable[..., tuple[int, object]]], ...] = (
    ("GET", "", _Handler.repository),
    ("GET", "/pulls", _Handler.list_all),
    ("POST", "/pulls", _Handler.create),
    ("GET", r"/pulls/(\d+)", _Handler.show),
    ("PATCH", r"/pulls/(\d+)", _Handler.edit),
    ("POST", r"/pulls/(\d+)/merge", _Handler.merge),
    ("GET", r"/pulls/([^/]+)/(.+)", _Handler.show_of_branches),
    ("GET", r"/issues/(\d+)/timeline", _Handler.timeline),
    ("POST", r"/issues/(\d+)/comments", _Handler.comment),
    ("GET", r"/git/commits/([0-9a-f]{40})", _Handler.commit),
    ("GET", "/contents/(.+)", _Handler.file),
)

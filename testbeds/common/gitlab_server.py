"""A server that answers as GitLab's REST API does, with the merge requests of one project and a real bare repository.

Statuses and bodies are those of GitLab's documentation:

- https://docs.gitlab.com/api/merge_requests/ with the statuses of "Merge a merge request"
- https://docs.gitlab.com/api/notes/, which have no word of a request's state, and
  https://docs.gitlab.com/api/resource_state_events/, which have
- https://docs.gitlab.com/api/projects/#get-a-single-project
- https://docs.gitlab.com/api/rest/authentication/ (401 without a token, 404 for what a token may not see)
- https://docs.gitlab.com/user/project/merge_requests/commit_templates/: by default a squashed commit
  has the request's title alone
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from testbeds.common.github_server import Json, Refusal
from testbeds.common.host_server import HostHandler, HostServer, now
from testbeds.common.merging import BareRepository


@dataclass
class MergeRequest:
    """A merge request with its notes."""

    item: Json
    notes: list[Json] = field(default_factory=list)
    states: list[Json] = field(default_factory=list)


class GitLabServer(HostServer):
    """Serves one project's merge requests; people act by its methods.

    `method` is the project's setting `merge_method`: `merge`, `rebase_merge` or `ff`. `squash_template` is what a
    squashed commit says: `%{title}`, or `%{all_commits}` for the commits' messages.
    """

    def __init__(self, token: str, name: str, bare: BareRepository, *, account: str = "incumbent") -> None:
        self.token, self.name, self.bare, self.account = token, name, bare, account
        self.method, self.squash_template = "merge", "%{title}"
        self.may_write, self.is_mergeable = True, True
        self.settings: Json = {"archived": False, "merge_requests_access_level": "enabled"}
        """What is shown of the project beside its path."""
        self.requests: dict[int, MergeRequest] = {}
        super().__init__(_Handler)

    @property
    def url(self) -> str:
        """The API's address."""
        return f"http://127.0.0.1:{self.server_address[1]}/api/v4"

    def merge_request(self, number: int, *, squash: bool = False, by: str = "ana") -> str:
        """Merge a request as a person does, and return the branch's new head."""
        item = self.refreshed(number).item
        head, target = item["sha"], item["target_branch"]
        base = self.bare.head(target) or ""
        if self.bare.has_conflict(base, head):
            raise Refusal(422, "Branch cannot be merged")
        if squash:
            message = item["title"]
            if self.squash_template == "%{all_commits}":
                message = "\n\n".join("\n\n".join(self.bare.message(one)) for one in self.bare.commits(base, head))
            new = self.bare.merge(target, head, "squash", message, by)
            item["squash_commit_sha"] = new
        elif self.method == "ff":
            new = self.bare.merge(target, head, "rebase", "", by)
            item["sha"] = new  # GitLab rebases the request's branch first
        else:
            message = f"Merge branch '{item['source_branch']}' into '{target}'\n\n{item['title']}"
            new = self.bare.merge(target, head, "merge", message, by)
            item["merge_commit_sha"] = new
        item.update(state="merged", merged_at=now(), merged_by={"username": by})
        self.bare.delete(item["source_branch"])
        return new

    def close(self, number: int, by: str = "ana") -> None:
        """Close a request without a merge, as a person does."""
        self._set_state(number, "closed", by)
        self.requests[number].item.update(state="closed", closed_at=now(), closed_by={"username": by})

    def reopen(self, number: int, by: str = "ana") -> None:
        """Open a closed request again, as a person does."""
        self._set_state(number, "reopened", by)
        self.requests[number].item.update(state="opened", closed_at=None, closed_by=None)

    def _set_state(self, number: int, state: str, by: str) -> None:
        self.requests[number].states.append({"state": state, "user": {"username": by}, "created_at": now()})

    def refreshed(self, number: int) -> MergeRequest:
        """Return a request as it is now: while it is open, it follows its branch."""
        request = self.requests.get(number)
        if request is None:
            raise Refusal(404, "404 Not found")
        item = request.item
        head, base = self.bare.head(item["source_branch"]), self.bare.head(item["target_branch"])
        if item["state"] == "opened" and head is not None and base is not None:
            item["sha"], item["has_conflicts"] = head, self.bare.has_conflict(base, head)
        return request


class _Handler(HostHandler):
    server: GitLabServer

    def carried_out(self) -> tuple[int, object]:
        try:
            if self.headers.get("PRIVATE-TOKEN") != self.server.token:
                raise Refusal(401, "401 Unauthorized")
            path = urlsplit(self.path).path
            project = f"/api/v4/projects/{quote(self.server.name, safe='')}"
            below = f"{project}/merge_requests"
            if (self.command, path) == ("GET", project):
                return 200, {"path_with_namespace": self.server.name, **self.server.settings}
            if not path.startswith(below):
                raise Refusal(404, "404 Project Not Found")
            if self.command != "GET" and not self.server.may_write:
                raise Refusal(403, "403 Forbidden")
            for method, pattern, act in _ROUTES:
                match = re.fullmatch(pattern, unquote(path.removeprefix(below)))
                if method == self.command and match:
                    return act(self, *map(int, match.groups()))
            raise Refusal(404, "404 Not Found")
        except Refusal as refusal:
            return refusal.status, {"message": refusal.message}

    def list_all(self) -> tuple[int, object]:
        query = dict(parse_qsl(urlsplit(self.path).query))
        found = [self.server.refreshed(number).item for number in self.server.requests]
        for name in ("source_branch", "target_branch"):
            found = [item for item in found if query.get(name, item[name]) == item[name]]
        if query.get("state", "all") != "all":
            found = [item for item in found if item["state"] == query["state"]]
        if query.get("sort", "desc") == "desc":
            found.reverse()
        return 200, found[: int(query.get("per_page", "20"))]

    def create(self) -> tuple[int, object]:
        content, server = self.content(), self.server
        source, target = content["source_branch"], content["target_branch"]
        if server.bare.head(source) is None:
            raise Refusal(400, "source_branch does not exist")
        if source == target:
            raise Refusal(422, "You can't use same project/branch for source and target")
        same = (one.item for one in server.requests.values() if one.item["source_branch"] == source)
        other = next((item for item in same if item["state"] == "opened"), None)
        if other is not None:
            raise Refusal(409, f"Another open merge request already exists for this source branch: !{other['iid']}")
        number = len(server.requests) + 1
        item: Json = {
            **{"iid": number, "title": content["title"], "description": content.get("description", "")},
            **{"source_branch": source, "target_branch": target, "state": "opened", "created_at": now()},
            **{"merged_at": None, "closed_at": None, "merged_by": None, "closed_by": None, "has_conflicts": False},
            **{"sha": server.bare.head(source), "merge_commit_sha": None, "squash_commit_sha": None},
            "web_url": f"https://gitlab.example/{server.name}/-/merge_requests/{number}",
        }
        server.requests[number] = MergeRequest(item)
        return 201, item

    def show(self, number: int) -> tuple[int, object]:
        return 200, self.server.refreshed(number).item

    def edit(self, number: int) -> tuple[int, object]:
        item = self.server.refreshed(number).item
        if self.content().get("state_event") == "close" and item["state"] == "opened":
            self.server.close(number, self.server.account)
        return 200, item

    def merge(self, number: int) -> tuple[int, object]:
        item, content = self.server.refreshed(number).item, self.content()
        if content.get("sha") not in (None, item["sha"]):
            raise Refusal(409, "SHA does not match HEAD of source branch")
        if item["state"] != "opened":
            raise Refusal(405, "405 Method Not Allowed")
        if not self.server.is_mergeable and not content.get("auto_merge"):
            raise Refusal(405, "405 Method Not Allowed")
        if self.server.is_mergeable:
            self.server.merge_request(number, squash=bool(content.get("squash")), by=self.server.account)
        else:
            item["merge_when_pipeline_succeeds"] = True
        return 200, item

    def list_notes(self, number: int) -> tuple[int, object]:
        return 200, self.server.refreshed(number).notes[::-1]

    def list_states(self, number: int) -> tuple[int, object]:
        return 200, self.server.refreshed(number).states

    def create_note(self, number: int) -> tuple[int, object]:
        request = self.server.refreshed(number)
        note = {"id": len(request.notes) + 1, "body": self.content()["body"], "created_at": now()}
        note["author"] = {"username": self.server.account}
        request.notes.append(note)
        return 201, note


_ROUTES: tuple[tuple[str, str, Callable[..., tuple[int, object]]], ...] = (
    ("GET", "", _Handler.list_all),
    ("POST", "", _Handler.create),
    ("GET", r"/(\d+)", _Handler.show),
    ("PUT", r"/(\d+)", _Handler.edit),
    ("PUT", r"/(\d+)/merge", _Handler.merge),
    ("GET", r"/(\d+)/notes", _Handler.list_notes),
    ("POST", r"/(\d+)/notes", _Handler.create_note),
    ("GET", r"/(\d+)/resource_state_events", _Handler.list_states),
)

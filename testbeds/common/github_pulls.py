"""The server that answers as GitHub does, with pull requests of a real bare repository.

Statuses and bodies are those of GitHub's documentation, by page:

- https://docs.github.com/rest/pulls/pulls, with the meaning of `merge_commit_sha` and `mergeable`
- https://docs.github.com/rest/issues/timeline: a pull request is an issue, too, and its timeline says who closed it
- https://docs.github.com/graphql/reference/mutations#enablepullrequestautomerge
- https://docs.github.com/rest/repos/repos#get-a-repository, with its `permissions`, which are the account's
- "Configuring commit squashing for pull requests": a squashed commit has the message of the one commit, or the
  request's title and text, or the title alone
"""

import re
import time
from dataclasses import dataclass, field
from typing import Any

from testbeds.common import github_server
from testbeds.common.github_server import GitHubServer, Json, Refusal
from testbeds.common.merging import BareRepository

GRAPHQL_PATH = "/graphql"
_AUTOMATIC = "enablePullRequestAutoMerge"


@dataclass
class Pull:
    """A pull request with what GitHub keeps beside its issue."""

    issue: Json
    branch: str
    base: str
    head: str
    merge_commit: str | None = None
    merged_by: str | None = None
    merged_at: str | None = None
    auto_merge: str | None = None
    events: list[Json] = field(default_factory=list)
    """Who commented, closed and reopened it, oldest first."""


class GitHubWithPulls(GitHubServer):
    """Serves a repository's pull requests; people act by its methods.

    `squash_message` is the repository's setting `squash_merge_commit_message`, and `allows_auto_merge` another one.
    """

    def __init__(self, token: str, name: str, bare: BareRepository, *, account: str = "incumbent[bot]") -> None:
        super().__init__(token, name)
        self.bare, self.account = bare, account
        self.pulls: dict[int, Pull] = {}
        self.squash_message = "COMMIT_MESSAGES"
        self.deletes_branches = True
        self.allows_auto_merge = True
        self.settings: Json = {"archived": False, "permissions": {"pull": True, "push": True}}
        """What is shown of the repository beside its name and `allow_auto_merge`."""
        self.is_mergeable = True
        """Whether the branch's rules let anyone merge now: reviews and checks."""
        self.RequestHandlerClass = _Handler

    def merge_pull(self, number: int, method: str = "merge", by: str = "ana") -> str:
        """Merge a request as a person does, and return `merge_commit_sha`."""
        pull = self.pulls[number]
        base = self.bare.head(pull.base) or ""
        pull.head = self.bare.head(pull.branch) or pull.head
        if self.bare.has_conflict(base, pull.head):
            raise Refusal(405, "Pull Request is not mergeable")
        message = f"Merge pull request #{number} from {pull.branch}\n\n{pull.issue['title']}"
        if method == "squash":
            message = self._squashed(number, pull, base)
        pull.merge_commit = self.bare.merge(pull.base, pull.head, method, message, by)
        pull.merged_by, pull.merged_at = by, github_server.as_time(time.time())
        pull.issue.update(state="closed", closed_at=pull.merged_at)
        if self.deletes_branches:
            self.bare.delete(pull.branch)
        return pull.merge_commit

    def _squashed(self, number: int, pull: Pull, base: str) -> str:
        commits = self.bare.commits(base, pull.head)
        title, body = f"{pull.issue['title']} (#{number})", ""
        if self.squash_message == "COMMIT_MESSAGES" and len(commits) == 1:
            subject, body = self.bare.message(commits[0])
            title = f"{subject} (#{number})"
        elif self.squash_message == "COMMIT_MESSAGES":
            body = "\n\n".join("* " + "\n\n".join(self.bare.message(commit)) for commit in commits)
        elif self.squash_message == "PR_BODY":
            body = pull.issue["body"]
        return f"{title}\n\n{body}".strip()

    def close_pull(self, number: int, by: str = "ana") -> None:
        """Close a request without a merge, as a person does."""
        now, pull = github_server.as_time(time.time()), self.pulls[number]
        pull.issue.update(state="closed", closed_at=now)
        pull.events.append({"event": "closed", "actor": {"login": by}})

    def reopen_pull(self, number: int, by: str = "ana") -> None:
        """Open a closed request again, as a person does."""
        pull = self.pulls[number]
        pull.issue.update(state="open", closed_at=None)
        pull.events.append({"event": "reopened", "actor": {"login": by}})

    def refresh(self, pull: Pull) -> None:
        """Follow the request's branch while it is open; deleting the branch closes the request."""
        if pull.issue["state"] != "open":
            return
        head = self.bare.head(pull.branch)
        if head is None:
            self.close_pull(int(pull.issue["number"]), self.account)
        else:
            pull.head = head


class _Handler(github_server.Handler):
    server: GitHubWithPulls

    def show_repository(self) -> tuple[int, object, dict[str, str]]:
        """Return the repository with its settings."""
        server = self.server
        shown = {"full_name": server.name, "allow_auto_merge": server.allows_auto_merge, **server.settings}
        return 200, shown, {}

    def list_pulls(self) -> tuple[int, object, dict[str, str]]:
        """List requests: `head` is `user:branch`."""
        query = self._query()
        state, head = query.get("state", "open"), query.get("head", "").partition(":")[2]
        pulls = [pull for pull in self.server.pulls.values() if head in ("", pull.branch)]
        pulls = [pull for pull in pulls if query.get("base", pull.base) == pull.base]
        for pull in pulls:
            self.server.refresh(pull)
        found = [pull for pull in pulls if state in ("all", pull.issue["state"])]
        if query.get("direction", "desc") == "desc":
            found.reverse()
        listed = [self._pull(pull) for pull in found]
        single = ("merged", "mergeable", "mergeable_state", "merged_by")  # only one request by itself has these
        return self._page([{name: item[name] for name in item if name not in single} for item in listed])

    def create_pull(self) -> tuple[int, object, dict[str, str]]:
        """Open a request."""
        content, server = self._content(), self.server
        branch, base = str(content.get("head", "")), str(content.get("base", ""))
        head, onto = server.bare.head(branch), server.bare.head(base)
        for name, commit in (("head", head), ("base", onto)):
            if commit is None:
                raise Refusal(422, "Validation Failed", errors=[github_server.fault("PullRequest", "invalid", name)])
        assert head is not None
        assert onto is not None
        owner = server.name.partition("/")[0]
        if any(pull.branch == branch and pull.issue["state"] == "open" for pull in server.pulls.values()):
            message = f"A pull request already exists for {owner}:{branch}."
            fault = {"resource": "PullRequest", "code": "custom", "message": message}
            raise Refusal(422, "Validation Failed", errors=[fault])
        if not server.bare.commits(onto, head):
            fault = {"resource": "PullRequest", "code": "custom", "message": f"No commits between {base} and {branch}"}
            raise Refusal(422, "Validation Failed", errors=[fault])
        _, issue, _ = self.create_issue()
        assert isinstance(issue, dict)
        issue["pull_request"] = {"url": f"{server.url}/repos/{server.name}/pulls/{issue['number']}"}
        issue["html_url"] = f"https://github.com/{server.name}/pull/{issue['number']}"
        pull = server.pulls[issue["number"]] = Pull(issue, branch, base, head)
        return 201, self._pull(pull), {"Location": issue["pull_request"]["url"]}

    def show_pull(self, number: str) -> tuple[int, object, dict[str, str]]:
        """Return a request by itself."""
        return 200, self._pull(self._known(number)), {}

    def edit_pull(self, number: str) -> tuple[int, object, dict[str, str]]:
        """Close a request; one that was merged stays so."""
        pull, content = self._known(number), self._content()
        if content.get("state") == "closed" and pull.issue["state"] == "open":
            self.server.close_pull(int(number), self.server.account)
        return 200, self._pull(pull), {}

    def create_comment(self, number: str) -> tuple[int, object, dict[str, str]]:
        """Add a comment, which the timeline has, too."""
        status, comment, headers = super().create_comment(number)
        assert isinstance(comment, dict)
        event = {"event": "commented", "actor": comment["user"], "body": comment["body"]}
        self._known(number).events.append(event)
        return status, comment, headers

    def timeline(self, number: str) -> tuple[int, object, dict[str, str]]:
        """List what happened to a request, with an event that nobody asks for."""
        return self._page([{"event": "head_ref_force_pushed"}, *self._known(number).events])

    def merge_pull(self, number: str) -> tuple[int, object, dict[str, str]]:
        """Merge a request."""
        pull, content = self._known(number), self._content()
        if content.get("sha") not in (None, pull.head):
            raise Refusal(409, "Head branch was modified. Review and try the merge again.")
        if pull.issue["state"] != "open" or not self.server.is_mergeable:
            raise Refusal(405, "Pull Request is not mergeable")
        sha = self.server.merge_pull(int(number), str(content.get("merge_method", "merge")), self.server.account)
        return 200, {"sha": sha, "merged": True, "message": "Pull Request successfully merged"}, {}

    def graphql(self) -> tuple[int, object, dict[str, str]]:
        """Enable automatic merging, which GitHub refuses where nothing keeps a request from being merged."""
        content = self._content()
        variables: dict[str, Any] = content.get("variables") or {}
        pulls = {_node(number): pull for number, pull in self.server.pulls.items()}
        pull = pulls.get(str(variables.get("id")))
        if _AUTOMATIC not in str(content.get("query")) or pull is None:
            return 200, {"data": None, "errors": [{"type": "NOT_FOUND", "message": "Could not resolve to a node"}]}, {}
        message = None
        if not self.server.allows_auto_merge:
            message = "Auto merge is not allowed for this repository"
        elif self.server.is_mergeable:
            message = "Pull request Pull request is in clean status"
        if message is not None:
            return 200, {"data": {_AUTOMATIC: None}, "errors": [{"type": "UNPROCESSABLE", "message": message}]}, {}
        pull.auto_merge = str(variables.get("method"))
        return 200, {"data": {_AUTOMATIC: {"clientMutationId": None}}}, {}

    def _known(self, number: str) -> Pull:
        pull = self.server.pulls.get(int(number))
        if pull is None:
            raise Refusal(404, "Not Found")
        self.server.refresh(pull)
        return pull

    def _pull(self, pull: Pull) -> Json:
        bare, issue = self.server.bare, pull.issue
        is_open, base = issue["state"] == "open", bare.head(pull.base)
        conflict = is_open and base is not None and bare.has_conflict(base, pull.head)
        shared = ("number", "html_url", "title", "body", "state", "user", "created_at")
        return {
            **{name: issue[name] for name in shared},
            "node_id": _node(issue["number"]),
            "closed_at": issue.get("closed_at"),
            "merged": pull.merged_at is not None,
            "merged_at": pull.merged_at,
            "merged_by": {"login": pull.merged_by} if pull.merged_by else None,
            "merge_commit_sha": pull.merge_commit or pull.head,
            "mergeable": (not conflict) if is_open else None,
            "mergeable_state": "dirty" if conflict else "clean" if self.server.is_mergeable else "blocked",
            "head": {"ref": pull.branch, "sha": pull.head},
            "base": {"ref": pull.base, "sha": base},
        }

    routes = (
        ("GET", github_server.REPOSITORY, show_repository),
        ("GET", rf"{github_server.REPOSITORY}/pulls", list_pulls),
        ("POST", rf"{github_server.REPOSITORY}/pulls", create_pull),
        ("GET", rf"{github_server.REPOSITORY}/pulls/(\d+)", show_pull),
        ("PATCH", rf"{github_server.REPOSITORY}/pulls/(\d+)", edit_pull),
        ("POST", rf"{github_server.REPOSITORY}/issues/(\d+)/comments", create_comment),
        ("GET", rf"{github_server.REPOSITORY}/issues/(\d+)/timeline", timeline),
        ("PUT", rf"{github_server.REPOSITORY}/pulls/(\d+)/merge", merge_pull),
        ("POST", re.escape(GRAPHQL_PATH), graphql),
        *github_server.Handler.routes,
    )


def _node(number: int) -> str:
    return f"PR_{number}"

"""A Git host's pull requests in memory, on the fake repository; held to the same contract tests as the real clients."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from orchestration.promotion.ports import Clock
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.pull_requests import MergeMethod, PullRequest, RequestState, RequestText
from tests.fakes.git import FakeCommit, FakeGitRepository


@dataclass
class FakeRequest:
    """A request with what only its page shows."""

    branch: str
    text: RequestText
    seen: PullRequest
    comments: list[str]
    auto_merge: MergeMethod | None = None


class FakePullRequests:
    """Implements the `PullRequests` port. `down` makes every call raise with that finding."""

    def __init__(self, git: FakeGitRepository, clock: Clock) -> None:
        self._git, self._clock = git, clock
        self.requests: list[FakeRequest] = []
        self.down: str | None = None
        self.forbidden: DependencyError | None = None
        """What keeps us from opening requests."""
        self.before_close: Callable[[], object] | None = None
        """What a person does just before the host closes a request of ours."""

    def __str__(self) -> str:
        return "Git host"

    # What people do

    @property
    def open_ones(self) -> list[int]:
        return [request.seen.number for request in self.requests if request.seen.state is RequestState.OPEN]

    def edit(self, number: int, path: str, content: bytes) -> None:
        """Commit to the request's branch, as a person."""
        request = self.requests[number - 1]
        head = self._git.commits[self._git.branches[request.branch]]
        files = {**head.files, path: content}
        made = FakeCommit(self._git._new_id(), head.id, "Edit", self._clock.now(), files, {})
        self._git.commits[made.id] = made
        self._git.branches[request.branch] = made.id

    def merge(self, number: int, how: MergeMethod = "merge", *, message: str | None = None, by: str = "ana") -> str:
        """Merge a request; with a `message`, the squashed commit has that and no trailers. The branch is deleted."""
        request = self.requests[number - 1]
        source = self._git.commits[self._git.branches.pop(request.branch)]
        proposed = source if source.trailers else self._git.commits[source.parent or ""]
        base = self._git.commits[proposed.parent or ""]
        assert not self.has_conflict(source), "a request with a conflict cannot be merged"
        changed = {path: content for path, content in source.files.items() if base.files.get(path) != content}
        trailers = {} if message is not None else proposed.trailers
        subject = message or proposed.subject
        if how == "merge":
            merged = self._git.commit(f"Merge pull request #{number}", changed, author=by)
            self._git.commits[merged] = replace(self._git.commits[merged], merges=proposed.id)
        else:
            merged = self._git.commit(subject, changed, trailers, author=by)
        now = self._clock.now()
        request.seen = replace(
            request.seen, state=RequestState.MERGED, by=by, ended_at=now, merge_commit=merged, has_conflict=False
        )
        return merged

    def close_by_hand(self, number: int, by: str = "ana") -> None:
        """Close a request without a merge, as a person."""
        request = self.requests[number - 1]
        closed = {"state": RequestState.CLOSED, "by": by, "ended_at": self._clock.now(), "was_withdrawn": False}
        request.seen = replace(request.seen, **closed)  # type: ignore[arg-type]

    def reopen(self, number: int) -> None:
        """Open a closed request again, as a person."""
        request = self.requests[number - 1]
        opened = {"state": RequestState.OPEN, "by": "", "ended_at": None, "was_withdrawn": False}
        request.seen = replace(request.seen, **opened)  # type: ignore[arg-type]

    def has_conflict(self, source: FakeCommit) -> bool:
        proposed = source if source.trailers else self._git.commits[source.parent or ""]
        base = self._git.commits[proposed.parent or ""]
        head = self._git.commits[self._git.head]
        changed = [path for path, content in source.files.items() if base.files.get(path) != content]
        return any(base.files.get(path) != head.files.get(path) for path in changed)

    # The port

    def _answer(self) -> None:
        if self.down is not None:
            raise DependencyError(Problem("Git host", "an answer", self.down, "Check that it is well."))

    def check_open(self, auto_merge: MergeMethod | None) -> None:
        self._answer()
        if self.forbidden is not None:
            raise self.forbidden

    def find(self, branch: str) -> PullRequest | None:
        self._answer()
        newest = next((request for request in reversed(self.requests) if request.branch == branch), None)
        return self._shown(newest) if newest is not None else None

    def _shown(self, request: FakeRequest) -> PullRequest:
        head = self._git.branches.get(request.branch)
        if request.seen.state is not RequestState.OPEN or head is None:
            return request.seen
        return replace(request.seen, head=head, has_conflict=self.has_conflict(self._git.commits[head]))

    def open(self, branch: str, text: RequestText) -> PullRequest:
        self._answer()
        found = self.find(branch)
        if found is not None and found.state is RequestState.OPEN:
            return found
        assert branch in self._git.branches, "a request is opened from a branch that exists"
        number = len(self.requests) + 1
        url = f"https://git.example/acme/gitops/pull/{number}"
        seen = PullRequest(number, url, RequestState.OPEN, self._clock.now())
        self.requests.append(FakeRequest(branch, text, seen, []))
        return seen

    def comment(self, number: int, text: str) -> None:
        self._answer()
        self.requests[number - 1].comments.append(text)

    def close(self, number: int, why: str) -> PullRequest:
        self._answer()
        act, self.before_close = self.before_close, None
        if act is not None:
            act()
        request = self.requests[number - 1]
        if request.seen.state is RequestState.OPEN:
            request.comments.append(why)
            now = self._clock.now()
            request.seen = replace(
                request.seen, state=RequestState.CLOSED, by="incumbent", was_withdrawn=True, ended_at=now
            )
        return request.seen

    def merge_when_ready(self, number: int, commit: str, method: MergeMethod) -> None:
        self._answer()
        self.requests[number - 1].auto_merge = method

"""The GitOps repository in memory, held to the same contract tests as the real adapter."""

import difflib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from orchestration.promotion.acts import Act
from orchestration.promotion.ports import (
    BranchCommit,
    Clock,
    FileChange,
    FileEdit,
    LeaseBusy,
    LeaseLost,
    LeaseRecord,
    Proposal,
    Pushed,
    RepositoryAddress,
    Sign,
    TagRecord,
)
from orchestration.promotion.problems import DependencyError, Problem

Decision = TypeVar("Decision")


def signing_as(key: str) -> Sign:
    """Return what signs with the private half of a public key, as the fake believes it."""
    return lambda content: hashlib.sha256(key.encode() + content).digest()


def signed_content(name: str, message: str) -> bytes:
    """What a tag's signature is about: its name and its message."""
    return f"{name}\n{message}".encode()


@dataclass(frozen=True)
class FakeCommit:
    id: str
    parent: str | None
    subject: str
    committed_at: float
    files: Mapping[str, bytes]
    trailers: Mapping[str, str]
    author: str = "person"
    merges: str | None = None
    """The commit that a merge brought in."""


class FakeGitRepository:
    """Implements the `GitOpsRepository` port; the branch and what is beside it are plain attributes to look at.

    `before_push` holds actions that happen just before a push arrives, one for each push: other people's commits, or
    a lease that someone takes. `down` makes every call raise `DependencyError` with that finding.
    """

    def __str__(self) -> str:
        return "Git repository"

    def __init__(self, clock: Clock, files: Mapping[str, bytes]) -> None:
        self._clock = clock
        self._made = 0
        self.commits: dict[str, FakeCommit] = {}
        self.leases: dict[str, LeaseRecord] = {}
        self.tags: dict[str, TagRecord] = {}
        self.signatures: dict[str, bytes] = {}
        """The signatures of tags that have one."""
        self.before_push: list[Callable[[], object]] = []
        self.proposed: dict[str, str] = {}
        """The commit of each proposal, by the proposal's name."""
        self.merged: dict[str, Mapping[str, str]] = {}
        """The trailers of commits that were merged without them."""
        self.branches: dict[str, str] = {}
        """The branches beside ours, as their names and heads."""
        self.down: str | None = None
        self.is_protected = False
        """Whether nobody may push to the branch."""
        self.push_forbidden: str | None = None
        """Why the server forbids pushes; None while it allows them."""
        self.signing: DependencyError | bool = False
        """Whether commits are signed, or why the key cannot sign."""
        self.head = ""
        self.commit("Start with what is deployed", files)

    # What a test does and looks at

    def commit(
        self,
        subject: str,
        files: Mapping[str, bytes],
        trailers: Mapping[str, str] | None = None,
        author: str = "person",
    ) -> str:
        """Make another person's commit on the branch, and return its id."""
        before = self.commits.get(self.head)
        now = max(float(int(self._clock.now())), before.committed_at if before else 0.0)
        content = {**(before.files if before else {}), **files}
        parent = before.id if before else None
        made = FakeCommit(self._new_id(), parent, subject, now, content, dict(trailers or {}), author)
        self.commits[made.id] = made
        self.head = made.id
        return made.id

    @property
    def log(self) -> list[FakeCommit]:
        """The branch's commits, newest first."""
        return self._reachable(self.head)

    def _reachable(self, head: str) -> list[FakeCommit]:
        reachable: list[FakeCommit] = []
        at: str | None = head
        while at is not None:
            commit = self.commits[at]
            reachable.append(commit)
            if commit.merges is not None:
                reachable.append(self.commits[commit.merges])  # what a request has is one commit
            at = commit.parent
        return reachable

    def _history(self, head: str, policy: str) -> tuple[BranchCommit, ...]:
        return tuple(
            commit
            for commit in map(self._branch_commit, self._reachable(head))
            if any(commit.trailers.get(name, "").startswith(f"{policy}/") for name in ("Promotion-Id", "Rollback-Of"))
        )

    def _branch_commit(self, commit: FakeCommit) -> BranchCommit:
        trailers = self.merged.get(commit.id, commit.trailers)
        return BranchCommit(commit.id, commit.parent or "", commit.subject, commit.committed_at, trailers)

    def _new_id(self) -> str:
        self._made += 1
        return hashlib.sha1(f"object {self._made}".encode()).hexdigest()

    def _reach_server(self) -> None:
        if self.down is not None:
            raise DependencyError(Problem("Git repository", "an answer", self.down, "Check that it is well."))

    # The port

    def address(self) -> RepositoryAddress:
        return RepositoryAddress("https://git.example/acme/gitops.git", "main")

    def check_push(self) -> None:
        self._reach_server()
        if self.push_forbidden is not None:
            raise DependencyError(
                Problem("Git repository", "the server to let us push", self.push_forbidden, "Allow it.")
            )

    def check_signing(self) -> bool:
        if isinstance(self.signing, DependencyError):
            raise self.signing
        return self.signing

    def list_files(self, commit: str, folder: str) -> tuple[str, ...]:
        below = "" if folder in ("", ".") else folder.rstrip("/") + "/"
        return tuple(sorted(path for path in self.commits[commit].files if path.startswith(below)))

    def fetch(self) -> str:
        self._reach_server()
        return self.head

    def read_file(self, commit: str, path: str) -> bytes | None:
        return self.commits[commit].files.get(path)

    def history(self, head: str, policy: str) -> tuple[BranchCommit, ...]:
        return self._history(head, policy)

    def history_since(self, before: str, head: str, policy: str) -> tuple[BranchCommit, ...] | None:
        if not self.is_ancestor(before, head):
            return None
        known = {commit.id for commit in self._reachable(before)}
        return tuple(commit for commit in self._history(head, policy) if commit.commit not in known)

    def changes(self, head: str, path: str, limit: int | None = None) -> tuple[FileChange, ...]:
        changed = [
            FileChange(commit.id, commit.author, commit.subject, commit.committed_at)
            for commit in self._reachable(head)
            if commit.files.get(path) != (self.commits[commit.parent].files.get(path) if commit.parent else None)
        ]
        return tuple(changed[:limit])

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        return descendant in self.commits and ancestor in {commit.id for commit in self._reachable(descendant)}

    def push_edit(
        self, decide: Callable[[str], FileEdit | Decision], lease: LeaseRecord, ttl: float
    ) -> Pushed | LeaseLost | Decision:
        attempts = 0
        while True:
            decided_on = self.fetch()
            decision = decide(decided_on)
            if not isinstance(decision, FileEdit):
                return decision
            attempts += 1
            self._others_act()
            if self._is_lost(lease):
                return LeaseLost(self.leases.get(lease.application))
            if self.is_protected:
                finding = "a refusal although nobody else pushed (protected branch hook declined)"
                raise DependencyError(Problem("Git repository", "to let us push", finding, "Allow it."))
            if self.head == decided_on:
                break
            self._clock.sleep(1.0)
        pushed = self.commit(decision.subject, {decision.path: decision.content}, decision.trailers, "incumbent")
        return Pushed(pushed, self._renewed(lease, ttl), attempts)

    def propose(
        self, name: str, decide: Callable[[str], FileEdit | Decision], lease: LeaseRecord, ttl: float
    ) -> Pushed | LeaseLost | Decision:
        head = self.fetch()
        decision = decide(head)
        if not isinstance(decision, FileEdit):
            return decision
        self._others_act()
        if self._is_lost(lease):
            return LeaseLost(self.leases.get(lease.application))
        files = {**self.commits[head].files, decision.path: decision.content}
        now = max(float(int(self._clock.now())), self.commits[head].committed_at)
        made = FakeCommit(self._new_id(), head, decision.subject, now, files, decision.trailers, "incumbent")
        self.commits[made.id] = made
        self.proposed[name] = self.branches[f"incumbent/{name}"] = made.id
        return Pushed(made.id, self._renewed(lease, ttl), 1)

    def proposals(self, policy: str) -> tuple[Proposal, ...]:
        self._reach_server()
        return tuple(
            Proposal(name, self._branch_commit(self.commits[self.proposed[name]]))
            for name in sorted(self.proposed)
            if name.startswith(f"{policy}/")
        )

    def withdraw(self, name: str, lease: LeaseRecord, ttl: float) -> LeaseRecord | LeaseLost:
        self._reach_server()
        self._others_act()
        if self._is_lost(lease):
            return LeaseLost(self.leases.get(lease.application))
        self.proposed.pop(name, None)
        self.branches.pop(f"incumbent/{name}", None)
        return self._renewed(lease, ttl)

    def conclude(self, proposal: Proposal, merged_as: str | None) -> None:
        self._reach_server()
        if merged_as is not None:
            self.merged.setdefault(merged_as, proposal.commit.trailers)
        for refs, name in ((self.proposed, proposal.name), (self.branches, proposal.branch)):
            if refs.get(name) == proposal.commit.commit:
                del refs[name]

    def create_tag(
        self, name: str, commit: str, message: str, lease: LeaseRecord, ttl: float
    ) -> LeaseRecord | LeaseLost:
        self._reach_server()
        existing = self.tags.get(name)
        if existing is not None and existing.commit != commit:
            finding = f"a tag of commit {existing.commit[:12]}"
            raise DependencyError(Problem(f"tag {name}", "no tag of another commit", finding, "Find out who made it."))
        self._others_act()
        if self._is_lost(lease):
            return LeaseLost(self.leases.get(lease.application))
        self.tags.setdefault(name, TagRecord(name, commit, message.strip(), float(int(self._clock.now()))))
        return self._renewed(lease, ttl)

    def tag(self, name: str) -> TagRecord | None:
        self._reach_server()
        return self.tags.get(name)

    def tags_below(self, prefix: str) -> tuple[TagRecord, ...]:
        self._reach_server()
        return tuple(self.tags[name] for name in sorted(self.tags) if name.startswith(prefix))

    def signers(self, tags: Sequence[TagRecord], keys: Mapping[str, str]) -> Mapping[str, str]:
        return {
            tag.name: name
            for tag in tags
            for name, key in keys.items()
            if self.signatures.get(tag.name) == signing_as(key)(signed_content(tag.name, tag.message))
        }

    def record_act(self, act: Act, sign: Sign | None = None) -> Act:
        self._reach_server()
        while True:
            record = TagRecord(act.tag, self.head, act.message.strip(), float(int(self._clock.now())))
            if self.tags.setdefault(act.tag, record) == record:
                if sign is not None:
                    self.signatures[act.tag] = sign(signed_content(act.tag, record.message))
                return replace(act, commit=self.head)
            act = replace(act, at=act.at + 0.001)

    def lease(self, application: str) -> LeaseRecord | None:
        self._reach_server()
        return self.leases.get(application)

    def acquire_lease(
        self, application: str, holder: str, ttl: float, *, take_over: bool = False
    ) -> LeaseRecord | LeaseBusy:
        current = self.lease(application)
        is_anothers = current is not None and current.holder != holder and current.expires_at > self._clock.now()
        if current is not None and is_anothers and not take_over:
            return LeaseBusy(current)
        if take_over:
            self._others_act()
        return self._renewed(LeaseRecord(application, holder, 0.0, ""), ttl)

    def renew_lease(self, lease: LeaseRecord, ttl: float) -> LeaseRecord | LeaseLost:
        self._reach_server()
        self._others_act()
        if self._is_lost(lease):
            return LeaseLost(self.leases.get(lease.application))
        return self._renewed(lease, ttl)

    def release_lease(self, lease: LeaseRecord) -> None:
        self._reach_server()
        if not self._is_lost(lease):
            del self.leases[lease.application]

    def commit_url(self, commit: str) -> str | None:
        return f"https://git.example/gitops/commit/{commit}"

    def diff(self, commit: str) -> str:
        after = self.commits[commit]
        before = self.commits[after.parent].files if after.parent else {}
        return "".join(
            line
            for path in sorted({*before, *after.files})
            for line in difflib.unified_diff(
                before.get(path, b"").decode(errors="replace").splitlines(keepends=True),
                after.files.get(path, b"").decode(errors="replace").splitlines(keepends=True),
                f"a/{path}",
                f"b/{path}",
            )
        )

    def _others_act(self) -> None:
        if self.before_push:
            self.before_push.pop(0)()

    def _is_lost(self, lease: LeaseRecord) -> bool:
        current = self.leases.get(lease.application)
        return current is None or current.object_id != lease.object_id

    def _renewed(self, lease: LeaseRecord, ttl: float) -> LeaseRecord:
        record = LeaseRecord(lease.application, lease.holder, self._clock.now() + ttl, self._new_id())
        self.leases[lease.application] = record
        return record

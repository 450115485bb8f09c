"""The GitOps repository behind smart HTTP (or ssh): commits, leases and tags without a checkout (design rules 1 and 2).

What is known of the server comes from the server each time; the mirror on this machine only saves transfers.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from orchestration.adapters.git.access import GitAccess
from orchestration.adapters.git.fence import Done, Fence, Plan
from orchestration.adapters.git.history import belongs_to, commits_between, commits_with_trailers
from orchestration.adapters.git.mirror import Mirror, MirrorBrokenError
from orchestration.adapters.git.objects import (
    commit_message,
    entry_at,
    is_known,
    read_blob,
    write_commit,
    write_file,
    write_tag,
)
from orchestration.adapters.git.push import RefUpdate
from orchestration.adapters.git.remote import is_ref_name, remote
from orchestration.promotion.ports import (
    BranchCommit,
    Clock,
    FileEdit,
    LeaseBusy,
    LeaseLost,
    LeaseRecord,
    Pushed,
    TagRecord,
)
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem

Decision = TypeVar("Decision")
_MAX_DIFF_CHARACTERS = 200_000


class GitRepository:
    """Plays the port `GitOpsRepository`.

    `state` is a folder for the mirror, which may be lost. Leases expire by `clock`; the clocks of the machines that
    share a repository should agree to within a fraction of the lease's time, and where they do not, two may hold a
    lease but only one can push with it.

    Raises:
        InvalidInputError: the address or the branch's name cannot be used; and from every method, when a path, a tag's
            or an application's name that a person wrote can be none.
    """

    def __init__(self, url: str, branch: str, *, token_file: Path | None, state: Path, clock: Clock) -> None:
        at = remote(url, branch, token_file)
        self._access = GitAccess(at, Mirror(at, state))
        self._fence = Fence(self._access, clock)
        self._clock = clock
        self._tidied = False

    def fetch(self) -> str:
        head = self._access.repairing(self._access.fetch)
        if not self._tidied:
            self._access.repairing(self._access.mirror.tidy)
            self._tidied = True
        return head

    def read_file(self, commit: str, path: str) -> bytes | None:
        def read() -> bytes | None:
            self._access.need(commit)
            entry = entry_at(self._access.mirror, commit, path)
            return None if entry is None else self._access.lazily(lambda: read_blob(self._access.mirror, entry[1]))

        return self._access.repairing(read)

    def history(self, head: str, policy: str) -> tuple[BranchCommit, ...]:
        def read() -> tuple[BranchCommit, ...]:
            self._access.need(head)
            return commits_with_trailers(self._access.mirror, head)

        return tuple(commit for commit in self._access.repairing(read) if belongs_to(commit, policy))

    def history_since(self, before: str, head: str, policy: str) -> tuple[BranchCommit, ...] | None:
        def read() -> tuple[BranchCommit, ...] | None:
            self._access.need(head)
            return commits_between(self._access.mirror, before, head)

        found = self._access.repairing(read)
        return None if found is None else tuple(commit for commit in found if belongs_to(commit, policy))

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        def ask() -> bool:
            if not (is_known(self._access.mirror, ancestor) and is_known(self._access.mirror, descendant)):
                return False
            ran = self._access.mirror.local("merge-base", "--is-ancestor", ancestor, descendant, allowed=(0, 1))
            return ran.status == 0

        return self._access.repairing(ask)

    def diff(self, commit: str) -> str:
        def read() -> str:
            self._access.need(commit)

            def compare() -> str:
                ran = self._access.mirror.network(
                    *("diff-tree", "--root", "-m", "-p", "--no-commit-id", "--no-color", "--no-ext-diff"),
                    *("--no-textconv", "--end-of-options", commit, "--"),
                )
                if ran.status != 0:
                    raise MirrorBrokenError(ran.error)
                return ran.output.decode("utf-8", errors="replace")

            return self._access.lazily(compare)

        text = self._access.repairing(read)
        if len(text) > _MAX_DIFF_CHARACTERS:
            return f"{text[:_MAX_DIFF_CHARACTERS]}\n... cut after {_MAX_DIFF_CHARACTERS} characters\n"
        return text

    def commit_url(self, commit: str) -> str | None:
        return self._access.remote.commit_url(commit)

    def lease(self, application: str) -> LeaseRecord | None:
        return self._fence.lease(application)

    def acquire_lease(self, application: str, holder: str, ttl: float) -> LeaseRecord | LeaseBusy:
        return self._fence.acquire(application, holder, ttl)

    def renew_lease(self, lease: LeaseRecord, ttl: float) -> LeaseRecord | LeaseLost:
        return self._fence.renew(lease, ttl)

    def release_lease(self, lease: LeaseRecord) -> None:
        self._fence.release(lease)

    def push_edit(
        self, decide: Callable[[str], FileEdit | Decision], lease: LeaseRecord, ttl: float
    ) -> Pushed | LeaseLost | Decision:
        def plan() -> Plan | tuple[Decision]:
            head = self.fetch()
            decision = decide(head)
            if not isinstance(decision, FileEdit):
                return (decision,)
            commit = self._access.repairing(lambda: self._write_edit(head, decision))
            update = RefUpdate(self._access.branch, commit, head)
            return Plan((update,), lambda: self.is_ancestor(commit, self.fetch()), commit)

        done = self._fence.push(plan, lease, ttl, "push to the branch")
        if isinstance(done, Done):
            return Pushed(done.plan.commit, done.lease, done.attempts)
        return done[0] if isinstance(done, tuple) else done

    def _write_edit(self, head: str, edit: FileEdit) -> str:
        self._access.need(head)
        tree = write_file(self._access.mirror, head, edit.path, edit.content)
        message = commit_message(edit.subject, edit.body, edit.trailers)
        return write_commit(self._access.mirror, tree, head, message, self._clock.now())

    def create_tag(
        self, name: str, commit: str, message: str, lease: LeaseRecord, ttl: float
    ) -> LeaseRecord | LeaseLost:
        ref = _tag_ref(name)

        def write() -> str:
            self._access.need(commit)
            return write_tag(self._access.mirror, name, commit, message, self._clock.now())

        def plan() -> Plan:
            there = self._tagged(ref)
            if there is not None and there[1] != commit:
                raise DependencyError(
                    Problem(
                        f"tag {name} in {self._access.remote}",
                        f"no tag, or one of commit {commit[:12]}",
                        f"a tag of commit {there[1][:12]}",
                        "Find out who made that tag, and delete it when it is wrong.",
                    )
                )
            tag = None if there is not None else self._access.repairing(write)
            updates = () if tag is None else (RefUpdate(ref, tag, None),)
            return Plan(updates, lambda: tag is not None and self._access.server_refs(ref).get(ref) == tag)

        done = self._fence.push(plan, lease, ttl, f"push the tag {name}")
        return done.lease if isinstance(done, Done) else done

    def tag(self, name: str) -> TagRecord | None:
        ref = _tag_ref(name)
        there = self._tagged(ref)
        if there is None:
            return None
        if there[0] == there[1]:
            return TagRecord(name, there[1], "")  # a lightweight tag, which says nothing
        found = self._access.repairing(lambda: self._access.server_object(ref, "tag"))
        text = found[1] if found is not None and found[1] is not None else b""
        return TagRecord(name, there[1], text.partition(b"\n\n")[2].decode("utf-8", errors="replace").strip())

    def _tagged(self, ref: str) -> tuple[str, str] | None:
        """The tag's own object id and its commit's, which are the same for a lightweight tag."""
        refs = self._access.server_refs(ref, f"{ref}^{{}}")
        return None if ref not in refs else (refs[ref], refs.get(f"{ref}^{{}}", refs[ref]))


def _tag_ref(name: str) -> str:
    if not is_ref_name(name):
        raise InvalidInputError(
            Problem(f"tag {name!r}", "a name that Git allows", "one that it forbids", "Rename the policy.")
        )
    return f"refs/tags/{name}"

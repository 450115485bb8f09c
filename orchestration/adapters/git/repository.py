"""The GitOps repository behind smart HTTP (or ssh): commits, leases and tags without a checkout (design rules 1 and 2).

The server's state is asked of the server each time; the mirror on this machine only saves transfers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from orchestration.adapters.git.access import Access
from orchestration.adapters.git.authorship import Authorship
from orchestration.adapters.git.fence import Attempt, Fence, Plan
from orchestration.adapters.git.history import belongs_to, by_policy, changes_of, commits_between, commits_with_trailers
from orchestration.adapters.git.login import Login
from orchestration.adapters.git.mirror import Limits, Mirror, MirrorBrokenError
from orchestration.adapters.git.objects import (
    entry_at,
    files_below,
    is_known,
    read_blob,
    tagged_at,
    write_commit,
    write_file,
    write_tag,
)
from orchestration.adapters.git.proposals import branch_and_record, conclude, fetch_proposals, replace_refs
from orchestration.adapters.git.push import RefUpdate
from orchestration.adapters.git.remote import SETTINGS, Named, is_ref_name, parse_remote
from orchestration.adapters.git.signatures import signers
from orchestration.adapters.git.tags import add_tag, fetch_tags
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
    proposal_branch,
)
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem

Decision = TypeVar("Decision")
_MAX_DIFF_CHARACTERS = 200_000
_DRY_RUN_LEASE, _DRY_RUN_TAG = "refs/incumbent/lease/dry-run", "refs/tags/incumbent/dry-run"


class GitRepository:
    """Implements the `GitOpsRepository` port.

    Leases expire by `clock`. The clocks of the machines that share a repository should agree to within a fraction of
    the lease's time; where they do not, two runs may believe that they hold a lease, but only one can push with it.

    Every method raises `InvalidInputError` when a path, or the name of a tag or application, that a person wrote
    cannot be used.
    """

    def __init__(
        self,
        url: str,
        branch: str,
        *,
        login: Login,
        state: Path,
        clock: Clock,
        authorship: Authorship | None = None,
        limits: Limits | None = None,
        named: Named = SETTINGS,
    ) -> None:
        """Contact nothing yet.

        Args:
            url: the repository's address, without credentials.
            branch: the branch that Argo CD follows.
            login: how the server is told who we are.
            state: the folder for the mirror, which may be lost.
            clock: the time by which leases expire and commits are dated.
            authorship: who the commits say made them, if not incumbent, and how they are worded and signed.
            limits: how long the server is waited for, if not as usual.
            named: where a person wrote the address and the branch, for errors.

        Raises:
            InvalidInputError: the address or the branch's name cannot be used.
        """
        remote = parse_remote(url, branch, login, named)
        self._authorship = authorship or Authorship()
        self._access = Access(remote, Mirror(remote, state, limits))
        self._fence = Fence(self._access, clock, self._authorship)
        self._clock = clock
        self._tidied = False
        self._indexed: tuple[str, Mapping[str, tuple[BranchCommit, ...]]] | None = None
        """The history at one head, by policy: what was read once serves all policies."""

    def __str__(self) -> str:
        return str(self._access.remote)

    def fetch(self) -> str:
        """Fetch the branch into the mirror, and return the id of its head commit."""
        self._indexed = None  # which merges are recorded beside the branch may have changed at the same head
        head = self._access.repairing(self._access.fetch)
        if not self._tidied:
            self._access.repairing(self._access.mirror.tidy)
            self._tidied = True
        return head

    def read_file(self, commit: str, path: str) -> bytes | None:
        """Read a file as it is at a commit; None when nothing is at that path."""

        def read() -> bytes | None:
            self._access.require_commit(commit)
            entry = entry_at(self._access.mirror, commit, path)
            if entry is None:
                return None
            return self._access.reading_from_server(lambda: read_blob(self._access.mirror, entry[1]))

        return self._access.repairing(read)

    def check_signing(self) -> bool:
        """Sign a few bytes that are thrown away; return whether commits are signed at all."""
        sign = self._authorship.maker.sign
        if sign is not None:
            sign(b"a check by incumbent doctor\n")
        return sign is not None

    def list_files(self, commit: str, folder: str) -> tuple[str, ...]:
        """List the paths of all files below a folder at a commit, sorted; `.` is the whole repository."""

        def read() -> tuple[str, ...]:
            self._access.require_commit(commit)
            return files_below(self._access.mirror, commit, folder)

        return self._access.repairing(read)

    def address(self) -> RepositoryAddress:
        """Return the repository's address and branch, as the settings have them."""
        remote = self._access.remote
        return RepositoryAddress(remote.url, remote.branch)

    def check_push(self) -> None:
        """Begin a push as a promotion makes it, to the branch, a lease and a tag, and end it before anything is sent.

        A dry run gets as far as the list of refs that the server offers for pushing, for which it asks for the login,
        and with it whether the server takes atomic pushes.
        """
        head = self.fetch()
        refs = (self._access.branch, _DRY_RUN_LEASE, _DRY_RUN_TAG)
        specs = [f"{head}:{ref}" for ref in refs]
        result = self._access.mirror.network("push", "--dry-run", "--porcelain", "--atomic", "--", "origin", *specs)
        if result.status != 0:
            raise self._access.failure("push", result.error)

    def history(self, head: str, policy: str) -> tuple[BranchCommit, ...]:
        """List the policy's promotion and rollback commits reachable from `head`, newest first."""

        def read() -> tuple[BranchCommit, ...]:
            self._access.require_commit(head)
            return commits_with_trailers(self._access.mirror, head)

        if self._indexed is None or self._indexed[0] != head:
            self._indexed = head, by_policy(self._access.repairing(read))
        return self._indexed[1].get(policy, ())

    def history_since(self, before: str, head: str, policy: str) -> tuple[BranchCommit, ...] | None:
        """List what `history` has at `head` and not at `before`; None when `head` does not descend from it."""

        def read() -> tuple[BranchCommit, ...] | None:
            self._access.require_commit(head)
            return commits_between(self._access.mirror, before, head)

        commits = self._access.repairing(read)
        return None if commits is None else tuple(commit for commit in commits if belongs_to(commit, policy))

    def changes(self, head: str, path: str, limit: int | None = None) -> tuple[FileChange, ...]:
        """List the commits of the branch, merges included, that changed one file, newest first."""

        def read() -> tuple[FileChange, ...]:
            self._access.require_commit(head)
            return changes_of(self._access.mirror, head, path, limit)

        return self._access.repairing(read)

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Whether a commit is the other one or an ancestor of it; False when the mirror does not have either."""

        def ask() -> bool:
            if not (is_known(self._access.mirror, ancestor) and is_known(self._access.mirror, descendant)):
                return False
            result = self._access.mirror.local("merge-base", "--is-ancestor", ancestor, descendant, allowed=(0, 1))
            return result.status == 0

        return self._access.repairing(ask)

    def diff(self, commit: str) -> str:
        """Return a commit's change as a unified diff, cut after 200,000 characters."""

        def read() -> str:
            self._access.require_commit(commit)

            def compare() -> str:
                result = self._access.mirror.network(
                    *("diff-tree", "--root", "-m", "-p", "--no-commit-id", "--no-color", "--no-ext-diff"),
                    *("--no-textconv", "--end-of-options", commit, "--"),
                )
                if result.status != 0:
                    raise MirrorBrokenError(result.error)
                return result.output.decode("utf-8", errors="replace")

            return self._access.reading_from_server(compare)

        text = self._access.repairing(read)
        if len(text) > _MAX_DIFF_CHARACTERS:
            return f"{text[:_MAX_DIFF_CHARACTERS]}\n... cut after {_MAX_DIFF_CHARACTERS} characters\n"
        return text

    def commit_url(self, commit: str) -> str | None:
        """Return a commit's web page; None when the form of the repository's address is not known."""
        return self._access.remote.commit_url(commit)

    def lease(self, application: str) -> LeaseRecord | None:
        """Read an application's lease as the server has it now, expired or not; None when it is free."""
        return self._fence.lease(application)

    def acquire_lease(
        self, application: str, holder: str, ttl: float, *, take_over: bool = False
    ) -> LeaseRecord | LeaseBusy:
        """Take an application's lease for `ttl` seconds, when it is free, expired, the holder's own, or to be had."""
        return self._fence.acquire(application, holder, ttl, take_over=take_over)

    def renew_lease(self, lease: LeaseRecord, ttl: float) -> LeaseRecord | LeaseLost:
        """Extend a lease to `ttl` seconds from now, unless it was lost."""
        return self._fence.renew(lease, ttl)

    def release_lease(self, lease: LeaseRecord) -> None:
        """Give a lease back; a lease that someone else has by now is left alone."""
        self._fence.release(lease)

    def push_edit(
        self, decide: Callable[[str], FileEdit | Decision], lease: LeaseRecord, ttl: float
    ) -> Pushed | LeaseLost | Decision:
        """Commit and push what `decide(head)` returns together with a renewed lease, deciding anew for each attempt."""

        def plan(head: str, commit: str) -> Plan:
            update = RefUpdate(self._access.branch, commit, head)
            return Plan((update,), lambda: self.is_ancestor(commit, self.fetch()), commit)

        return self._push_commit(decide, plan, lease, ttl, "push to the branch")

    def propose(
        self, name: str, decide: Callable[[str], FileEdit | Decision], lease: LeaseRecord, ttl: float
    ) -> Pushed | LeaseLost | Decision:
        """Commit what `decide(head)` returns and push it to the proposal's own branch together with a renewed lease."""
        _, record = branch_and_record(name)

        def plan(_: str, commit: str) -> Plan:
            updates = replace_refs(self._access, name, commit)
            return Plan(updates, lambda: self._access.server_refs(record).get(record) == commit, commit)

        return self._push_commit(decide, plan, lease, ttl, f"push the branch {proposal_branch(name)}")

    def proposals(self, policy: str) -> tuple[Proposal, ...]:
        """List what is proposed under a policy as the server has it now, by name."""
        return self._access.repairing(lambda: fetch_proposals(self._access, policy))

    def withdraw(self, name: str, lease: LeaseRecord, ttl: float) -> LeaseRecord | LeaseLost:
        """Delete a proposal and its branch together with a renewed lease; one that is gone counts as withdrawn."""
        refs = branch_and_record(name)

        def plan() -> Plan:
            return Plan(replace_refs(self._access, name, None), lambda: not self._access.server_refs(*refs))

        result = self._fence.push(plan, lease, ttl, f"delete the branch {proposal_branch(name)}")
        return result.lease if isinstance(result, Attempt) else result

    def conclude(self, proposal: Proposal, merged_as: str | None) -> None:
        """Delete a merged proposal, and record the commit that it became if that has lost its trailers."""
        self._indexed = None
        tagger = self._authorship.maker.committer
        self._access.repairing(lambda: conclude(self._access, self._clock, proposal, merged_as, tagger))

    def _push_commit(
        self,
        decide: Callable[[str], FileEdit | Decision],
        plan_for: Callable[[str, str], Plan],
        lease: LeaseRecord,
        ttl: float,
        action: str,
    ) -> Pushed | LeaseLost | Decision:
        def plan() -> Plan | tuple[Decision]:
            head = self.fetch()
            decision = decide(head)
            if not isinstance(decision, FileEdit):
                return (decision,)
            return plan_for(head, self._access.repairing(lambda: self._write_edit(head, decision)))

        result = self._fence.push(plan, lease, ttl, action)
        if isinstance(result, Attempt):
            return Pushed(result.plan.commit, result.lease, result.number)
        return result[0] if isinstance(result, tuple) else result

    def _write_edit(self, head: str, edit: FileEdit) -> str:
        self._access.require_commit(head)
        tree = write_file(self._access.mirror, head, edit.path, edit.content)
        message, maker = self._authorship.message_of(edit), self._authorship.maker
        return write_commit(self._access.mirror, tree, head, message, self._clock.now(), maker)

    def create_tag(
        self, name: str, commit: str, message: str, lease: LeaseRecord, ttl: float
    ) -> LeaseRecord | LeaseLost:
        """Push an annotated tag together with a renewed lease; a tag of that name on that commit counts as created."""
        ref = _tag_ref(name)

        def write() -> str:
            self._access.require_commit(commit)
            tagger = self._authorship.maker.committer
            return write_tag(self._access.mirror, name, commit, message, self._clock.now(), tagger)

        def plan() -> Plan:
            existing = self._tagged(ref)
            if existing is not None and existing[1] != commit:
                raise DependencyError(
                    Problem(
                        f"tag {name} in {self._access.remote}",
                        f"no tag, or a tag of commit {commit[:12]}",
                        f"a tag of commit {existing[1][:12]}",
                        "Find out who made that tag, and delete it if it is wrong.",
                    )
                )
            tag = None if existing is not None else self._access.repairing(write)
            updates = () if tag is None else (RefUpdate(ref, tag, None),)
            return Plan(updates, lambda: tag is not None and self._access.server_refs(ref).get(ref) == tag)

        result = self._fence.push(plan, lease, ttl, f"push the tag {name}")
        return result.lease if isinstance(result, Attempt) else result

    def tag(self, name: str) -> TagRecord | None:
        """Read a tag as the server has it now; None when it does not exist. A lightweight tag has an empty message."""
        ref = _tag_ref(name)
        tagged = self._tagged(ref)
        if tagged is None:
            return None
        tag_id, commit = tagged
        if tag_id == commit:
            return TagRecord(name, commit, "")
        tag = self._access.repairing(lambda: self._access.server_object(ref, "tag"))
        header, _, message = (tag[1] if tag is not None and tag[1] is not None else b"").partition(b"\n\n")
        return TagRecord(name, commit, message.decode("utf-8", errors="replace").strip(), tagged_at(header))

    def tags_below(self, prefix: str) -> tuple[TagRecord, ...]:
        """List the annotated tags whose names begin with `prefix`, as the server has them now, by name."""
        _tag_ref(prefix.rstrip("/"))
        return self._access.repairing(lambda: fetch_tags(self._access, prefix))

    def signers(self, tags: Sequence[TagRecord], keys: Mapping[str, str]) -> Mapping[str, str]:
        """Return by whose key each tag is signed, with the given public keys and no other."""
        return self._access.repairing(lambda: signers(self._access.mirror, tags, keys))

    def record_act(self, act: Act, sign: Sign | None = None) -> Act:
        """Record an act on the head of the branch, at the next millisecond that is free."""
        head = self.fetch()
        while True:
            _tag_ref(act.tag)
            tagger = self._authorship.maker.committer
            if add_tag(self._access, self._clock, act.tag, head, act.message, tagger, sign):
                return replace(act, commit=head)
            act = replace(act, at=act.at + 0.001)

    def _tagged(self, ref: str) -> tuple[str, str] | None:
        """Object id of the tag itself and of its commit; they are equal for a lightweight tag."""
        refs = self._access.server_refs(ref, f"{ref}^{{}}")
        return None if ref not in refs else (refs[ref], refs.get(f"{ref}^{{}}", refs[ref]))


def _tag_ref(name: str) -> str:
    if not is_ref_name(name):
        raise InvalidInputError(
            Problem(f"tag {name!r}", "a name that Git allows", "a name that Git forbids", "Rename the policy.")
        )
    return f"refs/tags/{name}"

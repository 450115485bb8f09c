"""The GitOps repository behind smart HTTP (or ssh): commits, leases and tags without a checkout (design rules 1 and 2).

What is known of the server comes from the server each time; the mirror on this machine only saves transfers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from orchestration.adapters.git_history import belongs_to, commits_with_trailers
from orchestration.adapters.git_lease import MAX_LEASE_BYTES, lease_message, lease_ref, parse_lease
from orchestration.adapters.git_mirror import Mirror, MirrorBrokenError, Ran
from orchestration.adapters.git_objects import (
    commit_message,
    entry_at,
    is_known,
    read_blob,
    write_commit,
    write_file,
    write_tag,
)
from orchestration.adapters.git_push import ATTEMPTS, Applied, RefUpdate, Refused, Unanswered, pause, push
from orchestration.adapters.git_remote import is_ref_name, is_useless_to_repeat, remote
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

T = TypeVar("T")
Decision = TypeVar("Decision")
_HEAD = "refs/incumbent/head"
_LOOKS = 5
_MAX_DIFF_CHARACTERS = 200_000


@dataclass(frozen=True)
class _Plan:
    """What is pushed beside the lease, and whether the server turns out to have it when no answer came."""

    updates: tuple[RefUpdate, ...]
    landed: Callable[[], bool]
    commit: str = ""


@dataclass(frozen=True)
class _Done:
    plan: _Plan
    lease: LeaseRecord
    attempts: int


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
        self._remote = remote(url, branch, token_file)
        self._mirror = Mirror(self._remote, state)
        self._branch = f"refs/heads/{branch}"
        self._clock = clock
        self._tidied = False

    # Reading

    def fetch(self) -> str:
        head = self._repairing(self._fetch)
        if not self._tidied:
            self._repairing(self._mirror.tidy)
            self._tidied = True
        return head

    def _fetch(self) -> str:
        with self._mirror.locked():
            for _ in range(2):
                ran = self._mirror.network(
                    *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"),
                    *("--filter=blob:none", "--", "origin", f"+{self._branch}:{_HEAD}"),
                )
                if ran.status == 0:
                    return self._mirror.local("rev-parse", "--verify", "--end-of-options", f"{_HEAD}^{{commit}}").text
                self._blame_server("fetch the branch", ran)
            raise MirrorBrokenError(ran.error)

    def _blame_server(self, doing: str, ran: Ran) -> None:
        """Raise what is wrong with the server; return when nothing is, and so our mirror is to blame."""
        if ran.timed_out:
            raise self._remote.failure(doing, ran.error)
        if self._branch not in self._server_refs(self._branch):
            name = self._remote.branch
            raise DependencyError(
                Problem(
                    str(self._remote),
                    f"a branch {name}",
                    "none of that name",
                    f"Push the manifests to {name}, or correct INCUMBENT_GIT_BRANCH.",
                )
            )

    def _repairing(self, operation: Callable[[], T]) -> T:
        """Do something in the mirror; when the mirror turns out to be broken, make it again and do it once more."""
        try:
            return operation()
        except MirrorBrokenError:
            with self._mirror.locked():
                self._mirror.remake()
                try:
                    self._fetch()
                    return operation()
                except MirrorBrokenError as broken:
                    raise DependencyError(
                        Problem(
                            f"Git mirror of {self._remote}",
                            "a repository that Git can work in, after making it again",
                            str(broken),
                            "Check the disk, and that the branch was not rewritten so that the commit is gone.",
                        )
                    ) from broken

    def read_file(self, commit: str, path: str) -> bytes | None:
        def read() -> bytes | None:
            self._need(commit)
            entry = entry_at(self._mirror, commit, path)
            return None if entry is None else self._lazily(lambda: read_blob(self._mirror, entry[1]))

        return self._repairing(read)

    def _need(self, commit: str) -> None:
        if not is_known(self._mirror, commit):
            raise MirrorBrokenError(f"no commit {commit!r}")

    def _lazily(self, read: Callable[[], T]) -> T:
        """Read what the partial clone may have to ask of the server; when that fails, find out whose fault it is."""
        try:
            return read()
        except MirrorBrokenError as broken:
            self._blame_server("read a file", Ran(1, b"", str(broken)))
            raise

    def history(self, head: str, policy: str) -> tuple[BranchCommit, ...]:
        def read() -> tuple[BranchCommit, ...]:
            self._need(head)
            return commits_with_trailers(self._mirror, head)

        return tuple(commit for commit in self._repairing(read) if belongs_to(commit, policy))

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        def ask() -> bool:
            if not (is_known(self._mirror, ancestor) and is_known(self._mirror, descendant)):
                return False
            return self._mirror.local("merge-base", "--is-ancestor", ancestor, descendant, allowed=(0, 1)).status == 0

        return self._repairing(ask)

    def diff(self, commit: str) -> str:
        def read() -> str:
            self._need(commit)

            def compare() -> str:
                ran = self._mirror.network(
                    *("diff-tree", "--root", "-m", "-p", "--no-commit-id", "--no-color", "--no-ext-diff"),
                    *("--no-textconv", "--end-of-options", commit, "--"),
                )
                if ran.status != 0:
                    raise MirrorBrokenError(ran.error)
                return ran.output.decode("utf-8", errors="replace")

            return self._lazily(compare)

        text = self._repairing(read)
        if len(text) > _MAX_DIFF_CHARACTERS:
            return f"{text[:_MAX_DIFF_CHARACTERS]}\n... cut after {_MAX_DIFF_CHARACTERS} characters\n"
        return text

    def commit_url(self, commit: str) -> str | None:
        return self._remote.commit_url(commit)

    def _server_refs(self, *refs: str) -> dict[str, str]:
        """The object ids of those of the given refs that the server has now."""
        ran = self._mirror.ask_server("ls-remote", "--quiet", "--", "origin", *refs)
        if ran.status != 0:
            raise self._remote.failure("read its refs", ran.error)
        lines = (line.partition("\t") for line in ran.text.split("\n"))
        return {ref: object_id for object_id, _, ref in lines if ref in refs}

    def _server_object(self, ref: str, kind: str) -> tuple[str, bytes | None] | None:
        """Id and text of the small object that a ref of the server names now; None when there is no such ref.

        The text is None when the object is of another kind, or too large to be ours.
        """
        error = ""
        for _ in range(_LOOKS):
            object_id = self._server_refs(ref).get(ref)
            if object_id is None:
                return None
            found = self._local_object(object_id)
            if found is None:
                # By its ref: a server need not give an object by id. The ref may move meanwhile: then look again.
                ran = self._mirror.network(
                    "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", "origin", ref
                )
                error, found = ran.error, self._local_object(object_id)
            if found is not None:
                is_ours = found[0] == kind and found[1] <= MAX_LEASE_BYTES
                return object_id, self._mirror.local("cat-file", kind, object_id).output if is_ours else None
        raise self._remote.failure(f"fetch {ref}", error or "it moves all the time")

    def _local_object(self, object_id: str) -> tuple[str, int] | None:
        """Kind and size of an object, when the mirror has it."""
        found = self._mirror.local("cat-file", "--batch-check", stdin=f"{object_id}\n".encode()).text.split()
        return None if found[-1] == "missing" else (found[1], int(found[2]))

    # Leases

    def lease(self, application: str) -> LeaseRecord | None:
        ref = lease_ref(application)
        there = self._repairing(lambda: self._server_object(ref, "commit"))
        if there is None:
            return None
        object_id, content = there
        record = "it is no small commit" if content is None else parse_lease(application, object_id, content)
        if isinstance(record, str):
            # It may be the lease of a newer incumbent, so it is not taken for an expired one.
            raise DependencyError(
                Problem(
                    f"lease of application {application} ({ref} in {self._remote})",
                    "a lease that incumbent wrote",
                    f"object {object_id[:12]} that cannot be read: {record}",
                    f"Make sure that no promotion of {application} is running, then free it with "
                    f"`git push {self._remote.url} --delete {ref}`.",
                )
            )
        return record

    def acquire_lease(self, application: str, holder: str, ttl: float) -> LeaseRecord | LeaseBusy:
        tried: list[LeaseRecord] = []
        refusal: Refused | Unanswered | None = None
        for attempt in range(1, ATTEMPTS + 1):
            if tried:
                self._clock.sleep(pause(attempt - 1))
            current = self.lease(application)
            if current in tried:
                assert current is not None
                return current
            if current is not None and current.holder != holder and current.expires_at > self._clock.now():
                return LeaseBusy(current)
            new = self._repairing(lambda: self._write_lease(application, holder, ttl))
            old = None if current is None else current.object_id
            refusal = self._push((RefUpdate(lease_ref(application), new.object_id, old),))
            if refusal is None:
                return new
            tried.append(new)
        assert refusal is not None
        raise self._gave_up(f"take the lease of {application}", refusal)

    def renew_lease(self, lease: LeaseRecord, ttl: float) -> LeaseRecord | LeaseLost:
        done = self._fenced(lambda: _Plan((), lambda: False), lease, ttl, "renew the lease")
        return done.lease if isinstance(done, _Done) else done

    def release_lease(self, lease: LeaseRecord) -> None:
        ref = lease_ref(lease.application)
        for attempt in range(1, ATTEMPTS + 1):
            refusal = self._push((RefUpdate(ref, None, lease.object_id),))
            if refusal is None or self._server_refs(ref).get(ref) != lease.object_id:
                return
            if attempt == ATTEMPTS:
                raise self._gave_up(f"release the lease of {lease.application}", refusal)
            self._clock.sleep(pause(attempt))

    def _write_lease(self, application: str, holder: str, ttl: float) -> LeaseRecord:
        expires_at = self._clock.now() + ttl
        empty_tree = self._mirror.local("mktree").text
        message = lease_message(application, holder, expires_at)
        commit = write_commit(self._mirror, empty_tree, None, message, self._clock.now())
        return LeaseRecord(application, holder, expires_at, commit)

    # Writing under a lease

    def push_edit(
        self, decide: Callable[[str], FileEdit | Decision], lease: LeaseRecord, ttl: float
    ) -> Pushed | LeaseLost | Decision:
        def plan() -> _Plan | tuple[Decision]:
            head = self.fetch()
            decision = decide(head)
            if not isinstance(decision, FileEdit):
                return (decision,)
            commit = self._repairing(lambda: self._write_edit(head, decision))
            update = RefUpdate(self._branch, commit, head)
            return _Plan((update,), lambda: self.is_ancestor(commit, self.fetch()), commit)

        done = self._fenced(plan, lease, ttl, "push to the branch")
        if isinstance(done, _Done):
            return Pushed(done.plan.commit, done.lease, done.attempts)
        return done[0] if isinstance(done, tuple) else done

    def _write_edit(self, head: str, edit: FileEdit) -> str:
        self._need(head)
        tree = write_file(self._mirror, head, edit.path, edit.content)
        message = commit_message(edit.subject, edit.body, edit.trailers)
        return write_commit(self._mirror, tree, head, message, self._clock.now())

    def create_tag(
        self, name: str, commit: str, message: str, lease: LeaseRecord, ttl: float
    ) -> LeaseRecord | LeaseLost:
        ref = _tag_ref(name)

        def write() -> str:
            self._need(commit)
            return write_tag(self._mirror, name, commit, message, self._clock.now())

        def plan() -> _Plan:
            there = self._tagged(ref)
            if there is not None and there[1] != commit:
                raise DependencyError(
                    Problem(
                        f"tag {name} in {self._remote}",
                        f"no tag, or one of commit {commit[:12]}",
                        f"a tag of commit {there[1][:12]}",
                        "Find out who made that tag, and delete it when it is wrong.",
                    )
                )
            tag = None if there is not None else self._repairing(write)
            updates = () if tag is None else (RefUpdate(ref, tag, None),)
            return _Plan(updates, lambda: tag is not None and self._server_refs(ref).get(ref) == tag)

        done = self._fenced(plan, lease, ttl, f"push the tag {name}")
        return done.lease if isinstance(done, _Done) else done

    def tag(self, name: str) -> TagRecord | None:
        ref = _tag_ref(name)
        there = self._tagged(ref)
        if there is None:
            return None
        if there[0] == there[1]:
            return TagRecord(name, there[1], "")  # a lightweight tag, which says nothing
        found = self._repairing(lambda: self._server_object(ref, "tag"))
        text = found[1] if found is not None and found[1] is not None else b""
        return TagRecord(name, there[1], text.partition(b"\n\n")[2].decode("utf-8", errors="replace").strip())

    def _tagged(self, ref: str) -> tuple[str, str] | None:
        """The tag's own object id and its commit's, which are the same for a lightweight tag."""
        refs = self._server_refs(ref, f"{ref}^{{}}")
        return None if ref not in refs else (refs[ref], refs.get(f"{ref}^{{}}", refs[ref]))

    def _fenced(
        self, plan: Callable[[], _Plan | Decision], lease: LeaseRecord, ttl: float, doing: str
    ) -> _Done | LeaseLost | Decision:
        """Push what `plan` says together with a new object in the lease's ref, until it is there or must not be.

        After every push that was not acknowledged the server is asked what it has, before anything else is done. That
        is enough even when a push is applied later than that: the next one expects the lease that this one replaced,
        so of all attempts the server can take only one.
        """
        tried: list[_Done] = []
        refusal: Refused | Unanswered | None = None
        standing = 0
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if tried:
                    if (landed := self._landed(tried, lease)) is not None:
                        return landed
                    self._clock.sleep(pause(attempt - 1))
                planned = plan()
                if not isinstance(planned, _Plan):
                    # What was decided may rest on a push of ours that came in meanwhile, and then its lease holds.
                    return (self._landed(tried, lease) if tried else None) or planned
            except DependencyError:
                # Before the first push, nothing is in doubt; after it, giving up would leave the outcome unknown.
                if not tried or attempt == ATTEMPTS:
                    raise
                self._clock.sleep(pause(attempt))
                continue
            new = self._repairing(lambda: self._write_lease(lease.application, lease.holder, ttl))
            fence = RefUpdate(lease_ref(lease.application), new.object_id, lease.object_id)
            refusal = self._push((*planned.updates, fence))
            if refusal is None:
                return _Done(planned, new, attempt)
            # Refused twice although nobody else moved anything: a rule of the server forbids it.
            same = bool(tried) and [one.old for one in tried[-1].plan.updates] == [one.old for one in planned.updates]
            standing = standing + 1 if isinstance(refusal, Refused) and (same or not tried) else 0
            tried.append(_Done(planned, new, attempt))
            if standing > 1:
                break
        landed = self._landed(tried, lease)
        if landed is not None:
            return landed
        assert refusal is not None
        raise self._gave_up(doing, refusal)

    def _landed(self, tried: list[_Done], lease: LeaseRecord) -> _Done | LeaseLost | None:
        """The attempt that the server has after all; that the lease is lost; or None: neither, so begin again."""
        for _ in range(2):
            for done in tried:
                if done.plan.landed():
                    return done
            found = self.lease(lease.application)
            if found is not None and found.object_id == lease.object_id:
                return None
            for done in tried:  # the push was atomic, so with this lease came the rest of it
                if found is not None and done.lease.object_id == found.object_id:
                    return done
            # Somebody has the lease now; the second look is for a push of ours that came in just before.
        return LeaseLost(found)

    def _push(self, updates: tuple[RefUpdate, ...]) -> Refused | Unanswered | None:
        """None when the server took it all.

        Raises:
            DependencyError: it was turned away at the door, so that nothing was applied and trying again is useless.
        """
        result = push(self._mirror, updates)
        if isinstance(result, Applied):
            return None
        if isinstance(result, Unanswered) and is_useless_to_repeat(result.reason):
            raise self._remote.failure("push", result.reason)
        return result

    def _gave_up(self, doing: str, refusal: Refused | Unanswered) -> DependencyError:
        if isinstance(refusal, Unanswered):
            return self._remote.failure(doing, refusal.reason)
        return DependencyError(
            Problem(
                str(self._remote),
                f"the server to let us {doing}",
                f"a refusal although nobody else pushed ({' '.join(refusal.reason.split())})",
                "Allow the token's owner to push to this branch, to refs/incumbent/* and to tags incumbent/* "
                "(protected branches, push rules, pre-receive hooks).",
            )
        )


def _tag_ref(name: str) -> str:
    if not is_ref_name(name):
        raise InvalidInputError(
            Problem(f"tag {name!r}", "a name that Git allows", "one that it forbids", "Rename the policy.")
        )
    return f"refs/tags/{name}"

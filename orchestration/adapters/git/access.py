"""Reading from the mirror or from the server, whichever has the answer; a broken mirror is remade in the process."""

from collections.abc import Callable
from typing import TypeVar

from orchestration.adapters.git.history import MERGED
from orchestration.adapters.git.lease import MAX_LEASE_BYTES
from orchestration.adapters.git.mirror import Mirror, MirrorBrokenError
from orchestration.adapters.git.moved import moved_to
from orchestration.adapters.git.objects import is_known
from orchestration.adapters.git.remote import Remote, is_redirect, is_shallow
from orchestration.promotion.problems import DependencyError, Problem

T = TypeVar("T")
_HEAD = "refs/incumbent/head"
_NAMED = 10
"""How many branches an error names."""
_LOOKS = 5
"""How often a ref is read again that moves before its object could be fetched."""


class Access:
    """The server's refs and objects, by way of a mirror."""

    def __init__(self, remote: Remote, mirror: Mirror) -> None:
        self.remote = remote
        self.mirror = mirror
        self.branch = f"refs/heads/{remote.branch}"

    def fetch(self) -> str:
        """Fetch the branch, and return the id of its head commit.

        Raises:
            MirrorBrokenError: the server is well, so the mirror must be broken.
            DependencyError: the server does not answer, or does not have the branch.
        """
        with self.mirror.locked():
            self.fetch_into("fetch the branch", f"+{self.branch}:{_HEAD}", merged=(f"+{MERGED}*:{MERGED}*",))
            return self.mirror.local("rev-parse", "--verify", "--end-of-options", f"{_HEAD}^{{commit}}").text

    def fetch_into(self, action: str, refs: str, *options: str, merged: tuple[str, ...] = ()) -> None:
        """Fetch refs into the mirror; a second time, with more patience, when the server is well all the same.

        Args:
            action: completes "the server to let us ..." in an error.
            refs: what to fetch, and where to.
            options: further options of `git fetch`.
            merged: the same for what says which commits pull requests became, if that is wanted, too.

        Raises:
            MirrorBrokenError: the server is well, so the mirror must be broken.
            DependencyError: the server does not answer, or does not have the branch.
        """
        limits = self.mirror.limits
        for patience in (limits.first_try, limits.transfer):
            result = self.mirror.network(
                *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", *options),
                *("--", "origin", refs, *merged),
                patience=patience,
            )
            if is_shallow(result.error):  # Git only warns, and leaves the ref as it was
                raise self.failure(action, result.error)
            if result.status == 0:
                return
            self._blame_server()
            if result.timed_out:
                self._require_whole_history(action)
        if result.timed_out:
            raise self.failure(action, result.error)
        raise MirrorBrokenError(result.error)

    def _blame_server(self) -> None:
        """Raise what is wrong with the server; return when nothing is wrong, so that the mirror is to blame."""
        if self.branch in self.server_refs(self.branch):
            return
        name, heads = self.remote.branch, self._ls_remote("refs/heads/*")
        known = sorted(ref.removeprefix("refs/heads/") for ref in heads)
        others = f" among {', '.join(known[:_NAMED])}{' and others' if len(known) > _NAMED else ''}" if known else ""
        next_step = f"Push the manifests to {name}, or correct {self.remote.named.branch}."
        found = f"no branch of that name{others}" if known else "no branches at all"
        raise DependencyError(Problem(str(self.remote), f"a branch {name}", found, next_step))

    def _require_whole_history(self, action: str) -> None:
        """Raise when the server has a shallow repository: a partial clone of one hangs (Git 2.39).

        Only the oldest protocol tells it before a fetch, and Git shows it to nobody but its trace.
        """
        arguments = ("-c", "protocol.version=0", "ls-remote", "--quiet", "--", "origin", self.branch)
        told = self.mirror.ask_server(*arguments, variables={"GIT_TRACE_PACKET": "1"})
        if told.status == 0 and is_shallow(told.error):
            raise self.failure(action, "Git says only: shallow")

    def repairing(self, operation: Callable[[], T]) -> T:
        """Run an operation in the mirror; when the mirror turns out to be broken, remake it and run it once more.

        Raises:
            DependencyError: the mirror is still broken after it was remade.
        """
        try:
            return operation()
        except MirrorBrokenError:
            with self.mirror.locked():
                self.mirror.remake()
                try:
                    self.fetch()
                    return operation()
                except MirrorBrokenError as broken:
                    raise DependencyError(
                        Problem(
                            f"Git mirror of {self.remote}",
                            "a repository that Git can work in after it was remade",
                            str(broken),
                            "Check the disk, and whether the branch was rewritten and the commit is gone.",
                        )
                    ) from broken

    def require_commit(self, commit: str) -> None:
        """Raise `MirrorBrokenError` unless the mirror has that commit."""
        if not is_known(self.mirror, commit):
            raise MirrorBrokenError(f"no commit {commit!r}")

    def reading_from_server(self, read: Callable[[], T]) -> T:
        """Run a read for which the partial clone may have to ask the server; when it fails, find out whose fault it is.

        Raises:
            MirrorBrokenError: the server is well, so the mirror must be broken.
            DependencyError: the server does not answer, or does not have the branch.
        """
        try:
            return read()
        except MirrorBrokenError:
            self._blame_server()
            raise

    def server_refs(self, *refs: str) -> dict[str, str]:
        """Ask the server for the object ids of those of the given refs that it has now."""
        return {ref: object_id for ref, object_id in self._ls_remote(*refs).items() if ref in refs}

    def _ls_remote(self, *patterns: str) -> dict[str, str]:
        result = self.mirror.ask_server("ls-remote", "--quiet", "--", "origin", *patterns)
        if result.status != 0:
            raise self.failure("read its refs", result.error)
        lines = (line.partition("\t") for line in result.text.split("\n"))
        return {ref: object_id for object_id, _, ref in lines if ref}

    def failure(self, action: str, error: str) -> DependencyError:
        """Return the error for a command that the server did not answer as it should; the caller raises it.

        Args:
            action: completes "the server to let us ...".
            error: the command's standard error, already redacted.
        """
        moved = moved_to(self.remote) if is_redirect(error) else None
        return moved or self.remote.failure(action, error)

    def server_object(self, ref: str, kind: str) -> tuple[str, bytes | None] | None:
        """Read id and text of the small object that a ref of the server names now; None when the ref does not exist.

        The text is None when the object is of another kind, or too large to be incumbent's.
        """
        error = ""
        for _ in range(_LOOKS):
            object_id = self.server_refs(ref).get(ref)
            if object_id is None:
                return None
            stored = self._local_object(object_id)
            if stored is None:
                # By its ref, because a server need not give an object by id. If the ref moves meanwhile, look again.
                result = self.mirror.network(
                    "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", "origin", ref
                )
                error, stored = result.error, self._local_object(object_id)
            if stored is not None:
                is_readable = stored[0] == kind and stored[1] <= MAX_LEASE_BYTES
                return object_id, self.mirror.local("cat-file", kind, object_id).output if is_readable else None
        raise self.failure(f"fetch {ref}", error or "the ref keeps moving")

    def _local_object(self, object_id: str) -> tuple[str, int] | None:
        """Kind and size of an object, when the mirror has it."""
        fields = self.mirror.local("cat-file", "--batch-check", stdin=f"{object_id}\n".encode()).text.split()
        return None if fields[-1] == "missing" else (fields[1], int(fields[2]))

"""Reading from the mirror or from the server, whichever has the answer; a broken mirror is remade in the process."""

from collections.abc import Callable
from typing import TypeVar

from orchestration.adapters.git.lease import MAX_LEASE_BYTES
from orchestration.adapters.git.mirror import GitResult, Mirror, MirrorBrokenError
from orchestration.adapters.git.objects import is_known
from orchestration.adapters.git.remote import Remote
from orchestration.promotion.problems import DependencyError, Problem

T = TypeVar("T")
_HEAD = "refs/incumbent/head"
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
            for _ in range(2):
                result = self.mirror.network(
                    *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"),
                    *("--", "origin", f"+{self.branch}:{_HEAD}"),
                )
                if result.status == 0:
                    return self.mirror.local("rev-parse", "--verify", "--end-of-options", f"{_HEAD}^{{commit}}").text
                self._blame_server("fetch the branch", result)
            raise MirrorBrokenError(result.error)

    def _blame_server(self, action: str, result: GitResult) -> None:
        """Raise what is wrong with the server; return when nothing is wrong, so that the mirror is to blame."""
        if result.timed_out:
            raise self.remote.failure(action, result.error)
        if self.branch not in self.server_refs(self.branch):
            name = self.remote.branch
            raise DependencyError(
                Problem(
                    str(self.remote),
                    f"a branch {name}",
                    "no branch of that name",
                    f"Push the manifests to {name}, or correct INCUMBENT_GIT_BRANCH.",
                )
            )

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
        except MirrorBrokenError as broken:
            self._blame_server("read a file", GitResult(1, b"", str(broken)))
            raise

    def server_refs(self, *refs: str) -> dict[str, str]:
        """Ask the server for the object ids of those of the given refs that it has now."""
        result = self.mirror.ask_server("ls-remote", "--quiet", "--", "origin", *refs)
        if result.status != 0:
            raise self.remote.failure("read its refs", result.error)
        lines = (line.partition("\t") for line in result.text.split("\n"))
        return {ref: object_id for object_id, _, ref in lines if ref in refs}

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
        raise self.remote.failure(f"fetch {ref}", error or "the ref keeps moving")

    def _local_object(self, object_id: str) -> tuple[str, int] | None:
        """Kind and size of an object, when the mirror has it."""
        fields = self.mirror.local("cat-file", "--batch-check", stdin=f"{object_id}\n".encode()).text.split()
        return None if fields[-1] == "missing" else (fields[1], int(fields[2]))

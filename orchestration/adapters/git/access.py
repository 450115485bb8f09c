"""What the mirror and the server say, whichever must be asked; a broken mirror is made again on the way."""

from collections.abc import Callable
from typing import TypeVar

from orchestration.adapters.git.lease import MAX_LEASE_BYTES
from orchestration.adapters.git.mirror import Mirror, MirrorBrokenError, Ran
from orchestration.adapters.git.objects import is_known
from orchestration.adapters.git.remote import Remote
from orchestration.promotion.problems import DependencyError, Problem

T = TypeVar("T")
_HEAD = "refs/incumbent/head"
_LOOKS = 5


class GitAccess:
    """The server's refs and objects, by way of a mirror."""

    def __init__(self, remote: Remote, mirror: Mirror) -> None:
        self.remote = remote
        self.mirror = mirror
        self.branch = f"refs/heads/{remote.branch}"

    def fetch(self) -> str:
        with self.mirror.locked():
            for _ in range(2):
                ran = self.mirror.network(
                    *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"),
                    *("--", "origin", f"+{self.branch}:{_HEAD}"),
                )
                if ran.status == 0:
                    return self.mirror.local("rev-parse", "--verify", "--end-of-options", f"{_HEAD}^{{commit}}").text
                self._blame_server("fetch the branch", ran)
            raise MirrorBrokenError(ran.error)

    def _blame_server(self, doing: str, ran: Ran) -> None:
        """Raise what is wrong with the server; return when nothing is, and so our mirror is to blame."""
        if ran.timed_out:
            raise self.remote.failure(doing, ran.error)
        if self.branch not in self.server_refs(self.branch):
            name = self.remote.branch
            raise DependencyError(
                Problem(
                    str(self.remote),
                    f"a branch {name}",
                    "none of that name",
                    f"Push the manifests to {name}, or correct INCUMBENT_GIT_BRANCH.",
                )
            )

    def repairing(self, operation: Callable[[], T]) -> T:
        """Do something in the mirror; when the mirror turns out to be broken, make it again and do it once more."""
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
                            "a repository that Git can work in, after making it again",
                            str(broken),
                            "Check the disk, and that the branch was not rewritten so that the commit is gone.",
                        )
                    ) from broken

    def need(self, commit: str) -> None:
        if not is_known(self.mirror, commit):
            raise MirrorBrokenError(f"no commit {commit!r}")

    def lazily(self, read: Callable[[], T]) -> T:
        """Read what the partial clone may have to ask of the server; when that fails, find out whose fault it is."""
        try:
            return read()
        except MirrorBrokenError as broken:
            self._blame_server("read a file", Ran(1, b"", str(broken)))
            raise

    def server_refs(self, *refs: str) -> dict[str, str]:
        """The object ids of those of the given refs that the server has now."""
        ran = self.mirror.ask_server("ls-remote", "--quiet", "--", "origin", *refs)
        if ran.status != 0:
            raise self.remote.failure("read its refs", ran.error)
        lines = (line.partition("\t") for line in ran.text.split("\n"))
        return {ref: object_id for object_id, _, ref in lines if ref in refs}

    def server_object(self, ref: str, kind: str) -> tuple[str, bytes | None] | None:
        """Id and text of the small object that a ref of the server names now; None when there is no such ref.

        The text is None when the object is of another kind, or too large to be ours.
        """
        error = ""
        for _ in range(_LOOKS):
            object_id = self.server_refs(ref).get(ref)
            if object_id is None:
                return None
            found = self._local_object(object_id)
            if found is None:
                # By its ref: a server need not give an object by id. The ref may move meanwhile: then look again.
                ran = self.mirror.network("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", "origin", ref)
                error, found = ran.error, self._local_object(object_id)
            if found is not None:
                is_ours = found[0] == kind and found[1] <= MAX_LEASE_BYTES
                return object_id, self.mirror.local("cat-file", kind, object_id).output if is_ours else None
        raise self.remote.failure(f"fetch {ref}", error or "it moves all the time")

    def _local_object(self, object_id: str) -> tuple[str, int] | None:
        """Kind and size of an object, when the mirror has it."""
        found = self.mirror.local("cat-file", "--batch-check", stdin=f"{object_id}\n".encode()).text.split()
        return None if found[-1] == "missing" else (found[1], int(found[2]))

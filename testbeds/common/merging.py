"""What a Git host does in a bare repository when a request is merged: a merge, a squashed commit, or rebased commits.

It imports only the standard library, and runs Git 2.38 or newer.
"""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BareRepository:
    """A bare repository whose branches are merged without a checkout."""

    path: Path

    def head(self, branch: str) -> str | None:
        """Return the commit of a branch; None when there is no such branch."""
        ran = self._run("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}")
        return ran.stdout.decode().strip() or None

    def has_conflict(self, base: str, head: str) -> bool:
        """Return whether Git finds a conflict between two commits."""
        return self._run("merge-tree", "--write-tree", base, head).returncode != 0

    def message(self, commit: str) -> tuple[str, str]:
        """Return the subject and the body of a commit, with its trailers."""
        subject, _, body = self.run("log", "-1", "--format=%s%n%b", commit).partition("\n")
        return subject, body.strip()

    def commits(self, base: str, head: str) -> list[str]:
        """Return the commits that a merge would bring, oldest first."""
        return self.run("rev-list", "--reverse", f"{base}..{head}").split()

    def merge(self, branch: str, head: str, method: str, message: str, author: str) -> str:
        """Merge a commit into a branch as `merge`, `squash` or `rebase`, and return the branch's new head."""
        base = self.head(branch)
        assert base is not None, f"there is a branch {branch}"
        if method == "rebase":
            new = self.rebased(base, head, author)
        else:
            tree = self.run("merge-tree", "--write-tree", base, head)
            parents = ("-p", base, "-p", head) if method == "merge" else ("-p", base)
            new = self.run("commit-tree", *parents, "-F", "-", tree, author=author, stdin=message)
        self.run("update-ref", f"refs/heads/{branch}", new, base)
        return new

    def delete(self, branch: str) -> None:
        """Delete a branch; one that is gone is left so."""
        self._run("update-ref", "-d", f"refs/heads/{branch}")

    def rebased(self, base: str, head: str, author: str) -> str:
        """Make the commits of a request anew on another one, and return the last of them; no branch moves."""
        with tempfile.TemporaryDirectory() as folder:
            place = str(Path(folder) / "tree")
            self.run("worktree", "add", "--quiet", "--detach", place, head)
            try:
                # As hosts do: each commit is made anew, also where it could be taken as it is.
                self.run("-C", place, "rebase", "--quiet", "--force-rebase", base, author=author, bare=False)
                return self.run("-C", place, "rev-parse", "HEAD", bare=False)
            finally:
                self.run("worktree", "remove", "--force", place)

    def run(self, *arguments: str, author: str = "host", stdin: str = "", bare: bool = True) -> str:
        """Run Git in the repository, and return what it prints; a failure is an error of the test."""
        ran = self._run(*arguments, author=author, stdin=stdin, bare=bare)
        if ran.returncode != 0:
            raise RuntimeError(f"git {arguments[0]}: {ran.stderr.decode(errors='replace').strip()}")
        return ran.stdout.decode().strip()

    def _run(
        self, *arguments: str, author: str = "host", stdin: str = "", bare: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        names = {f"GIT_{who}_{what}": author for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
        place = {"GIT_DIR": str(self.path)} if bare else {}
        return subprocess.run(
            ["git", *arguments], input=stdin.encode(), capture_output=True, env={**quiet, **names, **place}, check=False
        )

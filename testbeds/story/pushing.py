"""Commits of people in a clone of the GitOps repository, pushed whatever others push meanwhile."""

from collections.abc import Mapping

from testbeds.story.look import Git

AUTHOR = ("-c", "user.name=Someone", "-c", "user.email=someone@localhost")
_PUSHES = 10


def write_files(git: Git, files: Mapping[str, str]) -> None:
    """Write files into a clone, each with its content by its path; those without content are removed."""
    for path, content in files.items():
        file = git.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if content:
            file.write_text(content, encoding="utf-8")
        else:
            file.unlink()


def commit_and_push(git: Git, message: str) -> None:
    """Commit all changes in a clone as a person, and push them on top of whatever the branch has by then."""
    git.run("add", "--all")
    git.run(*AUTHOR, "commit", "--quiet", "--message", message)
    for pushes_left in reversed(range(_PUSHES)):
        try:
            git.run("push", "--quiet", "origin", f"HEAD:{git.branch}")
            return
        except RuntimeError:
            if not pushes_left:
                raise
        git.run(*AUTHOR, "pull", "--quiet", "--rebase", "origin", git.branch)  # someone else pushed first

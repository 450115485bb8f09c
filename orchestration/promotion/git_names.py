"""Which names a branch and a user may have, wherever a person writes them: in a setting, a policy or a command."""

import re

BRANCH_NAME = "a branch's name, as `git check-ref-format --branch` accepts it, of characters that can be read"
"""Beyond what Git forbids, what cannot be printed is refused: such a name looks like that of another branch."""
USER_NAME = "a user name on one line, without a colon"
_FORBIDDEN = re.compile(
    r"""
    ^- | ^/ | /$ | //           # an option; an empty part
    | (?:^|/)\. | \.\.          # hidden; a range of commits
    | \.lock(?:/|$) | \.$
    | @\{                       # an entry of a reflog
    | [\x00-\x20\x7f~^:?*\[\\]  # steps from a commit, a refspec, a pattern
    """,
    re.VERBOSE,
)
"""The rules of git-check-ref-format(1)."""


def is_branch_name(name: str) -> bool:
    """Whether a text is a `BRANCH_NAME`; never an option, a pattern or a refspec."""
    return bool(name) and name != "HEAD" and name.isprintable() and not _FORBIDDEN.search(name)


def is_username(name: str) -> bool:
    """Whether a text is a `USER_NAME`: a colon would end it (RFC 7617, 2), and Git reads one line."""
    return bool(name) and name.strip() == name and name.isprintable() and ":" not in name

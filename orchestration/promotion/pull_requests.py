"""Pull requests as a promotion uses them: the port, its values, and the text that a request is opened with.

"Pull request" also stands for GitLab's merge requests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

MergeMethod = Literal["merge", "squash", "rebase"]


class RequestState(StrEnum):
    """Where a pull request stands."""

    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"
    """Closed without a merge."""


MERGE_TAG = "waits_for_merge"
"""Version tag: what a version waits for people to merge, as `asked_of` writes it; empty when it waits for no merge."""


UNMERGED_RETURN = "unmerged_return"
"""The first word of a `MERGE_TAG` that says which return nobody merged in time; no one waits for it any more."""


class MergeOf(StrEnum):
    """What the request does that a version waits for, as the first word of its `MERGE_TAG`."""

    PROMOTION = "merge_of_promotion"
    ROLLBACK = "merge_of_rollback"
    RETURN = "merge_of_return"


@dataclass(frozen=True)
class PullRequest:
    """A pull request as its host has it."""

    number: int
    url: str
    state: RequestState
    opened_at: float
    """Seconds since the epoch, as are all times, by the host's clock."""
    ended_at: float | None = None
    """When it was merged or closed; None while it is open."""
    by: str = ""
    """Who merged or closed it; empty when the host does not say."""
    head: str = ""
    """The newest commit of its branch; empty when the host does not say."""
    merge_commit: str = ""
    """The commit of the branch that it became: the merge, the squashed commit, or the last of the rebased ones."""
    has_conflict: bool = False
    """Whether the host says that it cannot be merged into the branch as that is now."""
    was_withdrawn: bool = False
    """Whether it was we who closed it."""

    def __str__(self) -> str:
        return f"request #{self.number} ({self.url})"

    @property
    def as_it_is(self) -> str:
        """The request, and what keeps people from merging it as it is."""
        conflict = ", which conflicts with the branch and was changed by someone else" if self.has_conflict else ""
        return f"{self}{conflict}"


def asked_of(what: MergeOf, request: PullRequest) -> dict[str, str]:
    """Return the version tag that says what people are asked: another text only when they are asked something new."""
    return {MERGE_TAG: f"{what} {_address(request)}{' conflict' if request.has_conflict else ''}"}


def unmerged_return(request: PullRequest) -> dict[str, str]:
    """Return the version tag by which people are told that nobody merged its return in time."""
    return {MERGE_TAG: f"{UNMERGED_RETURN} {_address(request)}"}


def _address(request: PullRequest) -> str:
    return "".join(request.url.split()) or f"#{request.number}"


@dataclass(frozen=True)
class RequestText:
    """What people read about a pull request before they merge it."""

    title: str
    body: str
    """Markdown."""


class PullRequests(Protocol):
    """The pull requests of the GitOps repository, into the branch that Argo CD follows.

    Every method raises `NotPermittedError`, `RateLimitedError`, `RefusedError` or another `DependencyError`, as the
    port `GitHub` does. `str(port)` names the host by its address.
    """

    def check_open(self, auto_merge: MergeMethod | None) -> None:
        """Raise unless a request could be opened, and merged by itself in that way, as far as the host tells.

        Nothing is changed: a request from the branch into itself is asked for, which every host refuses as empty after
        it has looked whether we may open one.
        """

    def find(self, branch: str) -> PullRequest | None:
        """Return the newest request from a branch, open or not; None when there never was one."""

    def open(self, branch: str, text: RequestText) -> PullRequest:
        """Open a request from a branch; sent once. One that is open already is returned as it is."""

    def comment(self, number: int, text: str) -> None:
        """Add a comment to a request; sent once."""

    def close(self, number: int, why: str) -> PullRequest:
        """Close a request with a comment that says why, and return it as it is then: it may have been merged before."""

    def merge_when_ready(self, number: int, commit: str, method: MergeMethod) -> None:
        """Let the host merge a request by itself as soon as its rules allow it, if its head is still that commit."""


WHAT_TO_DO = {
    MergeOf.PROMOTION: "Merge it in whichever way the repository allows; the promotion then goes on by itself, and is "
    "taken back if the new pods do not prove well. Close it to refuse this version. Do not change the image in it: "
    "what is merged then is not this promotion.",
    MergeOf.ROLLBACK: "Merge it in whichever way the repository allows; the version serves until then. Close it to let "
    "the version serve on, held by you.",
    MergeOf.RETURN: "Merge it in whichever way the repository allows; what serves now serves until then, and no other "
    "version is promoted meanwhile. The version that comes back is asked its recorded requests again, and is never "
    "taken back by itself. Close it to keep what serves.",
}
"""What merging and closing a request means."""


def request_body(
    what: MergeOf,
    intro: str,
    facts: Mapping[str, str],
    checks: Sequence[tuple[str, str]],
    quoted: "Quote",
    identity: str,
) -> str:
    """Compose the text of a request: what it does, what is known, what was checked, and what merging it means.

    Args:
        what: What it does, which says what merging it means.
        intro: One sentence of ours.
        facts: What is known, by its name; values come from outside.
        checks: Each check with its summary; summaries come from outside.
        quoted: Writes a text from outside so that it means nothing to the host.
        identity: The promotion's id.
    """

    def cell(value: str) -> str:
        return quoted(value).replace("|", r"\|")  # ends no cell of the table, also in code

    rows = [f"| {name} | {cell(value)} |" for name, value in facts.items() if value]
    proved = [f"| `{name}` | {cell(summary)} |" for name, summary in checks]
    if proved:
        proved = ["", "| checked before | finding |", "|---|---|", *proved]
    return "\n".join(
        [
            intro,
            "",
            "| | |",
            "|---|---|",
            *rows,
            *proved,
            "",
            WHAT_TO_DO[what],
            "",
            f"Promotion `{identity}` by incumbent",
        ]
    )


class Quote(Protocol):
    """Writes a text from outside as Markdown that means nothing but itself."""

    def __call__(self, value: object, characters: int = 500) -> str:
        """Return the text, cut to so many characters."""

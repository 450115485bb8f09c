"""GitHub as the dispatcher and the analysis use it: the port, its values, and how each kind of failure is told apart.

GitHub Enterprise Server, Gitea and Forgejo have the same calls; "GitHub" stands for whichever server is set.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from orchestration.promotion.problems import DependencyError, Problem


class RateLimitedError(DependencyError):
    """GitHub asks for a pause. The request was not carried out, and all others should wait, too."""

    def __init__(self, problem: Problem, wait_seconds: float) -> None:
        super().__init__(problem)
        self.wait_seconds = wait_seconds
        """Seconds before which nothing should be asked."""


class NotPermittedError(DependencyError):
    """Our token is wrong, expired, revoked or lacks a permission. The request was not carried out.

    The same request succeeds once a person has replaced the token.
    """


class RefusedError(DependencyError):
    """GitHub understood the request and will refuse it each time: it names something wrong or missing."""


@dataclass(frozen=True)
class Issue:
    """An issue as GitHub has it."""

    number: int
    title: str
    body: str
    """Empty when it has none."""
    is_open: bool
    labels: tuple[str, ...]
    url: str
    """The page for people."""
    author: str = ""
    """The account's name; empty when the account was deleted."""


@dataclass(frozen=True)
class Comment:
    """A comment on an issue."""

    id: int
    body: str
    author: str
    """The account's name; empty when the account was deleted."""
    url: str


class GitHub(Protocol):
    """One repository on GitHub.

    Every method raises:
        RateLimitedError: GitHub asks for a pause.
        NotPermittedError: the token is wrong, expired or lacks a permission.
        RefusedError: what the request names does not exist, or GitHub cannot process it.
        DependencyError: no usable answer came. A request that writes may have been carried out all the same.
    """

    def dispatch(self, workflow: str, ref: str, inputs: Mapping[str, str]) -> None:
        """Start a run of a workflow that has the trigger `workflow_dispatch`; sent once, never repeated.

        Args:
            workflow: The workflow's file name, such as `ai-log-analysis.yml`.
            ref: The branch or tag whose workflow file runs.
            inputs: The workflow's inputs; GitHub refuses names that the workflow does not declare.
        """

    def issues(self, labels: Sequence[str] = (), state: Literal["open", "closed", "all"] = "open") -> Iterator[Issue]:
        """Yield the issues that have all of these labels, the newest first, without pull requests.

        Pages are asked for as they are needed, so take no more than you need.
        """

    def create_issue(self, title: str, body: str, labels: Sequence[str] = ()) -> Issue:
        """Create an issue; sent once. GitHub silently leaves labels out where the token may not set them."""

    def comments(self, number: int) -> Iterator[Comment]:
        """Yield an issue's comments, the oldest first, page by page."""

    def comment(self, number: int, body: str) -> Comment:
        """Add a comment to an issue; sent once."""

    def close_issue(self, number: int, reason: Literal["completed", "not_planned"] = "completed") -> Issue:
        """Close an issue; one that is closed stays so, so this may be repeated."""

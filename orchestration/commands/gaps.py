"""Collecting facts from several places, where what does not answer becomes a gap, and the rest is told."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from orchestration.analysis.markdown import code
from orchestration.promotion.platform import Platform
from orchestration.promotion.policy import Policy
from orchestration.promotion.problems import ProblemError

T = TypeVar("T")


class Gaps:
    """What could not be found out, and why, as Markdown."""

    def __init__(self) -> None:
        """Begin with none."""
        self.found: list[str] = []

    def note(self, what: str, error: ProblemError) -> None:
        """Note what could not be found out."""
        self.found.append(f"{what}: {code(error.problem)}")

    def try_to(self, what: str, ask: Callable[[], T], otherwise: T) -> T:
        """Ask, and note what could not be found out when there is no answer."""
        try:
            return ask()
        except ProblemError as error:
            self.note(what, error)
            return otherwise


def usable_policies(platform: Platform, gaps: Gaps) -> Iterator[Policy]:
    """Yield the policies that can be read, and note the others."""
    no_names: tuple[str, ...] = ()
    for name in gaps.try_to("The policies", platform.policy_names, no_names):
        try:
            policy = platform.policy(name)
        except ProblemError as error:
            gaps.note(f"Policy {code(name)}", error)
        else:
            yield policy

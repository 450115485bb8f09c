"""What a stage results in: its checks, and how it ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from orchestration.promotion.problems import Problem, ProblemError
from orchestration.promotion.state import State


@dataclass(frozen=True)
class Check:
    """The result of one of a stage's fixed checks; `rows` is shown as a table and `numbers` as charts."""

    name: str
    passed: bool
    summary: str
    rows: tuple[Mapping[str, object], ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StageDone:
    """A stage that did its work: its checks, all passed, and the facts that describe its asset."""

    checks: tuple[Check, ...]
    facts: Mapping[str, object]
    end: State | None = None
    """The state in which the promotion ended with this stage; None while it goes on."""
    note: str = ""
    """What a person should know about that end; empty when the state says it all."""


class StageEnded(ProblemError):  # noqa: N818 - an end, which is not always an error
    """The promotion does not go on in this run: the state that it is left in, and why."""

    def __init__(
        self,
        state: State,
        problem: Problem,
        checks: Sequence[Check] = (),
        facts: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(problem)
        self.state = state
        self.checks = tuple(checks)
        self.facts = facts
        """Version tags that are written with the state."""


class Aborted(StageEnded):
    """A person ended the promotion while this run was at work on it; the abort writes the version's state."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(State.WAITING, problem)


class Checklist:
    """The checks of one stage as they are judged; the first that fails ends the stage, after those that passed."""

    def __init__(self, checks: Sequence[Check] = ()) -> None:
        self.checks = list(checks)

    def passed(
        self,
        name: str,
        summary: str,
        rows: Sequence[Mapping[str, object]] = (),
        numbers: Mapping[str, float] | None = None,
    ) -> None:
        """Add a check that passed."""
        self._add(Check(name, True, summary, tuple(rows), numbers or {}))

    def failed(
        self,
        name: str,
        problem: Problem,
        state: State = State.REFUSED,
        rows: Sequence[Mapping[str, object]] = (),
        numbers: Mapping[str, float] | None = None,
        facts: Mapping[str, str] = MappingProxyType({}),
    ) -> StageEnded:
        """Add a check that failed, and return the exception to raise for it."""
        self._add(Check(name, False, str(problem), tuple(rows), numbers or {}))
        return StageEnded(state, problem, self.checks, facts)

    def _add(self, check: Check) -> None:
        self.checks = [*(other for other in self.checks if other.name != check.name), check]  # a check has one result

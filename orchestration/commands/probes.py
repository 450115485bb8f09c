"""Probes: questions that are asked side by side, each within a time limit, and whose answers may need one another."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestration.promotion.problems import DependencyError, Problem, ProblemError

PROBE_SECONDS = 40.0
"""How long one probe may take: longer than any exchange with a server, which the adapters bound themselves."""


class Outcome(StrEnum):
    """How a probe ended."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "not known"
    """Nothing is known to be wrong, but it could not be found out."""
    NOT_ASKED = "not asked"
    """Another probe, which this one needs, did not succeed."""


@dataclass(frozen=True)
class Finding:
    """What a probe found, and what to do about it."""

    outcome: Outcome
    text: str
    fix: str = ""
    unanswered: bool = False
    """Whether a dependency did not answer, or refused the login."""


@dataclass(frozen=True)
class Probe:
    """One question."""

    area: str
    name: str
    ask: Callable[[], Finding]
    needs: tuple[str, ...] = ()
    """The keys of the probes that must have succeeded before this one can be asked."""

    @property
    def key(self) -> str:
        """Names the probe among all others."""
        return f"{self.area}: {self.name}"


def ok(text: str) -> Finding:
    """Return the finding that all is well."""
    return Finding(Outcome.OK, text)


def unknown(text: str, fix: str = "") -> Finding:
    """Return the finding that something could not be found out."""
    return Finding(Outcome.UNKNOWN, text, fix)


def failed(problem: Problem, *, unanswered: bool = False) -> Finding:
    """Return the finding that something is not as it should be."""
    text = f"{problem.subject}: expected {problem.expected}, found {problem.found}."
    return Finding(Outcome.FAILED, text, problem.next_step, unanswered)


def examine(
    probes: Sequence[Probe], progress: Callable[[int, int], None], seconds: float = PROBE_SECONDS
) -> Iterator[tuple[Probe, Finding]]:
    """Ask all probes, side by side where they do not need one another, and return what they found in their order.

    Args:
        probes: what to ask; a probe comes after those that it needs.
        progress: is told how many probes of how many are done.
        seconds: how long one probe may take.
    """
    found: dict[str, Finding] = {}
    answers: queue.SimpleQueue[tuple[Probe, Finding]] = queue.SimpleQueue()
    begun: set[str] = set()
    while len(found) < len(probes):
        for probe in probes:
            if probe.key in begun or probe.key in found:
                continue
            missing = [need for need in probe.needs if need in found and found[need].outcome is not Outcome.OK]
            if missing:
                found[probe.key] = Finding(Outcome.NOT_ASKED, f"needs {missing[0]}")
            elif all(need in found for need in probe.needs):
                begun.add(probe.key)
                _begin(probe, answers, seconds)
        progress(len(found), len(probes))
        if len(found) < len(probes):
            answered, finding = answers.get()
            found.setdefault(answered.key, finding)  # the first counts: the answer, or the end of its time
    return ((probe, found[probe.key]) for probe in probes)


def _begin(probe: Probe, answers: "queue.SimpleQueue[tuple[Probe, Finding]]", seconds: float) -> None:
    """Ask in a thread of its own, which nobody waits for when the time is over."""
    problem = Problem(probe.key, "an answer", f"none within {seconds:g} s", "Check that what it asks is up.")
    late = threading.Timer(seconds, lambda: answers.put((probe, failed(problem, unanswered=True))))
    late.daemon = True

    def work() -> None:
        answers.put((probe, _asked(probe)))
        late.cancel()

    late.start()
    threading.Thread(target=work, daemon=True, name=probe.key).start()


def _asked(probe: Probe) -> Finding:
    try:
        return probe.ask()
    except DependencyError as error:
        return failed(error.problem, unanswered=True)
    except ProblemError as error:
        return failed(error.problem)

"""The gate: whether the new pods have proved healthy, judged from a soak's evaluations alone (design rules 5 and 6).

Only fresh, complete evidence passes the model, and only evidence that meets its minima fails it. Everything else waits;
when the time for waiting is over, the verdict is Inconclusive (too little data) or Error (the platform's fault).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, pairwise, takewhile

from orchestration.promotion.evaluation import ANY_TRAFFIC, Evaluation, PodFreshness, RecordedRound, SloReading
from orchestration.promotion.policy import GatePolicy
from orchestration.promotion.problems import Problem
from orchestration.promotion.promql import Unusable


class VerdictKind(StrEnum):
    """How the gate ends; only `Failed` rejects the version."""

    PASSED = "Passed"
    FAILED = "Failed"
    """The model's own fault."""
    INCONCLUSIVE = "Inconclusive"
    """There was too little data."""
    ERROR = "Error"
    """The platform's fault: the model could not be judged."""


@dataclass(frozen=True)
class Continue:
    """There is no verdict yet."""

    why: str


@dataclass(frozen=True)
class ReplayDue:
    """A round of recorded requests is all that is missing for a verdict; it was kept back from the soak's counters."""

    why: str


@dataclass(frozen=True)
class SoakAgain:
    """The pod template is not the one that the soak began with, so a new soak must begin."""

    why: str


@dataclass(frozen=True)
class Verdict:
    """How the gate ended, and why."""

    kind: VerdictKind
    reason: str
    problem: Problem
    """The reason in four parts; the next step of a verdict `Passed` is that no action is needed."""


def judge(
    evaluations: Sequence[Evaluation], *, soak_started: float, now: float, gate: GatePolicy
) -> Continue | ReplayDue | SoakAgain | Verdict:
    """Judge the evaluations of one soak.

    Evaluations made after the pod template changed are about other pods: they neither pass nor fail this soak.

    Args:
        evaluations: those of this soak, oldest first.
        soak_started: when the soak began, in seconds since the epoch; `judge_within` counts from here.
        now: in seconds since the epoch.
        gate: the policy's gate.
    """
    begun_with = evaluations[0].template_hash if evaluations else None
    soak = list(takewhile(lambda evaluation: evaluation.template_hash == begun_with is not None, evaluations))
    if other := next((served.problem for seen in soak for served in seen.served if served.problem), None):
        return Verdict(VerdictKind.FAILED, f"{other.subject} serves {other.found}", other)
    if failure := _failure(soak, gate):
        return _verdict(VerdictKind.FAILED, failure)
    if refused := next((problem for evaluation in soak for problem in evaluation.rejected), None):
        return Verdict(VerdictKind.ERROR, f"{refused.subject}: {refused.found}", refused)
    over = now - soak_started >= gate.judge_within
    if len(soak) < len(evaluations):
        changed = f"the pod template changed from {begun_with} to {evaluations[len(soak)].template_hash}"
        why = changed if soak else "no ReplicaSet has the current pod template"
        return _verdict(VerdictKind.ERROR, why) if over else SoakAgain(why)
    if not soak:
        why = "no measurements"
        return _verdict(VerdictKind.ERROR, why) if over else Continue(why)
    last = soak[-1]
    gaps = tuple(_gaps(last, _owed(soak)[-1], gate))
    # A round that was kept back follows the measurements at once, and takes as long as the model does.
    age = now - max(last.at, last.replayed_until or last.at)
    recent = age <= gate.every + stale_after(gate)
    soaked = min(now - soak_started, last.at - soak_started, last.window) >= gate.soak
    if soaked and recent and last.recorded is None and (not gaps or not over):
        if all(gap.replays_help for gap in gaps):
            return ReplayDue(gaps[0].text if gaps else "the recorded requests are asked for the last time")
    elif soaked and recent and not gaps:
        return _verdict(VerdictKind.PASSED, f"all {len(gate.slos)} SLOs kept over {last.window:.0f} s")
    waiting = f"the newest evidence is {age:.0f} s old" if soaked else f"{last.window:.0f} of {gate.soak:g} s soaked"
    why = "; ".join(gap.text for gap in gaps) or waiting
    if not over:
        return Continue(why)
    if problem := next(iter(last.problems), None):
        return Verdict(VerdictKind.ERROR, why, problem)
    return _verdict(VerdictKind.ERROR if any(gap.platform_fault for gap in gaps) else VerdictKind.INCONCLUSIVE, why)


def stale_after(gate: GatePolicy) -> float:
    """Seconds after which a scrape is stale: the longest interval that still fits `min_samples` scrapes into a soak."""
    return gate.soak / gate.min_samples


def _failure(evaluations: Sequence[Evaluation], gate: GatePolicy) -> str | None:
    """Why the model failed: as many wrong recorded answers as reject it, or a violation that was confirmed.

    The second evaluation confirms a violation only with newer evidence than the first.
    """
    for evaluation in evaluations:
        if evaluation.recorded is not None and len(evaluation.recorded.wrong) >= gate.wrong_answers:
            first = evaluation.recorded.wrong[0]
            more = len(evaluation.recorded.wrong) - 1
            return f"{first.asked}: {first.reason}" + (f" (and {more} more wrong answers)" if more else "")
    for (earlier, owed_then), (later, owed) in pairwise(zip(evaluations, _owed(evaluations), strict=True)):
        violated = _violations(earlier, owed_then, gate)
        for name, reading in _violations(later, owed, gate).items():
            if name in violated and (not reading.slo.needs_scrapes or _is_newer(later, earlier)):
                before = violated[name].value
                return f"{name} {reading.finding}, confirmed by two evaluations in a row (before: {before:g})"
    return None


@dataclass(frozen=True)
class _Owed:
    """The evidence that an evaluation owes; it owes none for pods that an autoscaler adds during the soak."""

    pods: frozenset[str]
    """The pods that the soak began with: their evidence must be complete for as long as they stay."""
    count: float
    """Smallest non-zero replica count seen in this soak; at least that many pods must have complete evidence."""


def _owed(evaluations: Sequence[Evaluation]) -> list[_Owed]:
    """What each evaluation of a soak owes, oldest first."""
    first = frozenset(freshness.pod for freshness in evaluations[0].freshness) if evaluations else frozenset()
    counts = accumulate((evaluation.wanted or math.inf for evaluation in evaluations), min)
    return [_Owed(first, count) for count in counts]


def _violations(evaluation: Evaluation, owed: _Owed, gate: GatePolicy) -> dict[str, SloReading]:
    """By SLO, the usable values that break their bound with enough traffic and enough fresh scrapes behind them."""
    scraped = not any(_scrape_gaps(evaluation, owed, gate))
    return {
        reading.slo.name: reading
        for reading in evaluation.readings
        if reading.value is not None
        and reading.enough
        and reading.limit is not None
        and not reading.kept
        and (scraped or not reading.slo.needs_scrapes)
    }


def _is_newer(later: Evaluation, earlier: Evaluation) -> bool:
    """Whether each pod that both evaluations saw was scraped in between: reading old data again confirms nothing."""
    before = {freshness.pod: freshness.newest_at for freshness in earlier.freshness}
    return all(
        (then := before.get(freshness.pod)) is None or freshness.newest_at > then
        for freshness in later.freshness
        if freshness.newest_at is not None
    )


@dataclass(frozen=True)
class _Gap:
    """What keeps an evaluation from passing, and whether that is the platform's fault."""

    text: str
    platform_fault: bool
    replays_help: bool = False
    """Whether more recorded requests would close it."""


def _gaps(evaluation: Evaluation, owed: _Owed, gate: GatePolicy) -> Iterator[_Gap]:
    for problem in evaluation.problems:
        yield _Gap(f"{problem.subject}: {problem.found}", True)
    if evaluation.wanted < 1 or len(evaluation.freshness) < owed.count:
        yield _Gap(f"{len(evaluation.freshness)} of {evaluation.wanted} pods measured", True)
    yield from _recorded_gaps(evaluation.recorded)
    yield from _scrape_gaps(evaluation, owed, gate)
    readings = {reading.slo.name: reading for reading in evaluation.readings}
    for slo in gate.slos:
        reading = readings.get(slo.name)
        if reading is None:
            yield _Gap(f"{slo.name} not measured", True)
        elif isinstance(reading.answer, Unusable) and (reading.enough or reading.answer.platform_fault):
            yield _Gap(f"{slo.name}: {reading.answer.reason}", reading.answer.platform_fault)
        elif not reading.enough:
            yield _Gap(f"{slo.name}: {reading.finding}", False, replays_help=reading.source == ANY_TRAFFIC)
        elif reading.limit is None:
            yield _Gap(f"{slo.name}: {reading.finding}", False)
        elif not reading.kept:
            yield _Gap(f"{slo.name} {reading.finding}, not confirmed yet", False)


def _recorded_gaps(recorded: RecordedRound | None) -> Iterator[_Gap]:
    """What is missing of a round that was sent; for the one that was kept back, see `ReplayDue`."""
    if recorded is None:
        return
    if recorded.unanswered:
        first = recorded.unanswered[0]
        yield _Gap(
            f"{len(recorded.unanswered)} recorded requests without an answer; {first.asked}: {first.reason}", True
        )
    elif recorded.due < 1 or recorded.asked < recorded.due:
        yield _Gap(f"{recorded.asked} of {recorded.due} recorded requests sent", True)


def _scrape_gaps(evaluation: Evaluation, owed: _Owed, gate: GatePolicy) -> Iterator[_Gap]:
    """Pods without complete evidence; a pod added during the soak counts only while too few others are complete."""
    gaps = {freshness.pod: _scrape_gap(freshness, evaluation.at, gate) for freshness in evaluation.freshness}
    complete = sum(gap is None for gap in gaps.values())
    for freshness in evaluation.freshness:
        gap = gaps[freshness.pod]
        young = freshness.pod not in owed.pods and freshness.scrapes < gate.min_samples
        if gap is not None and (not young or complete < owed.count):
            yield gap


def _scrape_gap(freshness: PodFreshness, at: float, gate: GatePolicy) -> _Gap | None:
    if freshness.newest_at is None or freshness.scrapes < gate.min_samples:
        return _Gap(f"{freshness.scrapes:g} of {gate.min_samples} scrapes of pod {freshness.pod}", False)
    if abs(at - freshness.newest_at) > stale_after(gate):
        return _Gap(f"pod {freshness.pod} last scraped {at - freshness.newest_at:.0f} s ago", True)
    return None


def _verdict(kind: VerdictKind, reason: str) -> Verdict:
    next_step = {
        VerdictKind.PASSED: "No action needed.",
        VerdictKind.FAILED: "Correct the model and register a new version.",
        VerdictKind.INCONCLUSIVE: "Send more traffic or lengthen gate.judge_within, then materialize serving_model.",
        VerdictKind.ERROR: "Fix the cause, then materialize serving_model again.",
    }
    expected = "every SLO kept on fresh evidence, and every recorded request answered correctly"
    return Verdict(kind, reason, Problem("the new pods", expected, reason, next_step[kind]))

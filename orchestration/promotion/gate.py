"""The gate: whether the new pods have proved healthy, as a pure judgement of a row of evaluations.

Design rules 5 and 6. Only fresh, complete evidence passes; only evidence that meets its minima fails; everything else
waits, and when waiting is over it is Inconclusive (too little data) or Error (our side's fault).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import accumulate, pairwise, takewhile
from typing import Any

from orchestration.promotion.policy import GatePolicy, Slo
from orchestration.promotion.problems import Problem
from orchestration.promotion.promql import Unusable


class VerdictKind(StrEnum):
    PASSED = "Passed"
    FAILED = "Failed"
    """The model's own fault."""
    INCONCLUSIVE = "Inconclusive"
    """Too little data."""
    ERROR = "Error"
    """Could not be judged: our side's fault."""


@dataclass(frozen=True)
class SloReading:
    """What one evaluation found of one SLO."""

    slo: Slo
    answer: float | Unusable
    requests: float
    """Requests behind the value, of the judged source."""
    source: str
    """`real`, `real|replayed`, or `pods` for what is read from pod status."""

    @property
    def value(self) -> float | None:
        """The measured number; None when there is none, and NaN and infinity are none."""
        return None if isinstance(self.answer, Unusable) or not math.isfinite(self.answer) else self.answer

    @property
    def enough(self) -> bool:
        return self.requests >= self.slo.min_requests

    @property
    def kept(self) -> bool:
        """Whether a usable value keeps the bound; the bound itself does."""
        return self.value is not None and self.slo.is_kept_by(self.value)

    @property
    def bound(self) -> str:
        return self.slo.bound

    @property
    def finding(self) -> str:
        if isinstance(self.answer, Unusable):
            return self.answer.reason
        if self.value is None:
            return f"{self.answer} is no measurement"
        if not self.enough:
            return f"too little traffic: {self.requests:g} of {self.slo.min_requests} requests"
        return "kept" if self.kept else f"violated: {self.answer:g} is not {self.bound}"


@dataclass(frozen=True)
class AnswerFault:
    """A recorded request that was answered wrong or not at all: who was asked what, and what came."""

    asked: str
    reason: str


@dataclass(frozen=True)
class RecordedRound:
    """One replay of the recording to each new pod and to the service."""

    due: int
    """Requests that a whole round has."""
    asked: int
    wrong: tuple[AnswerFault, ...] = ()
    unanswered: tuple[AnswerFault, ...] = ()
    """Answers that were not the model's: the API's own errors, time-outs, routes that lag behind."""


@dataclass(frozen=True)
class PodFreshness:
    """How often a pod was scraped with success within the window, and when last (seconds since the epoch)."""

    pod: str
    scrapes: float
    newest_at: float | None


@dataclass(frozen=True)
class Evaluation:
    """All that was measured at one time."""

    at: float
    window: float
    """Seconds that the queries looked back: from the start of the soak."""
    template_hash: str | None
    wanted: int
    """Pods that the workload wants just then."""
    freshness: tuple[PodFreshness, ...]
    """One entry for each new pod that has been ready in this soak."""
    readings: tuple[SloReading, ...]
    recorded: RecordedRound
    real_requests: float | None
    replayed_requests: float | None
    problems: tuple[Problem, ...] = ()
    """Dependencies that did not answer."""
    rejected: tuple[Problem, ...] = ()
    """Queries that Prometheus refuses, now and for ever."""


@dataclass(frozen=True)
class Continue:
    why: str


@dataclass(frozen=True)
class SoakAgain:
    """The pods are not those that the soak began with."""

    why: str


@dataclass(frozen=True)
class Verdict:
    kind: VerdictKind
    reason: str
    problem: Problem
    """The reason in four parts; of a verdict `Passed` it says that nothing is to do."""


def judge(
    evaluations: Sequence[Evaluation], *, soak_started: float, now: float, gate: GatePolicy
) -> Continue | SoakAgain | Verdict:
    """Judge the evaluations of one soak, oldest first. `judge_within` counts from `soak_started`.

    Evaluations after the template changed are about other pods: they neither pass nor fail this soak.
    """
    begun_with = evaluations[0].template_hash if evaluations else None
    ours = list(takewhile(lambda one: one.template_hash == begun_with is not None, evaluations))
    if failure := _failure(ours, gate):
        return _verdict(VerdictKind.FAILED, failure)
    if refused := next((problem for one in ours for problem in one.rejected), None):
        return Verdict(VerdictKind.ERROR, f"{refused.subject}: {refused.found}", refused)
    over = now - soak_started >= gate.judge_within
    if len(ours) < len(evaluations):
        why = f"the pod template is {evaluations[len(ours)].template_hash}, the soak began with {begun_with}"
        return _verdict(VerdictKind.ERROR, why) if over else SoakAgain(why)
    if not ours:
        why = "nothing was measured"
        return _verdict(VerdictKind.ERROR, why) if over else Continue(why)
    last = ours[-1]
    gaps = tuple(_gaps(last, _owed(ours)[-1], gate))
    recent = now - last.at <= gate.every + stale_after(gate)
    soaked = min(now - soak_started, last.at - soak_started, last.window) >= gate.soak
    if soaked and recent and not gaps:
        return _verdict(VerdictKind.PASSED, f"all {len(gate.slos)} SLOs kept over {last.window:.0f} s")
    why = "; ".join(gap.text for gap in gaps) or f"{last.window:.0f} of {gate.soak:g} s soaked"
    if not over:
        return Continue(why)
    if problem := next(iter(last.problems), None):
        return Verdict(VerdictKind.ERROR, why, problem)
    return _verdict(VerdictKind.ERROR if any(gap.platform_fault for gap in gaps) else VerdictKind.INCONCLUSIVE, why)


def stale_after(gate: GatePolicy) -> float:
    """Seconds after which a scrape is stale: the longest interval that still gives a soak its `min_samples`."""
    return gate.soak / gate.min_samples


def as_record(evaluation: Evaluation) -> dict[str, Any]:
    """Every number of an evaluation, as JSON can hold it: the evidence."""
    return {
        "at": evaluation.at,
        "window_seconds": evaluation.window,
        "template_hash": evaluation.template_hash,
        "wanted": evaluation.wanted,
        "scrapes": [asdict(one) for one in evaluation.freshness],
        "real_requests": evaluation.real_requests,
        "replayed_requests": evaluation.replayed_requests,
        "slos": [
            {
                "name": reading.slo.name,
                "value": reading.value,
                "bound": reading.bound,
                "requests": reading.requests,
                "min_requests": reading.slo.min_requests,
                "source": reading.source,
                "finding": reading.finding,
            }
            for reading in evaluation.readings
        ],
        "recorded": {
            "due": evaluation.recorded.due,
            "asked": evaluation.recorded.asked,
            "wrong": [asdict(one) for one in evaluation.recorded.wrong],
            "unanswered": [asdict(one) for one in evaluation.recorded.unanswered],
        },
        "problems": [asdict(one) for one in (*evaluation.problems, *evaluation.rejected)],
    }


def _failure(evaluations: Sequence[Evaluation], gate: GatePolicy) -> str | None:
    """A wrong recorded answer, at once, or a violation that two evaluations in a row found in newer evidence."""
    for one in evaluations:
        if one.recorded.wrong:
            first = one.recorded.wrong[0]
            more = len(one.recorded.wrong) - 1
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
    """What evidence an evaluation owes: an autoscaler's pods come and go in mid-soak, and are not waited for."""

    pods: frozenset[str]
    """Those that the soak began with: as long as they stay, theirs must be whole."""
    count: float
    """As few as were wanted at a time, none not counting: of so many pods it must be whole, whichever they are."""


def _owed(evaluations: Sequence[Evaluation]) -> list[_Owed]:
    """What each evaluation of a soak owes, oldest first."""
    first = frozenset(one.pod for one in evaluations[0].freshness) if evaluations else frozenset()
    return [_Owed(first, count) for count in accumulate((one.wanted or math.inf for one in evaluations), min)]


def _violations(evaluation: Evaluation, owed: _Owed, gate: GatePolicy) -> dict[str, SloReading]:
    """Bounds broken by a usable value whose minima of traffic and of fresh scrapes are met."""
    scraped = not any(_scrape_gaps(evaluation, owed, gate))
    return {
        reading.slo.name: reading
        for reading in evaluation.readings
        if reading.value is not None
        and reading.enough
        and not reading.kept
        and (scraped or not reading.slo.needs_scrapes)
    }


def _is_newer(later: Evaluation, earlier: Evaluation) -> bool:
    """Whether each pod that both saw was scraped in between: the same data looked at twice confirms nothing."""
    before = {one.pod: one.newest_at for one in earlier.freshness}
    return all(
        (then := before.get(one.pod)) is None or one.newest_at > then
        for one in later.freshness
        if one.newest_at is not None
    )


@dataclass(frozen=True)
class _Gap:
    """What keeps an evaluation from passing, and whether that is our side's fault."""

    text: str
    platform_fault: bool


def _gaps(evaluation: Evaluation, owed: _Owed, gate: GatePolicy) -> Iterator[_Gap]:
    for problem in evaluation.problems:
        yield _Gap(f"{problem.subject}: {problem.found}", True)
    if evaluation.wanted < 1 or len(evaluation.freshness) < owed.count:
        yield _Gap(f"{len(evaluation.freshness)} of {evaluation.wanted} pods were measured", True)
    recorded = evaluation.recorded
    if recorded.unanswered:
        first = recorded.unanswered[0]
        yield _Gap(
            f"{len(recorded.unanswered)} recorded requests without an answer; {first.asked}: {first.reason}", True
        )
    elif recorded.due < 1 or recorded.asked < recorded.due:
        yield _Gap(f"{recorded.asked} of {recorded.due} recorded requests were asked", True)
    yield from _scrape_gaps(evaluation, owed, gate)
    readings = {reading.slo.name: reading for reading in evaluation.readings}
    for slo in gate.slos:
        reading = readings.get(slo.name)
        if reading is None:
            yield _Gap(f"{slo.name} was not measured", True)
        elif isinstance(reading.answer, Unusable):
            yield _Gap(f"{slo.name}: {reading.answer.reason}", reading.answer.platform_fault)
        elif not reading.enough:
            yield _Gap(f"{slo.name}: {reading.finding}", False)
        elif not reading.kept:
            yield _Gap(f"{slo.name} {reading.finding}, not confirmed yet", False)


def _scrape_gaps(evaluation: Evaluation, owed: _Owed, gate: GatePolicy) -> Iterator[_Gap]:
    """Pods whose evidence is not whole; one that came in mid-soak counts only as far as it is needed."""
    found = {one.pod: _scrape_gap(one, evaluation.at, gate) for one in evaluation.freshness}
    whole = sum(gap is None for gap in found.values())
    for one in evaluation.freshness:
        gap = found[one.pod]
        young = one.pod not in owed.pods and one.scrapes < gate.min_samples
        if gap is not None and (not young or whole < owed.count):
            yield gap


def _scrape_gap(one: PodFreshness, at: float, gate: GatePolicy) -> _Gap | None:
    if one.newest_at is None or one.scrapes < gate.min_samples:
        return _Gap(f"pod {one.pod} was scraped {one.scrapes:g} times of {gate.min_samples}", False)
    if abs(at - one.newest_at) > stale_after(gate):
        return _Gap(f"the newest scrape of pod {one.pod} is {at - one.newest_at:.0f} s old", True)
    return None


def _verdict(kind: VerdictKind, reason: str) -> Verdict:
    next_step = {
        VerdictKind.PASSED: "Nothing is to do.",
        VerdictKind.FAILED: "Correct the model and register a new version.",
        VerdictKind.INCONCLUSIVE: "Send more traffic or lengthen gate.judge_within, then materialize serving_model.",
        VerdictKind.ERROR: "Mend the cause, then materialize serving_model again.",
    }
    expected = "every SLO kept on fresh evidence, and every recorded request answered right"
    return Verdict(kind, reason, Problem("the new pods", expected, reason, next_step[kind]))

"""One evaluation of the gate: all that was measured about the new pods at one time, and its record as evidence."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from orchestration.promotion.policy import Slo
from orchestration.promotion.problems import Problem
from orchestration.promotion.promql import Unusable
from orchestration.promotion.served_model import ServedModel


@dataclass(frozen=True)
class SloReading:
    """What one evaluation measured for one SLO."""

    slo: Slo
    answer: float | Unusable
    requests: float
    """How many requests of the judged source the value is based on."""
    source: str
    """The traffic, `real` or `real|replayed`; for an SLO without a query the source that it was read from (`pods`)."""

    @property
    def value(self) -> float | None:
        """The measured number; None when there is no answer, or one that is NaN or infinite."""
        return None if isinstance(self.answer, Unusable) or not math.isfinite(self.answer) else self.answer

    @property
    def enough(self) -> bool:
        """Whether there were enough requests to believe the value."""
        return self.requests >= self.slo.min_requests

    @property
    def kept(self) -> bool:
        """Whether the value is usable and keeps the bound; the bound itself does."""
        return self.value is not None and self.slo.is_kept_by(self.value)

    @property
    def bound(self) -> str:
        """The SLO's bound in symbols, such as `>= 0.99`."""
        return self.slo.bound

    @property
    def finding(self) -> str:
        """What the reading says, for a table: kept, violated, or why it says neither."""
        if isinstance(self.answer, Unusable):
            return self.answer.reason
        if self.value is None:
            return f"{self.answer} is not a measurement"
        if not self.enough:
            return f"too little traffic: {self.requests:g} of {self.slo.min_requests} requests"
        return "kept" if self.kept else f"violated: {self.answer:g} is not {self.bound}"


@dataclass(frozen=True)
class AnswerFault:
    """A recorded request that got a wrong answer or none."""

    asked: str
    """Which request was sent where: `pod p1, recorded request 2 of 3`."""
    reason: str
    """What is wrong with the answer, or why there is none."""


@dataclass(frozen=True)
class RecordedRound:
    """One replay of the recording to each new pod and to the service."""

    due: int
    """How many requests a complete round sends."""
    asked: int
    """How many requests this round sent."""
    wrong: tuple[AnswerFault, ...] = ()
    unanswered: tuple[AnswerFault, ...] = ()
    """Requests that the model did not answer: time-outs, errors of the API server, routes that lag behind."""


@dataclass(frozen=True)
class PodFreshness:
    """How many scrapes of a pod succeeded within the window, and when the last one did (seconds since the epoch)."""

    pod: str
    scrapes: float
    newest_at: float | None


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured at one time."""

    at: float
    """When, in seconds since the epoch."""
    window: float
    """How many seconds the queries looked back: to the start of the soak."""
    template_hash: str | None
    wanted: int
    """How many pods the workload wanted at that time."""
    freshness: tuple[PodFreshness, ...]
    """One entry per new pod that has been ready during this soak."""
    readings: tuple[SloReading, ...]
    recorded: RecordedRound
    real_requests: float | None
    replayed_requests: float | None
    problems: tuple[Problem, ...] = ()
    """Why dependencies did not answer."""
    rejected: tuple[Problem, ...] = ()
    """Queries that Prometheus refuses and always will."""
    served: tuple[ServedModel, ...] = ()
    """What each new pod says that it serves."""


def as_record(evaluation: Evaluation) -> dict[str, Any]:
    """Write an evaluation as JSON for the evidence: every number, without NaN and infinity."""
    return {
        "at": evaluation.at,
        "window_seconds": evaluation.window,
        "template_hash": evaluation.template_hash,
        "wanted": evaluation.wanted,
        "scrapes": [asdict(pod) for pod in evaluation.freshness],
        "served": [asdict(served) for served in evaluation.served],
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
            "wrong": [asdict(fault) for fault in evaluation.recorded.wrong],
            "unanswered": [asdict(fault) for fault in evaluation.recorded.unanswered],
        },
        "problems": [asdict(problem) for problem in (*evaluation.problems, *evaluation.rejected)],
    }

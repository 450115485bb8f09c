"""One evaluation of the gate: all that was measured about the new pods at one time, and its record as evidence."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestration.promotion.policy import Slo
from orchestration.promotion.problems import Problem
from orchestration.promotion.promql import Unusable
from orchestration.promotion.served_model import ServedModel

REAL_TRAFFIC = "real"
"""What an SLO is judged by while real requests alone meet its minimum: it selects them by the label `source`."""
ANY_TRAFFIC = "real|replayed"
"""What it is judged by when recorded requests stand in for missing traffic."""
COUNTED_WITHIN = 2.0
"""Seconds until a server's counters surely have a request that it has answered; some proxies count once a second."""


@dataclass(frozen=True)
class SloReading:
    """What one evaluation measured for one SLO."""

    slo: Slo
    answer: float | Unusable
    requests: float
    """How many requests of the judged source the value is based on."""
    source: str
    """The traffic, `real` or `real|replayed`; for an SLO without a query the source that it was read from (`pods`)."""
    live: float | None = None
    """What the pods measured that served before the commit; None when that is not known, or not asked for."""

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
        if self.value is None or self.limit is None:
            return False
        return self.value >= self.limit if self.slo.higher_is_better else self.value <= self.limit

    @property
    def limit(self) -> float | None:
        """The value that is just good enough; None when there is nothing to compare with."""
        return self.slo.limit(self.live)

    @property
    def bound(self) -> str:
        """The bound in symbols, such as `>= 0.99`, with what it was compared with."""
        if self.slo.no_worse_than_live is None or self.limit is None:
            return self.slo.bound
        before = f"{self.live:g} before" if self.live is not None else "no value before"
        return f"{self.slo.sign} {self.limit:g} ({before})"

    @property
    def finding(self) -> str:
        """What the reading says, for a table: kept, violated, or why it says neither."""
        if isinstance(self.answer, Unusable):
            return self.answer.reason
        if self.value is None:
            return f"{self.answer} is not a measurement"
        if not self.enough:
            return f"too little traffic: {self.requests:g} of {self.slo.min_requests} requests"
        if self.limit is None:
            return "the pods that served before have no value to compare with"
        return "kept" if self.kept else f"violated: {self.answer:g} is not {self.bound}"


@dataclass(frozen=True)
class AnswerFault:
    """A recorded request that got a wrong answer or none."""

    asked: str
    """Which request was sent where: `pod p1, recorded request 2 of 3`."""
    reason: str
    """What is wrong with the answer, or why there is none."""
    status: int = 0
    """The HTTP status of the answer; 0 when the model gave none."""


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

    @property
    def is_complete(self) -> bool:
        """Whether every request that is due was sent and answered, right or wrong."""
        return not self.unanswered and self.asked == self.due


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
    """How many seconds the window of real traffic is long; 0 before it has begun."""
    template_hash: str | None
    wanted: int
    """How many pods the workload wanted at that time."""
    freshness: tuple[PodFreshness, ...]
    """One entry per new pod that has been ready during this soak."""
    readings: tuple[SloReading, ...]
    recorded: RecordedRound | None
    """None when no recorded request was sent, because the counters could not tell it from a real one."""
    real_requests: float | None
    replayed_requests: float | None
    """None when it is not known, or when the counters do not tell."""
    problems: tuple[Problem, ...] = ()
    """Why dependencies did not answer."""
    rejected: tuple[Problem, ...] = ()
    """Queries that Prometheus refuses and always will."""
    served: tuple[ServedModel, ...] = ()
    """What each new pod says that it serves."""
    real_since: float | None = None
    """When the window of real traffic began; None before that."""
    replayed_until: float | None = None
    """When the newest round of recorded requests ended, of this soak; None before any."""


def newest_round(evaluations: Sequence[Evaluation]) -> RecordedRound | None:
    """Return the last round of recorded requests that was sent; None before any."""
    return next((seen.recorded for seen in reversed(evaluations) if seen.recorded is not None), None)


def real_window_start(
    earlier: Sequence[Evaluation], replayed_until: float | None, newest: Iterable[float | None], at: float
) -> float | None:
    """When the window began in which counters that do not tell recorded requests from real ones count only real ones.

    It goes on until a recorded request is sent, and begins again when a scrape of each pod is newer than the last one:
    from then on, all recorded requests are in the values that the window begins with.

    Args:
        earlier: the evaluations of this soak before this one, oldest first.
        replayed_until: when the newest round of recorded requests ended; None before any.
        newest: when each new pod was last scraped, by our clock; None for one whose scrapes fail.
        at: now.
    """
    if replayed_until is None:
        return None
    begun = earlier[-1].real_since if earlier else None
    if begun is not None and begun > replayed_until:
        return begun
    seen = [scrape is not None and scrape > replayed_until + COUNTED_WITHIN for scrape in newest]
    return at if seen and all(seen) else None


def as_record(evaluation: Evaluation) -> dict[str, Any]:
    """Write an evaluation as JSON for the evidence: every number, without NaN and infinity."""
    return {
        "at": evaluation.at,
        "window_seconds": evaluation.window,
        "real_since": evaluation.real_since,
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
                "live_before": reading.live,
                "requests": reading.requests,
                "min_requests": reading.slo.min_requests,
                "source": reading.source,
                "finding": reading.finding,
            }
            for reading in evaluation.readings
        ],
        "recorded": asdict(evaluation.recorded) if evaluation.recorded is not None else None,
        "problems": [asdict(problem) for problem in (*evaluation.problems, *evaluation.rejected)],
    }

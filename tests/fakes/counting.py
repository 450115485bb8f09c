"""A Prometheus over counters that know nothing of recorded requests: a model of its scrapes and of `increase()`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from orchestration.promotion.ports import Clock, Headers, QueryRejected, QueryResult, Sample
from orchestration.promotion.recorded_requests import REPLAY_HEADER
from tests.fakes.metrics import FakeMetrics

_LOOKBACK = 300.0


@dataclass(frozen=True)
class Scrape:
    """One look at a pod's counters: how many answers were well and how many were not, of real requests and of all.

    A failed scrape saw nothing. A counter appears with its first request, as those of most libraries do.
    """

    at: float
    well: int = 0
    wrong: int = 0
    failed: bool = False


@dataclass
class CountingMetrics(FakeMetrics):
    """Answers the queries `requests[$window]` and `ratio[$window]`, and those about `up`, for pods that it knows."""

    clock: Clock
    skew: float
    """Seconds by which Prometheus's clock is ahead."""
    every: float
    """Seconds between two scrapes of a pod."""
    lag: float
    """Seconds until a counter has a request that was answered."""
    failing: frozenset[int]
    """Which scrapes fail, by their number."""
    counts_replays: bool = True
    requests: dict[str, list[tuple[float, bool, bool]]] = field(default_factory=dict)
    """By pod, each request: when it was answered, whether it went well, and whether it was a real one."""
    born: float = 0.0
    _scraped: dict[tuple[str, bool], tuple[object, Sequence[Scrape]]] = field(default_factory=dict)
    """By pod, and whether only real requests count: the newest answer of `scrapes`, and the moment that it is of."""

    def ready(self) -> None:
        """It always is."""

    def answered(self, pod: str, headers: Headers, *, well: bool) -> None:
        """Count an answer that a pod gives now."""
        if self.counts_replays or REPLAY_HEADER not in headers:
            self.requests.setdefault(pod, []).append((self.clock.now(), well, REPLAY_HEADER not in headers))

    def scrapes(self, pod: str, *, real_only: bool = False) -> Sequence[Scrape]:
        """All scrapes of a pod until now, by our clock, oldest first; each pod has its own rhythm.

        A look asks for them once for each query and counter.
        """
        moment = (self.clock.now(), self.born, len(self.requests.get(pod, ())))
        known, scrapes = self._scraped.get((pod, real_only), (None, ()))
        if known != moment:
            scrapes = tuple(self._scrape(pod, real_only))
            self._scraped[pod, real_only] = (moment, scrapes)
        return scrapes

    def _scrape(self, pod: str, real_only: bool) -> Iterator[Scrape]:
        answered = sorted((when, well) for when, well, real in self.requests.get(pod, ()) if real or not real_only)
        at, number = self.born + self.every * (0.5 if pod.endswith("1") else 0.9), 0
        seen, went_well = 0, 0
        while at <= self.clock.now():
            while seen < len(answered) and answered[seen][0] + self.lag <= at:
                seen, went_well = seen + 1, went_well + answered[seen][1]
            failed = number in self.failing
            yield Scrape(at, failed=True) if failed else Scrape(at, went_well, seen - went_well)
            at, number = at + self.every, number + 1

    def query(self, expression: str, at: float | None = None) -> QueryResult | QueryRejected:
        """Answer as Prometheus does, by its own clock."""
        pods = sorted(pod for pod in self.requests if pod in expression)
        found = re.search(r"\[([0-9]+)s\]", expression)
        window = float(found[1]) if found else 0.0
        if expression.startswith("timestamp("):
            newest = {pod: max(self.scrapes(pod), key=lambda seen: seen.at, default=None) for pod in pods}
            times = {pod: seen.at for pod, seen in newest.items() if seen is not None and not seen.failed}
            return self._answer([({"pod": pod}, when + self.skew) for pod, when in times.items()])
        if expression.startswith("sum_over_time("):
            counts = [(pod, [seen for seen in self._within(pod, window) if not seen.failed]) for pod in pods]
            return self._answer([({"pod": pod}, float(len(seen))) for pod, seen in counts])
        well = sum(self._increase(pod, window, "well") for pod in pods)
        wrong = sum(self._increase(pod, window, "wrong") for pod in pods)
        if expression.startswith("requests"):
            return self._answer([({}, well + wrong)])
        if expression.startswith("ratio"):
            return self._answer([({}, well / (well + wrong))] if well + wrong else [])
        return QueryResult(())

    def _answer(self, rows: Sequence[tuple[Mapping[str, str], float]]) -> QueryResult:
        return QueryResult(tuple(Sample(labels, value, self.clock.now() + self.skew) for labels, value in rows))

    def _within(self, pod: str, window: float) -> list[Scrape]:
        return [seen for seen in self.scrapes(pod) if seen.at > self.clock.now() - window]

    def _increase(self, pod: str, window: float, name: str) -> float:
        """What the presets count: `increase()`, and the whole value of a series that began within the window.

        Without extrapolation, which scales both of a pod's counters and knows no request that a scrape did not see.
        """
        begin = self.clock.now() - window
        values = [(seen.at, getattr(seen, name)) for seen in self.scrapes(pod) if getattr(seen, name) > 0]
        within = [value for at, value in values if at > begin]
        if not any(begin - _LOOKBACK < at <= begin for at, _ in values):
            return float(max(within, default=0))
        return float(within[-1] - within[0]) if len(within) > 1 else 0.0

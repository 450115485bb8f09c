"""A Prometheus whose answers are scripted by a part of the query."""

from collections.abc import Callable, Mapping

from orchestration.promotion.ports import Clock, QueryRejected, QueryResult, Sample
from orchestration.promotion.problems import DependencyError, Problem

Reply = QueryResult | QueryRejected | float | Mapping[str, float]
"""A complete answer, one number, or one number for each pod."""


class FakeMetrics:
    """Implements the `Metrics` port: the first scripted part that a query contains answers it; without one, no data."""

    def __str__(self) -> str:
        return "Prometheus"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.script: dict[str, Reply | Callable[[str], Reply]] = {}
        self.queries: list[str] = []
        self.down: Problem | None = None

    def ready(self) -> None:
        if self.down is not None:
            raise DependencyError(self.down)

    def query(self, expression: str, at: float | None = None) -> QueryResult | QueryRejected:
        self.ready()
        self.queries.append(expression)
        when = self.clock.now() if at is None else at
        for part, reply in self.script.items():
            if part in expression:
                return _answer(reply(expression) if callable(reply) else reply, when)
        return QueryResult(())


def _answer(reply: Reply, at: float) -> QueryResult | QueryRejected:
    if isinstance(reply, QueryResult | QueryRejected):
        return reply
    if isinstance(reply, Mapping):
        return QueryResult(tuple(Sample({"pod": pod}, value, at) for pod, value in reply.items()))
    return QueryResult((Sample({}, float(reply), at),))

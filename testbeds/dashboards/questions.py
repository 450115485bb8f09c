"""What Grafana would ask Prometheus for a dashboard: the same expressions, times and steps.

It follows Grafana 11.3.0: `pkg/promlib/models/query.go` (times, steps and the variables of a query), `gtime` of its SDK
(round steps) and `public/app/features/dashboard` (the sizes of panels).
"""

import re
from bisect import bisect_left
from dataclasses import dataclass

from orchestration.promotion.problems import InvalidInputError, Problem
from testbeds.dashboards.schema import Annotation, Dashboard, Panel, Query, Variable

COLUMNS = 24
ROW_PIXELS = 30
GAP_PIXELS = 8
PIXELS = 1600
"""The width of all columns."""

_SCRAPE_SECONDS = 15
"""`timeInterval` of the data source."""
_ROUND_STEPS = (10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800)
"""Steps in seconds that Grafana chooses from, as far as they are not shorter than the scrape interval allows."""
_UP_TO = (12.5, 17.5, 25, 45, 90, 210, 450, 750, 1050, 1500, 2700, 5400, 9000, 16200, 32400, 86400, 604800)
"""Up to how many seconds for each point each of them, but the last, is chosen."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class Span:
    """The time range of a picture, in seconds since the epoch."""

    start: float
    end: float

    @property
    def seconds(self) -> int:
        """Its length as `$__range_s` has it."""
        return round(self.end - self.start)


@dataclass(frozen=True)
class Question:
    """A query to Prometheus, over time if it has a step, otherwise at one moment."""

    expression: str
    start: float
    end: float
    step: int | None = None


def span_of(dashboard: Dashboard, now: float) -> Span:
    """Return the time range with which the dashboard opens.

    Raises:
        InvalidInputError: it is not of the form `now-6h` to `now`.
    """
    match = re.fullmatch(r"now-(\d+)([smhdw])", dashboard.time.from_)
    if match is None or dashboard.time.to != "now":
        raise InvalidInputError(
            Problem(
                f"time range of dashboard {dashboard.title}",
                "from now-<number><s, m, h, d or w> to now",
                f"{dashboard.time.from_} to {dashboard.time.to}",
                "Write it so.",
            )
        )
    return Span(now - int(match[1]) * _UNITS[match[2]], now)


def width_of(panel: Panel) -> int:
    """Return a panel's width in pixels, which is also how many points a query over time is asked for."""
    return round(panel.gridPos.w * (PIXELS + GAP_PIXELS) / COLUMNS) - GAP_PIXELS


def question(query: Query, points: int, variables: list[Variable], span: Span) -> Question:
    """Return what Grafana asks for a panel's query.

    Args:
        query: It is asked for either one moment or a range; the schema leaves no other.
        points: How many points the panel has room for.
        variables: The dashboard's, each at its value for "All".
        span: The chosen time range.

    Raises:
        InvalidInputError: the expression has a variable that nothing defines.
    """
    step = _step(span, points)
    expression = expand(query.expr, variables, span, step)
    if query.instant:
        return Question(expression, span.end, span.end)
    return _over_time(expression, span, step)


def annotation_question(annotation: Annotation, variables: list[Variable], span: Span) -> Question:
    """Return what Grafana asks for the marks over a dashboard's panels.

    Raises:
        InvalidInputError: as in `question`.
    """
    step = max(_seconds(annotation.step), _step(span, PIXELS))
    return _over_time(expand(annotation.expr, variables, span, step), span, step)


def expand(expression: str, variables: list[Variable], span: Span, step: int) -> str:
    """Replace Grafana's variables, `$__range` and the like by the time range, the dashboard's by their value for all.

    Raises:
        InvalidInputError: the expression has a variable that nothing defines.
    """
    values = {variable.name: variable.allValue for variable in variables} | {
        "__range": f"{span.seconds}s",
        "__range_s": f"{span.seconds}",
        "__rate_interval": f"{max(step + _SCRAPE_SECONDS, 4 * _SCRAPE_SECONDS)}s",
    }

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise InvalidInputError(
                Problem(
                    f"query {expression}",
                    f"the variables {', '.join(sorted(values))}",
                    f"${match[1]}",
                    "Use one of them, or teach testbeds/dashboards/questions.py what Grafana puts in its place.",
                )
            )
        return values[match[1]]

    return re.sub(r"\$\{?(\w+)\}?", value, expression)


def _over_time(expression: str, span: Span, step: int) -> Question:
    """Round start and end down to multiples of the step, as Grafana does for the sake of Prometheus's caches."""
    return Question(expression, span.start // step * step, span.end // step * step, step)


def _step(span: Span, points: int) -> int:
    return _ROUND_STEPS[bisect_left(_UP_TO, max(span.seconds / points, _SCRAPE_SECONDS))]


def _seconds(text: str) -> int:
    return int(text[:-1]) * _UNITS[text[-1]]

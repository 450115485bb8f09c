"""A dashboard with the answers to its queries: everything that the page draws."""

from collections.abc import Callable, Sequence
from typing import Any

from testbeds.dashboards.frames import Series, frames, marks
from testbeds.dashboards.questions import (
    COLUMNS,
    GAP_PIXELS,
    PIXELS,
    ROW_PIXELS,
    Question,
    Span,
    annotation_question,
    question,
    width_of,
)
from testbeds.dashboards.schema import Dashboard, Panel

_NOTE = (
    "Drawn by make dashboards from this dashboard's JSON with Grafana's own components (@grafana/ui and @grafana/data "
    "11.3.0), not by Grafana. Not shown: tooltips and descriptions, links to the other dashboards; times are UTC."
)

Answer = Callable[[Question], Sequence[Series]]


def picture(dashboard: Dashboard, span: Span, answer: Answer) -> dict[str, Any]:
    """Ask everything that a dashboard asks, and return what is needed to draw it.

    Args:
        dashboard: As Grafana would read it.
        span: The chosen time range.
        answer: Asks Prometheus.

    Raises:
        ProblemError: a query cannot be asked, or is not answered.
    """
    variables = dashboard.templating.list
    panels = {}
    for panel in dashboard.panels:
        asked = [(query, question(query, width_of(panel), variables, span)) for query in panel.targets]
        panels[panel.id] = [frame for query, each in asked for frame in frames(query, each, answer(each))]
    return {
        "dashboard": dashboard.model_dump(mode="json", by_alias=True, exclude_unset=True),
        "width": PIXELS,
        "span": {"start": span.start, "end": span.end},
        "places": {panel.id: _place(panel) for panel in dashboard.panels},
        "panels": panels,
        "marks": [
            mark
            for annotation in dashboard.annotations.list
            for mark in marks(annotation, answer(annotation_question(annotation, variables, span)), span)
        ],
        "note": _NOTE,
    }


def _place(panel: Panel) -> dict[str, int]:
    grid = panel.gridPos
    return {
        "left": round(grid.x * (PIXELS + GAP_PIXELS) / COLUMNS),
        "top": grid.y * (ROW_PIXELS + GAP_PIXELS),
        "width": width_of(panel),
        "height": grid.h * (ROW_PIXELS + GAP_PIXELS) - GAP_PIXELS,
    }

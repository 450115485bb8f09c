"""Prometheus's answers as the frames in which Grafana hands data to its panels.

It follows Grafana 11.3.0: `pkg/promlib` (names of series, gaps) and `packages/grafana-prometheus` (tables, marks). A
sample's value stays the text that Prometheus sent, because JSON has neither NaN nor infinity.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from testbeds.dashboards.questions import Question, Span
from testbeds.dashboards.schema import Annotation, Query

_MILLISECONDS = 1000


@dataclass(frozen=True)
class Series:
    """A series of an answer; an answer for one moment has one sample in each."""

    labels: dict[str, str]
    samples: Sequence[tuple[float, str]]
    """Each with its time in seconds since the epoch."""


def frames(query: Query, asked: Question, answer: Sequence[Series]) -> list[dict[str, Any]]:
    """Return one frame for each series, or one for all when the query wants a table."""
    if query.format == "table":
        return [_table(query, answer)] if answer else []
    return [_frame(query, asked, series) for series in answer]


def marks(annotation: Annotation, answer: Sequence[Series], span: Span) -> list[dict[str, Any]]:
    """Return the marks in the time range: one for each time that the samples name."""
    found = []
    for series in answer:
        for at in sorted({int(float(value)) for _, value in series.samples}):
            if span.start * _MILLISECONDS <= at <= span.end * _MILLISECONDS:
                found.append({"time": at, "color": annotation.iconColor})
    return sorted(found, key=lambda mark: mark["time"])


def legend(template: str, labels: dict[str, str]) -> str:
    """Replace `{{label}}` by its value, which is empty where a series has no such label."""
    return re.sub(r"\{\{\s*(.+?)\s*\}\}", lambda match: labels.get(match[1], ""), template)


def _frame(query: Query, asked: Question, series: Series) -> dict[str, Any]:
    gap = {} if asked.step is None else {"interval": asked.step * _MILLISECONDS}
    shown = {"displayNameFromDS": legend(query.legendFormat, series.labels)}
    times, values = _columns(series)
    return {
        "refId": query.refId,
        "fields": [
            {"name": "Time", "type": "time", "config": gap, "values": times},
            {"name": "Value", "type": "number", "config": shown, "labels": series.labels, "values": values},
        ],
    }


def _table(query: Query, answer: Sequence[Series]) -> dict[str, Any]:
    """Return all series as one table, with a column for each label that any of them has."""
    labels = dict.fromkeys(label for series in answer for label in sorted(series.labels))
    rows = [(series, at, value) for series in answer for at, value in series.samples]
    columns = [
        {"name": label, "type": "string", "config": {}, "values": [series.labels.get(label, "") for series, *_ in rows]}
        for label in labels
    ]
    times = [at * _MILLISECONDS for _, at, _ in rows]
    return {
        "refId": query.refId,
        "fields": [
            {"name": "Time", "type": "time", "config": {}, "values": times},
            *columns,
            {"name": "Value", "type": "number", "config": {}, "values": [value for *_, value in rows]},
        ],
    }


def _columns(series: Series) -> tuple[list[float], list[str]]:
    return [at * _MILLISECONDS for at, _ in series.samples], [value for _, value in series.samples]

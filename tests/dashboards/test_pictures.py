"""What Prometheus answers becomes the frames that Grafana's components draw."""

import json
from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from testbeds.dashboards.frames import Series, frames, legend, marks
from testbeds.dashboards.picture import picture
from testbeds.dashboards.questions import Question, Span
from testbeds.dashboards.schema import Dashboard
from tests.dashboards.dashboards import annotation, query
from tests.manifests.dashboards import FILES, dashboard

SPAN = Span(1000.0, 4600.0)
OVER_TIME = Question("up", 990.0, 4590.0, 30)


def test_a_series_over_time_has_its_legend_and_its_gaps() -> None:
    """Each series is a frame with the query's legend; the step lets a chart break a line where samples miss."""
    answer = [Series({"model": "iris", "version": "7"}, [(1000.0, "0.5"), (1030.0, "NaN")])]
    (frame,) = frames(query("up", legend="{{model}} {{ version }}"), OVER_TIME, answer)
    time, value = frame["fields"]
    assert (time["config"], time["values"]) == ({"interval": 30_000}, [1_000_000.0, 1_030_000.0])
    assert (value["config"], value["values"]) == ({"displayNameFromDS": "iris 7"}, ["0.5", "NaN"])


def test_a_table_has_a_column_for_each_label_of_any_series() -> None:
    """A table has time, labels and value; a series without a label has an empty cell."""
    answer = [Series({"b": "1", "a": "2"}, [(5.0, "1")]), Series({"c": "3"}, [(5.0, "2")])]
    (frame,) = frames(query("up", instant=True, table=True), Question("up", 5.0, 5.0), answer)
    assert [(field["name"], field["values"]) for field in frame["fields"]] == [
        ("Time", [5000.0, 5000.0]),
        ("a", ["2", ""]),
        ("b", ["1", ""]),
        ("c", ["", "3"]),
        ("Value", ["1", "2"]),
    ]


def test_an_empty_answer_is_no_frame() -> None:
    """Without a series there is nothing to draw, and the panel says so."""
    assert frames(query("up", table=True), OVER_TIME, []) == frames(query("up"), OVER_TIME, []) == []


def test_an_unknown_label_is_empty_in_a_legend() -> None:
    """A label that a series does not have leaves nothing behind."""
    assert legend("{{model}} bound", {}) == " bound"


def test_marks_are_at_the_times_that_the_samples_name() -> None:
    """A mark is at the sample's value, once however often it was sampled, and only within the time range."""
    inside = Series({"end": "champion"}, [(1020.0, "2000000"), (1080.0, "2000000")])
    before = Series({"end": "refused"}, [(1020.0, "999000")])
    assert marks(annotation("up"), [inside, before], SPAN) == [{"time": 2_000_000, "color": "blue"}]


@pytest.mark.parametrize("name", FILES)
def test_each_panel_of_each_dashboard_gets_its_answers(name: str) -> None:
    """Everything that a dashboard asks is asked, and every panel has its frames and a place inside the picture."""
    asked = []

    def answer(question: Question) -> Sequence[Series]:
        asked.append(question.expression)
        return [Series({"policy": "a"}, [(question.end, "1")])]

    drawn, panels = picture(dashboard(name), SPAN, answer), dashboard(name).panels
    queries = sum(len(panel.targets) for panel in panels) + len(dashboard(name).annotations.list)
    assert len(asked) == queries
    assert not [expression for expression in asked if "$" in expression]
    assert all(drawn["panels"][panel.id] for panel in panels)
    assert all(place["left"] + place["width"] <= drawn["width"] for place in drawn["places"].values())


@pytest.mark.parametrize(
    ("place", "field", "value"),
    [
        ("panel", "type", "gauge"),
        ("panel", "repeat", "policy"),
        ("options", "graphMode", "area"),
        ("query", "format", "heatmap"),
        ("query", "range", True),
        ("annotation", "useValueForTime", False),
    ],
)
def test_what_cannot_be_drawn_is_refused(place: str, field: str, value: object) -> None:
    """What the page does not draw is not left out silently: the schema has neither that panel nor that option."""
    content = json.loads(FILES["home"].read_text(encoding="utf-8"))
    panel = content["panels"][0]
    places = {"panel": panel, "options": panel["options"], "query": panel["targets"][0]}
    places["annotation"] = content["annotations"]["list"][0]
    places[place][field] = value
    with pytest.raises(ValidationError):
        Dashboard.model_validate(content)

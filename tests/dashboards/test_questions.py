"""A dashboard's queries become the questions that Grafana would ask Prometheus."""

import pytest

from orchestration.promotion.problems import InvalidInputError
from testbeds.dashboards.questions import Question, Span, annotation_question, expand, question, width_of
from tests.dashboards.dashboards import annotation, query, table, variable

SPAN = Span(1_000_007.0, 1_010_807.0)
"""Three hours, which begin and end between two steps."""


def test_a_query_over_time_has_grafanas_step_and_begins_and_ends_on_it() -> None:
    """Three hours in 800 points make 13.5 s; Grafana asks every 15 s, and rounds both ends down to multiples of it."""
    assert question(query("up"), 800, [], SPAN) == Question("up", 1_000_005.0, 1_010_805.0, 15)


def test_a_query_for_one_moment_asks_at_the_end_of_the_range() -> None:
    """A panel that shows the present state asks once, at the end of the chosen range."""
    assert question(query("up", instant=True), 800, [], SPAN) == Question("up", SPAN.end, SPAN.end)


@pytest.mark.parametrize(
    ("hours", "points", "step"),
    [(3, 1600, 15), (3, 400, 30), (6, 400, 60), (24, 400, 300), (24 * 7, 400, 1800), (24 * 365, 100, 86400)],
)
def test_steps_are_round(hours: int, points: int, step: int) -> None:
    """The step is the round number of seconds that Grafana chooses, and never shorter than the scrape interval."""
    assert question(query("up"), points, [], Span(0, hours * 3600)).step == step


def test_variables_are_replaced_as_grafana_replaces_them() -> None:
    """A dashboard's own variable stands at all, and the range and the rate's window follow the chosen time range."""
    expression = 'sum(rate(a{policy=~"$policy"}[$__rate_interval])) + b[$__range] / $__range_s'
    asked = expand(expression, [variable("policy")], SPAN, 300)
    assert asked == 'sum(rate(a{policy=~".*"}[315s])) + b[10800s] / 10800'


def test_a_rate_has_four_scrapes_at_least() -> None:
    """With a short step, the rate's window is four times the scrape interval."""
    assert expand("$__rate_interval", [], SPAN, 15) == "60s"


def test_an_unknown_variable_is_refused() -> None:
    """A variable that nothing replaces would reach Prometheus as it is; the error names it."""
    with pytest.raises(InvalidInputError, match=r"\$__from"):
        expand("up @ $__from", [], SPAN, 15)


def test_marks_are_asked_for_with_their_own_step() -> None:
    """An annotation's step is the shortest with which it is asked."""
    asked = annotation_question(annotation("up"), [], SPAN)
    assert (asked.step, asked.start % 60, asked.end % 60) == (60, 0, 0)


def test_panels_side_by_side_fill_the_width() -> None:
    """Two panels of half the width, and the gap between them, are as wide as one of the whole width."""
    assert 2 * width_of(table(w=12)) + 8 == width_of(table(w=24)) == 1600

"""The tables of the benchmarks say what was measured, and miss a goal that was not reached."""

import pytest

from testbeds.bench.rows import Curve, Goal, Row, curve_lines, p95, row_lines


def row(samples: tuple[float, ...], goal: Goal, controls: tuple[float, ...] = ()) -> Row:
    return Row("commit", "s", samples, goal, 0.5, "push" if controls else "", controls)


@pytest.mark.parametrize(
    ("goal", "reached", "holds"),
    [
        (Goal(2.9), 3.0, False),
        (Goal(3.0), 3.0, True),
        (Goal(1.0, "more than the control"), 1.0, True),
        (Goal(0.9, "more than the control"), 1.0, False),
        (Goal(1.5, "times the control"), 1.5, True),
        (Goal(1.4, "times the control"), 1.5, False),
    ],
)
def test_a_goal_is_compared_with_the_median_and_its_control(goal: Goal, reached: float, holds: bool) -> None:
    """The median of 1, 3 and 9 is 3; beside a control of 2 it is 1 more, and one and a half times as much."""
    measured = row((9.0, 1.0, 3.0), goal, (2.0, 1.0, 7.0))
    assert (measured.reached, measured.holds) == (reached, holds)
    assert measured.as_json()["holds"] is holds


def test_a_goal_against_a_control_needs_one() -> None:
    """A row without samples, or without those of the control that its goal names, is refused."""
    with pytest.raises(ValueError, match="nothing was measured"):
        row((), Goal(1.0))
    with pytest.raises(ValueError, match="nothing was measured"):
        row((1.0,), Goal(1.0, "times the control"))


@pytest.mark.parametrize(("count", "which"), [(1, 1), (10, 10), (20, 19), (100, 95)])
def test_the_95th_percentile_is_a_sample(count: int, which: int) -> None:
    """Of 20 samples it is the 19th, and of few the largest."""
    assert p95([float(number) for number in range(count, 0, -1)]) == which


def test_the_tables_name_unit_goal_and_outcome() -> None:
    """Each row has its unit, what is compared, the goal, whether it holds, and the load at the time."""
    lines = row_lines([row((2.0,), Goal(1.5, "times the control"), (1.0,)), row((0.25,), Goal(0.5))])
    assert lines[1].split() == ["commit", "1", "2", "s", "2", "s", "1", "s", "2", "times", "<=", "1.5", "missed", "0.5"]
    assert lines[2].split() == ["commit", "1", "0.25", "s", "0.25", "s", "0.25", "s", "<=", "0.5", "holds", "0.5"]


def test_a_curve_says_how_much_its_largest_takes_of_its_smallest() -> None:
    """The growth is a ratio of medians, 1 where nothing depends on the size."""
    curve = Curve("edit", "bytes", ((10.0, (1.0, 2.0, 3.0)), (1e5, (5.0, 5.0, 6.0))))
    assert curve.growth == 2.5
    assert curve_lines([curve])[2].split()[-1] == "2.50"

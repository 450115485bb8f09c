"""The decision to promote: the run, the thresholds, and the champion on the same data."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.model_version import Dataset, ModelVersion, TrainingRun
from orchestration.promotion.policy import Policy
from orchestration.promotion.quality import evaluation_digests, judge_quality, run_problem

TEST_SET = (Dataset("iris-test", "d1", "test"),)
VERSION = ModelVersion("iris-classifier", 7, "r7", None)
FINITE = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)


def policy(*bounds: dict[str, Any]) -> Policy:
    return Policy.model_validate(
        {
            "name": "iris-classifier-edge",
            "model": "iris-classifier",
            "image": {"repository": "ghcr.io/team/model"},
            "manifest": {"path": "a.yaml", "namespace": "ml-apps", "name": "iris", "container": "model-server"},
            "argocd": {"application": "iris"},
            "cluster": "edge",
            "service": "http://127.0.0.1:30808",
            "quality": bounds or ({"metric": "accuracy", "at_least": 0.85, "no_worse_than_champion_by": 0.0},),
            "gate": {
                "requests": 'sum(x{source=~"$source"})',
                "slos": [{"name": "restarts", "from": "pods", "at_most": 0}],
            },
        }
    )


def run(value: float | None, datasets: tuple[Dataset, ...] = TEST_SET, run_id: str = "r7") -> TrainingRun:
    return TrainingRun(run_id, "FINISHED", {} if value is None else {"accuracy": value}, datasets)


def is_good(bounds: dict[str, Any], candidate: TrainingRun, champion: TrainingRun | None) -> bool:
    return all(row.problem is None for row in judge_quality(policy(bounds), candidate, champion))


def test_only_a_finished_run_proves_training() -> None:
    """Once two commits were promoted although their training had failed: any status but FINISHED is refused."""
    assert run_problem(VERSION, run(0.9)) is None
    for status in ("FAILED", "RUNNING", "KILLED", "SCHEDULED", "finished", ""):
        problem = run_problem(VERSION, replace(run(0.9), status=status))
        assert problem is not None
        assert status in problem.found


def test_a_version_without_a_run_is_refused() -> None:
    """A version that names no run, or a run that the registry does not have, is refused."""
    assert run_problem(ModelVersion("iris-classifier", 7, None, None), None) is not None
    problem = run_problem(VERSION, None)
    assert problem is not None
    assert "r7" in problem.found


@pytest.mark.parametrize(
    ("bounds", "value", "champion", "good"),
    [
        ({"at_least": 0.85}, 0.85, None, True),
        ({"at_least": 0.85}, 0.8499999, None, False),
        ({"at_most": 0.2}, 0.2, None, True),
        ({"at_most": 0.2}, 0.2000001, None, False),
        ({"at_least": 0.85}, 0.86, 0.99, True),
        ({"at_least": 0.85, "no_worse_than_champion_by": 0.0}, 0.95, 0.95, True),
        ({"at_least": 0.85, "no_worse_than_champion_by": 0.0}, 0.94, 0.95, False),
        ({"at_least": 0.1, "no_worse_than_champion_by": 0.1}, 0.7, 0.8, True),
        ({"at_least": 0.1, "no_worse_than_champion_by": 0.1}, 0.2, 0.3, True),
        ({"at_least": 0.1, "no_worse_than_champion_by": 0.1}, 0.6999, 0.8, False),
        ({"at_most": 9, "no_worse_than_champion_by": 0.1}, 0.8, 0.7, True),
        ({"at_most": 9, "no_worse_than_champion_by": 0.2}, 0.3, 0.1, True),
        ({"at_most": 9, "no_worse_than_champion_by": 0.1}, 0.8001, 0.7, False),
        ({"at_most": 9, "no_worse_than_champion_by": 0.0}, 0.1, 0.7, True),
        ({"at_least": 0.85, "no_worse_than_champion_by": 0.5}, 0.8, 0.7, False),
    ],
)
def test_thresholds_and_margins_hold_exactly_at_their_bounds(
    bounds: dict[str, float], value: float, champion: float | None, good: bool
) -> None:
    """A value on the bound keeps it in both directions; margins are decimal numbers, not binary ones."""
    champion_run = None if champion is None else run(champion, run_id="r6")
    assert is_good({"metric": "accuracy", **bounds}, run(value), champion_run) is good


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("bounds", [{"at_least": -1e9}, {"at_most": 1e9}])
def test_a_metric_that_is_not_a_number_is_refused(value: float | None, bounds: dict[str, float]) -> None:
    """Absent, NaN and infinite metrics keep no bound in either direction and appear in no table."""
    (row,) = judge_quality(policy({"metric": "accuracy", **bounds}), run(value), None)
    assert row.problem is not None
    assert "mlflow.log_metric" in row.problem.next_step
    assert row.value is None


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_champion_without_the_metric_cannot_be_compared_with(value: float | None) -> None:
    """When the champion's metric is missing or not a number, the candidate is refused rather than let through."""
    (row,) = judge_quality(policy(), run(0.99), run(value, run_id="r6"))
    assert row.problem is not None
    assert "champion's run r6" in row.problem.subject
    assert row.champion_value is None


@pytest.mark.parametrize(
    ("candidate", "champion"),
    [
        ((), ()),
        (TEST_SET, ()),
        ((), TEST_SET),
        (TEST_SET, (Dataset("iris-test", "d2", "test"),)),
        ((Dataset("iris-test", "", "test"),), (Dataset("iris-test", "", "test"),)),
        ((*TEST_SET, Dataset("more", "d2", "test")), TEST_SET),
        ((Dataset("train", "d1", "training"), Dataset("t", "d2", "test")), TEST_SET),
    ],
)
def test_runs_on_different_or_unknown_data_are_refused_with_the_lines_that_log_it(
    candidate: tuple[Dataset, ...], champion: tuple[Dataset, ...]
) -> None:
    """A better number on other data proves nothing; the problem shows the Python lines that log the data."""
    (row,) = judge_quality(policy(), run(0.99, candidate), run(0.9, champion, "r6"))
    assert row.problem is not None
    assert "cannot be compared" in row.problem.found
    assert "mlflow.log_input(data, context=" in row.problem.next_step
    assert "mlflow.data.from_pandas(" in row.problem.next_step


@pytest.mark.parametrize(
    ("datasets", "digests"),
    [
        ((), set()),
        ((Dataset("a", "d1", None),), {"d1"}),
        ((Dataset("a", "d1", "train"), Dataset("b", "d2", "test")), {"d2"}),
        ((Dataset("a", "d1", "Eval"), Dataset("b", "d2", " validation ")), {"d1", "d2"}),
        ((Dataset("a", "d1", "train"), Dataset("b", "d2", None)), {"d1", "d2"}),
        ((Dataset("a", "d1", "test"), Dataset("b", "", "test")), set()),
    ],
)
def test_evaluation_data_counts_before_all_other_data(datasets: tuple[Dataset, ...], digests: set[str]) -> None:
    """Inputs tagged as evaluation data are compared; without any such tag, all inputs are."""
    assert evaluation_digests(run(0.9, datasets)) == digests


def test_training_data_may_differ_when_the_evaluation_data_is_equal() -> None:
    """A model trained on more data can be compared with the champion on the same test set."""
    champion = run(0.9, (*TEST_SET, Dataset("train", "old", "training")), "r6")
    assert is_good(
        {"metric": "accuracy", "at_least": 0.85, "no_worse_than_champion_by": 0.0},
        run(0.9, (*TEST_SET, Dataset("train", "new", "training"))),
        champion,
    )


def test_each_bound_has_a_row_with_what_was_compared() -> None:
    """A row has the metric, its value, the bound in words and the champion's value, in the policy's order."""
    bounds = (
        {"metric": "accuracy", "at_least": 0.85, "no_worse_than_champion_by": 0.01},
        {"metric": "loss", "at_most": 0.5},
    )
    candidate = TrainingRun("r7", "FINISHED", {"accuracy": 0.95, "loss": 0.6}, TEST_SET)
    champion = TrainingRun("r6", "FINISHED", {"accuracy": 0.96, "loss": 0.1}, TEST_SET)
    accuracy, loss = judge_quality(policy(*bounds), candidate, champion)
    assert (accuracy.metric, accuracy.value, accuracy.champion_value, accuracy.problem) == (
        "accuracy",
        0.95,
        0.96,
        None,
    )
    assert accuracy.bound == ">= 0.85, no worse than the champion by more than 0.01"
    assert (loss.value, loss.bound, loss.champion_value) == (0.6, "<= 0.5", None)
    assert loss.problem is not None
    assert loss.problem.found == "0.6"


@given(FINITE, FINITE, FINITE)
def test_a_better_value_is_never_refused_where_a_worse_one_passed(low: float, high: float, champion: float) -> None:
    """The decision is monotone: more in the bound's direction is never worse."""
    low, high = sorted((low, high))
    rising = {"metric": "accuracy", "at_least": -10.0, "no_worse_than_champion_by": 0.5}
    falling = {"metric": "accuracy", "at_most": 10.0, "no_worse_than_champion_by": 0.5}
    champion_run = run(champion, run_id="r6")
    assert is_good(rising, run(low), champion_run) <= is_good(rising, run(high), champion_run)
    assert is_good(falling, run(high), champion_run) <= is_good(falling, run(low), champion_run)


@given(FINITE, FINITE)
def test_with_no_margin_a_worse_model_never_passes(value: float, champion: float) -> None:
    """`no_worse_than_champion_by: 0` means exactly that for every pair of numbers."""
    bounds = {"metric": "accuracy", "at_least": -1e9, "no_worse_than_champion_by": 0.0}
    assert is_good(bounds, run(value), run(champion, run_id="r6")) is (value >= champion)

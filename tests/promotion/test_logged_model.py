"""Which number counts when the run, the logged model, or both have a metric, and on which data it was measured."""

import pytest

from orchestration.promotion.logged_model import ModelMetric, with_model_metrics
from orchestration.promotion.model_version import Dataset, TrainingRun
from orchestration.promotion.quality import judge_quality
from tests.promotion.test_quality import policy

RUN = TrainingRun("r7", "FINISHED", {"accuracy": 0.99}, (Dataset("iris-test", "d1", "test"),))
UNDECIDED = TrainingRun("r7", "FINISHED", {"accuracy": 0.99})


def on_model(value: float, digest: str = "", run_id: str = "r7", at: int = 1, step: int = 0) -> ModelMetric:
    return ModelMetric("accuracy", value, digest, run_id, at, step)


@pytest.mark.parametrize(
    ("logged", "value", "digests"),
    [
        ([on_model(0.9)], 0.9, {"d1"}),  # logged in the training run, which says on which data
        ([on_model(0.9, run_id="r9")], 0.9, set()),  # in another run, which may have measured on anything
        ([on_model(0.9, "d2", "r9")], 0.9, {"d2"}),
        ([on_model(0.9, "d2"), on_model(0.8, at=5)], 0.9, {"d2"}),  # what names its data counts first
        ([on_model(0.9, "d2", at=5), on_model(0.8, "d2", at=4)], 0.9, {"d2"}),
        ([on_model(0.9, "d2", step=5), on_model(0.8, "d2", step=4)], 0.9, {"d2"}),
        ([on_model(0.9, "d1"), on_model(0.8, "train", at=5)], 0.9, {"d1"}),  # the run says that d1 is for tests
    ],
)
def test_the_logged_models_number_counts_and_says_on_which_data(
    logged: list[ModelMetric], value: float, digests: set[str]
) -> None:
    """The model's newest number with named data, before the run's own, which may be another model's."""
    merged = with_model_metrics(RUN, "m-1", logged)
    assert merged.metrics == {"accuracy": value}
    assert merged.measured_on == {"accuracy": digests}
    assert merged.place_of("accuracy") == "logged model m-1"
    (row,) = judge_quality(policy({"metric": "accuracy", "at_least": 0.5}), merged, None)
    assert (row.value, row.logged_on) == (value, "logged model m-1")


def test_a_metric_that_the_model_does_not_have_is_the_runs() -> None:
    """Most people log on the run alone."""
    merged = with_model_metrics(RUN, "m-1", [])
    assert (merged.metrics, merged.measured_on) == (RUN.metrics, {})
    (row,) = judge_quality(policy({"metric": "accuracy", "at_least": 0.5}), merged, None)
    assert row.logged_on == "run r7"


def test_values_on_several_data_sets_decide_nothing() -> None:
    """Neither of them, nor the run's, is taken by chance; the reason says how to tell which counts."""
    merged = with_model_metrics(UNDECIDED, "m-1", [on_model(0.9, "d1"), on_model(0.95, "d2")])
    (row,) = judge_quality(policy({"metric": "accuracy", "at_least": 0.5}), merged, None)
    assert row.value is None
    assert row.problem is not None
    assert row.problem.found == "values on several data sets (d1, d2)"
    assert 'context="test"' in row.problem.next_step


def test_models_are_compared_on_the_data_of_their_own_numbers() -> None:
    """A champion that was measured on the same data can be compared with, and one on other data cannot."""
    challenger = with_model_metrics(UNDECIDED, "m-7", [on_model(0.95, "d2", "r9")])
    same = with_model_metrics(RUN, "m-6", [on_model(0.9, "d2", "r9")])
    (row,) = judge_quality(policy(), challenger, same)
    assert row.problem is None
    (row,) = judge_quality(policy(), challenger, with_model_metrics(RUN, "m-6", [on_model(0.9, "d3", "r9")]))
    assert row.problem is not None
    assert "the champion's logged model m-6 (dataset d3)" in row.problem.expected
    (row,) = judge_quality(policy(), challenger, with_model_metrics(RUN, "m-6", [on_model(0.9, "", "r9")]))
    assert row.problem is not None
    assert "no dataset with a digest" in row.problem.expected

"""The likely causes of a drift, from the data of two training runs and from nothing else."""

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestration.analysis.drift import Drift, drift_of
from orchestration.analysis.drift_findings import DriftFacts, PolicyDrift, Version, drift_findings, likely_causes
from orchestration.promotion.model_version import Dataset, TrainingRun

DRIFT = Drift("iris", 0.81, 0.93)
TRAINING = Dataset("flowers", "d1", "train", json.dumps({"num_rows": 150}), '[{"name": "petal"}]')
TEST = Dataset("flowers-test", "t1", "test", json.dumps({"num_rows": 50}))
RUN = TrainingRun("run1", "FINISHED", {"accuracy": 0.94}, (TRAINING, TEST), {}, {"max_depth": "10"})


def causes(
    now: TrainingRun | None, before: TrainingRun | None = RUN, drift: Drift = DRIFT, metric: str = "accuracy"
) -> list[str]:
    former = Version(1, before) if before is not None else None
    return list(likely_causes(PolicyDrift("iris-edge", Version(2, now), former, None, metric), drift))


def with_training(**fields: Any) -> TrainingRun:
    return replace(RUN, datasets=(replace(TRAINING, **fields), TEST))


@pytest.mark.parametrize(
    ("now", "cause"),
    [
        (RUN, "`accuracy 0.94`"),
        (replace(RUN, metrics={"accuracy": 0.81}), "so it has not become worse since: what was promoted was worse"),
        (replace(RUN, metrics={"accuracy": 0.88}), "worse than the baseline, and it is worse still now"),
        (with_training(digest="d2"), "Another data set for `train` than the version before: `flowers` (`d2`)"),
        (
            with_training(digest="d2", profile=json.dumps({"num_rows": 60})),
            "has other statistics: `num_rows` `60` (before `150`)",
        ),
        (with_training(digest="d2", schema="[]"), "The data set for `train` `flowers` has other columns."),
        (
            replace(RUN, parameters={"max_depth": "3"}),
            "other parameters than the version before: `max_depth` `3` (before",
        ),
        (replace(RUN, parameters={}), "`max_depth` `not set` (before `10`)"),
        (replace(RUN, datasets=(TRAINING, replace(TEST, digest="t2"))), "metrics were not measured on the same data"),
        (replace(RUN, datasets=(TEST,)), "The data set for `train` of this version's run was not logged"),
    ],
)
def test_a_cause_is_named_when_the_data_shows_it(now: TrainingRun, cause: str) -> None:
    """Metrics, data sets with their statistics and columns, and parameters."""
    found = "\n".join(causes(now))
    assert cause.replace("`accuracy 0.94`", "it has become worse since: the inputs") in found


@pytest.mark.parametrize(
    ("trained", "cause"),
    [
        (412.0, "The version had rmse 412 when it was trained, so it has become worse since"),
        (521.0, "The version had this rmse (521) when it was trained, so it has not become worse since"),
        (480.0, "The version had rmse 480 when it was trained: worse than the baseline"),
    ],
)
def test_an_error_is_compared_by_its_own_name_and_size(trained: float, cause: str) -> None:
    """The version's accuracy, if it has one, says nothing about its error; of errors, more is worse."""
    run = replace(RUN, metrics={"accuracy": 0.94, "rmse": trained})
    found = causes(run, drift=Drift("iris", 520.0, 410.0), metric="rmse")
    assert any(cause in each for each in found), found


def test_other_code_is_named_by_its_commits() -> None:
    """Where both runs say which commit they are of."""
    commits = ["a" * 40, "b" * 40]
    before, now = (replace(RUN, tags={"mlflow.source.git.commit": commit}) for commit in commits)
    assert "Trained by other code: commit `bbbbbbbbbbbb`, before it `aaaaaaaaaaaa`." in causes(now, before)
    assert not [cause for cause in causes(now, RUN) if "other code" in cause]


def test_equal_runs_and_small_differences_are_no_cause() -> None:
    """The same data under the same digest, and a tenth more rows, explain nothing."""
    assert causes(RUN) == causes(RUN, before=None)
    rows = with_training(digest="d2", profile=json.dumps({"num_rows": 160}))
    assert not [cause for cause in causes(rows) if "statistics" in cause]


@pytest.mark.parametrize("run", [None, TrainingRun("r", "FAILED")])
def test_what_is_not_known_is_no_cause(run: TrainingRun | None) -> None:
    """Without a run, or with an empty one, nothing is made up."""
    assert causes(run, before=None) == []


@pytest.mark.parametrize(
    ("current", "baseline", "confirmed"),
    [("0.8", "0.9", True), ("0.9", "0.9", False), ("NaN", "0.9", False), ("0.8", "", False), ("x", "1", False)],
)
def test_the_alerts_own_numbers_confirm_it(current: str, baseline: str, confirmed: bool) -> None:
    """Only two finite numbers, the first below the second."""
    assert drift_of("iris", current, baseline).is_confirmed("accuracy") is confirmed


@pytest.mark.parametrize(("text", "version"), [("7", 7), ("none", None), ("", None), ("-1", None), ("٣", None)])
def test_the_version_is_a_plain_number_or_not_known(text: str, version: int | None) -> None:
    """The dispatcher sends `none` for a label that the alert does not have."""
    assert drift_of("iris", "0.8", "0.9", "none", text) == Drift("iris", 0.8, 0.9, "", version)


def test_hostile_names_in_the_registry_stay_text() -> None:
    """A parameter, a data set and a profile are written as code, and mention nobody."""
    evil = "@octocat ](http://evil) `x` </details>\n# head"
    dataset = Dataset(evil, evil, evil, json.dumps({evil: evil}), evil)
    now = TrainingRun(evil, evil, {evil: 1.0}, (dataset,), {"mlflow.source.git.commit": evil}, {evil: evil})
    before = replace(RUN, datasets=(replace(dataset, digest="d0", profile=json.dumps({evil: "x"})),))
    known = PolicyDrift("iris-edge", Version(2, now), Version(1, before), None)
    findings = drift_findings(DriftFacts(replace(DRIFT, model=evil), 0.0, (known,)))
    assert "@octocat" not in "\n".join((findings.title, findings.subject, *findings.happened, *findings.look_at))
    assert all("\n" not in line for line in (*findings.happened, *findings.look_at))


def test_a_model_that_nothing_promotes_is_said_to_be_one() -> None:
    """A wrong label in a rule shows in the issue."""
    assert drift_findings(DriftFacts(DRIFT, 0.0)).gaps == ("No policy promotes the model `iris`.",)

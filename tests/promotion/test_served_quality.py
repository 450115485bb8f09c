"""Labelled rows, the answers to them, and what they say about the served model."""

import contextlib
import json
import math
from io import BytesIO
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.input_drift import FEWEST, input_drift
from orchestration.promotion.json_paths import parse_path
from orchestration.promotion.labelled_rows import MAX_ROWS, read_rows
from orchestration.promotion.model_version import ColumnInput, Signature
from orchestration.promotion.problems import InvalidInputError
from orchestration.promotion.served_quality import METRICS, ServedQuality, prediction_of, score

TABLE = pd.DataFrame({"length": [5.1, 6.2, 7.3], "colour": ["red", None, "blue"], "species": [0, 1, None]})


def parquet(table: pd.DataFrame) -> bytes:
    file = BytesIO()
    table.to_parquet(file)
    return file.getvalue()


FORMS = {
    "CSV": TABLE.to_csv(index=False).encode(),
    "JSON Lines": TABLE.to_json(orient="records", lines=True).encode(),
    "JSON": TABLE.to_json(orient="records").encode(),
    "mlflow.log_table": TABLE.to_json(orient="split", index=False).encode(),
    "Parquet": parquet(TABLE),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_read_in_each_form(form: str) -> None:
    """The rows with a label count, with the values as JSON has them."""
    rows = read_rows("the table", FORMS[form], label="species")
    assert rows.columns == ("length", "colour")
    assert rows.inputs == ((5.1, "red"), (6.2, None))
    assert rows.labels == (0, 1)
    assert json.loads(json.dumps(rows.inputs)) == [[5.1, "red"], [6.2, None]]


def test_the_same_rows_are_recognised_in_any_form() -> None:
    """So rows that were evaluated already are not evaluated again, and others are."""
    digests = {read_rows("the table", content, label="species").digest for content in FORMS.values()}
    assert len(digests) == 1
    other = TABLE.assign(species=[0, 1, 1]).to_csv(index=False).encode()
    assert read_rows("the table", other, label="species").digest not in digests


def test_rows_count_by_their_times() -> None:
    """Those of the window, the newest ones last; times may be ISO 8601 or seconds."""
    times = ["2026-03-01T00:00:00Z", "2026-03-03T02:00:00+02:00", "2026-03-02"]
    table = pd.DataFrame({"x": [1, 3, 2], "y": [1, 3, 2], "at": times})
    since = pd.Timestamp("2026-03-02", tz="UTC").timestamp()
    rows = read_rows("the table", table.to_csv(index=False).encode(), label="y", labelled_at="at", since=since)
    assert rows.labels == (2, 3)
    assert rows.newest == pd.Timestamp("2026-03-03", tz="UTC").timestamp()
    seconds = table.assign(at=[since - 1, since + 1, since]).to_json(orient="records").encode()
    assert read_rows("the table", seconds, label="y", labelled_at="at", since=since).labels == (2, 3)
    none = read_rows("the table", seconds, label="y", labelled_at="at", since=since + 2)
    assert (none.labels, none.newest) == ((), None)


def test_a_long_table_is_asked_about_in_part() -> None:
    """The newest rows, so that an evaluation's cost does not grow with the table."""
    table = pd.DataFrame({"x": range(5000), "y": range(5000)})
    rows = read_rows("the table", table.to_csv(index=False).encode(), label="y")
    assert len(rows.labels) == MAX_ROWS
    assert rows.labels[-1] == 4999


def test_the_signature_says_which_columns_are_inputs() -> None:
    """In its order, without the ids and times that a table has as well."""
    table = b"id,b,a,y\n1,2,3,0\n"
    signature = Signature((ColumnInput("a", "long", True), ColumnInput("b", "long", True)))
    assert read_rows("the table", table, label="y", signature=signature).inputs == ((3, 2),)
    lacking = Signature((ColumnInput("c", "long", True),))
    with pytest.raises(
        InvalidInputError, match=r"the table: expected the columns of the .*signature, found no column 'c'"
    ):
        read_rows("the table", table, label="y", signature=lacking)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "content that cannot be read"),
        (b"{", "content that cannot be read"),
        (b"PAR1 and nothing more", "content that cannot be read"),
        (b"\xff\xfe\x00", "content that cannot be read"),
        (b"a,b\n1,2\n", "the columns 'a', 'b'"),
        (b'[{"y": 1}, 2]', "content that cannot be read|columns"),
        (b"[[1, 2]]", "'0', '1'"),
        (b"y,at\n1,yesterday\n", "yesterday"),
    ],
)
def test_what_is_no_such_table_is_refused(content: bytes, found: str) -> None:
    """In one line that names the table, without a traceback."""
    with pytest.raises(InvalidInputError, match=rf"^the table: .*({found})[\s\S]*docs/drift\.md"):
        read_rows("the table", content, label="y", labelled_at="at")


@given(st.binary(max_size=200))
def test_any_content_is_read_or_refused(content: bytes) -> None:
    """Whatever is behind the address."""
    with contextlib.suppress(InvalidInputError):
        read_rows("the table", content, label="y")


@pytest.mark.parametrize(
    ("answer", "place", "prediction"),
    [
        ({"predictions": [2]}, "$.predictions", 2),
        ({"predictions": [[0.5]]}, "$.predictions", 0.5),
        ({"outputs": [{"name": "y", "data": ["b"]}]}, "$.outputs[*].data", "b"),
        ({"prediction": True}, "$.prediction", True),
        ([{"label": "setosa"}], "[0].label", "setosa"),
    ],
)
def test_the_prediction_is_found_in_an_answer(answer: Any, place: str, prediction: Any) -> None:
    """A list of one is as good as its element."""
    assert prediction_of(answer, (parse_path("$.absent"), parse_path(place))) == prediction


@pytest.mark.parametrize("answer", [{}, {"predictions": [1, 2]}, {"predictions": []}, {"predictions": {"a": 1}}, None])
def test_an_answer_without_one_prediction_is_refused(answer: Any) -> None:
    """None is invented."""
    with pytest.raises(ValueError, match=r"expected (one|a) prediction at \$\.predictions, found"):
        prediction_of(answer, (parse_path("$.predictions"),))


def test_classes_are_compared_as_they_are_written() -> None:
    """A server may answer 1 or 1.0 or true for the same class; names are names."""
    assert score("accuracy", [0, 1, 2, 1], [0.0, True, 2, 2]) == 0.75
    assert score("f1_score", ["a", "b"], ["a", "b"]) == 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_can_be_computed(metric: str) -> None:
    """Perfect predictions get the best value."""
    assert score(metric, [1, 2, 3], [1, 2, 3]) in (0.0, 1.0)


@pytest.mark.parametrize(("metric", "labels"), [("accuracy", ["setosa"]), ("rmse", ["a"])])
def test_names_are_not_compared_with_numbers(metric: str, labels: list[Any]) -> None:
    """That would be an accuracy of 0 of a model that is right."""
    with pytest.raises(InvalidInputError, match=r"labels such as '\w+' and predictions such as 0\. Say where"):
        score(metric, labels, [0])


@pytest.mark.parametrize(
    ("metric", "value", "baseline", "part"),
    [
        ("accuracy", 0.9, 1.0, 0.9),
        ("rmse", 2.0, 1.0, 0.5),
        ("rmse", 0.0, 1.0, 1.0),
        ("rmse", 0.1, 0.0, 0.0),
        ("rmse", 0.0, 0.0, 1.0),
        ("r2", 0.5, 0.0, None),
    ],
)
def test_how_much_of_the_training_metric_is_left(
    metric: str, value: float, baseline: float, part: float | None
) -> None:
    """Of an error, less is more; of nothing, nothing can be left."""
    found = ServedQuality("iris-edge", "iris", 1, metric, value, baseline, 10, "d")
    assert found.part_of_baseline == part


def test_inputs_that_moved_are_found() -> None:
    """Numbers by their distribution, anything else by its frequencies; unchanged ones are left alone."""
    same, moved = [float(n) for n in range(50)], [n + 40.0 for n in range(50)]
    red, blue = ["red"] * 45 + ["blue"] * 5, ["red"] * 5 + ["blue"] * 45
    found = {
        each.name: each for each in input_drift(["a", "b", "c", "d"], [same, moved, red, red], [same, same, blue, red])
    }
    assert {name for name, each in found.items() if each.drifted} == {"b", "c"}
    assert (found["b"].test, found["c"].test) == ("ks", "chi2")
    assert found["b"].statistic == pytest.approx(0.8)


def test_few_values_prove_nothing() -> None:
    """Missing ones do not count, and a constant cannot be told from itself."""
    few = [1.0] * (FEWEST - 1) + [None, float("nan")]
    assert input_drift(["a"], [few], [[9.0] * FEWEST]) == ()
    (constant,) = input_drift(["a"], [["x"] * FEWEST], [["x"] * FEWEST])
    assert not constant.drifted


@given(st.lists(st.integers(0, 5), min_size=FEWEST, max_size=60))
def test_a_sample_does_not_drift_from_itself(values: list[int]) -> None:
    """Whatever is in it."""
    (found,) = input_drift(["a"], [values], [values])
    assert not found.drifted


@pytest.mark.parametrize(
    ("metric", "value", "baseline", "kept"),
    [
        ("accuracy", 0.95, 1.0, True),
        ("accuracy", 0.94, 1.0, False),
        ("r2", -0.1, -0.2, True),
        ("r2", -0.3, -0.2, False),
    ],
)
def test_a_baseline_without_parts_is_kept_itself(metric: str, value: float, baseline: float, kept: bool) -> None:
    """A model whose training metric was below 0 is not called good whatever it does."""
    assert ServedQuality("iris-edge", "iris", 1, metric, value, baseline, 10, "d").keeps_baseline is kept


@pytest.mark.parametrize("answer", [math.nan, math.inf, 10**400])
def test_a_prediction_that_is_no_number_is_refused(answer: float) -> None:
    """It would become a metric that no alert is above or below."""
    with pytest.raises(ValueError, match="expected a finite number"):
        prediction_of({"prediction": answer}, [parse_path("$.prediction")])


@pytest.mark.parametrize(
    ("metric", "labels"), [("accuracy", [math.inf]), ("rmse", [math.nan]), ("mae", [10**400]), ("mse", [1e200])]
)
def test_labels_that_cannot_be_measured_are_refused(metric: str, labels: list[Any]) -> None:
    """In one line, and without a value that is not finite."""
    with pytest.raises(InvalidInputError, match=f"metric {metric} of the labelled rows: expected labels "):
        score(metric, labels, [0.0])


def test_rows_of_the_future_are_left_out_and_counted() -> None:
    """A wrong clock, or times in milliseconds, would make them the newest rows for ever."""
    table = pd.DataFrame({"x": [1, 2, 3], "y": [1, 2, 3], "at": [100.0, 200.0, 1_700_000_000_000.0]})
    rows = read_rows("the table", table.to_csv(index=False).encode(), label="y", labelled_at="at", until=200.0)
    assert (rows.labels, rows.later, rows.newest) == ((1, 2), 1, 200.0)

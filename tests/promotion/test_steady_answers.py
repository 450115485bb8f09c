"""What of a server's answers is compared later, and whether the prediction is among it."""

from typing import Any

import pytest

from orchestration.promotion.answer_comparison import Rules, Tolerance
from orchestration.promotion.json_paths import format_path, parse_path
from orchestration.promotion.steady_answers import torn, unsure, varying_paths, varying_prediction

RULES = Rules(Tolerance())
V2 = (parse_path("$.outputs[*].data"),)


def varies(*answers: Any, rules: Rules = RULES) -> list[str]:
    return [format_path(path) for path in varying_paths([answers], rules)]


@pytest.mark.parametrize(
    ("answers", "paths"),
    [
        ([{"data": {"p": 3, "ms": 4.8}}, {"data": {"p": 3, "ms": 2.1}}], ["$.data.ms"]),
        ([{"p": [0.12345678]}, {"p": [0.1234568]}], []),
        ([{"p": [0.1, 0.2]}, {"p": [0.1, 0.3]}], ["$.p[1]"]),
        ([{"p": [0.1, 0.2]}, {"p": [0.2, 0.3]}], ["$.p"]),
        ([{"p": [1]}, {"p": [1, 2]}], ["$.p"]),
        ([{"a": 1}, {"a": 1, "b": 2}], ["$.b"]),
        ([{"a": 1, "b": 2}, {"a": 1}], ["$.b"]),
        ([{"o": [{"id": "x", "p": 1}]}, {"o": [{"id": "y", "p": 1}]}], ["$.o[0].id"]),
        ([{"a": None}, {"a": {}}], ["$.a"]),
        ([{"a": float("nan")}, {"a": float("nan")}], []),
        ([[1, "x"], [1, "y"]], ["$[1]"]),
        ([1, 2], ["$"]),
        ([{"a": 1}, {"a": 1}, {"a": 2}], ["$.a"]),
    ],
)
def test_what_varies_is_found_leaf_by_leaf(answers: list[Any], paths: list[str]) -> None:
    """Only a place that differs by more than the tolerance varies, or is not always there."""
    assert varies(*answers) == paths


def test_what_is_ignored_or_may_differ_more_does_not_vary() -> None:
    """What a person said about a path is not found out again."""
    rules = Rules(
        Tolerance(), ((parse_path("$.p"), Tolerance(relative=0.5, absolute=0.0)),), (parse_path("$.o[*].id"),)
    )
    first, second = ({"p": [p], "o": [{"id": p}], "q": p} for p in (1.0, 1.2))
    assert varies(first, second, rules=rules) == ["$.q"]


def test_a_list_of_numbers_is_not_compared_in_part() -> None:
    """When some of its numbers vary, a larger tolerance is needed; times beside the prediction are no such list."""
    repeated = [[{"p": [0.1, 0.2]}, {"p": [0.1, 0.3]}]]
    assert torn(varying_paths(repeated, RULES), repeated) == ("p",)
    mixed = [[{"p": [0.1, "x"], "t": 1}, {"p": [0.1, "y"], "t": 2}]]
    assert torn(varying_paths(mixed, RULES), mixed) is None


def doubt(*answers: Any, ignore: str = "", left_out: bool = True, predictions: Any = (), asked: Any = ()) -> str | None:
    rules = Rules(Tolerance(), ignore=(parse_path(ignore),) if ignore else ())
    return unsure(asked or range(len(answers)), answers, rules, predictions, left_out=left_out)


@pytest.mark.parametrize(
    "answers",
    [
        ({"p": 1}, {"p": 2}),
        ({"ok": True, "x": "a"}, {"ok": True, "x": "b"}),
        ({"p": [1]}, {"p": [1, 2]}),
        ({"status": "success", "data": {"prediction": 3}},),
        ({"prediction": 0},),
        ({"class_name": "setosa"},),
        ({"label": "POSITIVE"},),
        ([{"label": "POSITIVE", "score": 0.99}],),
        ({"price": 245313.28},),
        ([3],),
        (3,),
        ("positive",),
        ({"outputs": [{"name": "o", "datatype": "INT64", "shape": [1], "data": [3]}]},),
        ({"choices": [{"message": {"content": "4"}}]},),
    ],
)
def test_an_answer_with_its_prediction_is_recorded(answers: tuple[Any, ...]) -> None:
    """Answers that differ between requests depend on the request; of one answer a part looks like a prediction."""
    assert doubt(*answers) is None


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (({"status": "success"},), "nothing that looks like a prediction in $.status"),
        (({"model": "price", "version": 7, "ok": True},), "nothing that looks like a prediction"),
        (({},), "nothing that stays the same"),
        ((None,), "nothing that looks like a prediction"),
        (({"prediction": None},), "nothing that looks like a prediction in $.prediction"),
        (({"status": "ok", "p": 1}, {"status": "ok", "p": 1}), "the same answer to every request"),
        (({"p": 1e-9}, {"p": 2e-9}), "the same answer to every request"),
    ],
)
def test_an_answer_that_may_lack_its_prediction_is_not(answers: tuple[Any, ...], why: str) -> None:
    """What was left out may have been the prediction."""
    assert why in (doubt(*answers) or "")


def test_what_repeats_the_request_is_no_prediction_where_a_part_is_left_out() -> None:
    """The input in an answer differs between requests whatever the model predicts; under `prediction` it counts."""
    asked: tuple[dict[str, Any], ...] = ({"x": 1, "y": "a"}, {"x": 2, "y": "b"})
    echoes: tuple[Any, ...] = tuple({"ok": True, "input": {"x": float(each["x"]), "y": each["y"]}} for each in asked)
    assert "and what repeats the request" in (doubt(*echoes, asked=asked) or "")
    assert doubt(*echoes, asked=asked, left_out=False) is None
    assert doubt(*({"prediction": each["x"]} for each in asked), asked=asked) is None
    assert doubt(*({**echo, "half": echo["input"]["x"] / 2} for echo in echoes), asked=asked) is None


@pytest.mark.parametrize(
    ("path", "lost"),
    [("$.prediction", True), ("$.data.score", True), ("$.probabilities[1]", True), ("$.prediction_id", False)]
    + [(path, False) for path in ("$.predict_time_ms", "$.score_uuid", "$.id", "$[0]", "$.took")],
)
def test_what_varies_may_be_the_prediction_by_its_name(path: str, lost: bool) -> None:
    """An id or a duration of a prediction is none."""
    place = tuple(step for step in parse_path(path) if step is not None)
    assert varying_prediction([("took",), place]) == (place if lost else None)


def test_where_all_of_the_answer_is_compared_equal_answers_are_enough() -> None:
    """Nothing was left out, so the prediction was not either; the first rows of a data set are often of one class."""
    assert doubt({"prediction": 0}, {"prediction": 0}, left_out=False) is None
    assert doubt({"status": "accepted"}, {"status": "accepted"}, left_out=False) is not None


def test_where_the_protocol_has_its_predictions_one_must_be_compared() -> None:
    """A model's name or the shape of a tensor that differs between requests is no prediction."""
    answers = [{"id": str(n), "outputs": [{"shape": [n], "data": [n]}]} for n in (1, 2)]
    assert doubt(*answers, predictions=V2) is None
    assert doubt(*answers, ignore="$.outputs[*].data", predictions=V2) == "no prediction that stays the same"

"""Recorded requests: parsed strictly, compared field by field, and checked against a signature."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.model_version import ColumnInput, Signature, TensorInput
from orchestration.promotion.problems import Problem
from orchestration.promotion.recorded_requests import (
    MAX_REQUESTS,
    RecordedRequest,
    Recording,
    compare,
    dump_recording,
    parse_recording,
    signature_problem,
)

ENTRY: dict[str, Any] = {"request": {"features": [5.1, 3.5, 1.4, 0.2]}, "response": {"prediction": 0}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.text(), JSON, min_size=1, max_size=3)
REQUEST = st.builds(
    RecordedRequest, request=OBJECT, response=OBJECT, tolerance=st.floats(min_value=0, max_value=1, allow_nan=False)
)


def recording_of(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"version": 1, "requests": list(entries)}).encode()


def expecting(response: dict[str, Any], tolerance: float = 0.0) -> RecordedRequest:
    return RecordedRequest(request={"features": [1.0]}, response=response, tolerance=tolerance)


def test_the_format_of_the_artifact_is_read() -> None:
    """The documented form is accepted; the tolerance may be left out and is then zero."""
    parsed = parse_recording(recording_of(ENTRY, {**ENTRY, "tolerance": 1e-6}))
    assert isinstance(parsed, Recording)
    assert [recorded.tolerance for recorded in parsed.requests] == [0.0, 1e-6]
    assert parsed.requests[0].request == {"features": [5.1, 3.5, 1.4, 0.2]}


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "recording"),
        (b'{"version": 2, "requests": []}', "version"),
        (b'{"version": 1, "requests": []}', "at least 1 item"),
        (recording_of({"request": {}, "response": {"a": 1}}), "requests.0.request"),
        (recording_of({"request": {"a": 1}, "response": {}}), "requests.0.response"),
        (recording_of({**ENTRY, "tolerance": -1}), "requests.0.tolerance"),
        (recording_of({**ENTRY, "tolerance": True}), "requests.0.tolerance"),
        (recording_of({**ENTRY, "status": 200}), "requests.0.status"),
        (b'{"version": 1, "requests": [{"request": {"a": NaN}, "response": {"b": 1}}]}', "NaN"),
        (b'{"version": 1, "requests": [{"request": {"a": 1e999}, "response": {"b": 1}}]}', "too large"),
        (b'{"version": 1, "version": 1, "requests": []}', "a repeated key in one object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"version": 1, "requests": ' + b"[" * 300 + b"]" * 300 + b"}", "nested too deeply"),
        (recording_of(*[ENTRY] * (MAX_REQUESTS + 1)), "at most 1000"),
        (b" " * (10 * 1024 * 1024 + 1), "bytes"),
        (b"9" * 5000, "not JSON"),
    ],
)
def test_what_is_not_a_recording_is_refused_with_its_fault(content: bytes, finding: str) -> None:
    """A malformed or hostile artifact becomes a problem that names the fault and the next step."""
    parsed = parse_recording(content)
    assert isinstance(parsed, Problem)
    assert finding in parsed.found
    assert "incumbent record" in parsed.next_step


@given(st.binary(max_size=200))
def test_reading_never_crashes(content: bytes) -> None:
    """Whatever the bytes are, the result is a recording or a problem."""
    assert isinstance(parse_recording(content), Recording | Problem)


@given(st.lists(REQUEST, min_size=1, max_size=3))
def test_a_recording_survives_writing_and_reading(requests: list[RecordedRequest]) -> None:
    """A recording is equal after writing and parsing it, and equal recordings have equal bytes."""
    recording = Recording(requests=tuple(requests))
    content = dump_recording(recording)
    parsed = parse_recording(content)
    assert parsed == recording
    assert isinstance(parsed, Recording)
    assert dump_recording(parsed) == content


@given(REQUEST, OBJECT)
def test_the_recorded_answer_is_right_whatever_else_it_contains(
    expected: RecordedRequest, extra: dict[str, Any]
) -> None:
    """An answer with every recorded field is right, even if it has more fields."""
    body = json.dumps({**extra, **expected.response}).encode()
    assert compare(expected, 200, body) is None


@pytest.mark.parametrize(
    ("expected", "tolerance", "body", "reason"),
    [
        ({"prediction": 0}, 0, b'{"prediction": 1}', "expected response.prediction 0, found 1"),
        ({"prediction": 0}, 0, b'{"prediction": false}', "expected response.prediction 0, found false"),
        ({"ok": True}, 1, b'{"ok": 1}', "expected response.ok true, found 1"),
        ({"prediction": 0}, 0, b'{"prediction": "0"}', "found"),
        ({"prediction": None}, 0, b"{}", "expected a field response.prediction, found none"),
        ({"p": {"a": [1, 2]}}, 0, b'{"p": {"a": [1, 3]}}', "expected response.p.a[1] 2, found 3"),
        ({"p": [1, 2]}, 9, b'{"p": [1]}', "expected response.p with 2 elements, found 1"),
        ({"p": 0.5}, 1e-6, b'{"p": 0.50001}', "within 1e-06"),
        ({"p": 0.5}, 1, b'{"p": NaN}', "expected response.p 0.5 within 1, found NaN"),
        ({"p": 0.5}, 1, b'{"p": Infinity}', "found Infinity"),
        ({"p": 10**40}, 0, b'{"p": %d}' % (10**40 + 1), "expected"),
        ({"p": 1.5}, 1e9, b'{"p": 1e999}', "found Infinity"),
        ({"p": 1}, 0, b"[1]", "expected response"),
        ({"p": 1}, 0, b"<html>busy</html>", "found <html>busy</html>"),
        ({"p": 1}, 0, b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_wrong_answer_has_a_reason(expected: dict[str, Any], tolerance: float, body: bytes, reason: str) -> None:
    """Each difference is reported with its path; a bool is not a number, and NaN equals nothing."""
    difference = compare(expecting(expected, tolerance), 200, body)
    assert difference is not None
    assert reason in difference


@pytest.mark.parametrize(
    ("expected", "tolerance", "body"),
    [
        ({"p": 1}, 0, b'{"p": 1.0}'),
        ({"p": 0.7}, 0.1, b'{"p": 0.8}'),
        ({"p": 0.8}, 0.1, b'{"p": 0.7}'),
        ({"p": [{"q": 2}]}, 1, b'{"p": [{"q": 2.5, "r": 9}]}'),
        ({"p": 10**400}, 0.5, b'{"p": %d}' % 10**400),
        ({"p": None, "s": "x"}, 0, b'{"s": "x", "p": null, "inference_time_ms": 3.2}'),
    ],
)
def test_the_tolerance_holds_at_any_depth_and_includes_its_bound(
    expected: dict[str, Any], tolerance: float, body: bytes
) -> None:
    """Numbers may differ by the tolerance, counted in decimal; 1 and 1.0 are the same number."""
    assert compare(expecting(expected, tolerance), 200, body) is None


@pytest.mark.parametrize("status", [0, 204, 400, 404, 500, 503])
def test_any_status_but_200_is_wrong(status: int) -> None:
    """A right body with another status is a wrong answer."""
    reason = compare(expecting({"p": 1}), status, b'{"p": 1}')
    assert reason is not None
    assert str(status) in reason


def test_a_reason_repeats_only_the_beginning_of_an_answer() -> None:
    """A huge answer does not become a huge tag."""
    for body in (b"x" * 10**6, json.dumps({"p": "x" * 10**6}).encode()):
        assert len(compare(expecting({"p": 1}), 200, body) or "") < 300


TENSOR = Signature((TensorInput(None, "float64", (-1, 4)),))
COLUMNS = Signature(
    (ColumnInput("a", "double", True), ColumnInput("b", "long", True), ColumnInput("c", "string", False))
)
NAMED = Signature((TensorInput("x", "int64", (-1, 2)), TensorInput("y", "float32", (-1,))))


@pytest.mark.parametrize(
    ("request_body", "signature"),
    [
        ({"features": [5.1, 3.5, 1, 0.2]}, TENSOR),
        ({"features": [[1, 2, 3, 4], [5, 6, 7, 8]]}, TENSOR),
        ({"inputs": [[1.0, 2.0, 3.0, 4.0]]}, TENSOR),
        ({"dataframe_split": {"columns": list("abcd"), "data": [[1, 2, 3, 4]]}}, TENSOR),
        ({"features": [1.5, 2]}, COLUMNS),
        ({"features": [1.5, 2, None]}, COLUMNS),
        ({"features": [[1.5, 2, "x"]]}, COLUMNS),
        ({"inputs": {"a": [1.0], "b": [2]}}, COLUMNS),
        ({"inputs": [{"a": 1.0, "b": 2}]}, COLUMNS),
        ({"dataframe_split": {"columns": ["b", "a"], "data": [[2, 1.5]]}}, COLUMNS),
        ({"dataframe_records": [{"a": 1, "b": 2, "extra": 3}]}, COLUMNS),
        ({"inputs": {"x": [[1, 2]], "y": [0.5]}}, NAMED),
        ({"text": "any form of its own"}, COLUMNS),
        ({"features": [1]}, Signature(())),
    ],
)
def test_requests_that_fit_the_signature(request_body: dict[str, Any], signature: Signature) -> None:
    """Rows by position, MLflow's named forms, and forms that only the server knows all pass."""
    recording = Recording(requests=(RecordedRequest(request=request_body, response={"p": 1}),))
    assert signature_problem(recording, signature) is None


@pytest.mark.parametrize(
    ("request_body", "signature", "finding"),
    [
        ({"features": [1, 2, 3]}, TENSOR, "an array of shape (3,) for an input of shape (-1, 4)"),
        ({"features": [[1, 2], [3]]}, TENSOR, "different lengths"),
        ({"features": ["a", 2, 3, 4]}, TENSOR, "'a' for type float64"),
        ({"features": [True, 2, 3, 4]}, TENSOR, "True for type float64"),
        ({"features": 5}, TENSOR, "shape ()"),
        ({"features": [1.5]}, COLUMNS, "a row of 1 values for 3 columns"),
        ({"features": [1, 2, "x", 4]}, COLUMNS, "a row of 4 values"),
        ({"features": [1.5, 2.5]}, COLUMNS, "2.5 for column 'b' of type long"),
        ({"features": "x"}, COLUMNS, "a value of type str that is not a list"),
        ({"inputs": {"a": [1.0]}}, COLUMNS, "required column 'b'"),
        ({"inputs": {"a": ["x"], "b": [1]}}, COLUMNS, "'x' for column 'a'"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1.5]]}}, COLUMNS, "required column 'b'"),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1.5]]}}, COLUMNS, "2 values"),
        ({"dataframe_split": {"columns": [["a"]], "data": [[1.5]]}}, COLUMNS, "list of names"),
        ({"dataframe_split": []}, COLUMNS, "without data"),
        ({"dataframe_records": [1]}, COLUMNS, "dataframe_records that is not a list of objects"),
        ({"dataframe_records": [{"a": None, "b": 1}]}, COLUMNS, "None for column 'a'"),
        ({"inputs": {"x": [[1, 2]]}}, NAMED, "no value for the input 'y'"),
        ({"inputs": [[1, 2]]}, NAMED, "one unnamed input instead of 2 named inputs"),
        ({"inputs": {"x": [[1.5, 2]], "y": [1]}}, NAMED, "1.5 for type int64"),
    ],
)
def test_requests_that_no_longer_fit_are_named(
    request_body: dict[str, Any], signature: Signature, finding: str
) -> None:
    """The first request that does not fit is named by its number, together with the reason."""
    good = {"text": "no known form"}
    recording = Recording(
        requests=tuple(RecordedRequest(request=body, response={"p": 1}) for body in (good, request_body))
    )
    problem = signature_problem(recording, signature)
    assert problem is not None
    assert problem.subject == "recorded request 2 of 2"
    assert finding in problem.found


@given(OBJECT, st.sampled_from([TENSOR, COLUMNS, NAMED]), st.sampled_from(["features", "inputs", "dataframe_split"]))
def test_judging_the_signature_never_crashes(body: dict[str, Any], signature: Signature, key: str) -> None:
    """Whatever a request contains, the result is a problem or None."""
    recording = Recording(requests=(RecordedRequest(request={key: body}, response={"p": 1}),))
    problem = signature_problem(recording, signature)
    assert problem is None or isinstance(problem, Problem)

"""Recorded requests: written and read strictly, and answers compared with them."""

import gzip
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.answer_comparison import Tolerance
from orchestration.promotion.ports import Answer
from orchestration.promotion.problems import Problem
from orchestration.promotion.recorded_requests import (
    MAX_REQUESTS,
    RecordedAnswer,
    RecordedRequest,
    Recording,
    compare,
    dump_recording,
    parse_recording,
    read_answer,
)

FIRST: dict[str, Any] = {"request": {"features": [5.1, 3.5, 1.4, 0.2]}, "response": {"prediction": 0}}
ENTRY: dict[str, Any] = {"request": [1], "response": {"status": 200, "body": {"prediction": 0}}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MARGIN = st.floats(min_value=0, max_value=1, allow_nan=False)
TOLERANCE = st.builds(Tolerance, relative=MARGIN, absolute=MARGIN)
ANSWER = st.builds(RecordedAnswer, status=st.integers(200, 299), body=JSON) | st.builds(
    RecordedAnswer, content_type=st.sampled_from(["image/png", ""]), sha256=st.just("0" * 64)
)
REQUEST = st.builds(
    RecordedRequest,
    request=JSON.filter(lambda value: value is not None),
    response=ANSWER,
    tolerance=st.none() | TOLERANCE,
)
EXACT = Tolerance(relative=0.0, absolute=0.0)


def first_version(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"version": 1, "requests": list(entries)}).encode()


def recording_of(*entries: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"version": 2, "requests": list(entries), **more}).encode()


def wrong(expected: Any, body: bytes, *, tolerance: Tolerance = EXACT, status: int = 200, **rules: Any) -> str | None:
    """Why an answer to a request that was recorded with a JSON body is wrong."""
    recorded = RecordedRequest(request={"features": [1.0]}, response=RecordedAnswer(body=expected))
    recording = Recording(requests=(recorded,), tolerance=tolerance, **rules)
    return compare(recorded, Answer(status, body, 0.1), recording.rules())


def within(absolute: float = 0.0, relative: float = 0.0) -> Tolerance:
    return Tolerance(relative=relative, absolute=absolute)


def test_the_first_version_of_the_artifact_is_read() -> None:
    """Its response is the body of an answer with status 200, and its tolerance an absolute one, by default zero."""
    parsed = parse_recording(first_version(FIRST, {**FIRST, "tolerance": 1e-6}))
    assert isinstance(parsed, Recording)
    assert [recorded.tolerance for recorded in parsed.requests] == [within(0.0), within(1e-6)]
    assert parsed.requests[0].request == {"features": [5.1, 3.5, 1.4, 0.2]}
    assert parsed.requests[0].response == RecordedAnswer(status=200, body={"prediction": 0})


def test_the_format_of_the_artifact_is_read() -> None:
    """A request and its answer may be any JSON; tolerances are by path, and another content has a digest."""
    image = {"request": "a", "response": {"status": 201, "content_type": "image/png", "sha256": "0" * 64}}
    parsed = parse_recording(
        recording_of(ENTRY, image, ignore=["$.id"], tolerances={"$.score": {"relative": 0.01, "absolute": 0}})
    )
    assert isinstance(parsed, Recording)
    assert parsed.tolerance == Tolerance(relative=1e-5, absolute=1e-6)
    assert parsed.tolerances == {"$.score": within(relative=0.01)}
    assert (parsed.requests[0].request, parsed.requests[1].response.status) == ([1], 201)


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "recording"),
        (b'{"version": 3, "requests": []}', "version"),
        (b'{"version": 1, "requests": []}', "expected at least 1 in the list"),
        (b'{"version": 2, "requests": []}', "expected at least 1 in the list"),
        (first_version({"request": {}, "response": {"a": 1}}), "requests.0.request"),
        (first_version({"request": {"a": 1}, "response": {}}), "requests.0.response"),
        (first_version({**FIRST, "tolerance": -1}), "requests.0.tolerance"),
        (first_version({**FIRST, "tolerance": True}), "requests.0.tolerance"),
        (first_version({**FIRST, "status": 200}), "requests.0.status"),
        (recording_of({**ENTRY, "request": None}), "requests.0.request: expected a request, found null"),
        (recording_of({**ENTRY, "response": {"status": 200}}), "exactly one of body and sha256"),
        (recording_of({**ENTRY, "response": {"body": 1, "sha256": "0" * 64}}), "exactly one of body and sha256"),
        (recording_of({**ENTRY, "response": {"status": 302, "body": 1}}), "requests.0.response.status"),
        (recording_of({**ENTRY, "response": {"sha256": "0"}}), "requests.0.response.sha256"),
        (recording_of(ENTRY, ignore=["$"]), "ignore.0: expected a path such as $.data[0].score"),
        (recording_of(ENTRY, tolerances={"a..b": {}}), "expected a path such as"),
        (recording_of(ENTRY, tolerance={"relative": -1}), "tolerance.relative"),
        (b'{"version": 1, "requests": [{"request": {"a": 1e999}, "response": {"b": 1}}]}', "too large"),
        (b'{"version": 1, "version": 1, "requests": []}', "a repeated key in one object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"version": 1, "requests": ' + b"[" * 300 + b"]" * 300 + b"}", "nested too deeply"),
        (first_version(*[FIRST] * (MAX_REQUESTS + 1)), "at most 1000"),
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


@given(st.lists(REQUEST, min_size=1, max_size=3), TOLERANCE)
def test_a_recording_survives_writing_and_reading(requests: list[RecordedRequest], tolerance: Tolerance) -> None:
    """A recording is equal after writing and parsing it, to the last byte."""
    recording = Recording(
        requests=tuple(requests), tolerance=tolerance, ignore=("$.a[*].b",), tolerances={"$.c": tolerance}
    )
    content = dump_recording(recording)
    parsed = parse_recording(content)
    assert parsed == recording
    assert isinstance(parsed, Recording)
    assert dump_recording(parsed) == content


def test_a_request_keeps_the_order_of_its_keys() -> None:
    """A server may take an object's values by position."""
    request = {"z": 1, "a": {"y": 2, "b": 3}}
    recorded = RecordedRequest(request=request, response=RecordedAnswer(body=1))
    parsed = parse_recording(dump_recording(Recording(requests=(recorded,))))
    assert isinstance(parsed, Recording)
    assert json.dumps(parsed.requests[0].request) == json.dumps(request)


def test_nan_and_infinity_survive_as_python_writes_them() -> None:
    """Python's servers answer with them, so a recording holds them; NaN is NaN."""
    answer = Answer(200, b'{"predictions": [NaN, -Infinity, 1.0]}', 0.1)
    recorded = RecordedRequest(request=[1], response=read_answer(answer))
    parsed = parse_recording(dump_recording(Recording(requests=(recorded,))))
    assert isinstance(parsed, Recording)
    assert compare(parsed.requests[0], answer, parsed.rules()) is None
    for other in (b"[1.0, -Infinity, 1.0]", b"[NaN, Infinity, 1.0]", b"[NaN, -Infinity, NaN]"):
        assert compare(parsed.requests[0], Answer(200, b'{"predictions": %b}' % other, 0.1), parsed.rules())


@given(st.dictionaries(st.text(), JSON, min_size=1, max_size=3), st.dictionaries(st.text(), JSON, max_size=3))
def test_the_recorded_answer_is_right_whatever_else_it_contains(
    expected: dict[str, Any], extra: dict[str, Any]
) -> None:
    """An answer with every recorded field is right, even if it has more fields."""
    assert wrong(expected, json.dumps({**extra, **expected}).encode()) is None


@pytest.mark.parametrize(
    ("expected", "tolerance", "body", "reason"),
    [
        ({"prediction": 0}, 0, b'{"prediction": 1}', "expected response.prediction 0, found 1"),
        ({"prediction": 0}, 0, b'{"prediction": false}', "expected response.prediction 0, found false"),
        ({"ok": True}, 1, b'{"ok": 1}', "expected response.ok true, found 1"),
        ({"prediction": 0}, 0, b'{"prediction": "0"}', "found"),
        ({"prediction": None}, 0, b"{}", "expected a field response.prediction, found none"),
        ({"p": {"a": [1, 2]}}, 0, b'{"p": {"a": [1, 3]}}', "expected response.p.a[1] 2, found 3"),
        ({"a b": 1}, 0, b'{"a b": 2}', 'expected response["a b"] 1, found 2'),
        ({"p": [1, 2]}, 9, b'{"p": [1]}', "expected response.p with 2 elements, found 1"),
        ({"p": 0.5}, 1e-6, b'{"p": 0.50001}', "within 1e-06"),
        ({"p": 0.5}, 1, b'{"p": NaN}', "expected response.p 0.5 within 1, found NaN"),
        ({"p": 0.5}, 1, b'{"p": Infinity}', "found Infinity"),
        ({"p": 10**40}, 0, b'{"p": %d}' % (10**40 + 1), "expected"),
        ({"p": 1.5}, 1e9, b'{"p": 1e999}', "found Infinity"),
        ({"p": 1}, 0, b"[1]", "expected response"),
        ([1], 0, b"[2]", "expected response[0] 1, found 2"),
        (3, 0, b"4", "expected response 3, found 4"),
        ({"p": 1}, 0, b"<html>busy</html>", "found <html>busy</html>"),
        ({"p": 1}, 0, b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_wrong_answer_has_a_reason(expected: Any, tolerance: float, body: bytes, reason: str) -> None:
    """Each difference is reported with its path; a bool is not a number, and only NaN equals NaN."""
    difference = wrong(expected, body, tolerance=within(tolerance))
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
def test_an_absolute_tolerance_holds_at_any_depth_and_includes_its_bound(
    expected: dict[str, Any], tolerance: float, body: bytes
) -> None:
    """Numbers may differ by the tolerance, counted in decimal; 1 and 1.0 are the same number."""
    assert wrong(expected, body, tolerance=within(tolerance)) is None


@pytest.mark.parametrize(
    ("expected", "body", "right"),
    [
        ([245313.28125], b"[245313.296875]", True),  # one step of a 32-bit float, as another CPU computes it
        ([0.12345678], b"[0.1234568]", True),
        ([-0.0000001], b"[0.0000002]", True),
        ([1.0], b"[1.00001]", True),
        ([1.0], b"[1.0001]", False),
        ([0.001], b"[0.0011]", False),
        ([245313], b"[245314]", False),  # a class, a count or an id
        ([245313], b"[245313.5]", True),
    ],
)
def test_the_default_tolerance_survives_another_cpu(expected: Any, body: bytes, *, right: bool) -> None:
    """It is a share of the number, with a small one around zero; integers must be equal."""
    assert (wrong(expected, body, tolerance=Tolerance()) is None) is right


def test_a_path_may_have_a_tolerance_of_its_own() -> None:
    """It holds there and below; the last one that names a place counts, and a request may have another for the rest."""
    tolerances = {"$.scores": within(relative=0.1), "$.scores[1]": EXACT}
    expected = {"scores": [1.0, 1.0], "p": 1.0}
    assert wrong(expected, b'{"scores": [1.1, 1.0], "p": 1.0}', tolerances=tolerances) is None
    assert "scores[1]" in (wrong(expected, b'{"scores": [1.1, 1.1], "p": 1.0}', tolerances=tolerances) or "")
    assert "response.p" in (wrong(expected, b'{"scores": [1.1, 1.0], "p": 1.1}', tolerances=tolerances) or "")


def test_what_is_ignored_is_not_compared() -> None:
    """Neither its value nor whether it is there, in each element of a list, and nothing beside it."""
    expected = {"outputs": [{"id": "a", "data": 1}, {"id": "b", "data": 2}], "meta": {"t": 1}}
    for body in (
        b'{"outputs": [{"id": "c", "data": 1}, {"data": 2}], "meta": {"t": 9}}',
        b'{"outputs": [{"id": "c", "data": 1}, {"data": 2}]}',
    ):
        assert wrong(expected, body, ignore=("$.outputs[*].id", "meta")) is None
    changed = b'{"outputs": [{"id": "a", "data": 1}, {"id": "b", "data": 3}], "meta": {"t": 1}}'
    assert "outputs[1].data" in (wrong(expected, changed, ignore=("$.outputs[*].id", "meta")) or "")


@pytest.mark.parametrize("status", [0, 204, 400, 404, 500, 503])
def test_any_other_status_than_the_recorded_one_is_wrong(status: int) -> None:
    """A right body with another status is a wrong answer."""
    reason = wrong({"p": 1}, b'{"p": 1}', status=status)
    assert reason is not None
    assert f"expected status 200, found {status}" in reason


def test_content_that_is_not_json_is_compared_by_digest_and_type() -> None:
    """An image or a compressed file is right when it has the same bytes and the same content type."""
    content = gzip.compress(b"pixels", mtime=0)
    answer = Answer(201, content, 0.1, content_type="image/png")
    recorded = RecordedRequest(request=[1], response=read_answer(answer))
    assert recorded.response.sha256 == hashlib.sha256(content).hexdigest()
    rules = Recording(requests=(recorded,)).rules()
    assert compare(recorded, answer, rules) is None
    other = compare(recorded, Answer(201, b"other", 0.1, content_type="image/png"), rules)
    assert other is not None
    assert "sha256:" in other
    typed = compare(recorded, Answer(201, content, 0.1, content_type="text/html"), rules)
    assert typed == "expected the content type image/png, found text/html"


def test_a_reason_repeats_only_the_beginning_of_an_answer() -> None:
    """A huge answer does not become a huge tag."""
    for body in (b"x" * 10**6, json.dumps({"p": "x" * 10**6}).encode()):
        assert len(wrong({"p": 1}, body) or "") < 300

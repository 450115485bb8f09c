"""Recorded requests: what a model must keep answering, stored as an artifact of its training run.

The artifact is JSON:

    {"version": 1, "requests": [
        {"request": {"features": [5.1, 3.5, 1.4, 0.2]},
         "response": {"prediction": 0, "class_name": "setosa"},
         "tolerance": 1e-6}]}

`response` has only the fields that an answer must contain, so an inference time is simply left out. `tolerance` is the
absolute difference allowed for each number at any depth of the response; without it, numbers must be equal.
"""

import json
from decimal import Decimal
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestration.promotion.field_faults import field_faults
from orchestration.promotion.model_version import Signature
from orchestration.promotion.problems import Problem
from orchestration.promotion.signature import described, misfit

RECORDING_PATH = "incumbent/recorded_requests.json"
"""The path of the recording among a run's artifacts."""
REPLAY_HEADER = "X-Incumbent-Replay"
"""The HTTP header that marks a recorded request, so that it does not count as real traffic (design rule 5)."""
MAX_REQUESTS = 1000
MAX_BYTES = 10 * 1024 * 1024
MAX_DEPTH = 64
_SHOWN = 120
"""How many characters of a wrong answer a reason repeats, since it goes into tags and tables."""

JsonObject = Annotated[dict[str, Any], Field(min_length=1)]


class RecordedRequest(BaseModel):
    """One request, and the fields that its answer must contain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: JsonObject
    response: JsonObject
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = 0.0


class Recording(BaseModel):
    """All recorded requests of one training run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    requests: Annotated[tuple[RecordedRequest, ...], Field(min_length=1, max_length=MAX_REQUESTS)]


def parse_recording(content: bytes) -> Recording | Problem:
    """Parse the artifact. NaN, infinity, repeated keys and unknown fields are refused."""
    if len(content) > MAX_BYTES:
        return _refuse(f"{len(content)} bytes, more than the {MAX_BYTES} allowed")
    try:
        raw = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_no_constant,
            parse_float=_finite_float,
        )
    except RecursionError:
        return _refuse("JSON that is nested too deeply")
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return _refuse(f"content that is not JSON ({error})")
    if _is_deeper_than(raw, MAX_DEPTH):
        return _refuse("JSON that is nested too deeply")
    try:
        return Recording.model_validate(raw)
    except ValidationError as error:
        faults = field_faults(error, "recording")
        more = f" and {len(faults) - 5} more faults" if len(faults) > 5 else ""
        return _refuse("; ".join(faults[:5]) + more)


def dump_recording(recording: Recording) -> bytes:
    """Write a recording as the artifact; equal recordings give equal bytes."""
    return (json.dumps(recording.model_dump(), sort_keys=True, indent=2, allow_nan=False) + "\n").encode("ascii")


def compare(expected: RecordedRequest, status: int, body: bytes) -> str | None:
    """Why an answer is wrong; None when it has every field of the recorded response.

    The status must be 200. A bool is not a number, NaN equals nothing, and a list must have the recorded length.
    """
    if status != 200:
        return f"expected status 200, found {status}: {_shown(body)}"
    try:
        return _difference("response", expected.response, json.loads(body.decode("utf-8")), expected.tolerance)
    except RecursionError:
        return "expected a JSON object, found JSON that is nested too deeply"
    except ValueError:
        return f"expected a JSON object, found {_shown(body)}"


def signature_problem(recording: Recording, signature: Signature) -> Problem | None:
    """Why the recorded requests no longer fit the model's signature; None when all of them do."""
    for number, recorded in enumerate(recording.requests, start=1):
        reason = misfit(recorded.request, signature)
        if reason:
            return Problem(
                f"recorded request {number} of {len(recording.requests)}",
                f"a request that fits the candidate's signature ({described(signature)})",
                reason,
                "Promote a changed interface under a new model name, or record its requests again "
                "with `incumbent record MODEL VERSION --url URL`.",
            )
    return None


def _difference(path: str, expected: object, actual: object, tolerance: float) -> str | None:
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key, value in expected.items():
            if key not in actual:
                return f"expected a field {path}.{key}, found none"
            reason = _difference(f"{path}.{key}", value, actual[key], tolerance)
            if reason:
                return reason
        return None
    if isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return f"expected {path} with {len(expected)} elements, found {len(actual)}"
        reasons = (
            _difference(f"{path}[{index}]", *pair, tolerance)
            for index, pair in enumerate(zip(expected, actual, strict=True))
        )
        return next((reason for reason in reasons if reason), None)
    if _is_number(expected) and _is_number(actual):
        same = _within(expected, actual, tolerance)
    else:
        same = type(expected) is type(actual) and expected == actual
    margin = f" within {tolerance:g}" if tolerance and _is_number(expected) else ""
    return None if same else f"expected {path} {_shown(expected)}{margin}, found {_shown(actual)}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _within(expected: Any, actual: Any, tolerance: float) -> bool:
    """Whether two numbers differ by no more than the tolerance, counted in decimal: 0.8 - 0.7 is exactly 0.1."""
    if expected == actual:
        return True
    left, right = Decimal(str(expected)), Decimal(str(actual))
    return left.is_finite() and right.is_finite() and abs(left - right) <= Decimal(str(tolerance))


def _shown(value: object) -> str:
    text = value[: 4 * _SHOWN].decode("utf-8", "replace") if isinstance(value, bytes) else json.dumps(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _is_deeper_than(value: object, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth < 0 or any(_is_deeper_than(element, depth - 1) for element in inner)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError(f"a repeated key in one object, among {sorted(unique)[:5]}")
    return unique


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is not a JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text}, which is too large")
    return value


def _refuse(found: str) -> Problem:
    return Problem(
        f"recorded requests {RECORDING_PATH}",
        f'{{"version": 1, "requests": [...]}}, 1 to {MAX_REQUESTS} of {{"request": {{...}}, "response": {{...}}}}',
        found,
        "Record them again with `incumbent record MODEL VERSION --url URL`.",
    )

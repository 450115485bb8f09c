"""Recorded requests: what a model must go on answering, kept as an artifact of its training run.

The artifact is JSON:

    {"version": 1, "requests": [
        {"request": {"features": [5.1, 3.5, 1.4, 0.2]},
         "response": {"prediction": 0, "class_name": "setosa"},
         "tolerance": 1e-6}]}

`response` holds the fields that must come back and no others, so an inference time is simply left out. `tolerance` is
the absolute difference that any number at any depth of that response may have; without it numbers must be equal.
"""

import json
from decimal import Decimal
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestration.promotion.model_version import Signature
from orchestration.promotion.problems import Problem
from orchestration.promotion.signature import described, misfit

RECORDING_PATH = "incumbent/recorded_requests.json"
"""Where the recording lies among a run's artifacts."""
REPLAY_HEADER = "X-Incumbent-Replay"
"""The HTTP header that marks a recorded request, so that it can be told from real traffic (design rule 5)."""
MAX_REQUESTS = 1000
MAX_BYTES = 10 * 1024 * 1024
MAX_DEPTH = 64
_SHOWN = 120
"""Characters of a wrong answer that a reason repeats: it goes into tags and tables."""

JsonObject = Annotated[dict[str, Any], Field(min_length=1)]


class RecordedRequest(BaseModel):
    """One request, and the fields that its answer must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: JsonObject
    response: JsonObject
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = 0.0


class Recording(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    requests: Annotated[tuple[RecordedRequest, ...], Field(min_length=1, max_length=MAX_REQUESTS)]


def parse_recording(content: bytes) -> Recording | Problem:
    """The recording that an artifact holds. NaN, infinity, repeated keys and unknown fields are refused."""
    if len(content) > MAX_BYTES:
        return _refuse(f"{len(content)} bytes, more than {MAX_BYTES}")
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
        return _refuse(f"no JSON ({error})")
    if _is_deeper_than(raw, MAX_DEPTH):
        return _refuse("JSON that is nested too deeply")
    try:
        return Recording.model_validate(raw)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'recording'}: {fault['msg']}" for fault in error.errors()]
        more = f" and {len(faults) - 5} more faults" if len(faults) > 5 else ""
        return _refuse("; ".join(faults[:5]) + more)


def dump_recording(recording: Recording) -> bytes:
    """The artifact of a recording; equal recordings give equal bytes."""
    return (json.dumps(recording.model_dump(), sort_keys=True, indent=2, allow_nan=False) + "\n").encode("ascii")


def compare(expected: RecordedRequest, status: int, body: bytes) -> str | None:
    """Why an answer is wrong, or None when it holds every field that the recording holds.

    The status must be 200. A bool is not a number, NaN equals nothing, a list must have the recorded length.
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
    """Why the recorded requests do not fit a signature any more; None when all of them fit."""
    for number, recorded in enumerate(recording.requests, start=1):
        found = misfit(recorded.request, signature)
        if found:
            return Problem(
                f"recorded request {number} of {len(recording.requests)}",
                f"a request that fits the candidate's signature ({described(signature)})",
                found,
                "Promote a changed interface under a new model name, or record its requests again "
                "with `incumbent record MODEL VERSION --url URL`.",
            )
    return None


def _difference(path: str, expected: object, found: object, tolerance: float) -> str | None:
    if isinstance(expected, dict) and isinstance(found, dict):
        for key, value in expected.items():
            if key not in found:
                return f"expected a field {path}.{key}, found none"
            reason = _difference(f"{path}.{key}", value, found[key], tolerance)
            if reason:
                return reason
        return None
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return f"expected {path} with {len(expected)} elements, found {len(found)}"
        reasons = (
            _difference(f"{path}[{index}]", *pair, tolerance)
            for index, pair in enumerate(zip(expected, found, strict=True))
        )
        return next((reason for reason in reasons if reason), None)
    if _is_number(expected) and _is_number(found):
        same = _within(expected, found, tolerance)
    else:
        same = type(expected) is type(found) and expected == found
    margin = f" within {tolerance:g}" if tolerance and _is_number(expected) else ""
    return None if same else f"expected {path} {_shown(expected)}{margin}, found {_shown(found)}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _within(expected: Any, found: Any, tolerance: float) -> bool:
    """Whether two numbers differ by no more than the tolerance, as decimal notation has them: 0.8 - 0.7 is 0.1."""
    if expected == found:
        return True
    one, other = Decimal(str(expected)), Decimal(str(found))
    return one.is_finite() and other.is_finite() and abs(one - other) <= Decimal(str(tolerance))


def _shown(value: object) -> str:
    text = value[: 4 * _SHOWN].decode("utf-8", "replace") if isinstance(value, bytes) else json.dumps(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _is_deeper_than(value: object, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth < 0 or any(_is_deeper_than(one, depth - 1) for one in inner)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key that stands twice in one object, among {sorted(found)[:5]}")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is no JSON number")


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
        "Make them again with `incumbent record MODEL VERSION --url URL`.",
    )

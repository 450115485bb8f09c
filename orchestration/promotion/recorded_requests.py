"""Recorded requests: what a model must keep answering, stored as an artifact of its training run.

The artifact is JSON, in which numbers may be NaN or Infinity as Python writes them:

    {"version": 2,
     "tolerance": {"relative": 1e-05, "absolute": 1e-06},
     "tolerances": {"$.score": {"relative": 0.01, "absolute": 1e-06}},
     "ignore": ["$.inference_time_ms"],
     "requests": [
        {"request": {"features": [5.1, 3.5, 1.4, 0.2]},
         "response": {"status": 200, "body": {"prediction": 0, "score": 0.97, "inference_time_ms": 1.5}}},
        {"request": {"features": [0, 0, 0, 0]},
         "response": {"status": 200, "content_type": "image/png", "sha256": "9f86d081..."}}]}

An answer is right when it has the status, and everything that `body` has except for what `ignore` names; or, where the
answer is not JSON, the content's type and digest. `tolerances` are others by their path, and a request may have a
`tolerance` of its own. Only `requests` must be there.

Version 1 is still read: its `response` is what the body of an answer with status 200 must have, and its `tolerance`,
an absolute one, belongs to the request.
"""

import hashlib
import json
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from orchestration.promotion.answer_comparison import Margin, Rules, Tolerance, difference, shown
from orchestration.promotion.field_faults import field_faults
from orchestration.promotion.json_paths import checked_path, parse_path
from orchestration.promotion.model_version import Signature
from orchestration.promotion.ports import Answer, Registry
from orchestration.promotion.problems import Problem
from orchestration.promotion.serving_protocols import PROTOCOLS, ProtocolName
from orchestration.promotion.signature import described

RECORDING_PATH = "incumbent/recorded_requests.json"
"""The path of the recording among a run's artifacts."""
REPLAY_HEADER = "X-Incumbent-Replay"
"""The HTTP header that marks a recorded request, so that it does not count as real traffic (design rule 5)."""
MAX_REQUESTS = 1000
MAX_BYTES = 10 * 1024 * 1024
MAX_DEPTH = 64
MAX_PATHS = 1000


def _is_something(value: Any) -> Any:
    if value is None:
        raise ValueError("expected a request, found null")
    return value


JsonPath = Annotated[str, AfterValidator(checked_path)]
JsonObject = Annotated[dict[str, Any], Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RecordedAnswer(_Part):
    """What an answer must have: its status, and either JSON or the type and digest of another content."""

    status: Annotated[int, Field(ge=200, le=299, strict=True)] = 200
    body: Any = None
    content_type: str = ""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        if ("body" in self.model_fields_set) == (self.sha256 is not None):
            raise ValueError("expected exactly one of body and sha256")
        return self


class RecordedRequest(_Part):
    """One request, and the answer that it must get."""

    request: Annotated[Any, AfterValidator(_is_something)]
    response: RecordedAnswer
    tolerance: Tolerance | None = None


class Recording(_Part):
    """All recorded requests of one training run."""

    version: Literal[2] = 2
    tolerance: Tolerance = Tolerance()
    tolerances: Annotated[dict[JsonPath, Tolerance], Field(max_length=MAX_PATHS)] = {}
    """Other tolerances, by where they apply."""
    ignore: Annotated[tuple[JsonPath, ...], Field(max_length=MAX_PATHS)] = ()
    requests: Annotated[tuple[RecordedRequest, ...], Field(min_length=1, max_length=MAX_REQUESTS)]

    def rules(self) -> Rules:
        """How answers are compared; a request may have a tolerance of its own."""
        fields = tuple((parse_path(path), own) for path, own in self.tolerances.items())
        return Rules(self.tolerance, fields, tuple(parse_path(path) for path in self.ignore))


class _FirstRequest(_Part):
    request: JsonObject
    response: JsonObject
    tolerance: Margin = 0.0


class _FirstRecording(_Part):
    """Version 1 of the format."""

    version: Literal[1]
    requests: Annotated[tuple[_FirstRequest, ...], Field(min_length=1, max_length=MAX_REQUESTS)]

    def as_recording(self) -> Recording:
        return Recording(
            requests=tuple(
                RecordedRequest(
                    request=each.request,
                    response=RecordedAnswer(body=each.response),
                    tolerance=Tolerance(relative=0.0, absolute=each.tolerance),
                )
                for each in self.requests
            )
        )


def recording_of(registry: Registry, run_id: str | None) -> Recording | Problem | None:
    """Read the recording of a training run; None when there is no run, or it has none.

    Raises:
        DependencyError: the registry does not answer.
    """
    content = registry.artifact(run_id, RECORDING_PATH) if run_id else None
    return parse_recording(content) if content is not None else None


def parse_recording(content: bytes) -> Recording | Problem:
    """Parse the artifact. Repeated keys, unknown fields and numbers that are too large are refused."""
    if len(content) > MAX_BYTES:
        return _refuse(f"{len(content)} bytes, more than the {MAX_BYTES} allowed")
    try:
        raw = json.loads(content.decode("utf-8"), object_pairs_hook=_unique_keys, parse_float=_finite_float)
    except RecursionError:
        return _refuse("JSON that is nested too deeply")
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return _refuse(f"content that is not JSON ({error})")
    if is_deeper_than(raw, MAX_DEPTH):
        return _refuse("JSON that is nested too deeply")
    try:
        if isinstance(raw, dict) and raw.get("version") == 1:
            return _FirstRecording.model_validate(raw).as_recording()
        return Recording.model_validate(raw)
    except ValidationError as error:
        faults = field_faults(error, "recording")
        more = f" and {len(faults) - 5} more faults" if len(faults) > 5 else ""
        return _refuse("; ".join(faults[:5]) + more)


def dump_recording(recording: Recording) -> bytes:
    """Write a recording as the artifact; keys keep their order, on which a server may depend."""
    document = recording.model_dump()
    for each in document["requests"]:
        answer = each["response"]
        for absent in ("content_type", "sha256") if answer["sha256"] is None else ("body",):
            del answer[absent]
        if each["tolerance"] is None:
            del each["tolerance"]
    return (json.dumps(document, indent=2) + "\n").encode("ascii")


def digest_of(recording: Recording) -> str:
    """Return the digest of all that a recording asks and compares, however its artifact is written."""
    return f"sha256:{hashlib.sha256(dump_recording(recording)).hexdigest()}"


def read_answer(answer: Answer) -> RecordedAnswer:
    """Read an answer of status 2xx as one to be recorded: as JSON, or else by its digest."""
    try:
        return RecordedAnswer(status=answer.status, body=_json_of(answer))
    except (ValueError, RecursionError):
        digest = hashlib.sha256(answer.body).hexdigest()
        return RecordedAnswer(status=answer.status, content_type=answer.content_type, sha256=digest)


def _json_of(answer: Answer) -> Any:
    """Read an answer as JSON, before which some servers write a byte order mark (RFC 8259 lets a reader ignore it).

    Raises:
        ValueError: it is not JSON in UTF-8.
        RecursionError: it is nested too deeply.
    """
    return json.loads(answer.body.decode("utf-8-sig"))


def compare(recorded: RecordedRequest, answer: Answer, rules: Rules) -> str | None:
    """Why an answer is wrong; None when it has the recorded status and everything that is compared."""
    expected = recorded.response
    if recorded.tolerance is not None:
        rules = replace(rules, tolerance=recorded.tolerance)
    if answer.status != expected.status:
        return f"expected status {expected.status}, found {answer.status}: {shown(answer.body)}"
    if expected.sha256 is not None:
        return _other_content(expected, answer)
    try:
        return difference(expected.body, _json_of(answer), rules)
    except RecursionError:
        return "expected JSON, found JSON that is nested too deeply"
    except ValueError:
        return f"expected JSON, found {shown(answer.body)}"


def signature_problem(recording: Recording, signature: Signature, protocol: ProtocolName) -> Problem | None:
    """Why the recorded requests do not fit the model's signature; None when all of them do, as far as can be told."""
    for number, recorded in enumerate(recording.requests, start=1):
        reason = PROTOCOLS[protocol].misfit(recorded.request, signature)
        if reason:
            return Problem(
                f"recorded request {number} of {len(recording.requests)}",
                f"a request of protocol {protocol} that fits the candidate's signature ({described(signature)})",
                reason,
                "Promote a changed interface under a new model name, record its requests again with `incumbent record "
                "MODEL VERSION --url URL`, or correct service.protocol in the policy.",
            )
    return None


def is_deeper_than(value: object, depth: int) -> bool:
    """Whether JSON is nested more than `depth` levels deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth < 0 or any(is_deeper_than(element, depth - 1) for element in inner)


def _other_content(expected: RecordedAnswer, answer: Answer) -> str | None:
    if answer.content_type != expected.content_type:
        return f"expected the content type {expected.content_type or 'none'}, found {answer.content_type or 'none'}"
    digest = hashlib.sha256(answer.body).hexdigest()
    if digest == expected.sha256:
        return None
    return f"expected content with the digest sha256:{expected.sha256}, found sha256:{digest}"


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError(f"a repeated key in one object, among {sorted(unique)[:5]}")
    return unique


def _finite_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text}, which is too large")
    return value


def _refuse(found: str) -> Problem:
    return Problem(
        f"recorded requests {RECORDING_PATH}",
        f'{{"version": 2, "requests": [...]}}, 1 to {MAX_REQUESTS} of {{"request": ..., "response": {{...}}}}',
        found,
        "Record them again with `incumbent record MODEL VERSION --url URL`.",
    )

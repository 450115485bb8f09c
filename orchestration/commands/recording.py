"""Recording requests with the answers of a running server, which a rollout must still give."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.promotion.model_version import not_registered
from orchestration.promotion.ports import Registry, Service
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.recorded_requests import (
    RECORDING_PATH,
    REPLAY_HEADER,
    RecordedRequest,
    Recording,
    dump_recording,
)

_REPETITIONS = 3
"""How often each request is sent: a field that differs between the answers (a time, an id) is not recorded."""
_TOLERANCE = 1e-6
"""By how much a recorded number may differ later, in the number's own unit."""
_TIMEOUT = 10.0
"""Seconds to wait for one answer."""


def record_version(
    registry: Registry, service: Service, model: str, number: int, url: str, content: bytes | None
) -> str:
    """Record how a server answers, as an artifact of the version's training run.

    Args:
        registry: Where the version and its run are.
        service: The client that asks the server.
        model: The registered model's name.
        number: The version that the server runs.
        url: The server's prediction address.
        content: A JSON list of request bodies; None for the rows of the model's input example.

    Returns:
        What was recorded, for a person.

    Raises:
        DependencyError: the server or the registry does not answer.
        InvalidInputError: there is no such version, or no request or answer that can be recorded.
    """
    run_id, bodies = recorded_bodies(registry, model, number, content)
    recording = record_answers(service, url, bodies)
    registry.put_artifact(run_id, RECORDING_PATH, dump_recording(recording))
    return f"{len(recording.requests)} recorded requests are artifact {RECORDING_PATH} of run {run_id}"


def recorded_bodies(
    registry: Registry, model: str, number: int, content: bytes | None
) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """Return the run that the recording will belong to and the request bodies, from a file or the input example.

    Raises:
        InvalidInputError: there is no such version, it has no run, or there are no requests.
    """
    version = registry.version(model, number)
    if version is None:
        raise InvalidInputError(not_registered(model, number))
    if version.run_id is None:
        next_step = "Log the model in a run, and register that."
        raise InvalidInputError(Problem(str(version), "a version with a training run", "no run", next_step))
    if content is None:
        rows = registry.input_example(version)
        bodies: Any = [{"features": list(row)} for row in rows or ()]
        source, next_step = (
            f"the input example of {version}",
            "Log the model with input_example=..., or give --requests.",
        )
    else:
        source, next_step = "the requests", 'Give a JSON list of request bodies, [{"features": [...]}, ...].'
        try:
            bodies = json.loads(content)
        except ValueError:
            bodies = None
    if not isinstance(bodies, list) or not bodies or not all(isinstance(body, dict) and body for body in bodies):
        raise InvalidInputError(Problem(source, "at least one request", "no requests", next_step))
    return version.run_id, bodies


def record_answers(service: Service, url: str, requests: Sequence[Mapping[str, Any]]) -> Recording:
    """Send each request to the server, and keep the fields that are the same every time, for all requests.

    Raises:
        DependencyError: the server does not answer.
        InvalidInputError: the server refuses a request, or its answers have no field that stays the same.
    """
    answers = [[_ask(service, url, request) for _ in range(_REPETITIONS)] for request in requests]
    volatile = {
        name
        for repeated in answers
        for name in repeated[0]
        if any(answer.get(name) != repeated[0][name] for answer in repeated)
    }
    recorded = []
    for request, repeated in zip(requests, answers, strict=True):
        stable = {name: value for name, value in repeated[0].items() if name not in volatile}
        if not stable:
            raise InvalidInputError(
                Problem(
                    f"the answers of {url}",
                    f"fields that stay the same when a request is sent {_REPETITIONS} times",
                    f"only fields that change: {', '.join(sorted(volatile))}" if volatile else "an empty answer",
                    "Record a server whose answers depend on the request alone.",
                )
            )
        recorded.append(RecordedRequest(request=dict(request), response=stable, tolerance=_TOLERANCE))
    return Recording(requests=tuple(recorded))


def _ask(service: Service, url: str, request: Mapping[str, Any]) -> dict[str, Any]:
    body = json.dumps(request).encode()
    answer = service.ask(url, body, {"Content-Type": "application/json", REPLAY_HEADER: "record"}, _TIMEOUT)
    shown = answer.body[:200].decode("utf-8", "replace")
    if answer.status == 0 or answer.status >= 500:
        finding = f"status {answer.status}: {shown}" if answer.status else "no answer"
        raise DependencyError(Problem(url, "an answer", finding, "Check that the server is running, or correct --url."))
    try:
        parsed = json.loads(answer.body)
    except ValueError:
        parsed = None
    if answer.status != 200 or not isinstance(parsed, dict):
        raise InvalidInputError(
            Problem(
                f"the request {json.dumps(request)[:120]}",
                "status 200 and a JSON object",
                f"status {answer.status}: {shown}",
                "Correct the requests (--requests FILE), or the model's input example.",
            )
        )
    return parsed

"""Making recorded requests by asking a running server: its answers of today are what must be answered tomorrow."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.promotion.ports import Registry, Service
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.recorded_requests import REPLAY_HEADER, RecordedRequest, Recording

_ASKED = 3
"""How often each request is asked: a field that differs between the answers (a time, an id) is not recorded."""
_TOLERANCE = 1e-6
_TIMEOUT = 10.0


def recorded_bodies(
    registry: Registry, model: str, number: int, content: bytes | None
) -> tuple[str, Sequence[Mapping[str, Any]]]:
    """The run that the recording will belong to, and the request bodies: from a file's content, or the input example.

    Raises:
        InvalidInputError: no such version, no run, or no requests to ask.
    """
    version = registry.version(model, number)
    if version is None or version.run_id is None:
        found = "no run" if version else "none in the registry"
        next_step = "Correct the model or the number, or log the model in a run."
        problem = Problem(f"version {number} of {model}", "a version with a training run", found, next_step)
        raise InvalidInputError(problem)
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
        raise InvalidInputError(Problem(source, "one request or more", "none", next_step))
    return version.run_id, bodies


def record_answers(service: Service, url: str, requests: Sequence[Mapping[str, Any]]) -> Recording:
    """Ask the server each request and keep the fields that are the same every time, for all requests.

    Raises:
        DependencyError: the server does not answer.
        InvalidInputError: it refuses a request, or answers nothing that stays the same.
    """
    answers = [[_ask(service, url, request) for _ in range(_ASKED)] for request in requests]
    volatile = {
        name
        for repeated in answers
        for name in repeated[0]
        if any(one.get(name) != repeated[0][name] for one in repeated)
    }
    recorded = []
    for request, repeated in zip(requests, answers, strict=True):
        stable = {name: value for name, value in repeated[0].items() if name not in volatile}
        if not stable:
            raise InvalidInputError(
                Problem(
                    f"the answers of {url}",
                    f"fields that stay the same when a request is asked {_ASKED} times",
                    f"that all of them change: {', '.join(sorted(volatile)) or 'an empty answer'}",
                    "Record a server whose answers are determined by the request.",
                )
            )
        recorded.append(RecordedRequest(request=dict(request), response=stable, tolerance=_TOLERANCE))
    return Recording(requests=tuple(recorded))


def _ask(service: Service, url: str, request: Mapping[str, Any]) -> dict[str, Any]:
    body = json.dumps(request).encode()
    answer = service.ask(url, body, {"Content-Type": "application/json", REPLAY_HEADER: "record"}, _TIMEOUT)
    shown = answer.body[:200].decode("utf-8", "replace")
    if answer.status == 0 or answer.status >= 500:
        found = f"status {answer.status}: {shown}" if answer.status else "no answer"
        raise DependencyError(Problem(url, "an answer", found, "Start the server, or correct --url."))
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

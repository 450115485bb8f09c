"""Recording requests with the answers of a running server, which a rollout must still give."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from orchestration.promotion.answer_comparison import Tolerance, is_number
from orchestration.promotion.clock_values import ENOUGH, clock_paths
from orchestration.promotion.json_paths import Path, format_path
from orchestration.promotion.model_version import ModelVersion, not_registered
from orchestration.promotion.platform import Platform
from orchestration.promotion.policy import Policy, ServicePolicy
from orchestration.promotion.ports import Answer, Clock, Headers, Registry, Service
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.recorded_requests import (
    MAX_DEPTH,
    MAX_PATHS,
    MAX_REQUESTS,
    RECORDING_PATH,
    REPLAY_HEADER,
    RecordedAnswer,
    RecordedRequest,
    Recording,
    dump_recording,
    is_deeper_than,
    parse_recording,
    read_answer,
)
from orchestration.promotion.serving_protocols import PROTOCOLS, ProtocolName
from orchestration.promotion.steady_answers import (
    doubtful,
    named,
    torn,
    unsure,
    value_at,
    varying_paths,
    varying_prediction,
)

_REPETITIONS = 3
"""How often each request is sent at least: what differs between the answers (a time, an id) is not compared later."""
_EXAMPLE_ROWS = 100
"""How many rows of an input example are recorded: each is sent to each pod whenever the gate looks."""
_SHOWN = 10
"""How many of the paths that are not compared are shown."""


@dataclass(frozen=True)
class Asking:
    """Which server is asked, and how."""

    url: str
    protocol: ProtocolName = "mlflow"
    headers: Headers = field(default_factory=dict)
    timeout: float = 10.0
    """Seconds to wait for one answer."""


@dataclass(frozen=True)
class Comparing:
    """What a person says about how answers are compared later."""

    tolerance: Tolerance = field(default_factory=Tolerance)
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    """Other tolerances, by the path that they apply to."""
    ignore: Sequence[str] = ()
    """Paths to what is not compared."""


def choose_asking(
    platform: Platform, model: str, url: str, *, policy_name: str | None, protocol: ProtocolName | None
) -> Asking:
    """Find out how a model's server is asked: as its policy says, or else as MLflow's scoring server.

    Args:
        platform: has the policies.
        model: the registered model's name.
        url: the server's address; without a path, it gets that of the protocol.
        policy_name: the policy; None for the only one that promotes the model, if there is one.
        protocol: the protocol; None for that of the policy.

    Raises:
        InvalidInputError: the policy cannot be used, or several policies of the model disagree.
    """
    policies = [platform.policy(policy_name)] if policy_name else _policies_of(platform, model)
    services: list[ServicePolicy] = []
    for policy in policies:
        service = policy.service.model_copy(update={"url": "http://any", "path": policy.service.pod_path(model)})
        if service not in services:
            services.append(service)
    if len(services) > 1 and protocol is None:
        names = ", ".join(policy.name for policy in policies)
        raise InvalidInputError(
            Problem(
                f"the policies of {model}",
                "one way to ask its server",
                f"several, in {names}",
                "Name the policy with --policy, or the protocol with --protocol.",
            )
        )
    own = services[0] if len(services) == 1 else ServicePolicy(url="http://any")
    chosen = protocol or own.protocol
    path = own.path if chosen == own.protocol and own.path else PROTOCOLS[chosen].path_for(model)
    parts = urlsplit(url)
    address = url if parts.path not in ("", "/") or parts.query else url.rstrip("/") + path
    return Asking(address, chosen, own.headers, own.timeout)


def record_version(
    registry: Registry,
    service: Service,
    clock: Clock,
    model: str,
    number: int,
    asking: Asking,
    content: bytes | None,
    comparing: Comparing,
) -> str:
    """Record how a server answers, as an artifact of the version's training run.

    Args:
        registry: Where the version and its run are.
        service: The client that asks the server.
        clock: Tells the time, so that a time in an answer is known for one.
        model: The registered model's name.
        number: The version that the server runs.
        asking: The server, and how it is asked.
        content: A JSON list of requests; None for those that the model's input example gives.
        comparing: How answers are compared later.

    Returns:
        What was recorded, for a person.

    Raises:
        DependencyError: the server or the registry does not answer.
        InvalidInputError: there is no such version, or no request or answer that can be recorded.
    """
    version = _version(registry, model, number)
    requests = recorded_bodies(registry, version, asking.protocol, content)
    recording = record_answers(service, clock, asking, requests, comparing)
    document = dump_recording(recording)
    unreadable = parse_recording(document)
    if isinstance(unreadable, Problem):
        next_step = "Give fewer or smaller requests (--requests)."
        raise InvalidInputError(Problem("the recording", unreadable.expected, unreadable.found, next_step))
    assert version.run_id is not None, "a version without a run is refused"
    registry.put_artifact(version.run_id, RECORDING_PATH, document)
    return _described(asking, recording, version.run_id)


def recorded_bodies(
    registry: Registry, version: ModelVersion, protocol: ProtocolName, content: bytes | None
) -> Sequence[Any]:
    """Return the requests to record, from a file or from the input example in the form of the protocol.

    Raises:
        InvalidInputError: there are none.
    """
    if content is not None:
        return listed_bodies(content)
    example = registry.input_example(version)
    requests: list[Any] = []
    if example is not None:
        made = PROTOCOLS[protocol].requests(example, registry.signature(version))
        requests = list(islice(made, _EXAMPLE_ROWS))
    if not requests or not all(map(_is_request, requests)):
        raise InvalidInputError(
            Problem(
                f"the input example of {version}",
                f"at least one request of protocol {protocol}",
                "no input example that makes one",
                "Log the model with input_example=..., or give requests with --requests.",
            )
        )
    return requests


def listed_bodies(content: bytes) -> Sequence[Any]:
    """Return the requests that a file lists.

    Raises:
        InvalidInputError: it lists none, too many, or an empty one.
    """
    try:
        requests = json.loads(content)
    except (ValueError, RecursionError):
        requests = None
    usable: list[Any] = requests if isinstance(requests, list) and all(map(_is_request, requests)) else []
    if not 0 < len(usable) <= MAX_REQUESTS:
        raise InvalidInputError(
            Problem(
                "the requests",
                f"a JSON list with at least one request, {MAX_REQUESTS} at most, and none that is null or empty",
                f"{len(usable)} of them" if usable else "no such list",
                "Give a file such as [{...}, {...}].",
            )
        )
    return usable


def record_answers(
    service: Service, clock: Clock, asking: Asking, requests: Sequence[Any], comparing: Comparing
) -> Recording:
    """Send each request several times, and find out what of the answers can be compared later.

    Raises:
        DependencyError: the server does not answer.
        InvalidInputError: the server refuses a request, or the prediction would not be compared for sure.
    """
    times = max(_REPETITIONS, -(-ENOUGH // len(requests)))
    now = clock.now()
    answers = [[ask_once(service, asking, request) for _ in range(times)] for request in requests]
    for request, repeated in zip(requests, answers, strict=True):
        _require_one_kind(asking, request, repeated)
    recording = Recording(
        tolerance=comparing.tolerance,
        tolerances=dict(comparing.tolerances),
        ignore=tuple(comparing.ignore),
        requests=tuple(
            RecordedRequest(request=request, response=repeated[0])
            for request, repeated in zip(requests, answers, strict=True)
        ),
    )
    in_json = [
        (request, [answer.body for answer in repeated])
        for request, repeated in zip(requests, answers, strict=True)
        if repeated[0].sha256 is None
    ]
    if in_json:
        return _without_what_varies(asking, recording, in_json, now)
    if len(requests) > 1 and len({repeated[0].sha256 for repeated in answers}) == 1:
        found = "the same content for every request, which is not JSON"
        raise _refused(asking, found, "Give requests with different answers (--requests), or correct the URL.")
    return recording


def _without_what_varies(
    asking: Asking, recording: Recording, answers: Sequence[tuple[Any, list[Any]]], now: float
) -> Recording:
    """Leave out what varies, if the prediction is compared all the same.

    Args:
        asking: The server, and how it was asked.
        recording: What was asked, and its first answers.
        answers: Each request with its answers in JSON.
        now: When the answers came, in seconds since the epoch.
    """
    requests, repeated = [request for request, _ in answers], [bodies for _, bodies in answers]
    rules = recording.rules()
    varies = varying_paths(repeated, rules)
    if (numbers := torn(varies, repeated)) is not None:
        found = "some that change by more than the tolerance, and others that do not"
        raise _unsteady(asking, numbers, "numbers that stay", found)
    clocks = clock_paths(requests, repeated, rules, now)
    numbers_of_clocks = [path for path in clocks if is_number(value_at(repeated[0][0], path))]
    if (lost := varying_prediction([path for path in (*varies, *clocks) if path not in numbers_of_clocks])) is not None:
        raise _unsteady(
            asking,
            lost,
            "a prediction that stays",
            "one that changes by more than the tolerance, or comes from a clock",
        )
    changes = tuple(dict.fromkeys((*varies, *clocks)))
    ignore = tuple(dict.fromkeys((*recording.ignore, *(format_path(path) for path in changes))))
    if len(ignore) > MAX_PATHS:
        raise _refused(asking, f"{len(changes)} values that change: {named(changes)}")
    recording = recording.model_copy(update={"ignore": ignore})
    places = PROTOCOLS[asking.protocol].predictions
    in_doubt = doubtful(changes, numbers_of_clocks)
    first = [bodies[0] for bodies in repeated]
    doubt = unsure(requests, first, recording.rules(), places, left_out=bool(changes), in_doubt=in_doubt)
    if doubt is not None:
        raise _refused(asking, f"{doubt}; what changes is {named(changes)}" if changes else doubt)
    return recording


def _policies_of(platform: Platform, model: str) -> list[Policy]:
    """The policies that promote a model; broken ones and a folder that does not exist have none to offer."""
    policies = []
    try:
        for name in platform.policy_names():
            try:
                policies.append(platform.policy(name))
            except InvalidInputError:
                continue
    except InvalidInputError:
        return []
    return [policy for policy in policies if policy.model == model]


def _version(registry: Registry, model: str, number: int) -> ModelVersion:
    version = registry.version(model, number)
    if version is None:
        raise InvalidInputError(not_registered(model, number))
    if version.run_id is None:
        next_step = "Log the model in a run, and register that."
        raise InvalidInputError(Problem(str(version), "a version with a training run", "no run", next_step))
    return version


def _is_request(value: object) -> bool:
    return value not in (None, {}, [], "") and not is_deeper_than(value, MAX_DEPTH)


def ask_once(service: Service, asking: Asking, request: Any) -> RecordedAnswer:
    """Send one request, and read the answer as one that can be recorded.

    Raises:
        DependencyError: the server does not answer.
        InvalidInputError: it refuses the request, or its answer has no content that can be recorded.
    """
    body = json.dumps(request).encode()
    answer = service.ask(asking.url, body, {**asking.headers, REPLAY_HEADER: "record"}, asking.timeout)
    shown = answer.body[:200].decode("utf-8", "replace")
    if answer.status == 0 or answer.status >= 500:
        next_step = "Check that the server is running, or correct its URL."
        raise DependencyError(Problem(asking.url, "an answer", answer.described, next_step))
    if not 200 <= answer.status <= 299:
        raise _refuses(asking, request, answer, shown)
    read = read_answer(answer)
    if answer.content_type == "text/html":  # the API server's proxy to a pod rewrites links in pages
        raise _refuses(asking, request, answer, "a page (text/html)")
    if not answer.body:
        raise _refuses(asking, request, answer, "an empty body")
    if read.sha256 is None and is_deeper_than(read.body, MAX_DEPTH - 4):  # the recording puts it 4 levels deeper
        raise _refuses(asking, request, answer, "JSON that is nested too deeply")
    return read


def _refuses(asking: Asking, request: Any, answer: Answer, shown: str) -> InvalidInputError:
    return InvalidInputError(
        Problem(
            f"the request {json.dumps(request)[:120]} to {asking.url}",
            "an answer with content that is no page, and a status from 200 to 299",
            f"status {answer.status}: {shown}",
            f"Correct the URL, the protocol (--protocol; it was asked as {asking.protocol}), or the requests "
            "(--requests).",
        )
    )


def _require_one_kind(asking: Asking, request: Any, repeated: Sequence[RecordedAnswer]) -> None:
    """Refuse statuses, and content that is not JSON, that change from answer to answer."""
    kinds = {(answer.status, answer.content_type, answer.sha256) for answer in repeated}
    if len(kinds) > 1:
        shown = ", ".join(sorted(f"{status} {kind} {digest or 'JSON'}" for status, kind, digest in kinds))
        found = f"other answers each time to {json.dumps(request)[:120]}: {shown}"
        next_step = (
            "Let the server answer in JSON, of which parts can be left out, or give other requests (--requests)."
        )
        raise _refused(asking, found, next_step)


def _refused(asking: Asking, found: str, next_step: str = "") -> InvalidInputError:
    next_step = next_step or (
        "Give requests with different answers (--requests), allow numbers to differ more (--tolerance '$.PATH=0.001'), "
        "or name what need not be compared (--ignore '$.PATH')."
    )
    expected = "a prediction that stays the same when a request is sent again"
    return InvalidInputError(Problem(f"the answers of {asking.url}", expected, found, next_step))


def _unsteady(asking: Asking, path: Path, expected: str, found: str) -> InvalidInputError:
    where = format_path(path)
    return InvalidInputError(
        Problem(
            f"the answers of {asking.url}",
            f"{expected} the same at {where} when a request is sent again",
            found,
            f"Allow numbers to differ more there (--tolerance '{where}=0.001'), or, if that is no prediction, do not "
            f"compare it (--ignore '{where}').",
        )
    )


def _described(asking: Asking, recording: Recording, run_id: str) -> str:
    tolerance = "exactly equal" if recording.tolerance.is_exact else f"equal within {recording.tolerance}"
    lines = [
        f"{len(recording.requests)} recorded requests are artifact {RECORDING_PATH} of run {run_id}",
        f"asked as {asking.protocol} at {asking.url}",
        f"numbers must be {tolerance}",
        *(f"at {path} within {own}" for path, own in recording.tolerances.items()),
    ]
    if recording.ignore:
        more = f" and {len(recording.ignore) - _SHOWN} more" if len(recording.ignore) > _SHOWN else ""
        lines.append(f"not compared: {', '.join(recording.ignore[:_SHOWN])}{more}")
    return "\n".join(lines)

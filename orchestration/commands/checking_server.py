"""`incumbent check-server`: whether a running server keeps the contract that a promotion relies on.

The contract is docs/model-server-contract.md; each of its lines that can be seen from outside is a check here.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from orchestration.commands.probes import Outcome
from orchestration.commands.recording import Asking, Comparing, ask_once, listed_bodies, record_answers
from orchestration.promotion.metrics_presets import LATENCY_P95, PRESETS
from orchestration.promotion.ports import Answer, Clock, Headers, Service
from orchestration.promotion.problems import InvalidInputError, Problem, ProblemError
from orchestration.promotion.recorded_requests import REPLAY_HEADER, Recording, compare, parse_recording
from orchestration.promotion.scraped_series import Scraped, read_series, selectors_of
from orchestration.promotion.serving_protocols import PROTOCOLS, ProtocolName

_COUNT_SECONDS = 5.0
"""How long a server may take to count what it has answered: some count only once the answer is sent."""
_LOOK_SECONDS = 0.2
_TEXT_FORMATS = ("text/plain", "application/openmetrics-text")
"""What a Prometheus 3 reads without being told the format (its setting `fallback_scrape_protocol`)."""
_NO_JSON = b"this is no JSON"


@dataclass(frozen=True)
class Check:
    """One line of the contract, as a server keeps it."""

    name: str
    expected: str
    outcome: Outcome
    found: str
    next_step: str = ""


@dataclass(frozen=True)
class Use:
    """What a policy can say about this server."""

    field: str
    outcome: Outcome
    """`OK` when it works, `UNKNOWN` when something beside the server decides, `FAILED` when it does not work, and
    `NOT_ASKED` when a check that decides was not asked."""
    says: str


@dataclass(frozen=True)
class Report:
    """What was found."""

    checks: tuple[Check, ...]
    uses: tuple[Use, ...]

    @property
    def keeps_the_contract(self) -> bool:
        """Whether no check failed."""
        return all(check.outcome is not Outcome.FAILED for check in self.checks)


@dataclass(frozen=True)
class Server:
    """A running server, and what it is held to."""

    asking: Asking
    """Where and how requests are sent."""
    probes: Mapping[str, str]
    """The addresses that say whether it is `live` and `ready`; empty where the protocol has none."""
    metrics: str
    """The address of its metrics."""
    preset: str | None
    """Whose queries its metrics must answer; None when a policy has its own."""
    requests: Sequence[Any] | Recording
    """What to ask; with the answers, if they are known."""


class _Counted:
    """Counts the requests that a service answered well."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.well = 0

    def ask(self, url: str, body: bytes, headers: Headers, timeout: float) -> Answer:
        answer = self._service.ask(url, body, headers, timeout)
        self.well += 200 <= answer.status <= 299
        return answer

    def reach(self, url: str, headers: Headers, timeout: float) -> Answer:
        return self._service.reach(url, headers, timeout)

    def check_headers(self, headers: Headers) -> None:
        self._service.check_headers(headers)


def server_at(
    url: str,
    protocol: ProtocolName,
    model: str | None,
    *,
    metrics: str | None,
    preset: str | None,
    content: bytes,
) -> Server:
    """Say where a server is asked what.

    Args:
        url: its address; without a path, requests go to that of the protocol.
        protocol: how it is asked.
        model: the model's name in its paths, where the protocol has it there.
        metrics: the address of its metrics; None for the path `/metrics` beside `url`.
        preset: one of `metrics_presets.PRESETS`, or None.
        content: a JSON list of requests, or a recording.

    Raises:
        InvalidInputError: the model's name is missing, or the requests cannot be used.
    """
    spoken = PROTOCOLS[protocol]
    has_path = urlsplit(url).path not in ("", "/")
    if "{model}" in spoken.path and model is None and not has_path:
        problem = Problem(
            f"protocol {protocol}",
            "the model's name, which is a part of the path",
            "none",
            "Name it with --model, or give the whole URL of its predictions.",
        )
        raise InvalidInputError(problem)
    paths = spoken.probes_for(model or "")
    known = {name: model is not None or "{model}" not in getattr(spoken, name) for name in paths}
    return Server(
        Asking(url if has_path else url.rstrip("/") + spoken.path_for(model or ""), protocol),
        {name: urljoin(url, path) if path and known[name] else "" for name, path in paths.items()},
        metrics or urljoin(url, "/metrics"),
        preset,
        _requests(content),
    )


def check_server(service: Service, clock: Clock, server: Server) -> Report:
    """Hold a server to the contract; it gets each request a few times, marked as recorded requests are."""
    probes = [_probe(service, server, name) for name in server.probes]
    before = _scrape(service, server)
    counted = _Counted(service)
    answers = _answers(counted, clock, server)
    counts = _counts(server.preset) if server.preset and answers[0].outcome is Outcome.OK else ()
    after = _scrape_counted(service, clock, server, before, counts, counted.well)
    checks = (
        *probes,
        *answers,
        _refuses(service, server),
        _readable(server, after),
        *_counting(server, before, after, counts, counted.well),
        _model_info(server, after),
    )
    return Report(checks, tuple(_uses(server, {check.name: check.outcome for check in checks})))


def _requests(content: bytes) -> Sequence[Any] | Recording:
    """Read a list of requests, or a recording, which is an object.

    Raises:
        InvalidInputError: it is neither.
    """
    if not content.lstrip().startswith(b"{"):
        return listed_bodies(content)
    recording = parse_recording(content)
    if isinstance(recording, Problem):
        raise InvalidInputError(recording)
    return recording


def _probe(service: Service, server: Server, name: str) -> Check:
    address, expected = server.probes[name], "status 200 to a GET"
    if not address:
        return Check(name, expected, Outcome.NOT_ASKED, f"no place for it in protocol {server.asking.protocol}")
    answer = service.reach(address, {}, server.asking.timeout)
    if answer.status == 200:
        return Check(name, expected, Outcome.OK, f"status 200 at {address}")
    step = {
        "live": "Check that the server is running and that the URL is right. Whether it lives must not need a model.",
        "ready": "Answer with 200 there once the model is loaded: pods get requests as soon as they are ready.",
    }[name]
    return Check(name, expected, Outcome.FAILED, f"{answer.described} at {address}", step)


def _answers(service: Service, clock: Clock, server: Server) -> list[Check]:
    """Ask the requests: first whether each is answered, and then whether the answers are what they should be."""
    asking, asked = server.asking, server.requests
    bodies = [each.request for each in asked.requests] if isinstance(asked, Recording) else asked
    expected = "content that is no page, with a status from 200 to 299"

    def each_is_answered() -> str:
        for body in bodies:
            ask_once(service, asking, body)
        return f"{len(bodies)} requests to {asking.url} answered"

    def steady() -> str:
        assert not isinstance(asked, Recording)
        recording = record_answers(service, clock, asking, asked, Comparing())
        return f"{len(recording.requests)} requests can be recorded" + (
            f"; not compared: {', '.join(recording.ignore)}" if recording.ignore else ""
        )

    def recorded() -> str:
        assert isinstance(asked, Recording)
        headers = {**asking.headers, REPLAY_HEADER: "check"}
        for number, each in enumerate(asked.requests, start=1):
            answer = service.ask(asking.url, json.dumps(each.request).encode(), headers, asking.timeout)
            wrong = compare(each, answer, asked.rules())
            if wrong is not None:
                subject = f"recorded request {number} of {len(bodies)}"
                step = "Serve the version that the recording is of, or record it again with `incumbent record`."
                raise InvalidInputError(Problem(subject, "the recorded answer", f"{subject}: {wrong}", step))
        return f"{len(bodies)} recorded requests answered as recorded"

    first = _judged("answers", expected, each_is_answered)
    name, what, ask = (
        ("recorded_answers", "the recorded answers", recorded)
        if isinstance(asked, Recording)
        else ("steady_answers", "predictions that depend on the request and stay the same", steady)
    )
    return [first, _judged(name, what, ask) if first.outcome is Outcome.OK else _not_asked(name, what, "answers")]


def _judged(name: str, expected: str, ask: Callable[[], str]) -> Check:
    try:
        return Check(name, expected, Outcome.OK, ask())
    except ProblemError as error:
        return Check(name, expected, Outcome.FAILED, error.problem.found, error.problem.next_step)


def _not_asked(name: str, expected: str, needs: str) -> Check:
    return Check(name, expected, Outcome.NOT_ASKED, f"needs {needs}")


def _refuses(service: Service, server: Server) -> Check:
    name, expected = "refuses_nonsense", "a status from 400 to 499 for a body that is no JSON"
    answer = service.ask(server.asking.url, _NO_JSON, {REPLAY_HEADER: "check"}, server.asking.timeout)
    if 400 <= answer.status <= 499:
        return Check(name, expected, Outcome.OK, f"status {answer.status}")
    step = "Answer a client's mistake with 400: any other status than 4xx counts for or against the model."
    return Check(name, expected, Outcome.FAILED, answer.described, step)


def _scrape(service: Service, server: Server) -> Scraped | Problem:
    """Read the metrics as Prometheus would."""
    subject, expected = f"the metrics at {server.metrics}", "status 200 and Prometheus's text format"
    answer = service.reach(server.metrics, {}, server.asking.timeout)
    step = "Serve the metrics there, or say where they are with --metrics-url."
    if answer.status != 200:
        return Problem(subject, expected, f"{answer.described} at {server.metrics}", step)
    if answer.content_type not in _TEXT_FORMATS:
        found = f"the content type {answer.content_type or 'none'} at {server.metrics}"
        return Problem(subject, expected, found, "Answer with the content type text/plain; version=0.0.4.")
    try:
        return read_series(answer.body.decode("utf-8"))
    except ValueError as error:  # also text that is not UTF-8
        return Problem(subject, expected, f"other text at {server.metrics} ({error})", step)


def _readable(server: Server, scraped: Scraped | Problem) -> Check:
    expected = "status 200 and Prometheus's text format"
    if isinstance(scraped, Problem):
        return Check("metrics", expected, Outcome.FAILED, scraped.found, scraped.next_step)
    return Check("metrics", expected, Outcome.OK, f"{len(scraped.series)} series at {server.metrics}")


@dataclass(frozen=True)
class _Count:
    """Series of a preset that each request adds to."""

    name: str
    meaning: str
    query: str
    labels: Mapping[str, str]
    needs: str = ""
    """The count without which this one says nothing new."""

    def gained(self, before: Scraped, after: Scraped) -> float:
        selectors = selectors_of(self.query)
        return after.total(selectors, **self.labels) - before.total(selectors, **self.labels)


def _counts(preset: str) -> tuple[_Count, ...]:
    queries = PRESETS[preset]
    counts = (
        _Count("requests_counted", "each request counted", queries.requests, {}),
        _Count("successes_counted", "each one counted as answered well", queries.well, {}, "requests_counted"),
        _Count("durations_measured", "the duration of each one", queries.slos[LATENCY_P95], {"le": "+Inf"}),
        _Count(
            "replays_marked",
            f"each one with the header {REPLAY_HEADER} counted as source=replayed",
            queries.requests,
            {"source": "replayed"},
            "requests_counted",
        ),
    )
    return counts if "$source" in queries.requests else counts[:-1]


def _scrape_counted(
    service: Service,
    clock: Clock,
    server: Server,
    before: Scraped | Problem,
    counts: Sequence[_Count],
    asked: int,
) -> Scraped | Problem:
    """Read the metrics again, until all that was asked is counted or has had its time to be."""
    until = clock.now() + _COUNT_SECONDS
    while True:
        after = _scrape(service, server)
        if isinstance(before, Problem) or isinstance(after, Problem) or clock.now() >= until:
            return after
        if all(count.gained(before, after) >= asked for count in counts):
            return after
        clock.sleep(_LOOK_SECONDS)


def _counting(
    server: Server, before: Scraped | Problem, after: Scraped | Problem, counts: Sequence[_Count], asked: int
) -> list[Check]:
    """Judge what the preset's queries would see of the requests."""
    if server.preset is None:
        return []
    checks: list[Check] = []
    for count in counts or _counts(server.preset):
        failed = [check.name for check in checks if check.outcome is Outcome.FAILED]
        if not counts or isinstance(before, Problem) or isinstance(after, Problem):
            checks.append(_not_asked(count.name, count.meaning, "metrics" if counts else "answers"))
        elif count.needs in failed:
            checks.append(_not_asked(count.name, count.meaning, count.needs))
        elif (gained := count.gained(before, after)) >= asked:
            checks.append(Check(count.name, count.meaning, Outcome.OK, f"{gained:g} more after {asked} requests"))
        else:
            shown = ", ".join(sorted({selector.name for selector in selectors_of(count.query)}))
            step = (
                f"Let every request count in {shown}, as the preset {server.preset} asks for it; the processes of one "
                "server must be added up. Or name another preset with --metrics."
            )
            found = f"{gained:g} more in {shown} after {asked} requests"
            checks.append(Check(count.name, count.meaning, Outcome.FAILED, found, step))
    return checks


def _model_info(server: Server, scraped: Scraped | Problem) -> Check:
    """Whether the server says which model it loaded, as `served_model` reads it."""
    name, expected = "model_info", "a series model_info with the labels model and version, or run_id"
    if isinstance(scraped, Problem):
        return _not_asked(name, expected, "metrics")
    infos = scraped.labels_of("model_info")
    telling = [info for info in infos if info.get("version", "").isdigit() or info.get("run_id")]
    if telling:
        parts = (f"{key}={telling[0][key]}" for key in ("model", "version", "run_id") if telling[0].get(key))
        return Check(name, expected, Outcome.OK, ", ".join(parts))
    found = f"one with the labels {', '.join(infos[0]) or 'none'}" if infos else "no such series"
    step = "Export it with what was loaded, so that addresses can be promoted whatever the versions answer."
    must = server.asking.protocol == "features"
    return Check(name, expected, Outcome.FAILED if must else Outcome.UNKNOWN, found, step)


def _uses(server: Server, outcomes: Mapping[str, Outcome]) -> Iterator[Use]:
    """Say which fields of a policy work with the server, by what the checks found."""

    def use(field: str, names: Iterable[str], works: str, otherwise: str, *, must: bool) -> Use:
        """What must work and does not is wrong; something else decides of what need not."""
        found = {outcomes[name] for name in names if name in outcomes}
        if found == {Outcome.OK}:
            return Use(field, Outcome.OK, works)
        if must and Outcome.FAILED not in found:
            return Use(field, Outcome.NOT_ASKED, "see the checks")
        return Use(field, Outcome.FAILED if must else Outcome.UNKNOWN, otherwise)

    yield use(
        f"service.protocol: {server.asking.protocol}",
        ("answers", "steady_answers", "recorded_answers"),
        "recorded requests prove the new pods",
        "recorded requests would be refused or would fail: see the checks",
        must=True,
    )
    if server.preset is None:
        yield Use("gate.metrics", Outcome.NOT_ASKED, "name a preset with --metrics, or write your own queries")
    else:
        yield use(
            f"gate.metrics: {server.preset}",
            ("metrics", *(count.name for count in _counts(server.preset))),
            "its queries see every request",
            "its queries would judge too little or nothing: see the checks",
            must=True,
        )
    yield use(
        "gate.traffic",
        ("replays_marked",),
        "real requests are judged by themselves as soon as there are enough of them",
        "recorded requests are kept apart by time, which makes a soak longer",
        must=False,
    )
    yield use(
        "deploys: model_uri",
        ("model_info",),
        "model_info proves which version an address led to",
        "only where a version answers its recorded requests otherwise than the one before it",
        must=False,
    )

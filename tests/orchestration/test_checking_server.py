"""`incumbent check-server`: a server that keeps the contract passes, and one that breaks a line fails that check."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from orchestration.cli import main
from orchestration.cli.checking import check_server as command
from orchestration.commands.checking_server import Report, check_server, server_at
from orchestration.commands.probes import Outcome
from orchestration.promotion.metrics_presets import PRESETS
from orchestration.promotion.ports import Answer, Headers
from orchestration.promotion.problems import InvalidInputError
from orchestration.promotion.recorded_requests import REPLAY_HEADER
from orchestration.promotion.serving_protocols import PROTOCOLS
from testbeds.common.tools import CHECKOUT
from tests.fakes.clock import FakeClock

URL = "http://model:8080"
REQUESTS = [{"features": [0.0]}, {"features": [1.0]}]
RECORDING = {
    "version": 2,
    "requests": [
        {"request": request, "response": {"body": {"prediction": number}}} for number, request in enumerate(REQUESTS)
    ],
}


def json_answer(status: int, body: object) -> Answer:
    return Answer(status, json.dumps(body).encode(), 0.001, content_type="application/json")


@dataclass
class ContractServer:
    """Keeps the contract; a test breaks one line of it."""

    ready: int = 200
    refusal: int = 400
    metrics_type: str = "text/plain"
    source_of_replays: str = "replayed"
    outcome: str = "ok"
    info: str = 'model_info{model="iris",version="7",image="i",run_id="r"} 1'
    counts_every: int = 1
    measures: bool = True
    predict: Callable[[float, int], Any] = lambda feature, _asked: {"prediction": int(feature)}
    asked: int = 0
    headers: list[Headers] = field(default_factory=list)

    def ask(self, url: str, body: bytes, headers: Headers, timeout: float) -> Answer:
        assert url == f"{URL}/predict"
        self.headers.append(headers)
        try:
            feature = json.loads(body)["features"][0]
        except ValueError:
            return json_answer(self.refusal, {"error": "the body is not JSON"})
        self.asked += 1
        answer = self.predict(feature, self.asked)
        return answer if isinstance(answer, Answer) else json_answer(200, answer)

    def reach(self, url: str, headers: Headers, timeout: float) -> Answer:
        if url == f"{URL}/metrics":
            return Answer(200, self._exposition().encode(), 0.001, content_type=self.metrics_type)
        return json_answer({f"{URL}/live": 200, f"{URL}/health": self.ready}.get(url, 404), {})

    def check_headers(self, headers: Headers) -> None:
        raise AssertionError("there are no secret headers")

    def _exposition(self) -> str:
        counted = self.asked // self.counts_every
        labels = f'model="iris",version="7",source="{self.source_of_replays}"'
        lines = [f'model_predictions_total{{{labels},outcome="{self.outcome}"}} {counted}', self.info]
        if self.measures:
            lines.append(f'model_inference_duration_seconds_bucket{{{labels},le="+Inf"}} {counted}')
        return "\n".join(lines) + "\n"


def held_to(server: Any, requests: object = REQUESTS, **options: Any) -> Report:
    options = {"metrics": None, "preset": "incumbent", **options}
    at = server_at(URL, "features", None, content=json.dumps(requests).encode(), **options)
    return check_server(server, FakeClock(), at)


def outcomes(report: Report) -> dict[str, Outcome]:
    return {check.name: check.outcome for check in report.checks}


def test_a_server_that_keeps_the_contract_passes_every_check() -> None:
    """Each line was asked, and each field of a policy works with it; every request was marked as a recorded one."""
    server = ContractServer()
    report = held_to(server)
    assert outcomes(report) == dict.fromkeys(
        (
            "live",
            "ready",
            "answers",
            "steady_answers",
            "refuses_nonsense",
            "metrics",
            "requests_counted",
            "successes_counted",
            "durations_measured",
            "replays_marked",
            "model_info",
        ),
        Outcome.OK,
    )
    assert report.keeps_the_contract
    assert {use.outcome for use in report.uses} == {Outcome.OK}
    assert all(REPLAY_HEADER in headers for headers in server.headers)


@pytest.mark.parametrize(
    ("broken", "check", "found", "not_asked"),
    [
        ({"ready": 503}, "ready", "status 503", set()),
        (
            {"predict": lambda *_: json_answer(500, "boom")},
            "answers",
            "status 500",
            {"steady_answers", "requests_counted", "successes_counted", "durations_measured", "replays_marked"},
        ),
        (
            {"predict": lambda _feature, asked: {"prediction": asked}},
            "steady_answers",
            "what changes is $.prediction",
            set(),
        ),
        (
            {"predict": lambda *_: {"error": "no model"}},
            "steady_answers",
            "nothing but an error",
            set(),
        ),
        ({"refusal": 500}, "refuses_nonsense", "status 500", set()),
        ({"refusal": 200}, "refuses_nonsense", "status 200", set()),
        (
            {"metrics_type": "text/html"},
            "metrics",
            "text/html",
            {"requests_counted", "successes_counted", "durations_measured", "replays_marked", "model_info"},
        ),
        (
            {"info": "no metric { at all"},
            "metrics",
            "other text",
            {"requests_counted", "successes_counted", "durations_measured", "replays_marked", "model_info"},
        ),
        ({"outcome": "invalid"}, "requests_counted", "0 more", {"successes_counted", "replays_marked"}),
        ({"outcome": "error"}, "successes_counted", "0 more", set()),
        ({"measures": False}, "durations_measured", "0 more", set()),
        ({"source_of_replays": "real"}, "replays_marked", "0 more", set()),
        ({"info": 'model_info{framework="sklearn"} 1'}, "model_info", "labels framework", set()),
        ({"info": ""}, "model_info", "no such series", set()),
    ],
)
def test_a_broken_line_fails_its_check_alone(
    broken: dict[str, Any], check: str, found: str, not_asked: set[str]
) -> None:
    """What it was, and what to do; nothing else fails, and what could not be asked does not count as kept."""
    report = held_to(ContractServer(**broken))
    assert not report.keeps_the_contract
    (failed,) = (each for each in report.checks if each.outcome is Outcome.FAILED)
    assert failed.name == check
    assert found in failed.found
    assert failed.next_step
    assert {name for name, outcome in outcomes(report).items() if outcome is Outcome.NOT_ASKED} == not_asked


def test_a_server_that_counts_in_one_of_its_processes_alone_is_found() -> None:
    """The page of metrics of one of two workers knows half of the requests."""
    report = held_to(ContractServer(counts_every=2))
    failed = {each.name: each for each in report.checks if each.outcome is Outcome.FAILED}
    assert set(failed) == {"requests_counted", "durations_measured"}
    assert {use.field: use.outcome for use in report.uses}["gate.metrics: incumbent"] is Outcome.FAILED
    assert "the processes of one server must be added up" in failed["requests_counted"].next_step


def test_the_page_of_the_contract_names_every_check() -> None:
    """And no other: each is in the last column of the line that it asks."""
    page = (CHECKOUT / "docs/model-server-contract.md").read_text(encoding="utf-8")
    with_checks = [table for table in page.split("\n\n") if table.partition("\n")[0].endswith("| check |")]
    cells = [row.split("|")[-2] for table in with_checks for row in table.splitlines()]
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert named == outcomes(held_to(ContractServer())).keys()


def test_nobody_there_fails_what_was_asked() -> None:
    """A wrong address is no pass."""

    class Nobody(ContractServer):
        def ask(self, url: str, body: bytes, headers: Headers, timeout: float) -> Answer:
            return Answer(0, b"connection refused", 0.0)

        def reach(self, url: str, headers: Headers, timeout: float) -> Answer:
            return Answer(0, b"connection refused", 0.0)

    report = held_to(Nobody())
    failed = {check.name for check in report.checks if check.outcome is Outcome.FAILED}
    assert [use.outcome for use in report.uses[:2]] == [Outcome.FAILED, Outcome.FAILED]
    assert failed == {"live", "ready", "answers", "refuses_nonsense", "metrics"}


def test_a_recording_is_compared_with_its_answers() -> None:
    """The artifact of a run is as good as a list, and says what must be answered."""
    assert outcomes(held_to(ContractServer(), RECORDING))["recorded_answers"] is Outcome.OK
    other = held_to(ContractServer(predict=lambda feature, _asked: {"prediction": 1 - int(feature)}), RECORDING)
    (failed,) = (check for check in other.checks if check.outcome is Outcome.FAILED)
    assert failed.name == "recorded_answers"
    assert failed.found.startswith("recorded request 1 of 2: ")


def test_without_model_info_an_address_needs_other_answers() -> None:
    """A stock server, which states nothing, passes, and the report says what a policy cannot count on."""
    at = partial(server_at, f"{URL}/predict", "json", None, metrics=None, content=json.dumps(REQUESTS).encode())
    report = check_server(ContractServer(info=""), FakeClock(), at(preset=None))
    assert report.keeps_the_contract
    assert outcomes(report)["live"] is Outcome.NOT_ASKED
    assert {use.field: use.outcome for use in report.uses} == {
        "service.protocol: json": Outcome.OK,
        "gate.metrics": Outcome.NOT_ASKED,
        "gate.traffic": Outcome.UNKNOWN,
        "deploys: model_uri": Outcome.UNKNOWN,
    }


@pytest.mark.parametrize(
    ("protocol", "model", "asked", "ready"),
    [
        ("v1", "iris", "/v1/models/iris:predict", "/v1/models/iris"),
        ("v2", "iris", "/v2/models/iris/infer", "/v2/health/ready"),
        ("mlflow", None, "/invocations", "/health"),
    ],
)
def test_each_protocol_is_asked_at_its_paths(protocol: Any, model: str | None, asked: str, ready: str) -> None:
    """As a promotion asks pods; the metrics are beside them unless said otherwise."""
    at = partial(server_at, metrics=None, preset=None, content=b"[1]")
    server = at(URL, protocol, model)
    assert (server.asking.url, server.probes["ready"]) == (URL + asked, URL + ready)
    assert server.metrics == f"{URL}/metrics"
    assert at(f"{URL}/other", protocol, model).asking.url == f"{URL}/other"


def test_a_protocol_with_the_models_name_in_its_path_needs_it() -> None:
    """Or the whole path; then the probe of readiness, whose path is not known, is not asked."""
    at = partial(server_at, metrics=None, preset=None, content=b"[1]")
    with pytest.raises(InvalidInputError, match="Name it with --model"):
        at(URL, "v1", None)
    assert at(f"{URL}/v1/models/x:predict", "v1", None).probes == {"live": "", "ready": ""}
    assert at(f"{URL}/v2/models/x/infer", "v2", None).probes["ready"] == f"{URL}/v2/health/ready"


def test_the_command_takes_each_preset_and_protocol() -> None:
    """Its choices are written out, so that `--help` imports nothing."""
    choices = {
        option.name: set(option.type.choices) for option in command.params if isinstance(option.type, click.Choice)
    }
    assert choices == {"protocol": set(PROTOCOLS), "preset": set(PRESETS)}


def test_a_file_that_holds_no_requests_is_refused(tmp_path: Path) -> None:
    """One line and exit code 3, before the server is asked."""
    file = tmp_path / "requests.json"
    for content in ("[]", '{"version": 3}', "no JSON"):
        file.write_text(content, encoding="utf-8")
        result = CliRunner().invoke(main, ["check-server", URL, "--requests", str(file)])
        assert (result.exit_code, result.stdout) == (3, "")
        assert "requests" in result.stderr

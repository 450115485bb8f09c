"""The client that sends requests throughout logs what the service really did."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from testbeds.common.tools import CHECKOUT
from testbeds.story.client import send_request
from testbeds.story.look import read_log

FLOWER = [5.1, 3.5, 1.4, 0.2]


def test_an_answer_is_logged_with_the_version_that_gave_it(httpserver: HTTPServer) -> None:
    """The log takes version and pod from the answer's headers, and calls an answer with a prediction ok."""
    headers = {"X-Model-Version": "2", "X-Served-By": "pod-a"}
    httpserver.expect_request("/predict", method="POST", json={"features": FLOWER}).respond_with_json(
        {"prediction": 0}, headers=headers
    )
    logged = send_request(httpserver.url_for(""), FLOWER)
    assert (logged.ok, logged.status, logged.version, logged.pod) == (True, 200, "2", "pod-a")
    assert logged.error is None
    assert logged.seconds > 0


def test_an_error_is_logged_with_status_and_version(httpserver: HTTPServer) -> None:
    """The answer of a failing version is not ok, but is still logged with that version."""
    httpserver.expect_request("/predict").respond_with_data("boom", status=500, headers={"X-Model-Version": "3"})
    logged = send_request(httpserver.url_for(""), FLOWER)
    assert (logged.ok, logged.status, logged.version) == (False, 500, "3")


def test_an_answer_without_a_prediction_is_not_ok(httpserver: HTTPServer) -> None:
    """Status 200 alone does not make an answer ok; its body must hold a prediction."""
    for body in ("[]", "{}", "hello", "3"):
        httpserver.expect_oneshot_request("/predict").respond_with_data(body)
        logged = send_request(httpserver.url_for(""), FLOWER)
        assert (logged.ok, logged.status) == (False, 200)


def test_a_refused_connection_is_logged_with_status_zero() -> None:
    """A connection that is refused is logged like any other outcome, with its error."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        logged = send_request(f"http://127.0.0.1:{unused.getsockname()[1]}", FLOWER)
    assert (logged.ok, logged.status, logged.version) == (False, 0, None)
    assert "refused" in str(logged.error)


def test_the_log_is_complete_after_sigterm(httpserver: HTTPServer, tmp_path: Path) -> None:
    """The client sends until SIGTERM, each request on its own connection, and logs all that it reports as sent."""
    connections = []

    def answer(request: Request) -> Response:
        connections.append((request.environ["REMOTE_PORT"], request.headers["Connection"]))
        return Response(json.dumps({"prediction": 1}), 200, {"X-Model-Version": "1"})

    httpserver.expect_request("/predict").respond_with_handler(answer)
    log = tmp_path / "client's log.jsonl"
    command = [sys.executable, "-m", "testbeds.story.client", httpserver.url_for(""), "--log", str(log)]
    client = subprocess.Popen([*command, "--per-second", "50"], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    try:
        while len(connections) < 20:
            assert client.poll() is None, "the client ended before SIGTERM"
        client.send_signal(signal.SIGTERM)
        output, _ = client.communicate(timeout=30)
    finally:
        client.kill()
    requests = list(read_log(log))
    assert output == f"{len(requests)} requests sent\n"
    assert len(requests) == len(connections) == len({port for port, _ in connections})
    assert {header for _, header in connections} == {"close"}
    assert all(request.ok and request.version == "1" for request in requests)
    assert client.returncode == 0


def test_an_incomplete_line_is_left_out(tmp_path: Path) -> None:
    """The log of a client that was killed while it wrote a line can still be read."""
    log = tmp_path / "log.jsonl"
    entry = {"at": 1.0, "seconds": 0.1, "status": 200, "version": "1", "pod": "a", "ok": True, "error": None}
    log.write_text(json.dumps(entry) + "\n" + json.dumps(entry)[:20])
    assert [request.version for request in read_log(log)] == ["1"]


def test_the_end_of_a_log_is_read_in_whole_lines(tmp_path: Path) -> None:
    """Reading skips incomplete lines at either end, but not a line that starts exactly at the limit."""
    log = tmp_path / "client.jsonl"
    assert list(read_log(log, 10)) == []
    lines = [
        json.dumps({"at": at, "seconds": 0.1, "status": 200, "version": "1", "ok": True, "error": None, "pod": "a"})
        for at in (1.5, 2.5, 3.5)
    ]
    log.write_text("\n".join([*lines, lines[0][:20]]), encoding="utf-8")
    half, line = 20, len(lines[0]) + 1
    limits = (half, half + line - 1, half + line, 9999)
    times = {last: [request.at for request in read_log(log, last)] for last in limits}
    assert times == {half: [], half + line - 1: [], half + line: [3.5], 9999: [1.5, 2.5, 3.5]}

"""The client that sends requests throughout: what it writes down is what the service really did."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from testbeds.common.tools import CHECKOUT
from testbeds.story.client import ask
from testbeds.story.look import read_log

FLOWER = [5.1, 3.5, 1.4, 0.2]


def test_an_answer_is_logged_with_the_version_that_gave_it(httpserver: HTTPServer) -> None:
    """Version and pod come from the answer's headers, and a prediction makes it ok."""
    headers = {"X-Model-Version": "2", "X-Served-By": "pod-a"}
    httpserver.expect_request("/predict", method="POST", json={"features": FLOWER}).respond_with_json(
        {"prediction": 0}, headers=headers
    )
    answered = ask(httpserver.url_for(""), FLOWER)
    assert (answered.ok, answered.status, answered.version, answered.pod) == (True, 200, "2", "pod-a")
    assert answered.error is None
    assert answered.seconds > 0


def test_an_error_keeps_status_and_version(httpserver: HTTPServer) -> None:
    """A failing version's answer is not ok, and still says which version it was."""
    httpserver.expect_request("/predict").respond_with_data("boom", status=500, headers={"X-Model-Version": "3"})
    answered = ask(httpserver.url_for(""), FLOWER)
    assert (answered.ok, answered.status, answered.version) == (False, 500, "3")


def test_an_answer_without_a_prediction_is_not_ok(httpserver: HTTPServer) -> None:
    """Status 200 alone is no proof that the model answered."""
    for body in ("[]", "{}", "hello", "3"):
        httpserver.expect_oneshot_request("/predict").respond_with_data(body)
        answered = ask(httpserver.url_for(""), FLOWER)
        assert (answered.ok, answered.status) == (False, 200)


def test_nobody_there_is_an_answer_of_status_zero() -> None:
    """A refused connection is logged like any other outcome."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        answered = ask(f"http://127.0.0.1:{unused.getsockname()[1]}", FLOWER)
    assert (answered.ok, answered.status, answered.version) == (False, 0, None)
    assert "refused" in str(answered.error)


def test_the_log_is_whole_after_sigterm(httpserver: HTTPServer, tmp_path: Path) -> None:
    """The client goes on until SIGTERM; what it says it sent is in the log, each request on a connection of its own."""
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
            assert client.poll() is None, "the client ended by itself"
        client.send_signal(signal.SIGTERM)
        said, _ = client.communicate(timeout=30)
    finally:
        client.kill()
    found = list(read_log(log))
    assert said == f"{len(found)} requests sent\n"
    assert len(found) == len(connections) == len({port for port, _ in connections})
    assert {how for _, how in connections} == {"close"}
    assert all(one.ok and one.version == "1" for one in found)
    assert client.returncode == 0


def test_a_half_written_line_is_left_out(tmp_path: Path) -> None:
    """A client that was killed while it wrote leaves a log that can still be read."""
    log = tmp_path / "log.jsonl"
    whole = {"at": 1.0, "seconds": 0.1, "status": 200, "version": "1", "pod": "a", "ok": True, "error": None}
    log.write_text(json.dumps(whole) + "\n" + json.dumps(whole)[:20])
    assert [one.version for one in read_log(log)] == ["1"]


def test_the_end_of_a_log_is_read_by_whole_lines(tmp_path: Path) -> None:
    """Half a line at either end is left out, a line that begins exactly there is not, and a short log is read whole."""
    log = tmp_path / "client.jsonl"
    assert list(read_log(log, 10)) == []
    lines = [
        json.dumps({"at": at, "seconds": 0.1, "status": 200, "version": "1", "ok": True, "error": None, "pod": "a"})
        for at in (1.5, 2.5, 3.5)
    ]
    log.write_text("\n".join([*lines, lines[0][:20]]), encoding="utf-8")
    half, line = 20, len(lines[0]) + 1
    found = {last: [one.at for one in read_log(log, last)] for last in (half, half + line - 1, half + line, 9999)}
    assert found == {half: [], half + line - 1: [], half + line: [3.5], 9999: [1.5, 2.5, 3.5]}

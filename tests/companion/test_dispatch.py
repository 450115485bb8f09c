"""`incumbent companion --dispatch` as a process: its HTTP, its outbox under kills and full disks, and how it ends."""

import base64
import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner

from orchestration.adapters.outbox import FILE
from orchestration.cli import main
from orchestration.dispatcher.notification import Status
from testbeds.common.github_server import Fault, GitHubServer
from testbeds.common.processes import wait_until
from testbeds.common.services import free_ports
from tests.fakes.companion import AUTHORIZED, HOOK_TOKEN, SECONDS, Companion, companion_of
from tests.fakes.dispatching import alert, drift, notification
from tests.fakes.github import running_github
from tests.fakes.plain_http import HTTP


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with running_github() as server:
        yield server


@pytest.fixture
def companion(github: GitHubServer, tmp_path: Path) -> Iterator[Companion]:
    """The companion, which has not been started yet."""
    with companion_of(github, tmp_path) as made:
        yield made


def test_alerts_become_runs(companion: Companion, github: GitHubServer) -> None:
    """A group of pods and a model start their workflows once, however often the group is repeated."""
    companion.start()
    sent = (alert(pod="iris-1"), alert(pod="iris-2"), drift(), alert("ScrapeFailing"), alert(status=Status.RESOLVED))
    assert companion.post(*sent).json() == {"accepted": 5, "known": 0}
    assert companion.post(*sent).json() == {"accepted": 0, "known": 5}
    wait_until(lambda: len(github.dispatches) == 3 and companion.waits == 0, SECONDS, "three runs start")
    pods = [run.inputs.get("pod_name") for run in github.dispatches]
    assert pods == ["iris-1", "iris-2", None]
    assert companion.sample("incumbent_dispatches_total", workflow="ai-log-analysis.yml") == 2
    assert companion.sample("incumbent_alerts_accepted_total", known="yes") == 5
    assert companion.end(signal.SIGTERM) == 0
    assert companion.output == f"listening at {companion.url} (dispatch)\n"


BASIC = base64.b64encode(f"anyone:{HOOK_TOKEN}".encode()).decode()


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "reason"),
    [
        ("POST", "/alerts", {"headers": {"Authorization": f"basic {BASIC}"}}, 200, None),
        ("POST", "/alerts", {"headers": {}}, 401, "unauthorized"),
        ("POST", "/alerts", {"headers": {"Authorization": "Bearer another"}}, 401, "unauthorized"),
        ("POST", "/alerts", {"headers": {"Authorization": HOOK_TOKEN}}, 401, "unauthorized"),
        ("POST", "/alerts", {"headers": {"Authorization": "Basic !"}}, 401, "unauthorized"),
        ("POST", "/alerts", {"headers": {b"Authorization": "Bearer th\xe9".encode("latin-1")}}, 401, "unauthorized"),
        ("POST", "/alerts", {"content": b"{"}, 400, "not_json"),
        ("POST", "/alerts", {"content": b"[" * 500_000}, 400, "not_json"),
        ("POST", "/alerts", {"content": json.dumps(notification(version="3"))}, 422, "version"),
        ("POST", "/alerts", {"content": b'{"version": "4", "alerts": [7]}'}, 422, "shape"),
        ("POST", "/alerts", {"content": b" " * (1024 * 1024 + 1)}, 413, "too_large"),
        ("GET", "/alerts", {}, 405, "method"),
        ("POST", "/metrics", {}, 405, "method"),
        ("POST", "/alerts/", {}, 404, "no_such_path"),
        ("GET", "/../etc/passwd", {}, 404, "no_such_path"),
    ],
)
def test_each_request_is_answered_and_counted(
    serving: Companion, method: str, path: str, options: dict[str, Any], status: int, reason: str | None
) -> None:
    """Every refusal has its status and is counted by its reason; nothing of it is kept."""
    before = 0.0 if reason is None else serving.sample("incumbent_requests_refused_total", reason=reason)
    options = {"headers": AUTHORIZED, "content": json.dumps(notification()), **options}
    if method == "GET":
        del options["content"]
    answer = HTTP.request(method, f"{serving.url}{path}", **options)
    assert answer.status_code == status
    if reason is not None:
        assert serving.sample("incumbent_requests_refused_total", reason=reason) == before + 1
    assert serving.waits == 0


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Companion]:
    """One companion for the tests that only read its answers."""
    with running_github() as server, companion_of(server, tmp_path_factory.mktemp("serving")) as made:
        made.start()
        yield made


def test_a_large_body_is_not_read(serving: Companion) -> None:
    """A body that is declared or turns out too large is refused before it has been sent."""
    endless = b"POST /alerts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + HOOK_TOKEN.encode() + b"\r\n"
    with socket.create_connection(("127.0.0.1", serving.port), timeout=SECONDS) as client:
        client.sendall(endless + b"Content-Length: 1000000000000\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_slow_clients_block_nobody(serving: Companion) -> None:
    """While hundreds of clients send their headers or bodies byte by byte, or nothing, others are served."""
    begun = b"POST /alerts HTTP/1.1\r\nHost: x\r\n"
    within = begun + b"Authorization: Bearer " + HOOK_TOKEN.encode() + b"\r\nContent-Length: 100\r\n\r\n{"
    clients = []
    try:
        for number in range(300):
            client = socket.create_connection(("127.0.0.1", serving.port), timeout=SECONDS)
            client.sendall((b"", begun, within)[number % 3])
            clients.append(client)
        assert serving.post().status_code == 200
        assert serving.answers("/ready")
    finally:
        for client in clients:
            client.close()


def test_storage_trouble_is_answered_so_that_alertmanager_sends_again(
    companion: Companion, github: GitHubServer
) -> None:
    """On a full disk the answer is 503 and the process not ready; what was kept stays, and room mends it."""
    companion.start(limit_bytes=200_000)
    first, storm = alert(), [alert(pod=f"iris-{number}") for number in range(1500)]
    assert companion.post(first).status_code == 200
    assert companion.post(*storm).status_code == 503
    assert not companion.answers("/ready")
    assert companion.sample("incumbent_requests_refused_total", reason="storage") == 1
    assert "was not kept, and is to be sent again: outbox:" in companion.output
    companion.end(signal.SIGTERM)
    companion.start()
    assert companion.post(first, *storm).json() == {"accepted": 1500, "known": 1}
    wait_until(lambda: companion.waits == 0, SECONDS, "the storm is over")
    assert companion.sample("incumbent_alerts_limited_total") == 1500 - 5
    shown = CliRunner().invoke(main, ["alerts", str(companion.configuration), "--json", "--limit", "2"])
    assert shown.stderr == "the newest 2 of 1,495 alerts; --limit shows more\n"
    assert {entry["answer"] for entry in json.loads(shown.stdout)} == {
        "6 runs of this alert in an hour (limits.per_alert)"
    }


def test_a_kill_after_the_answer_loses_nothing(companion: Companion, github: GitHubServer) -> None:
    """What was answered with 200 is sent by the next process, though GitHub was down until after the kill."""
    github.faults += [Fault(503)] * 3
    companion.start()
    sent = [alert(f"Model{number}") for number in range(5)]
    assert companion.post(*sent).status_code == 200
    companion.end(signal.SIGKILL)
    companion.start()
    wait_until(lambda: companion.waits == 0, SECONDS, "all runs start")
    assert {run.inputs["alert_name"] for run in github.dispatches} == {each.name for each in sent}
    assert len(github.dispatches) == 5


def test_kills_at_any_moment_lose_nothing(companion: Companion, github: GitHubServer) -> None:
    """Killed again and again while alerts arrive and are sent, a kill repeats one run at most, and none is missing."""
    kills, sent = 6, [alert(f"Model{number}") for number in range(24)]
    unanswered = list(sent)
    for kill in range(kills):
        companion.start()
        assert companion.process is not None
        timer = threading.Timer(0.008 * kill, companion.process.kill)
        timer.start()
        try:
            while unanswered and companion.post(unanswered[0]).status_code == 200:
                unanswered.pop(0)
        except httpx2.TransportError:
            pass  # Alertmanager sends it again, too
        timer.join()
        companion.end()
    companion.start()
    for each in unanswered:
        assert companion.post(each).status_code == 200
    wait_until(lambda: companion.waits == 0, SECONDS, "all runs start")
    names = [run.inputs["alert_name"] for run in github.dispatches]
    assert set(names) == {each.name for each in sent}
    assert len(names) <= len(sent) + kills


def test_a_lost_acknowledgement_is_repeated(companion: Companion, github: GitHubServer) -> None:
    """GitHub started the run but its answer was lost: the alert is sent once more, because a lost run is worse."""
    github.faults.append(Fault(is_done=True))
    companion.start()
    companion.post(alert())
    wait_until(lambda: len(github.dispatches) == 2 and companion.waits == 0, SECONDS, "the run starts again")
    assert companion.sample("incumbent_dispatch_failures_total", reason="unavailable") == 1


def test_an_end_waits_for_githubs_answer(companion: Companion, github: GitHubServer) -> None:
    """Told to end while GitHub is answering, it notes the acknowledgement first, so that no run is started twice."""
    companion.start()
    process = companion.process
    assert process is not None
    with github.lock:  # no answer meanwhile
        companion.post(alert())
        wait_until(lambda: entries(companion)[0]["attempts"] == 1, SECONDS, "the request is under way")
        process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    assert [entry["state"] for entry in entries(companion)] == ["dispatched"]
    assert len(github.dispatches) == 1


def entries(companion: Companion) -> Any:
    """Return what `incumbent alerts` shows of the whole outbox."""
    shown = CliRunner().invoke(main, ["alerts", str(companion.configuration), "--all", "--json"])
    assert shown.exit_code == 0, shown.stderr
    return json.loads(shown.stdout)


def test_a_rotated_token_is_used(companion: Companion, github: GitHubServer) -> None:
    """Alertmanager's new token counts at once, and without a readable one every request is refused."""
    companion.start()
    token = companion.folder / "webhook-token"
    token.write_text("rotated", encoding="utf-8")
    assert companion.post().status_code == 401
    assert companion.post(headers={"Authorization": "Bearer rotated"}).status_code == 200
    token.unlink()
    assert companion.post(headers={"Authorization": "Bearer rotated"}).status_code == 503


def test_damage_at_work_ends_the_process(companion: Companion) -> None:
    """It ends with an error; the next one moves the file aside, says so, and serves."""
    companion.start()
    for _ in range(3):  # more than SQLite keeps in memory
        companion.post(*(alert("ScrapeFailing") for _ in range(2500)))
    companion.end(signal.SIGTERM)
    companion.start()
    file, process = companion.folder / "outbox" / FILE, companion.process
    assert process is not None
    with file.open("r+b") as opened:
        opened.seek(4096)
        opened.write(os.urandom(file.stat().st_size - 4096))

    def has_noticed() -> bool:
        with contextlib.suppress(httpx2.TransportError):
            companion.post(alert("ScrapeFailing"))
        return process.poll() is not None

    wait_until(has_noticed, SECONDS, "it notices")
    assert process.returncode == 4
    assert "an undamaged file, found outbox: database disk image is malformed" in companion.output
    assert "Traceback" not in companion.output
    companion.start()
    assert "expected no damaged file, found 1 that were moved aside" in companion.output
    assert companion.sample("incumbent_outbox_damaged_files") == 1


def test_a_second_process_is_refused(serving: Companion) -> None:
    """It ends with 3 and one line, and the first goes on."""
    (port,) = free_ports(1)
    command = ["companion", "--no-promotions", f"--listen=127.0.0.1:{port}", f"--dispatch={serving.configuration}"]
    ran = CliRunner().invoke(main, command)
    assert ran.exit_code == 3
    assert ran.stderr.count("\n") == 1
    assert "another process at work on it" in ran.stderr
    assert serving.answers("/ready")


def test_nothing_to_do_is_wrong_usage() -> None:
    """Without a part there is nothing to serve."""
    ran = CliRunner().invoke(main, ["companion", "--no-promotions"])
    assert ran.exit_code == 2
    assert "--dispatch FILE" in ran.stderr


def test_a_wrong_configuration_is_named(tmp_path: Path) -> None:
    """The error names the file, also where there is none."""
    (tmp_path / "d.yaml").write_text("repository: x\n", encoding="utf-8")
    for name, found in (("d.yaml", "repository: expected owner/name"), ("none.yaml", "No such file")):
        ran = CliRunner().invoke(main, ["companion", "--no-promotions", f"--dispatch={tmp_path / name}"])
        assert ran.exit_code == 3
        assert f"configuration {tmp_path / name}" in ran.stderr
        assert found in ran.stderr


def test_a_person_sees_and_retries_dead_letters(companion: Companion, github: GitHubServer) -> None:
    """`incumbent alerts` shows why they are dead; after the mistake is mended, --retry-dead sends them."""
    workflow = github.repository.workflows.pop("ai-log-analysis.yml")
    companion.start()
    companion.post(alert("ModelA"), alert("ScrapeFailing"))
    wait_until(lambda: companion.sample("incumbent_outbox_alerts", state="dead") == 1, SECONDS, "it is dead")
    shown = CliRunner().invoke(main, ["alerts", str(companion.configuration)])
    assert "dead" in shown.stdout
    assert "HTTP 404: Not Found" in " ".join(shown.stdout.split())
    assert "ScrapeFailing" not in shown.stdout
    github.repository.workflows["ai-log-analysis.yml"] = workflow
    assert CliRunner().invoke(main, ["alerts", str(companion.configuration), "--retry-dead"]).exit_code == 0
    companion.post(alert("ModelB"))  # wakes it before its next look
    wait_until(lambda: len(github.dispatches) == 2 and companion.waits == 0, SECONDS, "both runs start")
    states = {entry["labels"]["alertname"]: entry["state"] for entry in entries(companion)}
    assert states == {"ModelA": "dispatched", "ModelB": "dispatched", "ScrapeFailing": "recorded"}


def test_discarded_dead_letters_stay_listed(companion: Companion, github: GitHubServer) -> None:
    """They are dead no more, and --all still shows their reason."""
    github.repository.workflows.clear()
    companion.start()
    companion.post(alert("ModelA"))
    wait_until(lambda: companion.sample("incumbent_outbox_alerts", state="dead") == 1, SECONDS, "it is dead")
    shown = CliRunner().invoke(main, ["alerts", str(companion.configuration), "--discard-dead"])
    assert shown.stdout == "no such alerts\n"
    (entry,) = entries(companion)
    assert entry["state"] == "recorded"
    assert "HTTP 404" in entry["answer"]


def test_both_options_at_once_are_wrong_usage(tmp_path: Path) -> None:
    """What is dead is either sent again or put aside."""
    ran = CliRunner().invoke(main, ["alerts", str(tmp_path), "--retry-dead", "--discard-dead"])
    assert ran.exit_code == 2

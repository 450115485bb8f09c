"""What the companion does with a request before it answers: the token, the size, the time, and what is on disk."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from orchestration.adapters.outbox import SqliteOutbox, look_into_outbox
from orchestration.companion import requests
from orchestration.companion.dispatch import dispatch_part
from orchestration.companion.part import Part
from orchestration.companion.requests import LARGEST_BODY, RefusedRequestError, read_body, require_token
from orchestration.dispatcher.notification import Alert
from orchestration.dispatcher.outbox import OutboxUnusableError, State
from tests.fakes.dispatching import alert, configuration, notification

TOKEN = "the-token-of-alertmanager"


def a_request(*chunks: bytes, authorization: str = f"Bearer {TOKEN}", length: str = "", ends: bool = True) -> Request:
    """Return a request whose body arrives in these chunks; without an end, its last byte never comes."""
    left = [*chunks, b""] if ends else [*chunks]

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left) or not ends}

    headers = [(b"authorization", authorization.encode("latin-1"))]
    headers += [(b"content-length", length.encode())] if length else []
    return Request({"type": "http", "method": "POST", "path": "/alerts", "headers": headers}, receive)


def refused(ask: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(RefusedRequestError) as caught:
        ask()
    return caught.value.status_code, caught.value.reason


@pytest.mark.parametrize(
    "authorization",
    ["", TOKEN, "Bearer", "Bearer another", f"Token {TOKEN}", "Basic !", f"Basic {TOKEN}", "Bearer \xe9"],
)
def test_a_request_without_the_token_is_refused(authorization: str) -> None:
    """Neither as a bearer's nor as a password, or in a form that is neither."""
    assert refused(lambda: require_token(a_request(authorization=authorization), TOKEN)) == (401, "unauthorized")


@pytest.mark.parametrize(
    "authorization", [f"Bearer {TOKEN}", f"bearer {TOKEN}", "Basic YTp0aGUtdG9rZW4tb2YtYWxlcnRtYW5hZ2Vy"]
)
def test_the_token_lets_in(authorization: str) -> None:
    """As a bearer's, or as the password of any user."""
    require_token(a_request(authorization=authorization), TOKEN)


@pytest.mark.parametrize(
    ("chunks", "length"),
    [((), str(LARGEST_BODY + 1)), ((b"x" * LARGEST_BODY, b"x"), "1"), ((b"x" * LARGEST_BODY, b"x"), "")],
    ids=["declared", "declared smaller", "not declared"],
)
def test_a_body_that_is_too_large_is_not_read_on(
    chunks: tuple[bytes, ...], length: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is not waited for, whatever its length was said to be."""
    monkeypatch.setattr(requests, "BODY_SECONDS", 3.0)
    request = a_request(*chunks, length=length, ends=False)
    assert refused(lambda: asyncio.run(read_body(request))) == (413, "too_large")


def test_a_body_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends a byte now and then holds nothing for long."""
    monkeypatch.setattr(requests, "BODY_SECONDS", 0.05)
    request = a_request(b"{", ends=False)
    assert refused(lambda: asyncio.run(asyncio.wait_for(read_body(request), 3))) == (408, "too_slow")


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    """The dispatcher's part, whose work has not begun."""
    (tmp_path / "webhook-token").write_text(TOKEN, encoding="utf-8")
    made = dispatch_part(configuration(tmp_path), CollectorRegistry(), lambda _: None)
    yield made
    made.close()


def post(part: Part, *alerts: Alert) -> Response:
    (route,) = part.routes
    assert isinstance(route, Route)
    response = asyncio.run(route.endpoint(a_request(json.dumps(notification(*alerts)).encode())))
    assert isinstance(response, Response)
    return response


def test_what_is_answered_is_on_disk(part: Part, tmp_path: Path) -> None:
    """Alerts that start nothing are kept as well, and those that were sent before are known."""
    sent = (alert(), alert("ScrapeFailing"))
    answers = [json.loads(bytes(post(part, *sent).body)) for _ in range(2)]
    assert answers == [{"accepted": 2, "known": 0}, {"accepted": 0, "known": 2}]
    beside = look_into_outbox(tmp_path)
    assert {entry.alert.name: entry.state for entry in beside.entries(tuple(State), 9)} == {
        "ModelPodOOMKilled": State.WAITING, "ScrapeFailing": State.RECORDED,
    }  # fmt: skip
    beside.close()


def test_what_alertmanager_left_out_is_counted_and_said(tmp_path: Path) -> None:
    """So that a storm's size is known, although a part of it alone was sent."""
    (tmp_path / "webhook-token").write_text(TOKEN, encoding="utf-8")
    registry, said = CollectorRegistry(), list[str]()
    part = dispatch_part(configuration(tmp_path), registry, said.append)
    (route,) = part.routes
    assert isinstance(route, Route)
    sent = json.dumps({**notification(alert()), "truncatedAlerts": 600}).encode()
    assert asyncio.run(route.endpoint(a_request(sent))).status_code == 200
    part.close()
    assert registry.get_sample_value("incumbent_alerts_left_out_total") == 600
    assert said == ["Alertmanager left 600 alerts out (max_alerts); its page has them all"]


def test_what_could_not_be_kept_is_to_be_sent_again(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alertmanager repeats what was not answered with a success; until the next is kept, the part is in trouble."""

    def full(*_: object) -> int:
        raise OutboxUnusableError("outbox: database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(SqliteOutbox, "accept", full)
        assert refused(lambda: post(part, alert())) == (503, "storage")
    assert part.trouble() == "outbox: database or disk is full"
    assert post(part, alert()).status_code == 200
    assert part.trouble() is None


@pytest.mark.parametrize("token", ["", "\n"])
def test_without_a_token_of_its_own_nobody_is_let_in(part: Part, tmp_path: Path, token: str) -> None:
    """An empty file would let in everybody who sends none."""
    (tmp_path / "webhook-token").write_text(token, encoding="utf-8")
    assert refused(lambda: post(part, alert())) == (503, "no_token")

"""Language models: Google's own client against a server that answers as Gemini's REST API does, and OpenAI's protocol.

The forms of Gemini's answers are those of https://ai.google.dev/api/generate-content, and of its errors those of
https://google.aip.dev/193.
"""

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from orchestration.adapters.language_models import ChatCompletions, Gemini
from orchestration.analysis.ports import BusyError, LanguageModel
from orchestration.analysis.prompt import ALERT_TASK, make_prompt
from orchestration.promotion.problems import DependencyError
from testbeds.common.certificates import self_signed

KEY = "key-of-the-tests-0123456789"
PROMPT = make_prompt(ALERT_TASK, "the facts", "=== boundary ===")
GEMINI_PATH = re.compile("/v1(?:beta)?/models/gemini-test:generateContent")
CHAT_PATH = "/v1/chat/completions"
Make = Callable[..., LanguageModel]


@pytest.fixture(scope="module")
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Google's client reads all authorities for each question; nobody is asked by TLS here."""
    file = tmp_path_factory.mktemp("authority") / "authority.pem"
    file.write_text(self_signed("nobody.test")[0], encoding="ascii")
    return file


@pytest.fixture
def gemini(httpserver: HTTPServer, tmp_path: Path, one_authority: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Google's client, with the scripted server in Google's place."""
    monkeypatch.setenv("SSL_CERT_FILE", str(one_authority))
    (tmp_path / "key").write_text(f"{KEY}\n", encoding="utf-8")
    return lambda seconds=20.0: Gemini("gemini-test", tmp_path / "key", httpserver.url_for("").rstrip("/"), seconds)


@pytest.fixture
def chat(httpserver: HTTPServer, tmp_path: Path) -> Make:
    """A client of a server that has OpenAI's protocol."""
    (tmp_path / "key").write_text(f"{KEY}\n", encoding="utf-8")
    return lambda seconds=20.0: ChatCompletions(httpserver.url_for("/v1"), "llama-test", tmp_path / "key", seconds)


def gemini_says(*texts: str, finished: str = "STOP", **more: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": text} for text in texts]}
    return {"candidates": [{"content": content, "finishReason": finished, "index": 0}], **more}


def chat_says(text: str | None, finished: str = "stop", **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": text, **message}
    return {"object": "chat.completion", "choices": [{"index": 0, "message": said, "finish_reason": finished}]}


def google_error(code: int, status: str, *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": f"It failed with {KEY}.", "status": status, "details": list(details)}}


def failure_of(model: LanguageModel) -> DependencyError:
    with pytest.raises(DependencyError) as caught:
        model.ask(PROMPT)
    assert KEY not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def test_gemini_is_asked_with_the_key_and_the_boundary(httpserver: HTTPServer, gemini: Make) -> None:
    """Our instructions are the system's, and the facts the user's; the key is in a header and no address."""
    httpserver.expect_oneshot_request(GEMINI_PATH, "POST").respond_with_json(gemini_says("It is ", "the memory."))
    assert gemini().ask(PROMPT) == "It is the memory."
    request, _ = httpserver.log[0]
    asked = json.loads(request.data)
    assert request.headers["x-goog-api-key"] == KEY
    assert KEY not in request.url
    assert asked["systemInstruction"]["parts"] == [{"text": PROMPT.instructions}]
    assert asked["contents"] == [{"role": "user", "parts": [{"text": PROMPT.data}]}]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (gemini_says("half", finished="MAX_TOKENS"), "one that was cut after"),
        (gemini_says("", finished="STOP"), "an empty one"),
        (gemini_says("no", finished="SAFETY"), "one that was withheld (SAFETY)"),
        ({"candidates": [{"finishReason": "RECITATION"}]}, "one that was withheld (RECITATION)"),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "a question that it blocks (SAFETY)"),
        ({"promptFeedback": {"blockReason": "A_NEW_REASON"}}, "a question that it blocks (A_NEW_REASON)"),
        ({}, "an empty one"),
    ],
)
def test_gemini_that_does_not_answer_says_why(
    httpserver: HTTPServer, gemini: Make, answer: dict[str, Any], found: str
) -> None:
    """An answer that was cut, empty or withheld is none."""
    httpserver.expect_oneshot_request(GEMINI_PATH).respond_with_json(answer)
    assert found in failure_of(gemini()).problem.found


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (400, "INVALID_ARGUMENT"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (500, "INTERNAL"),
        (503, "UNAVAILABLE"),
    ],
)
def test_an_error_of_gemini_is_told_without_the_key(
    httpserver: HTTPServer, gemini: Make, code: int, status: str
) -> None:
    """By its status and message, after one question."""
    httpserver.expect_request(GEMINI_PATH).respond_with_json(google_error(code, status), code)
    failure = failure_of(gemini())
    assert failure.problem.found == f"HTTP {code}: It failed with ***."
    assert not isinstance(failure, BusyError)
    assert len(httpserver.log) == 1


@pytest.mark.parametrize(
    ("headers", "details", "seconds"),
    [
        ({"Retry-After": "7"}, [], 7.0),
        ({}, [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}], 34.5),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, [{"retryDelay": 3}], None),
        ({}, [], None),
    ],
)
def test_a_busy_gemini_says_for_how_long(
    httpserver: HTTPServer, gemini: Make, headers: dict[str, str], details: list[dict[str, Any]], seconds: float | None
) -> None:
    """By the header, or by Google's own detail of the error."""
    answer = google_error(429, "RESOURCE_EXHAUSTED", *details)
    httpserver.expect_request(GEMINI_PATH).respond_with_json(answer, 429, headers=headers)
    failure = failure_of(gemini())
    assert isinstance(failure, BusyError)
    assert failure.wait_seconds == seconds
    assert len(httpserver.log) == 1


@pytest.mark.parametrize("body", ["<html>a proxy</html>", "[]", '{"candidates": 7}'])
def test_what_is_not_geminis_answer_is_no_answer(httpserver: HTTPServer, gemini: Make, body: str) -> None:
    """A proxy's page, or another form, is an error in one line."""
    httpserver.expect_request(GEMINI_PATH).respond_with_data(body, content_type="application/json")
    failure_of(gemini())


def test_chat_is_asked_with_the_key_and_the_boundary(httpserver: HTTPServer, chat: Make) -> None:
    """Our instructions are the system's, and the facts the user's."""
    httpserver.expect_oneshot_request(CHAT_PATH, "POST").respond_with_json(chat_says("It is the memory."))
    assert chat().ask(PROMPT) == "It is the memory."
    request, _ = httpserver.log[0]
    asked = json.loads(request.data)
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert asked["model"] == "llama-test"
    assert asked["messages"] == [
        {"role": "system", "content": PROMPT.instructions},
        {"role": "user", "content": PROMPT.data},
    ]


def test_a_server_without_a_login_is_asked_without_a_key(httpserver: HTTPServer) -> None:
    """As Ollama on the same machine."""
    httpserver.expect_request(CHAT_PATH).respond_with_json(chat_says("Yes."))
    assert ChatCompletions(httpserver.url_for("/v1"), "llama-test").ask(PROMPT) == "Yes."
    assert "Authorization" not in httpserver.log[0][0].headers


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (chat_says("half", "length"), "one that was cut after"),
        (chat_says("", "stop"), "an empty one"),
        (chat_says(None), "an empty one"),
        (chat_says("no", "content_filter"), "one that was withheld"),
        (chat_says(None, refusal="I cannot."), "one that was withheld"),
        ({"choices": []}, "HTTP 200"),
        ({"error": f"no {KEY}"}, "HTTP 200"),
        ([], "HTTP 200"),
    ],
)
def test_chat_that_does_not_answer_says_why(httpserver: HTTPServer, chat: Make, answer: object, found: str) -> None:
    """An answer that was cut, empty or withheld is none."""
    httpserver.expect_request(CHAT_PATH).respond_with_json(answer)
    assert found in failure_of(chat()).problem.found


@pytest.mark.parametrize("code", [400, 401, 404, 500, 503])
def test_an_error_of_chat_is_told_without_the_key(httpserver: HTTPServer, chat: Make, code: int) -> None:
    """By its status, after one question."""
    httpserver.expect_request(CHAT_PATH).respond_with_json({"error": {"message": f"wrong key {KEY}"}}, code)
    assert f"HTTP {code}" in failure_of(chat()).problem.found
    assert len(httpserver.log) == 1


@pytest.mark.parametrize(("headers", "seconds"), [({"Retry-After": "12"}, 12.0), ({}, None)])
def test_a_busy_chat_says_for_how_long(
    httpserver: HTTPServer, chat: Make, headers: dict[str, str], seconds: float | None
) -> None:
    """By the header, if it has one."""
    httpserver.expect_request(CHAT_PATH).respond_with_json({}, 429, headers=headers)
    failure = failure_of(chat())
    assert isinstance(failure, BusyError)
    assert failure.wait_seconds == seconds


@pytest.mark.parametrize(("name", "path"), [("gemini", GEMINI_PATH), ("chat", CHAT_PATH)])
def test_a_silent_model_is_given_up(
    httpserver: HTTPServer, request: pytest.FixtureRequest, name: str, path: str | re.Pattern[str]
) -> None:
    """After the time for a whole answer."""
    make: Make = request.getfixturevalue(name)
    done = threading.Event()

    def wait(_: Request) -> Response:
        done.wait(30)
        return Response()

    httpserver.expect_request(path).respond_with_handler(wait)
    try:
        failure_of(make(0.5))
    finally:
        done.set()


@pytest.mark.parametrize(("name", "path"), [("gemini", GEMINI_PATH), ("chat", CHAT_PATH)])
def test_an_answer_that_trickles_in_is_given_up(
    httpserver: HTTPServer, request: pytest.FixtureRequest, name: str, path: str | re.Pattern[str]
) -> None:
    """A byte from time to time does not keep the question open."""
    make: Make = request.getfixturevalue(name)
    done = threading.Event()

    def trickle() -> Any:
        while not done.wait(0.1):
            yield b" "

    httpserver.expect_request(path).respond_with_handler(lambda _: Response(trickle(), content_type="application/json"))
    try:
        failure_of(make(0.5))
    finally:
        done.set()


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    """Before anything is asked."""
    assert "INCUMBENT_ANALYSIS_KEY_FILE" in str(failure_of(Gemini("gemini-test", tmp_path / "none")))

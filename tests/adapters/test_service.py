"""The service as seen from outside the cluster, and the limits on all HTTP of the adapters."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from orchestration.adapters import exchange, http, kube_api
from orchestration.adapters.clock import SystemClock
from orchestration.adapters.clusters import KubernetesCluster
from orchestration.adapters.http import HttpClient
from orchestration.adapters.service import HttpService
from orchestration.promotion.policy import HeaderFile
from orchestration.promotion.problems import DependencyError
from tests.adapters.kubeconfigs import write_kubeconfig


@contextmanager
def raw_server(*chunks: bytes, endless: bytes = b"") -> Iterator[str]:
    """Run a server that sends the chunks to each client, then `endless` again and again, and never closes by itself."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while not over.is_set():
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    try:
                        client.recv(65536)
                        for chunk in chunks:
                            client.sendall(chunk)
                        while not over.wait(0.05):
                            client.sendall(endless)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def test_the_answer_comes_back_as_it_is(httpserver: HTTPServer) -> None:
    """Status, body and time of the model's answer come back, whatever the status is; headers go with the request."""
    httpserver.expect_request(
        "/predict", method="POST", data=b"{}", headers={"X-Incumbent-Replay": "1"}
    ).respond_with_data(b"no", 503)
    answer = HttpService().ask(httpserver.url_for("/predict"), b"{}", {"X-Incumbent-Replay": "1"}, 5)
    assert (answer.status, answer.body, answer.from_api) == (503, b"no", False)
    assert answer.seconds > 0
    assert len(httpserver.log) == 1
    assert httpserver.log[0][0].content_type == "application/json"


def test_a_refused_connection_is_an_answer_of_status_0(free_address: str) -> None:
    """No exception is raised: an unreachable service is something for the caller to judge."""
    answer = HttpService().ask(f"http://{free_address}/predict", b"{}", {}, 5)
    assert answer.status == 0
    assert b"ConnectError" in answer.body


def test_silence_is_an_answer_of_status_0() -> None:
    """A server that takes the request and does not answer is abandoned after the time-out."""
    with raw_server() as url:
        answer = HttpService().ask(url, b"{}", {}, 0.3)
    assert answer.status == 0
    assert b"in time" in answer.body


def test_a_trickle_is_given_up() -> None:
    """Bytes that keep arriving do not extend the time-out."""
    with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", endless=b"x") as url:
        answer = HttpService().ask(url, b"{}", {}, 0.5)
    assert answer.status == 0
    assert b"trickles" in answer.body


def test_garbage_is_an_answer_of_status_0() -> None:
    """Garbage instead of HTTP counts as a failed connection too."""
    with raw_server(b"SSH-2.0-hello\r\n") as url:
        assert HttpService().ask(url, b"{}", {}, 1).status == 0


def test_a_body_above_the_cap_is_not_read_on() -> None:
    """An endless body ends the call as soon as it exceeds the cap."""
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with (
        raw_server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", endless=chunk) as url,
        pytest.raises(DependencyError, match="1000 bytes at most"),
    ):
        HttpClient("a server", "Look at it.").get(url, cap=1000)


def test_time_passes() -> None:
    """The system's clock advances by the time slept, and a negative time is no sleep."""
    clock = SystemClock()
    before = clock.now()
    clock.sleep(0.01)
    clock.sleep(-5)
    assert clock.now() >= before + 0.009


@pytest.mark.parametrize("by_proxy", [False, True], ids=["service", "pod"])
def test_a_model_may_take_longer_than_other_servers(
    httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, by_proxy: bool
) -> None:
    """The policy's time-out counts, and not what any other exchange may take altogether."""
    for module in (http, kube_api, exchange):
        monkeypatch.setattr(module, "TOTAL_TIMEOUT", 0.2)

    def slow(_: Request) -> Response:
        time.sleep(0.5)  # longer than TOTAL_TIMEOUT, and shorter than what the policy allows
        return Response("{}")

    httpserver.expect_request(re.compile("/")).respond_with_handler(slow)
    url = httpserver.url_for("").rstrip("/")
    if by_proxy:
        cluster = KubernetesCluster(write_kubeconfig(tmp_path, url), "edge")
        assert cluster.ask_pod("ml-apps", "iris-1", 8080, "/predict", b"{}", {}, 20).status == 200
    else:
        assert HttpService().ask(f"{url}/predict", b"{}", {}, 20).status == 200


@pytest.mark.parametrize(
    "encode", [str, quote, lambda text: json.dumps({"sent": text}), lambda text: text.encode().hex()]
)
def test_a_secret_header_is_removed_from_the_answer(
    httpserver: HTTPServer, tmp_path: Path, encode: Callable[[str], str]
) -> None:
    """A server may repeat it in any encoding; recording and replaying see the same."""
    file = tmp_path / "key"
    file.write_text("Bearer s3cr/et~key\n")
    body = f'{{"prediction": 1, "debug": {json.dumps(encode("s3cr/et~key"))}}}'
    httpserver.expect_request("/p", headers={"Authorization": "Bearer s3cr/et~key"}).respond_with_data(body)
    header = {"Authorization": HeaderFile(file=str(file))}
    answer = HttpService().ask(httpserver.url_for("/p"), b"{}", header, 5)
    assert answer.status == 200
    assert b"s3cr" not in answer.body
    assert encode("s3cr/et~key").encode() not in answer.body
    assert json.loads(answer.body)["prediction"] == 1


def test_a_service_is_asked_under_the_policys_host(httpserver: HTTPServer) -> None:
    """A gateway that serves many models tells them apart by it."""
    httpserver.expect_request("/p").respond_with_data("{}", content_type="application/JSON; charset=utf-8")
    answer = HttpService().ask(httpserver.url_for("/p"), b"{}", {"Host": "iris.example"}, 5)
    assert httpserver.log[0][0].headers.get_all("Host") == ["iris.example"]
    assert answer.content_type == "application/json"


def test_bytes_that_are_no_text_lose_a_secret_too(httpserver: HTTPServer, tmp_path: Path) -> None:
    """The rest of them stays as it is."""
    file = tmp_path / "key"
    file.write_text("s3cr/et~key")
    httpserver.expect_request("/p").respond_with_data(b"\xff\x00s3cr/et~key\x00")
    answer = HttpService().ask(httpserver.url_for("/p"), b"{}", {"X-Key": HeaderFile(file=str(file))}, 5)
    assert answer.body == b"\xff\x00***\x00"


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "No such file"), (b"\n", "an empty file"), (b"a\nb", "more than one line, or control characters")],
)
def test_a_header_without_a_value_is_an_error(tmp_path: Path, content: bytes | None, found: str) -> None:
    """The file is read for each request, so what is missing is a dependency's fault, and names the file."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    headers = {"X-Key": HeaderFile(file=str(file))}
    for ask in (HttpService().check_headers, lambda given: HttpService().ask("http://127.0.0.1:1", b"", given, 1)):
        with pytest.raises(
            DependencyError, match=f"file {file}: expected the value of header X-Key, found .*{found}.*service.headers"
        ):
            ask(headers)


def test_reaching_an_address_is_one_get(httpserver: HTTPServer, free_address: str) -> None:
    """Any status is an answer; a connection that fails has status 0, and the body says why."""
    httpserver.expect_request("/", method="GET").respond_with_data("no page here", 404)
    assert HttpService().reach(httpserver.url_for("/"), {}, 5).status == 404
    assert len(httpserver.log) == 1
    answer = HttpService().reach(f"http://{free_address}", {}, 5)
    assert answer.status == 0
    assert b"refused" in answer.body


def test_a_header_of_any_letters_is_sent_as_its_file_has_it(httpserver: HTTPServer, tmp_path: Path) -> None:
    """A value beyond ASCII is no failure of the model that is asked."""
    (tmp_path / "key").write_bytes("clé".encode())
    httpserver.expect_request("/p").respond_with_handler(
        lambda request: Response("", 200 if request.headers["X-Key"].encode("latin-1") == "clé".encode() else 400)
    )
    headers = {"X-Key": HeaderFile(file=str(tmp_path / "key"))}
    assert HttpService().ask(httpserver.url_for("/p"), b"{}", headers, 5).status == 200


def test_a_redirect_is_the_answer_and_takes_no_header_elsewhere(httpserver: HTTPServer, tmp_path: Path) -> None:
    """The address of labelled rows may begin to point to another server, which must not be given the secret header."""
    (tmp_path / "key").write_text("hunter2", encoding="utf-8")
    httpserver.expect_request("/rows.csv").respond_with_data(
        "", status=302, headers={"Location": httpserver.url_for("/elsewhere")}
    )
    headers = {"X-Key": HeaderFile(file=str(tmp_path / "key"))}
    answer = HttpService().reach(httpserver.url_for("/rows.csv"), headers, 5.0)
    assert answer.status == 302
    assert [request.path for request, _ in httpserver.log] == ["/rows.csv"]

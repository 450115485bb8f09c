"""Servers that repeat what they were sent, in any encoding: no error, traceback, log or output shows the secret.

Each adapter talks to a real server on the loopback that answers every authenticated request with the request's own
headers and body.
"""

import base64
import html
import json
import logging
import re
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from click.testing import CliRunner
from dagster._utils.error import serializable_error_info_from_exc_info
from pytest_httpserver import HTTPServer

from orchestration.adapters.argocd import ArgoCDApplications
from orchestration.adapters.clock import SystemClock
from orchestration.adapters.clusters import KubernetesCluster
from orchestration.adapters.git.login import Login
from orchestration.adapters.git.repository import GitRepository
from orchestration.adapters.mlflow_registry import MlflowRegistry
from orchestration.adapters.oci import OciRegistry
from orchestration.adapters.prometheus import Prometheus
from orchestration.cli import main
from orchestration.environment import EnvironmentPlatform
from orchestration.promotion.images import ImageRef
from orchestration.promotion.model_version import policy_tags
from orchestration.promotion.ports import QueryRejected
from orchestration.promotion.problems import DependencyError
from tests.adapters.kubeconfigs import write_kubeconfig
from tests.fakes.registry import FakeRegistry
from tests.fakes.world import POLICY_TEXT

SECRET = "s3cr+et/T0ken~of=the?test"
USER = "bot"
ENCODINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "percent-encoded": lambda text: quote(text, safe=""),
    "percent-encoded in lower case": lambda text: re.sub(r"%..", lambda code: code[0].lower(), quote(text, safe="")),
    "JSON": lambda text: json.dumps({"sent": text}).replace("=", "\\u003d").replace("/", "\\/"),
    "JSON in JSON": lambda text: json.dumps(json.dumps({"sent": text})),
    "HTML": lambda text: html.escape(text).replace("+", "&#43;").replace("=", "&#x3D;"),
    "hexadecimal": lambda text: text.encode().hex(),
    "broken into lines": lambda text: "\n".join(text[start : start + 20] for start in range(0, len(text), 20)),
}


class Echo(ThreadingHTTPServer):
    """Answers with what it was sent, after a challenge to log in."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.encode: Callable[[str], str] = str
        self.status = 400
        self.garbled = False
        """Whether the answer is no HTTP at all, so that it is quoted by the client library."""
        self.sent: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Echo

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode("utf-8", "replace")
        header = self.headers.get("Authorization")
        if header is None and not self.path.startswith("/api/v1/query"):
            self._answer(401, "who are you?")
            return
        login = (header or "").partition(" ")[2]
        plain = base64.b64decode(login).decode() if (header or "").startswith("Basic ") else login
        said = f"header {self.server.encode(header or '')} login {self.server.encode(plain)} body {body}"
        self.server.sent.append(said)
        if self.server.garbled:
            self.wfile.write(said.replace("\n", " ").encode() + b"\r\n\r\n")
            self.close_connection = True
        else:
            self._answer(self.server.status, said)

    do_POST = do_PATCH = do_GET  # noqa: N815  the base class's names

    def _answer(self, status: int, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("WWW-Authenticate", 'Basic realm="echo"')
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Be quiet."""


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        yield server
        server.shutdown()


def _mlflow(echo: Echo, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    return MlflowRegistry(echo.url).ping


def _mlflow_token(echo: Echo, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    return MlflowRegistry(echo.url).ping


def _git(echo: Echo, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    (folder / "token").write_text(f"{SECRET}\n")
    url = f"{echo.url}/gitops.git"
    return GitRepository(url, "main", login=Login(folder / "token"), state=folder, clock=SystemClock()).fetch


def _oci(echo: Echo, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    host = echo.url.removeprefix("http://")
    login = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": login}}}))
    registry = OciRegistry({}, folder / "config.json")
    return lambda: registry.resolve(ImageRef(f"{host}/team/model", "v1"))


def _kubeconfig(echo: Echo, folder: Path, user: dict[str, str]) -> Path:
    path = write_kubeconfig(folder, echo.url)
    document = json.loads(path.read_text())
    document["users"][0]["user"] = user
    path.write_text(json.dumps(document))
    return path


def _kubernetes(echo: Echo, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    return KubernetesCluster(_kubeconfig(echo, folder, {"token": SECRET}), "edge").nodes


def _kubernetes_password(echo: Echo, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    return KubernetesCluster(_kubeconfig(echo, folder, {"username": USER, "password": SECRET}), "edge").ready


def _argocd(echo: Echo, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    argocd = ArgoCDApplications(_kubeconfig(echo, folder, {"token": SECRET}), "edge")
    return lambda: argocd.refresh("argocd", "iris")


ADAPTERS = {
    "MLflow": _mlflow,
    "MLflow's token": _mlflow_token,
    "Git": _git,
    "OCI": _oci,
    "Kubernetes": _kubernetes,
    "Kubernetes's password": _kubernetes_password,
    "Argo CD": _argocd,
}


def shows_secret(text: str) -> bool:
    """Whether a text shows a good part of the secret in an encoding that this can undo, whatever made the text."""
    texts = [text]
    for _ in range(3):
        decoded = html.unescape(unquote(texts[-1])).replace("\\/", "/")
        decoded = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), decoded)
        texts.append(decoded)
    texts += [re.sub(r"\s+(remote:\s*)?", "", decoded) for decoded in texts]
    parts = {SECRET[start : start + 7] for start in range(len(SECRET) - 6)}
    for run in {run for decoded in texts for run in re.findall(r"[A-Za-z0-9+/_-]{12,}", decoded)}:
        for start in range(4):
            piece = run[start:].replace("-", "+").replace("_", "/")
            texts.append(base64.b64decode(piece[: len(piece) // 4 * 4]).decode("latin-1"))
        for digits in re.findall(r"(?:[0-9a-fA-F]{2}){8,}", run):
            texts.append(bytes.fromhex(digits).decode("latin-1"))
    return any(part in decoded for part in parts for decoded in texts)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_no_encoding_of_a_secret_reaches_an_error_or_a_log(
    echo: Echo,
    adapter: str,
    encoding: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The error says what the server answered, without the secret; so do its traceback with all causes and the logs."""
    caplog.set_level(logging.INFO)
    echo.encode = ENCODINGS[encoding]
    ask = ADAPTERS[adapter](echo, tmp_path, monkeypatch)
    with pytest.raises(DependencyError) as caught:
        ask()
    assert any(map(shows_secret, echo.sent)), "the server has the secret and repeats it"
    assert "header" in str(caught.value)
    assert not shows_secret("".join(traceback.format_exception(caught.value)) + caplog.text)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_answer_that_is_no_http_is_not_quoted_with_its_secrets(
    echo: Echo, adapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Client libraries quote such an answer in their own exceptions, which Dagster shows with all their causes."""
    caplog.set_level(logging.INFO)
    echo.garbled = True
    ask = ADAPTERS[adapter](echo, tmp_path, monkeypatch)
    with pytest.raises(DependencyError) as caught:
        ask()
    assert any(map(shows_secret, echo.sent))
    recorded = repr(serializable_error_info_from_exc_info((type(caught.value), caught.value, caught.tb)))
    assert not shows_secret("".join(traceback.format_exception(caught.value)) + caplog.text + recorded)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_command_shows_no_secret_of_a_server_that_repeats_it(
    echo: Echo, encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `incumbent` prints in CI about MLflow's and Git's answers has no secret in any encoding."""
    echo.encode = ENCODINGS[encoding]
    (tmp_path / "token").write_text(SECRET)
    (tmp_path / "iris-edge.yaml").write_text(POLICY_TEXT)
    for name, value in {
        "MLFLOW_TRACKING_URI": echo.url,
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": SECRET,
        "INCUMBENT_GIT_URL": f"{echo.url}/gitops.git",
        "INCUMBENT_GIT_TOKEN_FILE": str(tmp_path / "token"),
        "INCUMBENT_POLICIES": str(tmp_path),
        "INCUMBENT_STATE": str(tmp_path / "state"),
        "DAGSTER_HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    registry = FakeRegistry()
    registry.add_version("iris", "run1", policy_tags("iris-edge", {"state": "rolled_back"}))
    by_mlflow = CliRunner().invoke(main, ["register", "iris-edge", "1"])
    monkeypatch.setattr(EnvironmentPlatform, "registry", lambda _: registry)
    by_git = CliRunner().invoke(main, ["retry", "iris-edge", "1", "--reason", "again"])
    for result, subject in ((by_mlflow, "MLflow at"), (by_git, "Git repository")):
        assert (result.exit_code, subject in result.output) == (4, True), result.output
        assert "header" in result.output
        assert not shows_secret(result.output)
    assert len(list(filter(shows_secret, echo.sent))) >= 2


def test_what_prometheus_repeats_of_a_proxys_login_is_not_shown(httpserver: HTTPServer) -> None:
    """The pipeline has no login for Prometheus; a proxy's, which it does not know, is recognized by its header."""
    login = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
    document = {"status": "error", "errorType": "bad_data", "error": f'{{"Authorization":["Basic {login}"]}}'}
    httpserver.expect_request("/api/v1/query").respond_with_json(document, 400)
    rejected = Prometheus(httpserver.url_for("")).query("up")
    assert isinstance(rejected, QueryRejected)
    assert "Authorization" in rejected.message
    assert not shows_secret(rejected.message)

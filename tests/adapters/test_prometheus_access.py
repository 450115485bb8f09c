"""How a server with Prometheus's API lets us in: a real Prometheus with TLS and logins, and Amazon's signature."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from orchestration.adapters import prometheus_access
from orchestration.adapters.prometheus import Prometheus
from orchestration.adapters.prometheus_access import parse_access, sign
from orchestration.promotion.problems import DependencyError, InvalidInputError, ProblemError
from testbeds.common.certificates import self_signed
from testbeds.common.processes import Processes, wait_until
from testbeds.common.services import free_ports
from testbeds.common.tools import find_tool
from tests.adapters.conftest import START_SECONDS

PASSWORD = "hunter22"
HASHED = "$2b$04$abcdefghijklmnopqrstuunBMgByaIAZYuFgMUjBx8aaeU/9We5xa"
"""The password by bcrypt, as `htpasswd -B` makes it."""
KEYS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
"""Those of AWS's published test suite for its signatures."""


@dataclass(frozen=True)
class Guarded:
    """A Prometheus that lets in only whom its `web.config.file` names, and what its user needs."""

    url: str
    settings: Mapping[str, str]

    def asked(self, **changed: str) -> Prometheus:
        """Return a client with the right settings, but for those that are changed."""
        return Prometheus(self.url, parse_access(**{**self.settings, **changed}))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A Prometheus with TLS by a private authority, client certificates, basic auth and a path prefix."""
    folder = tmp_path_factory.mktemp("guarded")
    for name in ("server", "client", "stranger"):
        certificate, key = self_signed("localhost")
        (folder / f"{name}.pem").write_text(certificate)
        (folder / f"{name}.key").write_text(key)
    (folder / "password").write_text(PASSWORD)
    (folder / "wrong").write_text("hunter23")
    (folder / "prometheus.yml").write_text("global: {scrape_interval: 1h}\n")
    (folder / "web.yml").write_text(
        f"tls_server_config: {{cert_file: server.pem, key_file: server.key, client_ca_file: client.pem, "
        f"client_auth_type: RequireAndVerifyClientCert}}\nbasic_auth_users: {{edge: '{HASHED}'}}\n"
    )
    (port,) = free_ports(1)
    command = [
        *(
            str(find_tool("prometheus")),
            f"--config.file={folder}/prometheus.yml",
            f"--web.config.file={folder}/web.yml",
        ),
        *(f"--storage.tsdb.path={folder}/data", f"--web.listen-address=localhost:{port}", "--web.route-prefix=/team/a"),
    ]
    settings = {"username": "edge", "password_file": f"{folder}/password", "ca_file": f"{folder}/server.pem"}
    settings |= {"client_cert_file": f"{folder}/client.pem", "client_key_file": f"{folder}/client.key"}
    server = Guarded(f"https://localhost:{port}/team/a", settings)
    processes = Processes(folder)
    try:
        service = processes.start("prometheus", command)
        wait_until(lambda: _is_ready(server.asked()), START_SECONDS, f"{server.url} answers", service)
        yield server
    finally:
        processes.stop_all()


def _is_ready(metrics: Prometheus) -> bool:
    try:
        metrics.ready()
    except DependencyError:
        return False
    return True


def test_a_server_with_tls_a_login_and_a_prefix_is_asked(guarded: Guarded, tmp_path: Path) -> None:
    """A private authority, our certificate, user and password, and a prefix work together; also key and certificate in
    one file."""
    guarded.asked().ready()
    both = tmp_path / "both.pem"
    both.write_text("".join(Path(guarded.settings[f"client_{part}_file"]).read_text() for part in ("cert", "key")))
    guarded.asked(client_cert_file=str(both), client_key_file="").ready()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"ca_file": ""}, "PROMETHEUS_CA_FILE"),
        ({"ca_file": "stranger.pem"}, "PROMETHEUS_CA_FILE"),
        ({"client_cert_file": "", "client_key_file": ""}, "PROMETHEUS_CLIENT_CERT_FILE"),
        ({"client_cert_file": "stranger.pem", "client_key_file": "stranger.key"}, "PROMETHEUS_CLIENT_CERT_FILE"),
        ({"username": "", "password_file": ""}, "PROMETHEUS_USERNAME"),
        ({"password_file": "wrong"}, "PROMETHEUS_PASSWORD_FILE"),
        ({"ca_file": "missing"}, "PROMETHEUS_CA_FILE"),
        ({"ca_file": "password"}, "PROMETHEUS_CA_FILE"),
        ({"client_key_file": "stranger.key"}, "of PROMETHEUS_CLIENT_KEY_FILE: .*found another key"),
        ({"client_key_file": "missing"}, "missing of PROMETHEUS_CLIENT_KEY_FILE"),
    ],
)
def test_what_is_missing_or_wrong_is_named_by_its_setting(
    guarded: Guarded, changed: dict[str, str], named: str
) -> None:
    """Nothing is asked twice that would be refused twice, and no secret is shown."""
    folder = Path(guarded.settings["ca_file"]).parent
    files = {name: str(folder / value) if value and name != "username" else value for name, value in changed.items()}
    with pytest.raises(DependencyError, match=named) as caught:
        guarded.asked(**files).query("up")
    assert PASSWORD not in str(caught.value)


def test_headers_and_parameters_are_not_shown(httpserver: HTTPServer) -> None:
    """A server that repeats a request shows neither a key in a header nor one in a parameter; other words stay."""

    def repeat(request: Request) -> Response:
        return Response(f"{request.headers['X-Api-Thing']} {request.get_data().decode()} {request.url} is true", 400)

    httpserver.expect_request("/api/v1/query").respond_with_handler(repeat)
    access = parse_access(headers="X-Api-Thing=s3cret-of-header", parameters="dedup=true,thing=s3cret/of/query")
    with pytest.raises(DependencyError) as caught:
        Prometheus(httpserver.url_for("").rstrip("/"), access).query("up")
    assert "s3cret" not in str(caught.value)
    assert "is true" in str(caught.value)


def test_a_missing_prefix_names_the_address(guarded: Guarded) -> None:
    """A page that is not there is what most servers answer without their prefix."""
    with pytest.raises(DependencyError, match=r"HTTP 404.*PROMETHEUS_URL \(with its path prefix"):
        Prometheus(guarded.url.removesuffix("/team/a"), parse_access(**guarded.settings)).query("up")


def at(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    """Have signatures made at a moment."""
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: moment.replace(tzinfo=None))


def test_a_signature_is_that_of_awss_test_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """The case `post-x-www-form-urlencoded` of aws-sig-v4-test-suite, which signs for a service called `service`."""
    monkeypatch.setattr(prometheus_access, "_SIGV4_SERVICE", "service")
    at(monkeypatch, datetime(2015, 8, 30, 12, 36, tzinfo=UTC))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    signed = sign(Credentials(*KEYS), "us-east-1", "https://example.amazonaws.com/", b"Param1=value1", form)
    assert signed["X-Amz-Date"] == "20150830T123600Z"
    assert signed["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
    )


def amazons(httpserver: HTTPServer, workspace: str) -> str:
    """Answer one workspace's queries as Amazon's Prometheus does, if what arrives is signed; return its address.

    Source: the user guide of Amazon Managed Service for Prometheus, "Prometheus-compatible APIs".
    """

    def answer(request: Request) -> Response:
        sent = request.headers["Authorization"]
        names = re.findall(r"SignedHeaders=([^,]+)", sent)[0].split(";")
        again = AWSRequest("POST", request.url, {name: request.headers[name] for name in names}, request.get_data())
        again.context["timestamp"] = request.headers["X-Amz-Date"]
        signer = SigV4Auth(Credentials(*KEYS), "aps", "eu-central-1")
        signature = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
        if not sent.endswith(f"Signature={signature}"):
            return Response('{"message":"The request signature does not match"}', 403)
        return Response('{"status":"success","data":{"resultType":"scalar","result":[1.5,"1"]}}')

    httpserver.expect_request(f"/workspaces/{workspace}/api/v1/query", method="POST").respond_with_handler(answer)
    return httpserver.url_for(f"/workspaces/{workspace}")


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without keys of AWS, and without a metadata service to ask for some."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("no_aws")
def test_requests_to_amazons_prometheus_are_signed_with_the_environments_keys(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is signed is what arrives, long queries with every kind of character included; wrong keys are refused."""
    url = amazons(httpserver, "ws-1")
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), KEYS, strict=True):
        monkeypatch.setenv(name, value)
    metrics = Prometheus(url, parse_access(sigv4_region="eu-central-1", headers="X-Other=b"))
    metrics.ready()
    metrics.query('sum(rate(x{pod=~"a|b é+&%/"}[5m]))', 1.5)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(DependencyError, match=r"does not match.*PROMETHEUS_SIGV4_REGION") as caught:
        Prometheus(url, parse_access(sigv4_region="eu-central-1")).query("up")
    assert "another-secret" not in str(caught.value)


@pytest.mark.usefixtures("no_aws")
def test_without_keys_of_aws_nothing_is_sent(httpserver: HTTPServer) -> None:
    """The error says where keys may come from."""
    url = amazons(httpserver, "ws-1")
    with pytest.raises(DependencyError, match="AWS_PROFILE"):
        Prometheus(url, parse_access(sigv4_region="eu-central-1")).query("up")
    assert not httpserver.log


def test_a_signature_needs_its_optional_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets the region without botocore learns what to install, before anything is asked."""
    monkeypatch.setitem(__import__("sys").modules, "botocore", None)
    with pytest.raises(InvalidInputError, match=r"incumbent\[aws\]") as caught:
        parse_access(sigv4_region="eu-central-1")
    assert isinstance(caught.value, ProblemError)

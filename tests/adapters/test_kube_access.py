"""How a kubeconfig lets us in, and what is said when it does not: each part of it that can be wrong is named."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from orchestration.adapters.clusters import KubernetesCluster
from orchestration.promotion.problems import DependencyError, InvalidInputError, ProblemError
from testbeds.common.certificates import self_signed

ANY_PATH = re.compile("/")
HTTPS = "https://127.0.0.1:1"


def cluster_of(
    folder: Path, server: object, user: dict[str, Any] | None = None, **cluster: object
) -> KubernetesCluster:
    """Write a kubeconfig with one context, and return the client of its cluster."""
    document = {
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user if user is not None else {"token": "t0ken-secret"}}],
        "contexts": [{"name": "edge", "context": {"cluster": "c", "user": "u"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return KubernetesCluster(path, "edge")


def refusal(cluster: KubernetesCluster) -> str:
    """Return what is said when the cluster cannot be asked; it names the setting, and shows no secret."""
    with pytest.raises(ProblemError) as caught:
        cluster.nodes()
    said = str(caught.value)
    assert "INCUMBENT_KUBECONFIG" in said
    assert not re.search(r"t0ken|hunter22", said)
    return said


@pytest.mark.parametrize(
    ("server", "found"),
    [
        (None, "found ''"),
        (7, "found '7'"),
        ("127.0.0.1:6443", "found '127.0.0.1:6443'"),
        ("ftp://edge", "found 'ftp://edge'"),
        ("https://edge:99999", "cannot be parsed"),
        (" https://edge", "white space"),
        ("https://edge?token=hunter22", "a query"),
        ("https://edge#hunter22", "a fragment"),
        ("https://me:hunter22@edge", "a user or password in it"),
    ],
)
def test_an_address_that_no_path_can_be_added_to_is_refused(tmp_path: Path, server: object, found: str) -> None:
    """In the words for each address in the settings; kubectl would ask another one, or nobody."""
    said = refusal(cluster_of(tmp_path, server))
    assert said.startswith(f"the server of context edge in {tmp_path}/kubeconfig")
    assert found in said


@pytest.mark.parametrize("field", ["certificate-authority", "client-certificate", "client-key"])
@pytest.mark.parametrize("form", ["missing", "garbage", "garbage in the file"])
def test_a_certificate_that_cannot_be_used_is_named_by_its_field(tmp_path: Path, field: str, form: str) -> None:
    """A file that is missing, one with something else in it, and the same written into the kubeconfig."""
    certificate, key = self_signed("localhost")
    files = {"certificate-authority": certificate, "client-certificate": certificate, "client-key": key}
    for name, content in files.items():
        (tmp_path / name).write_text("hello" if name == field and form == "garbage" else content)
    if form == "missing":
        (tmp_path / field).unlink()
    parts: dict[str, str] = {name: str(tmp_path / name) for name in files}
    if form == "garbage in the file":
        del parts[field]
        parts[f"{field}-data"] = base64.b64encode(b"hello").decode()
    authority = {name: value for name, value in parts.items() if name.startswith("certificate-authority")}
    user = {name: value for name, value in parts.items() if name.startswith("client-")}
    said = refusal(cluster_of(tmp_path, HTTPS, user, **authority))
    assert (str(tmp_path / field) if form == "missing" else f"of {field} of context edge") in said


@pytest.mark.parametrize("token", ["t0ken-secret\n", "t0ken\nsecret", "t0ken\u2013secret"])
def test_a_token_that_no_header_can_have_is_told(httpserver: HTTPServer, tmp_path: Path, token: str) -> None:
    """A line end comes with a file, and other characters with a word processor; the token is not shown."""
    said = refusal(cluster_of(tmp_path, httpserver.url_for("").rstrip("/"), {"token": token}))
    assert "a header that cannot be sent" in said
    assert "Correct the login of context edge" in said
    assert not httpserver.log


@pytest.mark.parametrize(
    ("user", "cluster", "found"),
    [
        ({"tokenFile": "/nowhere/token"}, {}, "/nowhere/token"),
        ({}, {"proxy-url": "nonsense"}, "ProxySchemeUnknown"),
        ({}, {"proxy-url": 7}, "Error"),
    ],
)
def test_a_login_or_a_proxy_that_cannot_be_used_is_told(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, object], found: str
) -> None:
    """Whatever the client, or the program that logs in, raises."""
    cluster_of(tmp_path, "http://127.0.0.1:1", user, **cluster)
    said = refusal(KubernetesCluster(tmp_path / "kubeconfig", "edge"))
    assert said.startswith(f"kubeconfig {tmp_path}/kubeconfig: expected a usable context edge")
    assert found in said


def test_what_is_quoted_of_the_file_is_not_shown(tmp_path: Path) -> None:
    """The client's own words repeat a user that it cannot read, with the login."""
    cluster = cluster_of(tmp_path, "http://127.0.0.1:1")
    path = tmp_path / "kubeconfig"
    path.write_text(path.read_text().replace('"user": {"token"', '"person": {"token"'))
    assert "Expected key user in" in refusal(cluster)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "No such file or directory"),
        (b"", "something else"),
        (b"[]", "something else"),
        (b"\xff\xfe", "something else"),
        (b"contexts: {", "something else"),
    ],
)
def test_a_file_that_is_no_kubeconfig_is_told(tmp_path: Path, content: bytes | None, found: str) -> None:
    """In one line, without lines of the file."""
    path = tmp_path / "other"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=rf"a kubeconfig with contexts, found .*{found}.*INCUMBENT_KUBECONFIG"):
        KubernetesCluster(path, "edge").nodes()


@pytest.mark.parametrize(
    ("body", "status"),
    [("<html>log in</html>", 200), ("", 302), ("404 page not found", 404), ('{"items": 7}', 200), ("[]", 200)],
)
def test_what_is_no_kubernetes_api_is_told(httpserver: HTTPServer, tmp_path: Path, body: str, status: int) -> None:
    """A proxy in front of it has another address, or wants people to log in; its page does not count as ready."""
    headers = {"Location": "/login"} if status == 302 else {}
    httpserver.expect_request(ANY_PATH).respond_with_data(body, status, headers)
    cluster = cluster_of(tmp_path, httpserver.url_for("").rstrip("/"))
    assert "Correct the server of context edge" in refusal(cluster)
    with pytest.raises(DependencyError, match="Correct the server of context edge"):
        cluster.ready()
    assert {request.path for request, _ in httpserver.log} == {"/api/v1/nodes", "/readyz"}


def test_a_login_that_is_refused_leads_to_the_kubeconfig(httpserver: HTTPServer, tmp_path: Path) -> None:
    """A program that logs in and fails leaves no login, so that it may be at fault as well."""
    body = {"kind": "Status", "apiVersion": "v1", "message": "Unauthorized"}
    httpserver.expect_request(ANY_PATH).respond_with_json(body, 401)
    program = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "false", "interactiveMode": "Never"}
    }
    said = refusal(cluster_of(tmp_path, httpserver.url_for("").rstrip("/"), program))
    assert "Renew the login of context edge" in said
    assert "its exec gave none" in said


def test_a_name_with_half_a_character_cannot_be_asked_for(httpserver: HTTPServer, tmp_path: Path) -> None:
    """JSON can hold one, and an address cannot."""
    page = b'{"metadata": {"continue": "\\ud800"}, "items": []}'
    httpserver.expect_request(ANY_PATH).respond_with_response(Response(page))
    cluster = cluster_of(tmp_path, httpserver.url_for("").rstrip("/"))
    with pytest.raises(DependencyError, match="a name that is no Unicode text"):
        cluster.nodes()


def test_names_and_selectors_are_quoted(httpserver: HTTPServer, tmp_path: Path) -> None:
    """What arrives is what was asked for, whatever characters are in it."""
    httpserver.expect_request(ANY_PATH).respond_with_json({"items": None})
    cluster = cluster_of(tmp_path, httpserver.url_for("/rancher/k8s").rstrip("/"))
    labels = "app in (käse+1,b&c),x=a%41#?"
    assert cluster.pods("ä/b ?#%2F", labels=labels) == ()
    request = httpserver.log[0][0]
    assert request.environ["RAW_URI"].startswith("/rancher/k8s/api/v1/namespaces/%C3%A4%2Fb%20%3F%23%252F/pods?")
    assert request.args["labelSelector"] == labels

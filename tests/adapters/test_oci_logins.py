"""Logins for image registries: the files and helpers of Docker, Podman and the kubelet, and what they open."""

import base64
import datetime
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from orchestration.adapters import oci_logins
from orchestration.adapters.oci import OciRegistry
from orchestration.adapters.oci_logins import Login, Logins
from orchestration.promotion.images import ImageRef
from orchestration.promotion.problems import DependencyError, InvalidInputError
from tests.adapters.conftest import registry_of
from tests.adapters.pushing import RealWorld

PASSWORD = "correct horse"
HTPASSWD = "bob:$2b$04$gqjI8aDx/p0WdCTJziYQiOdi2gvS9URD3JGMZw/EwWdi5SOSmFzae"
"""Made by bcrypt from PASSWORD."""
SERVICE = "registry.example"


def encoded(user: str, password: str) -> str:
    """Encode a login as Docker's files have it."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def write(path: Path, **content: object) -> Path:
    """Write a file of logins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def entry(user: str) -> dict[str, str]:
    """An entry that tells by its user that it was chosen."""
    return {"auth": encoded(user, "pw")}


def helper(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a credential helper on PATH."""
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


# Real registries with a login; what they hold is pushed through one without.


@dataclass
class TokenServer:
    """A token server as the distribution project specifies it, which signs for a real registry."""

    server: HTTPServer
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    lifetime: int = 60

    def answer(self, request: Request) -> Response:
        if request.authorization is None or (request.authorization.username, request.authorization.password) != (
            "bob",
            PASSWORD,
        ):
            return Response('{"errors": [{"code": "UNAUTHORIZED"}]}', 401)
        kind, _, rest = request.args["scope"].partition(":")
        name, _, actions = rest.rpartition(":")
        now = int(time.time())
        claims = {
            **{"iss": "tests", "sub": "bob", "aud": request.args["service"], "jti": "1"},
            **{"exp": now + self.lifetime, "nbf": now - 10, "iat": now},
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }
        chain = [base64.b64encode(self.certificate.public_bytes(Encoding.DER)).decode()]
        return Response(json.dumps({"token": jwt.encode(claims, self.key, "ES256", {"x5c": chain})}))


def self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Make the certificate by which a registry knows its token server."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "token server of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


@pytest.fixture(scope="module")
def with_passwords(oci_content: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry behind basic authentication, with the images of `oci_url`."""
    folder = tmp_path_factory.mktemp("htpasswd")
    (folder / "htpasswd").write_text(f"{HTPASSWD}\n")
    auth = f"{{htpasswd: {{realm: basic-realm, path: '{folder}/htpasswd'}}}}"
    with registry_of(oci_content, folder, auth) as url:
        yield url


@pytest.fixture(scope="module")
def token_server() -> Iterator[TokenServer]:
    """The token server of `with_tokens`."""
    key = ec.generate_private_key(ec.SECP256R1())
    with HTTPServer(host="127.0.0.1", threaded=True) as server:
        tokens = TokenServer(server, key, self_signed(key))
        server.expect_request("/token").respond_with_handler(tokens.answer)
        yield tokens


@pytest.fixture(scope="module")
def with_tokens(
    token_server: TokenServer, oci_content: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A real registry that takes tokens of `token_server` alone, with the images of `oci_url`."""
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "roots.pem").write_bytes(token_server.certificate.public_bytes(Encoding.PEM))
    realm = token_server.server.url_for("/token")
    auth = f"{{token: {{realm: '{realm}', service: {SERVICE}, issuer: tests, rootcertbundle: '{folder}/roots.pem'}}}}"
    with registry_of(oci_content, folder, auth) as url:
        yield url


@pytest.mark.parametrize("asks_for", ["passwords", "tokens"])
def test_a_real_registry_lets_a_login_in(asks_for: str, oci_url: str, request: pytest.FixtureRequest) -> None:
    """The login of Docker's file opens Debian's registry, and what it does not hold is not published."""
    digest = RealWorld(oci_url).publish("team/private", "abc", {"A": "b"}, ("amd64",))
    host = urlsplit(request.getfixturevalue(f"with_{asks_for}")).netloc
    folder: Path = request.getfixturevalue("tmp_path")
    registry = OciRegistry({}, write(folder / "config.json", auths={host: {"auth": encoded("bob", PASSWORD)}}))
    image = registry.resolve(ImageRef(f"{host}/team/private", "abc"))
    assert image is not None
    assert (image.digest, image.platforms[0].environment) == (digest, {"A": "b"})
    assert registry.resolve(ImageRef(f"{host}/team/private", "missing")) is None
    assert registry.resolve(ImageRef(f"{host}/team/nothing", "abc")) is None


@pytest.mark.parametrize("asks_for", ["passwords", "tokens"])
@pytest.mark.parametrize("auths", [{}, {"auth": encoded("bob", "wrong horse")}])
def test_a_real_registry_that_refuses_says_what_to_do(
    asks_for: str, auths: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """Without a login, or with a wrong one, the error names the command, the setting and what else it may mean."""
    host = urlsplit(request.getfixturevalue(f"with_{asks_for}")).netloc
    folder: Path = request.getfixturevalue("tmp_path")
    registry = OciRegistry({}, write(folder / "config.json", auths={host: auths} if auths else {}))
    with pytest.raises(DependencyError) as caught:
        registry.resolve(ImageRef(f"{host}/team/private", "abc"))
    said = str(caught.value)
    assert f"docker login {host}" in said
    assert "INCUMBENT_OCI_LOGIN_FILE" in said
    assert "If it was never pushed, push it" in said
    assert ("Let user bob pull team/private" in said) == bool(auths)
    assert "wrong horse" not in said


def test_a_real_registrys_expired_token_is_replaced(
    oci_url: str, with_tokens: str, token_server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that has expired between two questions costs one more token, and no error."""
    RealWorld(oci_url).publish("team/expiring", "abc", {}, ("amd64",))
    host = urlsplit(with_tokens).netloc
    registry = OciRegistry({}, write(tmp_path / "config.json", auths={host: {"auth": encoded("bob", PASSWORD)}}))
    monkeypatch.setattr(token_server, "lifetime", -300)  # more than the minute of leeway that the registry grants
    with pytest.raises(DependencyError, match="HTTP 401"):
        registry.resolve(ImageRef(f"{host}/team/expiring", "abc"))
    monkeypatch.setattr(token_server, "lifetime", 60)
    assert registry.resolve(ImageRef(f"{host}/team/expiring", "abc")) is not None


# Which login is found; these need no server.


@pytest.mark.parametrize(
    ("key", "name", "found"),
    [
        ("reg.example", "reg.example/team/model", True),
        ("https://reg.example", "reg.example/team/model", True),
        ("http://reg.example/", "reg.example/team/model", True),
        ("https://reg.example/v1/", "reg.example/team/model", True),
        ("https://reg.example/v2/", "reg.example/team/model", True),
        ("https://reg.example/artifactory/api/docker/x", "reg.example/team/model", True),
        ("reg.example/team", "reg.example/team/model", True),
        ("reg.example/team/model", "reg.example/team/model", True),
        ("reg.example/tea", "reg.example/team/model", False),
        ("reg.example/team/model/more", "reg.example/team/model", False),
        ("reg.example:5000", "reg.example/team/model", False),
        ("https://index.docker.io/v1/", "docker.io/library/redis", True),
        ("docker.io", "registry-1.docker.io/library/redis", True),
        ("index.docker.io/team", "docker.io/team/model", True),
        ("*.dkr.ecr.*.amazonaws.com", "123.dkr.ecr.eu-west-1.amazonaws.com/model", True),
        ("*.amazonaws.com", "123.dkr.ecr.eu-west-1.amazonaws.com/model", False),
    ],
)
def test_keys_of_auths(tmp_path: Path, key: str, name: str, found: bool) -> None:
    """Keys are hosts, addresses, paths and the kubelet's wildcards; a part of a path's name is no match."""
    login = Logins(write(tmp_path / "config.json", auths={key: entry("bob")})).find(name)
    assert (login is not None) == found


def test_the_longest_path_wins(tmp_path: Path) -> None:
    """As containers-auth.json(5) says, the most specific entry counts, wherever it stands in the file."""
    keys = ("https://reg.example", "*.example", "reg.example/team", "reg.example/team/model", "reg.example/other")
    logins = Logins(write(tmp_path / "config.json", auths={key: entry(key) for key in keys}))
    chosen = [logins.find(f"reg.example/{path}") for path in ("team/model", "team/sister", "third")]
    assert [login.user if login else None for login in chosen] == [
        "reg.example/team/model",
        "reg.example/team",
        "https",  # of `https://reg.example:pw`: a user's name ends at the first colon
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"auth": encoded("bob", "p:w")}, Login("bob", "p:w")),
        ({"username": "bob", "password": "pw"}, Login("bob", "pw")),
        ({"auth": encoded("bob", "pw") + "\n"}, Login("bob", "pw")),
        ({"auth": encoded("bob", "pw1").rstrip("=")}, Login("bob", "pw1")),
        ({"auth": encoded("bob", "pw"), "identitytoken": "idt"}, Login("bob", "pw", "idt")),
        ({"identitytoken": "idt"}, Login("", "", "idt")),
        ({"registrytoken": "rt"}, Login("", "", "", "rt")),
        ({"auth": encoded("bob", "pw"), "registrytoken": "rt"}, Login("bob", "pw", "", "rt")),
        ({}, None),
    ],
)
def test_entries_of_auths(tmp_path: Path, content: dict[str, str], expected: Login | None) -> None:
    """An entry has base64 of both, or user and password, or a token; an empty one is a store's."""
    assert Logins(write(tmp_path / "config.json", auths={"reg.example": content})).find("reg.example/a") == expected


def test_a_password_is_sent_byte_by_byte(tmp_path: Path) -> None:
    """A password that is not UTF-8 reaches the registry as the file has it."""
    raw = base64.b64encode("bob:pé".encode("latin-1")).decode()
    login = Logins(write(tmp_path / "config.json", auths={"reg.example": {"auth": raw}})).find("reg.example/a")
    assert login is not None
    assert login.basic == f"Basic {raw}"


@pytest.mark.parametrize("broken", [7, {"auth": "xx:yy"}, {"auth": base64.b64encode(b"nocolon").decode()}])
def test_a_broken_entry_concerns_its_own_host_alone(tmp_path: Path, broken: object) -> None:
    """Another host's login is found beside it; its own host's questions name the entry and the file."""
    path = write(tmp_path / "config.json", auths={"reg.example": entry("bob"), "broken.example": broken})
    assert Logins(path).find("reg.example/a") == Login("bob", "pw")
    with pytest.raises(DependencyError, match=r"entry broken\.example of .*config\.json.*docker login broken\.example"):
        Logins(path).find("broken.example/a")


def test_files_are_read_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file that is named, those of Docker and Podman are searched until one has a login."""
    places = {
        "docker": tmp_path / "docker/config.json",
        "runtime": tmp_path / "run/containers/auth.json",
        "user": tmp_path / "xdg/containers/auth.json",
        "home": tmp_path / "home/.docker/config.json",
    }
    for name, path in places.items():
        write(path, auths={"reg.example": entry(name), f"{name}.example": entry(name)})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)

    def user(host: str) -> str | None:
        login = Logins().find(f"{host}/a")
        return login.user if login else None

    assert [user(f"{name}.example") for name in places] == [None, "runtime", "user", "home"]
    assert user("reg.example") == "runtime"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    assert [user(f"{name}.example") for name in places] == ["docker", "runtime", "user", None]
    assert user("reg.example") == "docker"
    (tmp_path / "home/.dockercfg").write_text(json.dumps({f"{name}.example": entry("old") for name in ("old", "home")}))
    assert [user(f"{name}.example") for name in ("runtime", "old", "home")] == ["runtime", "old", "old"]
    monkeypatch.delenv("DOCKER_CONFIG")
    assert [user(f"{name}.example") for name in ("old", "home")] == ["old", "home"]
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(write(tmp_path / "auth.json", auths={"reg.example": entry("named")})))
    assert (user("reg.example"), user("runtime.example")) == ("named", None)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    """A misspelt setting is an error, and does not mean that there are no logins."""
    with pytest.raises(InvalidInputError, match=r"no such file\. Correct INCUMBENT_OCI_LOGIN_FILE"):
        Logins(tmp_path / "missing.json")


@pytest.mark.parametrize(
    "content",
    [
        {"reg.example": entry("bob")},
        {"https://reg.example/v1/": {**entry("bob"), "email": "bob@example.com"}, "other.example:5000": {}},
    ],
)
def test_the_older_form_of_docker_is_read(tmp_path: Path, content: dict[str, object]) -> None:
    """`.dockercfg` has the entries alone, like a Secret of the type `kubernetes.io/dockercfg`, which kubelets take."""
    path = tmp_path / ".dockercfg"
    path.write_text(json.dumps(content))
    assert Logins(path).find("reg.example/a") == Login("bob", "pw")
    assert Logins(path).find("elsewhere.example/a") is None


SECRET = {"apiVersion": "v1", "kind": "Secret", "data": {".dockerconfigjson": encoded("bob", "hunter22")}}
KUBECTL = r"kubectl get secret NAME -o jsonpath='{.data.\.dockerconfigjson}' | base64 -d"


@pytest.mark.parametrize(
    ("content", "found", "next_step"),
    [
        (json.dumps(SECRET), "a manifest of a Kubernetes Secret", KUBECTL),
        (json.dumps(SECRET, indent=2), "a manifest of a Kubernetes Secret", KUBECTL),
        ("apiVersion: v1\nkind: Secret\ndata: {}\n", "a manifest of a Kubernetes Secret", KUBECTL),
        (encoded('{"auths": {"reg.example": {}}}', "hunter22"), "base64 of a file", "Decode it: base64 -d"),
        ('{"auths": ["reg.example"]}', "auths that is no object", "docker login"),
        ('{"auths": []}', "auths that is no object", "docker login"),
        ('{"credHelpers": ["ecr-login"]}', "credHelpers that is no object", "docker login"),
        ('{"credHelpers": {"reg.example": {"name": "x"}}}', "credHelpers of which one names no helper", "docker login"),
        ('{"credsStore": ["desktop"]}', "credsStore that is no text", "docker login"),
        ('{"psFormat": "table"}', "an object with none of auths, credHelpers, credsStore", "docker login"),
        ('{"auth": "aHVudGVyMjI="}', "an object with none of auths", "docker login"),
        ('{"reg.example": "aHVudGVyMjI="}', "an object with none of auths", "docker login"),
        ('["reg.example"]', "JSON that is no object (list)", "docker login"),
        ("machine reg.example login bob password hunter22", "something else than JSON", "Log in again"),
    ],
)
def test_a_file_in_another_form_is_no_file_without_logins(
    tmp_path: Path, content: str, found: str, next_step: str
) -> None:
    """One line names the file, the form, the way to it and the setting; what is in the file is not shown."""
    path = tmp_path / "logins"
    path.write_text(content)
    with pytest.raises(InvalidInputError) as caught:
        Logins(path)
    said = str(caught.value)
    assert said.startswith(f"registry logins {path}: expected a JSON file as `docker login`")
    assert f"found {found}" in said
    assert next_step in said
    assert "INCUMBENT_OCI_LOGIN_FILE" in said
    assert "hunter22" not in said
    assert "aHVudGVyMjI" not in said
    assert "\n" not in said


@pytest.mark.parametrize("content", ["", "{}", '{"auths": {}}', '{"auths": null, "credsStore": ""}'])
def test_a_file_after_a_logout_has_no_logins(tmp_path: Path, content: str) -> None:
    """Docker and Podman leave such files behind."""
    path = tmp_path / "config.json"
    path.write_text(content)
    assert Logins(path).find("reg.example/a") is None


def test_dockers_own_file_may_say_nothing_of_logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has other settings as well, and nobody named it for its logins."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    write(tmp_path / "config.json", psFormat="table", proxies={"default": {"httpProxy": "http://proxy:3128"}})
    assert Logins().find("reg.example/a") is None


def test_a_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    """Such as `~/.docker`."""
    with pytest.raises(InvalidInputError, match=r"Is a directory.*INCUMBENT_OCI_LOGIN_FILE"):
        Logins(tmp_path)


def test_a_mounted_secret_may_change(tmp_path: Path) -> None:
    """A Secret's `.dockerconfigjson` is read at each question, because Kubernetes replaces it."""
    path = write(tmp_path / ".dockerconfigjson", auths={"reg.example": entry("old")})
    logins = Logins(path)
    write(path, auths={"reg.example": entry("new")})
    assert logins.find("reg.example/a") == Login("new", "pw")


# Credential helpers, by the protocol of docker-credential-helpers.


def test_a_helper_is_asked_for_its_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper reads the host on its input; `<token>` as the user means an identity token."""
    answer = '{"Username": "AWS", "Secret": "from-%s"}'
    helper(tmp_path, "ecr-login", f'read server; [ "$1" = get ] && printf \'{answer}\' "$server"', monkeypatch)
    helper(tmp_path, "acr", """printf '{"Username": "<token>", "Secret": "idt"}'""", monkeypatch)
    helpers = {"1.dkr.ecr.eu.amazonaws.com": "ecr-login", "acme.azurecr.io": "acr"}
    logins = Logins(write(tmp_path / "config.json", credHelpers=helpers, auths={"reg.example": entry("bob")}))
    assert logins.find("1.dkr.ecr.eu.amazonaws.com/m") == Login("AWS", "from-1.dkr.ecr.eu.amazonaws.com")
    assert logins.find("acme.azurecr.io/m") == Login("", "", "idt")
    assert logins.find("reg.example/m") == Login("bob", "pw")


def test_a_store_is_asked_for_what_the_file_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`credsStore` has the passwords of hosts with an empty entry; Docker Hub is asked for by its old address."""
    known = '{"Username": "bob", "Secret": "hub"}'
    script = f"""read server; case "$server" in
        https://index.docker.io/v1/) echo '{known}';;
        *) echo 'credentials not found in native keychain'; exit 1;; esac"""
    helper(tmp_path, "desktop", script, monkeypatch)
    logins = Logins(write(tmp_path / "config.json", credsStore="desktop", auths={"reg.example": {}}))
    assert logins.find("registry-1.docker.io/library/redis") == Login("bob", "hub")
    assert logins.find("reg.example/m") is None


@pytest.mark.parametrize(
    "script",
    [
        "echo 'credentials not found in native keychain'; exit 1",
        """echo '{"ServerURL": "", "Username": "", "Secret": ""}'""",
        """echo '{"Username": null, "Secret": null}'""",
        """echo '{"Username": "<token>", "Secret": ""}'""",
    ],
)
def test_a_helper_without_a_login_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Whether it says so or answers nothing: the file's own entry counts then, and after it the next file's."""
    helper(tmp_path, "empty", script, monkeypatch)
    helpers = {"reg.example": "empty", "other.example": "empty"}
    path = write(tmp_path / "config.json", credHelpers=helpers, auths={"reg.example": entry("bob")})
    assert Logins(path).find("reg.example/a") == Login("bob", "pw")
    assert Logins(path).find("other.example/a") is None
    assert Logins(write(tmp_path / "store.json", credsStore="empty")).find("reg.example/a") is None


def test_a_helpers_secret_without_a_user_is_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Docker takes it; only both empty is no login."""
    helper(tmp_path, "nameless", """echo '{"Username": "", "Secret": "pw"}'""", monkeypatch)
    path = write(tmp_path / "config.json", credHelpers={"reg.example": "nameless"})
    assert Logins(path).find("reg.example/a") == Login("", "pw")


@pytest.mark.parametrize(
    ("name", "script", "said"),
    [
        ("missing", None, "no such program on PATH"),
        ("broken", "echo no session >&2; exit 3", "exit code 3: no session"),
        ("garbled", "echo hello", "an answer without Username and Secret"),
        ("deep", "printf '%0200000d' 0 | tr 0 '['", "an answer without Username and Secret"),
        ("slow", "sleep 60 & wait", "no answer within 0.5 s"),
    ],
)
def test_a_helper_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str | None, said: str
) -> None:
    """The error names the helper, the file that asks for it and the setting; a helper's child is not waited for."""
    if script is not None:
        helper(tmp_path, name, script, monkeypatch)
    if name == "slow":
        monkeypatch.setattr(oci_logins, "_HELPER_SECONDS", 0.5)
    logins = Logins(write(tmp_path / "config.json", credHelpers={"reg.example": name}))
    started = time.monotonic()
    with pytest.raises(DependencyError) as caught:
        logins.find("reg.example/m")
    assert f"docker-credential-{name}, which {tmp_path}/config.json names" in str(caught.value)
    assert said in str(caught.value)
    assert "INCUMBENT_OCI_LOGIN_FILE" in str(caught.value)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("first", ["#!/no/such/interpreter", "not a program"])
def test_a_helper_that_cannot_be_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    """A script without its interpreter, or a file for another machine, fails as any other helper does."""
    helper(tmp_path, "foreign", "", monkeypatch)
    (tmp_path / "docker-credential-foreign").write_text(first)
    logins = Logins(write(tmp_path / "config.json", credHelpers={"reg.example": "foreign"}))
    with pytest.raises(DependencyError, match=r"credential helper docker-credential-foreign.*cannot be run"):
        logins.find("reg.example/m")


def test_a_helper_of_another_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper's name is no path: a file of logins chooses among the programs of PATH and names no other."""
    (tmp_path / "docker-credential-").mkdir()
    helper(tmp_path, "evil", """echo '{"Username": "bob", "Secret": "pw"}'""", monkeypatch)
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "config.json", credHelpers={"reg.example": "/../docker-credential-evil"})
    with pytest.raises(DependencyError, match="no such program on PATH"):
        Logins(path).find("reg.example/m")


def test_an_identity_token_gets_a_token(httpserver: HTTPServer, tmp_path: Path) -> None:
    """`az acr login` stores an identity token, which the token server exchanges by OAuth2's refresh_token grant.

    As in the distribution project's document "OAuth2 Token Authentication", and in containers/image.
    """

    def exchange(request: Request) -> Response:
        assert dict(request.form) == {
            "grant_type": "refresh_token",
            "refresh_token": "idt-secret",
            "client_id": "incumbent",
            "service": "acme.azurecr.io",
            "scope": "repository:team/model:pull",
        }
        return Response(json.dumps({"access_token": "short-lived"}))

    def answer(request: Request) -> Response:
        if request.headers.get("Authorization") == "Bearer short-lived":
            return Response('{"errors": [{"code": "MANIFEST_UNKNOWN"}]}', 404)
        realm = httpserver.url_for("/oauth2/token")
        return Response("{}", 401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="acme.azurecr.io"'})

    httpserver.expect_request("/oauth2/token", method="POST").respond_with_handler(exchange)
    httpserver.expect_request("/v2/team/model/manifests/abc").respond_with_handler(answer)
    host = f"127.0.0.1:{httpserver.port}"
    content = {"auth": encoded("00000000-0000-0000-0000-000000000000", ""), "identitytoken": "idt-secret"}
    mirrors = {"acme.azurecr.io": f"http://{host}"}
    registry = OciRegistry(mirrors, write(tmp_path / "config.json", auths={host: content}))
    assert registry.resolve(ImageRef("acme.azurecr.io/team/model", "abc")) is None


@pytest.mark.parametrize("challenge", ['Bearer realm="http://127.0.0.1:1/token"', 'Basic realm="r"'])
def test_a_registry_token_is_sent_as_it_is(httpserver: HTTPServer, tmp_path: Path, challenge: str) -> None:
    """As Docker sends it: no token server is asked for another one, and a refused token is named and not shown."""

    def answer(request: Request) -> Response:
        if request.headers.get("Authorization") == "Bearer rt-secret" and "ours" in request.path:
            return Response('{"errors": [{"code": "MANIFEST_UNKNOWN"}]}', 404)
        return Response(f"{request.headers.get('Authorization')}", 401, {"WWW-Authenticate": challenge})

    httpserver.expect_request(re.compile("/v2/")).respond_with_handler(answer)
    host = f"127.0.0.1:{httpserver.port}"
    content = {"auth": encoded("bob", "pw-secret"), "registrytoken": "rt-secret"}
    registry = OciRegistry({}, write(tmp_path / "config.json", auths={host: content}))
    assert registry.resolve(ImageRef(f"{host}/team/ours", "abc")) is None
    with pytest.raises(DependencyError, match=r"Let the account of the registry token pull team/theirs") as caught:
        registry.resolve(ImageRef(f"{host}/team/theirs", "abc"))
    assert "rt-secret" not in str(caught.value)

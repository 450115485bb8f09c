"""Which exchanges are repeated, what comes back when no attempt succeeds, and what an error shows of an answer."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response
from werkzeug.datastructures import Headers

from orchestration.adapters.exchange import ATTEMPTS, Reply, TransientError, excerpt, exchange
from orchestration.adapters.github import GitHubRepository
from orchestration.adapters.host_api import ApiNames, TokenFile
from orchestration.adapters.http import HttpClient, require_plain_url
from orchestration.adapters.kube_api import KubeApi
from orchestration.adapters.language_models import ChatCompletions
from orchestration.adapters.mlflow_registry import MlflowRegistry
from orchestration.adapters.oci import OciRegistry
from orchestration.adapters.prometheus import Prometheus
from orchestration.adapters.prometheus_access import parse_access
from orchestration.promotion.images import ImageRef
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from testbeds.common import certificates
from tests.adapters.kubeconfigs import write_kubeconfig
from tests.adapters.pushing import NOWHERE

BROKEN = DependencyError(Problem("a server", "an answer", "a broken connection", "Check the server."))


class Script:
    """Attempts that come to what a test lists, in that order."""

    def __init__(self, *results: int | Exception) -> None:
        self._results = list(results)

    def __call__(self, seconds: float) -> Reply:
        result = self._results.pop(0)
        if isinstance(result, Exception):
            raise result
        return Reply(result, b"", seconds)

    @property
    def left(self) -> int:
        return len(self._results)


@pytest.mark.parametrize("first", [502, TransientError(BROKEN)])
def test_a_transient_failure_is_repeated(first: int | Exception) -> None:
    """Both a proxy's answer and a broken connection are followed by another attempt."""
    assert exchange(Script(first, 200), repeat=True).status == 200


def test_the_last_answer_counts_when_all_attempts_are_transient() -> None:
    """A caller sees the last status itself, and can say what the server answered."""
    assert exchange(Script(502, 503, 429), repeat=True).status == 429


def test_an_earlier_answer_never_hides_a_broken_connection() -> None:
    """When the last attempt got no answer, the error says so, whatever was answered before."""
    script = Script(*[503] * (ATTEMPTS - 1), TransientError(BROKEN))
    with pytest.raises(DependencyError, match="a broken connection"):
        exchange(script, repeat=True)


@pytest.mark.parametrize("result", [200, 404, 500])
def test_other_answers_are_never_repeated(result: int) -> None:
    """Asking again would not change a refusal, and does not fix a server's bug."""
    script = Script(result, 200)
    assert exchange(script, repeat=True).status == result
    assert script.left == 1


def test_other_failures_are_never_repeated() -> None:
    """A failure that is not transient is raised at once."""
    script = Script(BROKEN, 200)
    with pytest.raises(DependencyError):
        exchange(script, repeat=True)
    assert script.left == 1


class Verbatim(Response):
    """Sends its headers as they are, where werkzeug would refuse the address."""

    def get_wsgi_headers(self, environ: object) -> Headers:
        return self.headers


@pytest.mark.parametrize(
    ("url", "headers", "said"),
    [
        ("http://127.0.0.1:1/", {"Authorization": "Bearer s3cr\xe9t"}, "a header with characters beyond ASCII"),
        ("http://127.0.0.1:1/", {"Authorization": "Bearer s3cr\nt"}, "a request that cannot be sent"),
        ("http://registry..example/", {}, "a host's name.*of which a part is empty"),
        (f"http://{'a' * 64}.example/", {}, "a host's name.*longer than 63"),
        ("", {}, "a host's name.*in a redirect"),
    ],
)
def test_what_cannot_be_sent_is_said(httpserver: HTTPServer, url: str, headers: dict[str, str], said: str) -> None:
    """A header or a host that HTTP does not have is an error of one line that does not repeat it."""
    redirect = Verbatim(b"", 302, {"Location": "http://registry..example/"})
    httpserver.expect_request("/").respond_with_response(redirect)
    address = url if "example" in url else httpserver.url_for("/")
    with pytest.raises(DependencyError, match=said) as caught:
        HttpClient("a server", "Check it.").get(address, headers=headers, follow_redirects=not url)
    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize("host", ["registry..example", ".example", f"{'a' * 64}.example"])
def test_an_address_with_an_impossible_host_is_refused(host: str) -> None:
    """A setting with such an address is refused when it is read, and a final dot and an IPv6 address are not."""
    with pytest.raises(InvalidInputError, match="cannot be parsed"):
        require_plain_url("setting X", f"http://{host}:5000")
    for usable in ("http://registry.example.:5000", "http://[::1]:5000", "http://b\xfccher.example"):
        assert require_plain_url("setting X", usable) == usable


@pytest.mark.parametrize(
    ("tail", "found"),
    [
        ("?token=hunter22", "an address with a query"),
        ("/?", "an address with a query"),
        ("#hunter22", "an address with a fragment"),
        ("/a b", "white space"),
        ("\n", "white space or control characters"),
    ],
)
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("PROMETHEUS_URL", Prometheus),
        ("MLFLOW_TRACKING_URI", MlflowRegistry),
        ("INCUMBENT_OCI_MIRRORS", lambda url: OciRegistry({"ghcr.io": url}, NOWHERE)),
        ("INCUMBENT_ANALYSIS_URL", lambda url: ChatCompletions(url, "model", None)),
        (
            "address of GitHub's API",
            lambda url: GitHubRepository(
                url, "acme/gitops", TokenFile(Path("/token"), "it"), ApiNames("its address", "its name")
            ),
        ),
    ],
)
def test_an_address_to_which_paths_are_added_has_nothing_behind_its_path(
    name: str, make: Callable[[str], object], tail: str, found: str
) -> None:
    """What is behind would hide the path or be dropped; it is not repeated, because it may be a secret."""
    with pytest.raises(InvalidInputError, match=f"{name}.*{found}") as caught:
        make(f"https://host{tail}")
    assert "hunter22" not in str(caught.value)


def test_a_secret_that_no_header_can_have_is_refused(tmp_path: Path) -> None:
    """The error names the setting and shows nothing of the secret; a password, which is encoded, may have any."""
    (tmp_path / "token").write_text("s3cr\xe9t")
    with pytest.raises(DependencyError, match=r"bytes that are not ASCII.*PROMETHEUS_TOKEN_FILE") as caught:
        parse_access(token_file=str(tmp_path / "token")).headers_for("http://localhost/", b"")
    assert "s3cr" not in str(caught.value)
    password = parse_access(username="bob", password_file=str(tmp_path / "token"))
    assert password.headers_for("http://localhost/", b"")["Authorization"] == "Basic Ym9iOnMzY3LDqXQ="


@pytest.mark.parametrize("result", [503, TransientError(BROKEN)])
def test_what_may_change_something_is_sent_once(result: int | Exception) -> None:
    """Without `repeat` even a transient failure is final."""
    script = Script(result, 200)
    if isinstance(result, Exception):
        with pytest.raises(DependencyError, match="a broken connection"):
            exchange(script, repeat=False)
    else:
        assert exchange(script, repeat=False).status == result
    assert script.left == 1


def test_an_excerpt_shows_no_part_of_a_secret() -> None:
    """A secret that the cut would halve is removed before."""
    shown = excerpt("x" * 295 + " hunter22-hunter22 and more" * 20, ("hunter22-hunter22",))
    assert "hunt" not in shown
    assert shown.endswith("…")


def test_an_excerpt_shows_no_part_of_a_secret_that_came_near_because_of_what_was_removed() -> None:
    """White space and user information that shrink to nothing do not bring half a secret into what is shown."""
    for filler in (" " * 5990, "://" + "x" * 5986 + "@"):
        assert "hunter" not in excerpt(f"{filler} hunter22-hunter22 {'y' * 9000}", ("hunter22-hunter22",))


@pytest.fixture
def self_signed(tmp_path: Path) -> Iterator[tuple[str, list[object]]]:
    """A server whose certificate no client accepts: its address, and a list with an entry for each handshake."""
    pem = tmp_path / "server.pem"
    pem.write_text("".join(certificates.self_signed("localhost")), encoding="utf-8")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    handshakes: list[object] = []
    context.sni_callback = lambda _, host, __: handshakes.append(host)
    with HTTPServer("localhost", ssl_context=context) as server:
        yield server.url_for("").rstrip("/"), handshakes


@pytest.mark.parametrize(
    ("read", "advice"),
    [
        (lambda url, folder: HttpClient("a server", "Check the server.").get(url), "Set SSL_CERT_FILE"),
        (
            lambda url, folder: KubeApi(write_kubeconfig(folder, url), "edge").get("/readyz"),
            r"Correct certificate-authority.*INCUMBENT_KUBECONFIG",
        ),
    ],
    ids=["http", "kubernetes"],
)
def test_a_refused_certificate_is_final(
    self_signed: tuple[str, list[object]], tmp_path: Path, read: Callable[[str, Path], Reply], advice: str
) -> None:
    """Neither client library asks again when it does not accept the server's certificate; the setting is named."""
    url, handshakes = self_signed
    with pytest.raises(DependencyError, match=rf"CERTIFICATE_VERIFY_FAILED.*{advice}"):
        read(url, tmp_path)
    assert handshakes == ["localhost"]


def test_an_authority_of_the_environment_is_trusted(
    self_signed: tuple[str, list[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable that the error names, which may also name a file that is none."""
    url, _ = self_signed
    authority = tmp_path / "authority.pem"
    authority.write_text(ssl.get_server_certificate(("localhost", int(url.rpartition(":")[2]))))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert HttpClient("a server", "Check it.").get(url).status == 500  # of a test's server that expects nothing
    for content in ("hello", None):
        authority.write_text(content) if content else authority.unlink()
        with pytest.raises(DependencyError, match=r"a server: .*Correct SSL_CERT_FILE, or unset it\."):
            HttpClient("a server", "Check it.").get(url)


def test_a_proxy_that_is_none_is_told(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would raise an error of its own."""
    monkeypatch.setenv("HTTP_PROXY", "nonsense://proxy")
    with pytest.raises(DependencyError, match=r"a server: .*nonsense.*Correct HTTP_PROXY"):
        HttpClient("a server", "Check it.").get(httpserver.url_for("/"))


def test_a_server_without_tls_is_told(httpserver: HTTPServer) -> None:
    """A registry's next step names the setting that allows it."""
    address = f"0.0.0.0:{httpserver.port}"  # which is this machine, and no name of it that needs no TLS
    with pytest.raises(DependencyError, match=r"found an answer without TLS\. Write http:// in place of https://"):
        HttpClient("a server", "Check it.").get(f"https://{address}/")
    with pytest.raises(DependencyError, match=rf"INCUMBENT_OCI_MIRRORS: {address}=http://{address}\."):
        OciRegistry({}, NOWHERE).resolve(ImageRef(f"{address}/team/model", "abc"))

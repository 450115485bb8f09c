"""Image registries: a real one and the fake held to the same contract, and a scripted one for tokens and lies."""

import base64
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from orchestration.adapters.http import HttpReply
from orchestration.adapters.oci import OciRegistry
from orchestration.adapters.oci_challenges import choose_challenge, parse_challenges
from orchestration.promotion.images import ImageRef, split_repository
from orchestration.promotion.ports import ImageRegistry, ResolvedImage
from orchestration.promotion.problems import DependencyError, InvalidInputError, RateLimitedError
from tests.adapters.pushing import CONFIG, INDEX, MANIFEST, NOWHERE, RealWorld, digest_of, encode
from tests.fakes.images import FakeImages

ANY_PATH = re.compile("/")


class World(Protocol):
    """A registry, and what people do to it."""

    @property
    def images(self) -> ImageRegistry: ...

    def publish(
        self, repository: str, tag: str, environment: dict[str, str], architectures: tuple[str, ...]
    ) -> str: ...

    def remove(self, repository: str, digest: str) -> None: ...


class FakeWorld:
    def __init__(self) -> None:
        self.images = FakeImages()

    def publish(self, repository: str, tag: str, environment: dict[str, str], architectures: tuple[str, ...]) -> str:
        return self.images.publish(repository, tag, environment, architectures)

    def remove(self, repository: str, digest: str) -> None:
        self.images.remove(repository, digest)


@pytest.fixture(params=["registry", "fake"])
def world(request: pytest.FixtureRequest) -> World:
    """A real registry, and then the fake, for the same contract."""
    return FakeWorld() if request.param == "fake" else RealWorld(request.getfixturevalue("oci_url"))


@pytest.fixture
def real(oci_url: str) -> RealWorld:
    """The real registry alone."""
    return RealWorld(oci_url)


@pytest.fixture
def repository() -> str:
    """A repository that no other test uses."""
    return f"ghcr.io/team/model-{uuid4().hex[:8]}"


def resolved(world: World, reference: ImageRef) -> ResolvedImage:
    """Resolve a reference, which must exist."""
    image = world.images.resolve(reference)
    assert image is not None
    return image


def test_a_tag_resolves_to_its_digest(world: World, repository: str) -> None:
    """The resolved reference pins what the tag named, and the config's environment is read."""
    digest = world.publish(repository, "abc", {"MODEL_URI": "models:/iris/7", "EMPTY": ""}, ("amd64",))
    image = resolved(world, ImageRef(repository, "abc"))
    assert image.reference == ImageRef(repository, "abc", digest)
    (platform,) = image.platforms
    assert platform.architecture == "amd64"
    assert platform.manifest_digest == digest
    assert platform.environment == {"MODEL_URI": "models:/iris/7", "EMPTY": ""}
    assert image.known_digests == {digest, platform.config_digest}


def test_an_index_resolves_to_its_platforms(world: World, repository: str) -> None:
    """For an image for several architectures, all digests by which a kubelet may name it are known."""
    digest = world.publish(repository, "abc", {"A": "b=c"}, ("amd64", "arm64"))
    image = resolved(world, ImageRef(repository, "abc"))
    assert image.digest == digest
    assert [platform.architecture for platform in image.platforms] == ["amd64", "arm64"]
    assert len(image.known_digests) == 5
    assert all(platform.environment == {"A": "b=c"} for platform in image.platforms)


def test_a_digest_wins_over_its_tag(world: World, repository: str) -> None:
    """A pinned reference still names the same image after its tag has moved."""
    old = world.publish(repository, "latest", {"V": "1"}, ("amd64",))
    new = world.publish(repository, "latest", {"V": "2"}, ("amd64",))
    pinned = resolved(world, ImageRef(repository, "latest", old))
    assert pinned.reference == ImageRef(repository, "latest", old)
    assert pinned.platforms[0].environment == {"V": "1"}
    assert resolved(world, ImageRef(repository, None, old)).reference == ImageRef(repository, None, old)
    assert resolved(world, ImageRef(repository)).reference == ImageRef(repository, None, new)


def test_what_is_not_published_is_none(world: World, repository: str) -> None:
    """An unknown repository, tag or digest is None: a promotion waits for an image that is not published yet."""
    assert world.images.resolve(ImageRef(repository, "abc")) is None
    digest = world.publish(repository, "abc", {}, ("amd64",))
    assert world.images.resolve(ImageRef(repository, "other")) is None
    assert world.images.resolve(ImageRef(repository, "abc", "sha256:" + "0" * 64)) is None
    world.remove(repository, digest)
    assert world.images.resolve(ImageRef(repository, "abc", digest)) is None


def test_the_fake_can_be_taken_down(repository: str) -> None:
    """A fake that is down fails like a dead registry."""
    with pytest.raises(DependencyError):
        FakeImages(down=True).resolve(ImageRef(repository, "abc"))


# From here on: what only a real registry can show.


def test_attestations_are_not_platforms(real: RealWorld, repository: str) -> None:
    """What buildx adds as platform unknown/unknown, and images for other systems, are left out."""
    image = real.image(repository, None, {"architecture": "amd64", "os": "linux", "config": {"Env": ["A=b"]}})
    attestation = real.image(repository, None, {"architecture": "unknown", "os": "unknown"})
    real.index(
        repository,
        "abc",
        [
            {"digest": image, "platform": {"architecture": "amd64", "os": "linux"}},
            {"digest": attestation, "platform": {"architecture": "unknown", "os": "unknown"}},
            {"digest": attestation, "platform": {"architecture": "amd64", "os": "windows"}},
        ],
    )
    assert [platform.manifest_digest for platform in resolved(real, ImageRef(repository, "abc")).platforms] == [image]


def test_what_is_no_image_takes_no_images_place(real: RealWorld, repository: str) -> None:
    """An index of many attestations is read to its end, and one with too many images for Linux is named as such."""
    linux = {"architecture": "amd64", "os": "linux"}
    image = real.image(repository, None, {**linux, "config": {}})
    unknown: dict[str, object] = {"digest": image, "platform": {"architecture": "unknown", "os": "unknown"}}
    real.index(repository, "many", [unknown] * 40 + [{"digest": image, "platform": linux}])
    assert len(resolved(real, ImageRef(repository, "many")).platforms) == 1
    real.index(repository, "more", [{"digest": image, "platform": linux}] * 33)
    with pytest.raises(DependencyError, match=r"index .*@sha256:\w+ of 32 images at most, found 33 of them\. Publish"):
        resolved(real, ImageRef(repository, "more"))


def test_an_artifact_that_is_not_an_image_has_no_platforms(real: RealWorld, repository: str) -> None:
    """A chart or a signature under the tag fits no node."""
    real.image(repository, "abc", {"architecture": "amd64"}, "application/vnd.cncf.helm.config.v1+json")
    assert resolved(real, ImageRef(repository, "abc")).platforms == ()


def test_an_artifact_says_what_it_is(real: RealWorld, repository: str) -> None:
    """What is no image for Linux is named, so that a person sees what the tag has."""
    real.image(repository, "chart", {"architecture": "amd64"}, "application/vnd.cncf.helm.config.v1+json")
    real.image(repository, "windows", {"architecture": "amd64", "os": "windows"})
    windows = {"architecture": "amd64", "os": "windows"}
    real.index(repository, "index", [{"digest": real.image(repository, None, {}), "platform": windows}])
    found = {tag: resolved(real, ImageRef(repository, tag)) for tag in ("chart", "windows", "index")}
    assert [image.platforms for image in found.values()] == [(), (), ()]
    assert [image.instead for image in found.values()] == [
        "an artifact of type application/vnd.cncf.helm.config.v1+json",
        "an image without a config for Linux",
        "an index without an image for Linux",
    ]


def test_an_index_may_hold_an_index(real: RealWorld, repository: str) -> None:
    """Images of an index in an index count, as container runtimes pull them."""
    real.publish(repository, "inner", {"A": "b"}, ("amd64", "arm64"))
    inner = resolved(real, ImageRef(repository, "inner"))
    real.index(repository, "abc", [{"mediaType": INDEX, "digest": inner.digest}])
    assert resolved(real, ImageRef(repository, "abc")).platforms == inner.platforms


def test_layers_may_be_compressed_with_zstd(real: RealWorld, repository: str) -> None:
    """Layers are not read, so an image with zstd layers is as good as any."""
    config = real.blob(repository, content := encode({"architecture": "amd64", "os": "linux"}))
    layer = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
        "digest": real.blob(repository, b"x"),
        "size": 1,
    }
    descriptor = {"mediaType": CONFIG, "digest": config, "size": len(content)}
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor, "layers": [layer]}
    real.manifest(repository, "abc", document)
    assert [platform.architecture for platform in resolved(real, ImageRef(repository, "abc")).platforms] == ["amd64"]


def test_schema_1_is_refused_by_name(httpserver: HTTPServer) -> None:
    """A registry that still has Docker's first format sends it whatever is asked for; containerd 2 pulls it no more."""
    old = {"schemaVersion": 1, "name": "team/model", "tag": "abc", "architecture": "amd64", "fsLayers": []}
    httpserver.expect_request(ANY_PATH).respond_with_json(
        old, content_type="application/vnd.docker.distribution.manifest.v1+prettyjws"
    )
    image = scripted(httpserver).resolve(ImageRef("ghcr.io/team/model", "abc"))
    assert image is not None
    assert (image.platforms, image.instead) == (
        (),
        "a manifest of Docker's schema 1, which container runtimes no longer pull",
    )


def test_a_config_without_environment_has_an_empty_one(real: RealWorld, repository: str) -> None:
    """`Env: null`, as some builders write it, is an empty environment."""
    real.image(repository, "abc", {"architecture": "arm64", "os": "linux", "config": {"Env": None}})
    (platform,) = resolved(real, ImageRef(repository, "abc")).platforms
    assert (platform.architecture, dict(platform.environment)) == ("arm64", {})


# And what only a scripted registry can show.


def scripted(server: HTTPServer, config: Path = NOWHERE) -> OciRegistry:
    """Return the adapter with the server as the mirror of `ghcr.io`."""
    return OciRegistry({"ghcr.io": server.url_for("").rstrip("/")}, config)


def serve_image(server: HTTPServer, allowed: Callable[[Request], bool] = lambda request: True) -> bytes:
    """Serve `ghcr.io/team/model:abc` to allowed requests, and the bearer challenge of ghcr.io to others."""
    config = encode({"architecture": "amd64", "os": "linux"})
    manifest = encode(
        {"mediaType": MANIFEST, "config": {"mediaType": CONFIG, "digest": digest_of(config)}, "layers": []}
    )
    realm = server.url_for("/token")
    challenge = f'Bearer realm="{realm}",service="ghcr.io",scope="repository:team/model:pull"'

    def answer(request: Request) -> Response:
        if not allowed(request):
            return Response("{}", 401, {"WWW-Authenticate": challenge})
        content = config if "/blobs/" in request.path else manifest
        return Response(content, 200, {"Docker-Content-Digest": digest_of(content)})

    server.expect_request(re.compile("/v2/team/model/")).respond_with_handler(answer)
    return manifest


def login_file(folder: Path, host: str, login: str) -> Path:
    """Write a config.json as `docker login` does."""
    path = folder / "config.json"
    path.write_text(json.dumps({"auths": {host: {"auth": base64.b64encode(login.encode()).decode()}}}))
    return path


def test_a_mirror_is_asked_with_the_namespace(httpserver: HTTPServer) -> None:
    """Requests go to the mirror's own path with `?ns=`, as containerd's do, and accept all image types."""
    serve_image(httpserver)
    assert scripted(httpserver).resolve(ImageRef("ghcr.io/team/model", "abc")) is not None
    request = httpserver.log[0][0]
    assert request.path == "/v2/team/model/manifests/abc"
    assert request.args["ns"] == "ghcr.io"
    for media_type in ("oci.image.index.v1", "oci.image.manifest.v1", "manifest.list.v2", "distribution.manifest.v2"):
        assert media_type in request.headers["Accept"]


def test_an_anonymous_token_is_fetched_and_kept(httpserver: HTTPServer) -> None:
    """A public image of ghcr.io needs a token that anyone can get; one token serves all requests."""
    serve_image(httpserver, lambda request: request.headers.get("Authorization") == "Bearer anon")
    httpserver.expect_request("/token").respond_with_json({"token": "anon"})
    registry = scripted(httpserver)
    for _ in range(2):
        assert registry.resolve(ImageRef("ghcr.io/team/model", "abc")) is not None
    tokens = [request for request, _ in httpserver.log if request.path == "/token"]
    assert [dict(request.args) for request in tokens] == [{"service": "ghcr.io", "scope": "repository:team/model:pull"}]
    assert "Authorization" not in tokens[0].headers


def test_an_old_token_is_replaced(httpserver: HTTPServer) -> None:
    """An expired token is replaced by a new one."""
    good = ["first"]
    serve_image(httpserver, lambda request: request.headers.get("Authorization") == f"Bearer {good[0]}")
    httpserver.expect_request("/token").respond_with_handler(lambda _: Response(encode({"access_token": good[0]})))
    registry = scripted(httpserver)
    assert registry.resolve(ImageRef("ghcr.io/team/model", "abc")) is not None
    good[0] = "second"
    assert registry.resolve(ImageRef("ghcr.io/team/model", "abc")) is not None


def test_a_login_goes_to_the_token_server(httpserver: HTTPServer, tmp_path: Path) -> None:
    """The credentials of `docker login` get the token for a private image."""
    serve_image(httpserver, lambda request: request.headers.get("Authorization") == "Bearer private")
    httpserver.expect_request("/token", headers={"Authorization": _basic("me:hunter22")}).respond_with_json(
        {"token": "private"}
    )
    registry = scripted(httpserver, login_file(tmp_path, f"{httpserver.host}:{httpserver.port}", "me:hunter22"))
    assert registry.resolve(ImageRef("ghcr.io/team/model", "abc")) is not None


def test_a_login_answers_a_basic_challenge(httpserver: HTTPServer, tmp_path: Path) -> None:
    """A registry behind basic authentication gets the login itself; no other host does."""

    def answer(request: Request) -> Response:
        if request.headers.get("Authorization") != _basic("me:hunter22"):
            return Response("{}", 401, {"WWW-Authenticate": 'Basic realm="x"'})
        return Response(encode({"errors": [{"code": "MANIFEST_UNKNOWN"}]}), 404)

    httpserver.expect_request(ANY_PATH).respond_with_handler(answer)
    host = f"{httpserver.host}:{httpserver.port}"
    assert scripted(httpserver, login_file(tmp_path, host, "me:hunter22")).resolve(ImageRef("ghcr.io/a/b", "c")) is None
    with pytest.raises(DependencyError, match="docker login"):
        scripted(httpserver, login_file(tmp_path, "ghcr.io", "me:hunter22")).resolve(ImageRef("ghcr.io/a/b", "c"))


BEARER = 'Bearer realm="REALM",service="container_registry",scope="*"'


@pytest.mark.parametrize(
    "challenges",
    [
        [BEARER],
        [BEARER, 'Basic realm="Gitea Container Registry"'],  # Gitea and Forgejo
        ['Basic realm="reg"', BEARER],
        [f'Basic realm="reg", {BEARER}'],
        ["Negotiate", BEARER],
        ["Negotiate YII=, Basic realm=x, bearer realm=REALM,service=container_registry"],
        ['BEARER realm = "REALM" , service = "container_registry"'],
        ['Digest realm="x, Bearer y", nonce="Bearer realm=no"', BEARER],
    ],
)
def test_a_token_is_preferred_in_any_list_of_challenges(
    httpserver: HTTPServer, tmp_path: Path, challenges: list[str]
) -> None:
    """RFC 9110 (11.6.1) allows several challenges in one header and several headers, with and without quotes."""

    def answer(request: Request) -> Response:
        if request.headers.get("Authorization") == "Bearer t0k":
            return Response(encode({"errors": [{"code": "MANIFEST_UNKNOWN"}]}), 404)
        realm = httpserver.url_for("/token")
        return Response("{}", 401, [("WWW-Authenticate", each.replace("REALM", realm)) for each in challenges])

    httpserver.expect_request(
        "/token",
        query_string={"service": "container_registry", "scope": "repository:a/b:pull"},
        headers={"Authorization": _basic("me:hunter22")},
    ).respond_with_json({"token": "t0k"})
    httpserver.expect_request(re.compile("/v2/")).respond_with_handler(answer)
    path = login_file(tmp_path, f"{httpserver.host}:{httpserver.port}", "me:hunter22")
    assert scripted(httpserver, path).resolve(ImageRef("ghcr.io/a/b", "c")) is None


@pytest.mark.parametrize(
    "challenges", [["Negotiate", 'Basic realm="x"'], ["BASIC realm=Nexus"], ["Negotiate a=, basic"]]
)
def test_a_password_is_sent_where_no_token_is_asked_for(
    httpserver: HTTPServer, tmp_path: Path, challenges: list[str]
) -> None:
    """Basic authentication is found beside schemes that we do not speak, however it is written."""

    def answer(request: Request) -> Response:
        if request.headers.get("Authorization") == _basic("me:hunter22"):
            return Response(encode({"errors": [{"code": "MANIFEST_UNKNOWN"}]}), 404)
        return Response("{}", 401, [("WWW-Authenticate", each) for each in challenges])

    httpserver.expect_request(ANY_PATH).respond_with_handler(answer)
    path = login_file(tmp_path, f"{httpserver.host}:{httpserver.port}", "me:hunter22")
    assert scripted(httpserver, path).resolve(ImageRef("ghcr.io/a/b", "c")) is None


def test_challenges_are_parsed_as_the_rfc_writes_them() -> None:
    """The example of RFC 9110, an escaped quote, and texts that are no challenge."""
    one, other = parse_challenges('Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""')
    assert (one.scheme, one.parameters) == ("basic", {"realm": "simple"})
    assert other.parameters == {"realm": "apps", "type": "1", "title": 'Login to "apps"'}
    assert [choose_challenge(text) for text in ("", "realm=x", "Bearer", 'Bearer scope="x"', "Digest realm=x")] == [
        None
    ] * 5


@pytest.mark.parametrize("status", [400, 401, 403])
def test_an_expired_token_is_renewed_once(httpserver: HTTPServer, status: int) -> None:
    """ECR Public answers an expired token with 400, others with 403; a new one that is refused too is an error."""
    good = ["1"]
    realm = httpserver.url_for("/token")

    def answer(request: Request) -> Response:
        sent = request.headers.get("Authorization")
        if sent == f"Bearer {good[0]}":
            return Response(encode({"errors": [{"code": "MANIFEST_UNKNOWN"}]}), 404)
        if sent is None:
            return Response("{}", 401, {"WWW-Authenticate": f'Bearer realm="{realm}"'})
        return Response("Your Authorization Token has expired", status)  # which repeats no challenge

    issued = iter("1233")
    httpserver.expect_request("/token").respond_with_handler(lambda _: Response(encode({"token": next(issued)})))
    httpserver.expect_request(re.compile("/v2/")).respond_with_handler(answer)
    registry = scripted(httpserver)
    assert registry.resolve(ImageRef("ghcr.io/a/b", "c")) is None
    good[0] = "2"
    assert registry.resolve(ImageRef("ghcr.io/a/b", "c")) is None
    good[0] = "none"
    with pytest.raises(DependencyError, match=f"HTTP {status}"):
        registry.resolve(ImageRef("ghcr.io/a/b", "c"))
    assert next(issued) == "3"


@pytest.mark.parametrize(
    ("realm", "with_login", "said"),
    [
        ("http://auth.elsewhere.example/token", True, "an https address for the login"),
        ("ftp://127.0.0.1/token", False, "an https address"),
        ("http://me:pw@127.0.0.1/token", False, "an https address"),
        ("//[", False, "an https address"),
    ],
)
def test_a_login_is_sent_to_no_realm_that_does_not_protect_it(
    httpserver: HTTPServer, tmp_path: Path, realm: str, with_login: bool, said: str
) -> None:
    """A registry may name a token server elsewhere, but over plain HTTP no login goes to another host."""
    httpserver.expect_request(ANY_PATH).respond_with_data(b"{}", 401, {"WWW-Authenticate": f'Bearer realm="{realm}"'})
    host = f"{httpserver.host}:{httpserver.port}"
    path = login_file(tmp_path, host if with_login else "other.example", "me:hunter22")
    with pytest.raises(DependencyError, match=said) as caught:
        scripted(httpserver, path).resolve(ImageRef("ghcr.io/a/b", "c"))
    assert "hunter22" not in str(caught.value)


def _basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def test_a_refused_token_is_an_error(httpserver: HTTPServer) -> None:
    """A private image without a login is an error that says so, and does not count as unpublished."""
    serve_image(httpserver, lambda request: False)
    httpserver.expect_request("/token").respond_with_json({"errors": [{"code": "DENIED"}]}, status=403)
    with pytest.raises(DependencyError, match="docker login"):
        scripted(httpserver).resolve(ImageRef("ghcr.io/team/model", "abc"))


def test_a_blob_may_lie_elsewhere_but_the_token_stays(httpserver: HTTPServer) -> None:
    """Blobs are read from the storage that the registry redirects to, without the registry's token."""
    config = encode({"architecture": "amd64", "os": "linux"})
    manifest = encode({"mediaType": MANIFEST, "config": {"mediaType": CONFIG, "digest": digest_of(config)}})
    with HTTPServer(host="127.0.0.1") as storage:
        storage.expect_request("/blob").respond_with_data(config)

        def answer(request: Request) -> Response:
            if request.path == "/token":
                return Response(encode({"token": "secret-token"}))
            if "Authorization" not in request.headers:
                return Response("{}", 401, {"WWW-Authenticate": f'Bearer realm="{httpserver.url_for("/token")}"'})
            if "/blobs/" in request.path:
                return Response("", 307, {"Location": storage.url_for("/blob")})
            return Response(manifest)

        httpserver.expect_request(ANY_PATH).respond_with_handler(answer)
        assert scripted(httpserver).resolve(ImageRef("ghcr.io/team/model", "abc")) is not None
        assert "Authorization" not in storage.log[0][0].headers


@pytest.mark.parametrize("asked_by_digest", [True, False])
def test_content_that_is_not_its_digest_is_an_error(httpserver: HTTPServer, asked_by_digest: bool) -> None:
    """A manifest that was changed on its way is refused, whether its digest was asked for or only claimed."""
    wrong = "sha256:" + "1" * 64
    headers = {} if asked_by_digest else {"Docker-Content-Digest": wrong}
    httpserver.expect_request(ANY_PATH).respond_with_data(encode({"mediaType": MANIFEST}), headers=headers)
    reference = ImageRef("ghcr.io/team/model", "abc", wrong if asked_by_digest else None)
    with pytest.raises(DependencyError, match="digest"):
        scripted(httpserver).resolve(reference)


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (404, {"message": "no route"}),
        (404, {"errors": [{"code": "UNSUPPORTED"}]}),
        (403, {"errors": [{"code": "DENIED"}]}),
        (401, {}),
        (400, {"errors": [{"code": "MANIFEST_INVALID"}]}),
        (429, {"errors": [{"code": "TOOMANYREQUESTS"}]}),
        (500, {}),
        (200, []),
    ],
)
def test_only_an_unknown_manifest_means_that_it_is_not_published(
    httpserver: HTTPServer, status: int, document: object
) -> None:
    """Rate limits, missing rights, failures and 404s of something else are errors, and do not refuse a version."""
    httpserver.expect_request(ANY_PATH).respond_with_json(document, status=status)
    with pytest.raises(DependencyError, match=f"HTTP {status}"):
        scripted(httpserver).resolve(ImageRef("ghcr.io/team/model", "abc"))


@pytest.mark.parametrize(
    "body",
    [
        b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}',  # distribution, GHCR, GAR
        b'{"errors": [{"code": "NAME_UNKNOWN"}]}',  # ECR
        b'{"errors": [{"code": "TAG_UNKNOWN"}]}',
        b'{"errors": [{"code": "manifest_unknown"}]}',
        b'{"errors": [{"code": "NOT_FOUND"}]}',  # Harbor
        b'{"errors": [{"status": 404, "message": "Not Found"}]}',  # JFrog
        b'{"errors": [{"code": 404, "message": "manifest unknown"}]}',
        b'{"code": "MANIFEST_UNKNOWN"}',
    ],
)
def test_a_404_that_says_so_means_that_it_is_not_published(httpserver: HTTPServer, body: bytes) -> None:
    """The specification's codes count in any case and place, and so do messages that say the same."""
    httpserver.expect_request(ANY_PATH).respond_with_data(body, 404)
    assert scripted(httpserver).resolve(ImageRef("ghcr.io/team/model", "abc")) is None
    assert len(httpserver.log) == 1


@pytest.mark.parametrize("body", [b"", b"<html>404 Not Found</html>", b'{"errors": [{"code": "NAME_INVALID"}]}'])
@pytest.mark.parametrize(
    ("status", "headers"),
    [(200, {"Docker-Distribution-Api-Version": "registry/2.0"}), (401, {"WWW-Authenticate": 'Basic realm="x"'})],
)
def test_a_404_that_says_nothing_counts_if_there_is_a_registry(
    httpserver: HTTPServer, body: bytes, status: int, headers: dict[str, str]
) -> None:
    """A registry whose proxy answers 404 with a page, or with nothing, is known by its answer for `/v2/`."""
    httpserver.expect_request("/v2/").respond_with_data(b"", status, headers)
    httpserver.expect_request(re.compile("/v2/team/")).respond_with_data(body, 404)
    assert scripted(httpserver).resolve(ImageRef("ghcr.io/team/model", "abc")) is None


def test_an_address_that_is_no_registry_is_named(httpserver: HTTPServer) -> None:
    """A web server in a registry's place is a wrong setting, which the error names, and no image to wait for."""
    httpserver.expect_request(ANY_PATH).respond_with_data(b"<html>404</html>", 404)
    with pytest.raises(DependencyError, match=r"an image registry at .*/v2/.*INCUMBENT_OCI_MIRRORS"):
        scripted(httpserver).resolve(ImageRef("ghcr.io/team/model", "abc"))


def test_a_denied_name_is_said_as_what_it_may_be(httpserver: HTTPServer) -> None:
    """GHCR and ECR answer 403 for private names that do not exist, so that nobody learns which do."""
    denied = {"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]}
    httpserver.expect_request(ANY_PATH).respond_with_json(denied, status=403)
    with pytest.raises(DependencyError, match=r"DENIED.*docker login .*If it was never pushed, push it"):
        scripted(httpserver).resolve(ImageRef("ghcr.io/team/model", "abc"))


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("x", 60.0), (None, 60.0)])
def test_a_limit_says_when_to_ask_again(httpserver: HTTPServer, header: str | None, seconds: float) -> None:
    """Docker Hub answers 429 and, in `Retry-After`, for how long; one that says so is not asked again at once.

    As docs.docker.com describes it under "Docker Hub usage and limits".
    """
    headers = {"Retry-After": header} if header else {}
    httpserver.expect_request(ANY_PATH).respond_with_data(b"toomanyrequests", 429, headers)
    with pytest.raises(RateLimitedError, match=f"HTTP 429.*asked again after {seconds:g} s") as caught:
        scripted(httpserver).resolve(ImageRef("ghcr.io/team/model", "abc"))
    assert caught.value.seconds == seconds
    assert (len(httpserver.log) == 1) == (header == "7")


def test_a_limit_may_name_a_date() -> None:
    """`Retry-After` is a number of seconds or a date (RFC 9110)."""

    def wait(value: str) -> float | None:
        return HttpReply(429, b"", 0.0, {"retry-after": value}).retry_after

    later = datetime.now(UTC) + timedelta(seconds=90)
    assert 80 < (wait(format_datetime(later, usegmt=True)) or 0) <= 90
    assert (wait("Thu, 01 Jan 2015 00:00:00 GMT"), wait("120"), wait("soon"), wait("")) == (0.0, 120.0, None, None)


def test_hostile_manifests_do_not_crash(httpserver: HTTPServer) -> None:
    """Entries of wrong types are skipped."""
    for document in ({"manifests": [1, {}, {"digest": "../x"}]}, {"config": 7}, {"config": {"mediaType": CONFIG}}):
        httpserver.clear()
        httpserver.expect_request(ANY_PATH).respond_with_json(document)
        image = scripted(httpserver).resolve(ImageRef("ghcr.io/team/model", "abc"))
        assert image is not None
        assert image.platforms == ()


def test_a_dead_registry_is_an_error(free_address: str) -> None:
    """The error for a refused connection names the registry and its mirror, or the registry alone without a mirror."""
    with pytest.raises(DependencyError, match=re.escape(f"ghcr.io (mirror http://{free_address})")):
        OciRegistry({"ghcr.io": f"http://{free_address}"}, NOWHERE).resolve(ImageRef("ghcr.io/a/b", "c"))
    with pytest.raises(DependencyError, match=free_address):
        OciRegistry({}, NOWHERE).resolve(ImageRef(f"{free_address}/a/b", "c"))


@pytest.mark.parametrize(
    ("repository", "parts"),
    [
        ("ghcr.io/a/b", ("ghcr.io", "a/b")),
        ("localhost/a", ("localhost", "a")),
        ("host:5000/a/b", ("host:5000", "a/b")),
        ("redis", ("docker.io", "library/redis")),
        ("team/model", ("docker.io", "team/model")),
        ("docker.io/redis", ("docker.io", "library/redis")),
        ("index.docker.io/library/redis", ("docker.io", "library/redis")),
        ("docker.io/team/model", ("docker.io", "team/model")),
    ],
)
def test_repositories_are_split_as_docker_does(repository: str, parts: tuple[str, str]) -> None:
    """A first part without a dot or port is not a host."""
    assert split_repository(repository) == parts


@pytest.mark.parametrize("content", ["[]", "{", '{"auths": 7}', '{"auths": ["a"]}', "\xff"])
def test_an_unreadable_docker_configuration_is_refused(tmp_path: Path, content: str) -> None:
    """The error names a broken config.json, which does not count as a file without logins."""
    path = tmp_path / "config.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidInputError, match=re.escape(str(path))):
        OciRegistry({}, path)


@pytest.mark.parametrize("auths", [{}, {"auths": {"ghcr.io": {}}}, {"credsStore": "desktop", "auths": {"ghcr.io": {}}}])
def test_a_docker_configuration_without_logins_is_fine(tmp_path: Path, auths: Mapping[str, object]) -> None:
    """A file that leaves the logins to a helper counts as a file without logins."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(auths))
    OciRegistry({}, path)


def test_a_mirror_with_a_password_is_refused() -> None:
    """A mirror's address with a user and password is refused, and the error does not repeat them."""
    with pytest.raises(InvalidInputError) as caught:
        OciRegistry({"ghcr.io": "http://me:hunter22@mirror"}, NOWHERE)
    assert "hunter22" not in str(caught.value)

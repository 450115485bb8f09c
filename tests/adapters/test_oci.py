"""Image registries: a real one and the fake held to the same contract, and a scripted one for tokens and lies."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import httpx2
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from orchestration.adapters.oci import OciRegistry, split_repository
from orchestration.promotion.images import ImageRef
from orchestration.promotion.ports import ImageRegistry, ResolvedImage
from orchestration.promotion.problems import DependencyError, InvalidInputError
from tests.fakes.images import FakeImages

ANY_PATH = re.compile("/")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
NOWHERE = Path("/nonexistent/config.json")


def digest_of(content: bytes) -> str:
    """Return the digest under which a registry stores bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def encode(document: object) -> bytes:
    """Encode a document as the bytes that are pushed."""
    return json.dumps(document).encode()


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


class RealWorld:
    """Pushes to a real registry, which serves as the mirror of `ghcr.io`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.images = OciRegistry({"ghcr.io": url}, NOWHERE)

    def blob(self, repository: str, content: bytes) -> str:
        path = repository.removeprefix("ghcr.io/")
        digest = digest_of(content)
        place = httpx2.post(f"{self.url}/v2/{path}/blobs/uploads/").headers["location"]
        httpx2.put(httpx2.URL(place).copy_merge_params({"digest": digest}), content=content).raise_for_status()
        return digest

    def manifest(self, repository: str, name: str | None, document: dict[str, object]) -> str:
        path = repository.removeprefix("ghcr.io/")
        content = encode(document)
        url = f"{self.url}/v2/{path}/manifests/{name or digest_of(content)}"
        httpx2.put(url, content=content, headers={"Content-Type": str(document["mediaType"])}).raise_for_status()
        return digest_of(content)

    def image(self, repository: str, name: str | None, config: object, media_type: str = CONFIG) -> str:
        content = encode(config)
        descriptor = {"mediaType": media_type, "digest": self.blob(repository, content), "size": len(content)}
        return self.manifest(
            repository, name, {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor, "layers": []}
        )

    def index(self, repository: str, name: str, entries: list[dict[str, object]]) -> str:
        full = [{"mediaType": MANIFEST, "size": 1, **entry} for entry in entries]
        return self.manifest(repository, name, {"schemaVersion": 2, "mediaType": INDEX, "manifests": full})

    def publish(self, repository: str, tag: str, environment: dict[str, str], architectures: tuple[str, ...]) -> str:
        settings = {"Env": [f"{name}={value}" for name, value in environment.items()]}
        if len(architectures) == 1:
            return self.image(repository, tag, {"architecture": architectures[0], "os": "linux", "config": settings})
        entries: list[dict[str, object]] = []
        for architecture in architectures:
            child = self.image(repository, None, {"architecture": architecture, "os": "linux", "config": settings})
            entries.append({"digest": child, "platform": {"architecture": architecture, "os": "linux"}})
        return self.index(repository, tag, entries)

    def remove(self, repository: str, digest: str) -> None:
        path = repository.removeprefix("ghcr.io/")
        httpx2.delete(f"{self.url}/v2/{path}/manifests/{digest}").raise_for_status()


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


def test_an_artifact_that_is_not_an_image_has_no_platforms(real: RealWorld, repository: str) -> None:
    """A chart or a signature under the tag fits no node."""
    real.image(repository, "abc", {"architecture": "amd64"}, "application/vnd.cncf.helm.config.v1+json")
    assert resolved(real, ImageRef(repository, "abc")).platforms == ()


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
    ],
)
def test_repositories_are_split_as_docker_does(repository: str, parts: tuple[str, str]) -> None:
    """A first part without a dot or port is not a host."""
    assert split_repository(repository) == parts


@pytest.mark.parametrize("content", ["[]", "{", '{"auths": {"a": {"auth": "%%%"}}}', '{"auths": {"a": 7}}'])
def test_an_unreadable_docker_configuration_is_refused(tmp_path: Path, content: str) -> None:
    """The error names a broken config.json, which does not count as a file without logins."""
    path = tmp_path / "config.json"
    path.write_text(content)
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

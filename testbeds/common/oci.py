"""Images for the testbeds: made of layers, pushed through the OCI distribution API, or written as a file for Docker."""

import hashlib
import http.client
import io
import json
import shutil
import tarfile
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from orchestration.promotion.problems import Problem, ProblemError
from testbeds.common.layers import TAR_TYPE, Layer

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_CREATED = "2025-01-01T00:00:00Z"  # fixed, so that the same content is the same digest
_SECONDS = 120.0
_PIECE = 1024 * 1024


@dataclass(frozen=True)
class Image:
    """An image: its layers from the bottom up, and how a container of it is started."""

    layers: tuple[Layer, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The config's `config`: `Env`, `Entrypoint`, `Cmd`, `User`, `WorkingDir`, `Labels` and the like."""
    architecture: str = "amd64"

    def extended(self, *layers: Layer, environment: Mapping[str, str], **settings: Any) -> "Image":
        """Return this image with more layers, more environment variables and other settings."""
        known = dict(pair.split("=", 1) for pair in self.settings.get("Env", ()))
        pairs = [f"{name}={value}" for name, value in {**known, **environment}.items()]
        return replace(self, layers=(*self.layers, *layers), settings={**self.settings, "Env": pairs, **settings})

    def config(self) -> bytes:
        """Write the image's config, the same for equal images."""
        return json.dumps(
            {
                "created": _CREATED,
                "architecture": self.architecture,
                "os": "linux",
                "config": dict(self.settings),
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
                "history": [{"created": _CREATED, "created_by": "incumbent's testbed"} for _ in self.layers],
            },
            sort_keys=True,
        ).encode()

    def manifest(self) -> bytes:
        """Write the image's manifest, the same for equal images."""
        config = self.config()
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": {"mediaType": CONFIG_TYPE, "digest": digest_of(config), "size": len(config)},
                "layers": [
                    {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size} for layer in self.layers
                ],
            },
            sort_keys=True,
        ).encode()

    @property
    def digest(self) -> str:
        """The manifest's digest, by which registries know the image."""
        return digest_of(self.manifest())


class Registry:
    """An OCI registry of a testbed, reached by plain HTTP and without a login.

    It remembers where it saw which layer, so that a layer of several images is sent once and then mounted.
    """

    def __init__(self, url: str) -> None:
        self._netloc = urllib.parse.urlsplit(url).netloc
        self._repository_with: dict[str, str] = {}

    def push(self, repository: str, tag: str, image: Image) -> str:
        """Push the parts of an image that the registry lacks, and return the manifest's digest.

        Raises:
            ProblemError: the registry refused a part of it.
        """
        manifest, config = image.manifest(), image.config()
        connection = http.client.HTTPConnection(self._netloc, timeout=_SECONDS, blocksize=_PIECE)
        try:
            if self._has(connection, f"/v2/{repository}/manifests/{tag}", image.digest):
                return image.digest
            for layer in image.layers:
                self._push_blob(connection, repository, layer.digest, layer.content)
            self._push_blob(connection, repository, digest_of(config), config)
            _ask(connection, "PUT", f"/v2/{repository}/manifests/{tag}", (201,), manifest, MANIFEST_TYPE)
        except OSError as error:
            raise _refused(repository, f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        return image.digest

    def read(self, repository: str, tag: str) -> Image | None:
        """Read an image from the registry, with layers that have no content; None when the registry has no such image.

        Raises:
            ProblemError: the registry gave another answer, or an index of several platforms, which no testbed pushes.
        """
        connection = http.client.HTTPConnection(self._netloc, timeout=_SECONDS)
        try:
            path = f"/v2/{repository}/manifests/{tag}"
            status, _, body = _exchange(connection, "GET", path, headers={"Accept": MANIFEST_TYPE})
            if status == 404:
                return None
            manifest = json.loads(_expected(path, (200,), status, body))
            if manifest.get("mediaType") != MANIFEST_TYPE:
                raise _refused(path, f"media type {manifest.get('mediaType')}, not {MANIFEST_TYPE}")
            path = f"/v2/{repository}/blobs/{manifest['config']['digest']}"
            status, _, body = _exchange(connection, "GET", path)
            config = json.loads(_expected(path, (200,), status, body))
        except OSError as error:
            raise _refused(repository, f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        layers = tuple(
            Layer(entry["digest"], entry["size"], diff_id, None, entry["mediaType"])
            for entry, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
        )
        self._repository_with.update(dict.fromkeys((layer.digest for layer in layers), repository))
        return Image(layers, config.get("config", {}), config["architecture"])

    def _has(self, connection: http.client.HTTPConnection, path: str, digest: str) -> bool:
        status, headers, _ = _exchange(connection, "HEAD", path, headers={"Accept": MANIFEST_TYPE})
        return status == 200 and headers["Docker-Content-Digest"] == digest

    def _push_blob(
        self, connection: http.client.HTTPConnection, repository: str, digest: str, content: Path | bytes | None
    ) -> None:
        if not self._has(connection, f"/v2/{repository}/blobs/{digest}", digest):
            known = self._repository_with.get(digest)
            mount = "?" + urllib.parse.urlencode({"mount": digest, "from": known}) if known else ""
            status, location = _ask(connection, "POST", f"/v2/{repository}/blobs/uploads/{mount}", (201, 202))
            if status == 202:  # not mounted
                self._send(connection, repository, location, digest, content)
        self._repository_with[digest] = repository

    def _send(
        self,
        connection: http.client.HTTPConnection,
        repository: str,
        location: str,
        digest: str,
        content: Path | bytes | None,
    ) -> None:
        if content is None:
            raise _refused(repository, f"no {digest}, and its content is unknown here")
        upload = urllib.parse.urlsplit(location)  # absolute or relative, with or without a query
        query = urllib.parse.urlencode([*urllib.parse.parse_qsl(upload.query), ("digest", digest)])
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as body:
            _ask(connection, "PUT", f"{upload.path}?{query}", (201,), body, "application/octet-stream")


def write_docker_archive(image: Image, name: str, file: Path) -> None:
    """Write an image as `docker load` takes it; the content of all layers must be known and not compressed."""
    config = image.config()
    config_name = f"{digest_of(config).removeprefix('sha256:')}.json"
    layers = [f"{layer.diff_id.removeprefix('sha256:')}/layer.tar" for layer in image.layers]
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": layers}]).encode()
    with tarfile.open(file, "w") as archive:
        for path, layer in zip(layers, image.layers, strict=True):
            assert isinstance(layer.content, Path), "an image for Docker is made of layers from the cache"
            archive.add(layer.content, path)
        for path, content in ((config_name, config), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def read_docker_archive(file: Path, folder: Path) -> Image:
    """Read the image from a file that `docker save` wrote, and copy its layers into a folder as they are."""
    with tarfile.open(file) as archive:
        manifest = json.loads(_member(archive, "manifest.json").read())[0]
        config = json.loads(_member(archive, manifest["Config"]).read())
        layers = []
        for number, (path, diff_id) in enumerate(zip(manifest["Layers"], config["rootfs"]["diff_ids"], strict=True)):
            content = folder / f"layer-{number}"
            with content.open("wb") as output:
                shutil.copyfileobj(_member(archive, path), output)
            with content.open("rb") as source:
                digest = f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"
            kind = TAR_TYPE if digest == diff_id else f"{TAR_TYPE}+gzip"  # some versions of Docker keep them compressed
            layers.append(Layer(digest, content.stat().st_size, diff_id, content, kind))
    return Image(tuple(layers), config.get("config", {}), config["architecture"])


def _member(archive: tarfile.TarFile, path: str) -> IO[bytes]:
    member = archive.extractfile(path)
    assert member is not None, f"{path} is a file in what Docker saved"
    return member


def digest_of(content: bytes) -> str:
    """Return the digest by which registries know this content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    expected: tuple[int, ...],
    body: bytes | IO[bytes] = b"",
    content_type: str = "",
) -> tuple[int, str]:
    """Send one request to the registry, and return the answer's status and Location."""
    size = len(body) if isinstance(body, bytes) else body.seek(0, io.SEEK_END)
    if not isinstance(body, bytes):
        body.seek(0)
    headers = {"Content-Length": str(size), **({"Content-Type": content_type} if content_type else {})}
    status, answered, content = _exchange(connection, method, path, body, headers)
    _expected(path, expected, status, content)
    return status, answered.get("Location", "")


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | IO[bytes] = b"",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection.request(method, path, body, dict(headers or {}))
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def _expected(path: str, expected: tuple[int, ...], status: int, content: bytes) -> bytes:
    """Return an answer's content when its status is expected."""
    if status not in expected:
        raise _refused(path, f"status {status}: {content[:200].decode(errors='replace')}")
    return content


def _refused(subject: str, found: str) -> ProblemError:
    return ProblemError(Problem(f"OCI registry, {subject}", "success", found, "See the registry's log."))

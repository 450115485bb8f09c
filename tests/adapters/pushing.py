"""Pushing to a real image registry, as people's builds do."""

import hashlib
import json
import os
from pathlib import Path

import httpx2

from orchestration.adapters.oci import OciRegistry

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
NOWHERE = Path(os.devnull)
"""A file with no logins: Docker takes an empty one for that."""
_HTTP = httpx2.Client(verify=False)  # one for all: reading the certificates takes a while


def digest_of(content: bytes) -> str:
    """Return the digest under which a registry stores bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def encode(document: object) -> bytes:
    """Encode a document as the bytes that are pushed."""
    return json.dumps(document).encode()


class RealWorld:
    """Pushes to a real registry, which serves as the mirror of `ghcr.io`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.images = OciRegistry({"ghcr.io": url}, NOWHERE)

    def blob(self, repository: str, content: bytes) -> str:
        path = repository.removeprefix("ghcr.io/")
        digest = digest_of(content)
        place = _HTTP.post(f"{self.url}/v2/{path}/blobs/uploads/").headers["location"]
        _HTTP.put(httpx2.URL(place).copy_merge_params({"digest": digest}), content=content).raise_for_status()
        return digest

    def manifest(self, repository: str, name: str | None, document: dict[str, object]) -> str:
        path = repository.removeprefix("ghcr.io/")
        content = encode(document)
        url = f"{self.url}/v2/{path}/manifests/{name or digest_of(content)}"
        _HTTP.put(url, content=content, headers={"Content-Type": str(document["mediaType"])}).raise_for_status()
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
        _HTTP.delete(f"{self.url}/v2/{path}/manifests/{digest}").raise_for_status()

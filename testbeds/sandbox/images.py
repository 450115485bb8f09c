"""Images for the sandbox: small but real ones, pushed by the OCI distribution API.

An image is one layer with a note in it and a config whose environment says which model it serves. The stand-in for
the kubelet reads that environment and starts the model server with it, as a container runtime would.
"""

import gzip
import hashlib
import http.client
import io
import json
import tarfile
import urllib.parse
from collections.abc import Mapping

from orchestration.promotion.problems import Problem, ProblemError

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_CREATED = "2025-01-01T00:00:00Z"  # fixed, so that the same content is the same digest
_SECONDS = 30.0


def publish_image(
    registry_url: str, repository: str, tag: str, environment: Mapping[str, str], architecture: str = "amd64"
) -> str:
    """Push an image with that environment and return its manifest's digest.

    Raises:
        ProblemError: the registry refused a part of it.
    """
    layer, diff_id = _layer(environment)
    config = json.dumps(
        {
            "created": _CREATED,
            "architecture": architecture,
            "os": "linux",
            "config": {
                "Env": [f"{name}={value}" for name, value in sorted(environment.items())],
                "Cmd": ["python", "-m", "testbeds.model_server"],
                "ExposedPorts": {"8080/tcp": {}},
                "Labels": {"org.opencontainers.image.created": _CREATED, "org.opencontainers.image.revision": tag},
            },
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": _CREATED, "created_by": "incumbent's testbed"}],
        },
        sort_keys=True,
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": _digest(config), "size": len(config)},
            "layers": [{"mediaType": LAYER_TYPE, "digest": _digest(layer), "size": len(layer)}],
        },
        sort_keys=True,
    ).encode()
    address = urllib.parse.urlsplit(registry_url)
    connection = http.client.HTTPConnection(address.netloc, timeout=_SECONDS)
    try:
        for blob in (layer, config):
            _push_blob(connection, repository, blob)
        _ask(connection, "PUT", f"/v2/{repository}/manifests/{tag}", 201, manifest, MANIFEST_TYPE)
    except OSError as error:
        raise _refused(repository, f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    return _digest(manifest)


def _layer(environment: Mapping[str, str]) -> tuple[bytes, str]:
    """A layer, compressed the same way each time, and the digest of what it is before compression."""
    note = "".join(f"{name}={value}\n" for name, value in sorted(environment.items())).encode()
    tar_bytes = io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo("srv/model.env")
        entry.size = len(note)
        archive.addfile(entry, io.BytesIO(note))
    return gzip.compress(tar_bytes.getvalue(), mtime=0), _digest(tar_bytes.getvalue())


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _push_blob(connection: http.client.HTTPConnection, repository: str, blob: bytes) -> None:
    location = _ask(connection, "POST", f"/v2/{repository}/blobs/uploads/", 202)
    upload = urllib.parse.urlsplit(location)  # absolute or relative, with or without a query
    query = urllib.parse.urlencode([*urllib.parse.parse_qsl(upload.query), ("digest", _digest(blob))])
    _ask(connection, "PUT", f"{upload.path}?{query}", 201, blob, "application/octet-stream")


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    expected: int,
    body: bytes = b"",
    content_type: str = "",
) -> str:
    """Ask the registry for one thing and return the Location that it answers with."""
    headers = {"Content-Length": str(len(body)), **({"Content-Type": content_type} if content_type else {})}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != expected:
        raise _refused(path, f"status {answer.status}: {said[:200].decode(errors='replace')}")
    return answer.getheader("Location", "")


def _refused(subject: str, found: str) -> ProblemError:
    return ProblemError(
        Problem(f"OCI registry, {subject}", "a push that is taken", found, "Look into the registry's log.")
    )

"""Pulling as a node does: a reference becomes a manifest digest and the environment of the image's config."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_REFERENCE = re.compile(
    r"(?P<host>[a-z0-9.-]+(?::[0-9]+)?)/(?P<path>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class PulledImage:
    image_id: str
    """`repository@sha256:...` of what the reference names (the digest of the index when it names an index)."""
    environment: Mapping[str, str]
    architecture: str
    command: tuple[str, ...] = ()
    """What a container of it runs: the image's entrypoint and command."""
    working_folder: str = "/"
    layers: tuple[str, ...] = ()
    """Where each layer can be fetched, from the bottom up."""


class InvalidImageNameError(Exception):
    """The reference does not follow the grammar; its text is the kubelet's message."""


class PullError(Exception):
    """The image cannot be pulled; its text is the kubelet's message."""


async def pull(client: httpx2.AsyncClient, mirrors: Mapping[str, str], image: str, architecture: str) -> PulledImage:
    """Resolve an image at its registry's mirror, or at the registry itself.

    Raises:
        InvalidImageNameError: the reference is none.
        PullError: no such image, or its registry does not answer.
    """
    match = _REFERENCE.fullmatch(image)
    if match is None:
        raise InvalidImageNameError(f'Failed to apply default image tag "{image}": couldn\'t parse image reference')
    base = f"{mirrors.get(match['host'], 'https://' + match['host'])}/v2/{match['path']}"
    start = f'failed to pull and unpack image "{image}": '

    async def fetch(part: str, what: str) -> httpx2.Response:
        url = f"{base}/{part}"
        try:
            answer = await client.get(url, params={"ns": match["host"]}, headers={"Accept": ", ".join(_TYPES)})
        except httpx2.TransportError as error:
            reason = f'failed to do request: Get "{url}": {error or type(error).__name__}'
            raise PullError(f"rpc error: code = Unknown desc = {start}{what}: {reason}") from error
        if answer.status_code == 404:
            reason = f"{match['host']}/{match['path']}: not found: manifest unknown"
            raise PullError(f"rpc error: code = NotFound desc = {start}{what}: {reason}")
        if answer.status_code != 200:
            reason = f"unexpected status from GET request to {url}: {answer.status_code} {answer.reason_phrase}"
            raise PullError(f"rpc error: code = Unknown desc = {start}{what}: {reason}")
        return answer

    name = match["digest"] or match["tag"] or "latest"
    answer = await fetch(f"manifests/{name}", f'failed to resolve reference "{image}"')
    digest = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
    if match["digest"] not in (None, digest):
        raise PullError(f"rpc error: code = FailedPrecondition desc = {start}unexpected digest {digest}")
    try:
        manifest: Any = json.loads(answer.content)
        if "manifests" in manifest:
            chosen = [entry for entry in manifest["manifests"] if entry["platform"]["architecture"] == architecture]
            if not chosen:
                raise PullError(
                    f"rpc error: code = NotFound desc = {start}no match for platform in manifest: not found"
                )
            manifest = json.loads((await fetch(f"manifests/{chosen[0]['digest']}", "failed to fetch")).content)
        config: Any = json.loads((await fetch(f"blobs/{manifest['config']['digest']}", "failed to fetch")).content)
        settings = config.get("config", {})
        environment = dict(entry.partition("=")[::2] for entry in settings.get("Env") or [])
        command = (*(settings.get("Entrypoint") or ()), *(settings.get("Cmd") or ()))
        layers = tuple(f"{base}/blobs/{layer['digest']}" for layer in manifest.get("layers", ()))
        built_for = config.get("architecture", architecture)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PullError(f"rpc error: code = Unknown desc = {start}not an image: {error!r}") from error
    image_id, working_folder = f"{match['host']}/{match['path']}@{digest}", settings.get("WorkingDir") or "/"
    return PulledImage(image_id, environment, built_for, command, working_folder, layers)

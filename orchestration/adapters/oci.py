"""Image registries, through the OCI distribution API: what an image reference names, verified by digests."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestration.adapters.cosign import KeySigner, Signer, read_public_key, read_signatures
from orchestration.adapters.http import require_plain_url
from orchestration.adapters.keyless import TrustedIdentity, trusted_identity
from orchestration.adapters.oci_host import Content, RegistryHost
from orchestration.adapters.oci_logins import Logins
from orchestration.promotion.image_signatures import ImageSignature
from orchestration.promotion.images import ImageRef, is_digest, split_repository
from orchestration.promotion.policy import CosignPolicy
from orchestration.promotion.ports import PlatformImage, ResolvedImage

_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_MAX_PLATFORMS = 32
_MAX_DEPTH = 4
"""Of indexes in indexes: the specification sets no limit, and builders nest two."""


class OciRegistry:
    """Implements the `ImageRegistry` port.

    A registry with a mirror is asked through it, as with containerd's hosts files: the mirror gets the same path and
    `?ns=<host>`. When the mirror does not have an image, the registry itself is not asked. Credentials are sent only
    to the host that they are stored for, and to the token server that this host names.
    """

    def __init__(self, mirrors: Mapping[str, str], login_file: Path | None = None) -> None:
        """Contact nothing yet.

        Args:
            mirrors: the address to ask instead, by the registry's host.
            login_file: the only file with logins; None reads those of `docker login` and `podman login`.

        Raises:
            InvalidInputError: a mirror's address is not http(s) or has a password in it, or a file with logins cannot
                be read.
        """
        self._mirrors = {
            host: require_plain_url(f"the mirror of {host} in INCUMBENT_OCI_MIRRORS", url)
            for host, url in mirrors.items()
        }
        self._logins = Logins(login_file)
        self._hosts: dict[str, RegistryHost] = {}
        self._identities: dict[CosignPolicy, TrustedIdentity] = {}

    def resolve(self, reference: ImageRef) -> ResolvedImage | None:
        """Find what a reference names; None when the registry does not have it. A digest takes precedence over a tag.

        An artifact that is not an image resolves to an image without platforms, and says what it is.
        """
        domain, path = split_repository(reference.repository)
        host = self._host(domain)
        manifest = host.manifest(path, reference.digest or reference.tag or "latest")
        if manifest is None:
            return None
        platforms = tuple(_platforms(host, path, manifest, _MAX_DEPTH))
        pinned = ImageRef(reference.repository, reference.tag, manifest.digest)
        return ResolvedImage(pinned, platforms, "" if platforms else _what_else(manifest.document))

    def signatures(self, image: ImageRef, wanted: CosignPolicy) -> tuple[ImageSignature, ...]:
        """Read the signatures of an image that is named by its digest, and verify who made them.

        Raises:
            DependencyError: the registry does not answer, or what they are verified with cannot be read.
        """
        assert image.digest is not None, "what is verified has a digest"
        domain, path = split_repository(image.repository)
        return read_signatures(self._host(domain), path, image.digest, self._signer(wanted))

    def _signer(self, wanted: CosignPolicy) -> Signer:
        if wanted.key is not None:
            return KeySigner(read_public_key(wanted.key))
        if wanted not in self._identities:  # an image may be looked for every 2 s, and the public root is far away
            self._identities[wanted] = trusted_identity(wanted)
        return self._identities[wanted]

    def _host(self, domain: str) -> RegistryHost:
        if domain not in self._hosts:
            self._hosts[domain] = RegistryHost.of(domain, self._mirrors.get(domain), self._logins)
        return self._hosts[domain]


def _platforms(host: RegistryHost, path: str, manifest: Content, depth: int) -> Iterator[PlatformImage]:
    entries = manifest.document.get("manifests")
    if not isinstance(entries, list):
        yield from _platform(host, path, manifest)
        return
    images = list(filter(_may_be_linux_image, entries)) if depth else []
    if len(images) > _MAX_PLATFORMS:
        found, next_step = f"{len(images)} of them", "Publish it with fewer platforms, or each for itself."
        raise host.http.failure(
            found, f"an index {path}@{manifest.digest} of {_MAX_PLATFORMS} images at most", next_step
        )
    for entry in images:
        # An index may name platforms that this registry does not have; they cannot be pulled from here.
        child = host.manifest(path, str(entry["digest"]))
        if child is not None:
            yield from _platforms(host, path, child, depth - 1)


def _platform(host: RegistryHost, path: str, manifest: Content) -> Iterator[PlatformImage]:
    descriptor = manifest.document.get("config")
    if not isinstance(descriptor, dict) or descriptor.get("mediaType") not in _CONFIGS:
        return
    digest = str(descriptor.get("digest"))
    config = host.get(path, f"blobs/{digest}", digest=digest) if is_digest(digest) else None
    if config is None or config.document.get("os", "linux") != "linux":
        return
    settings = config.document.get("config")
    environment = settings.get("Env") if isinstance(settings, dict) else None
    pairs = [str(pair).partition("=") for pair in environment] if isinstance(environment, list) else []
    yield PlatformImage(
        architecture=str(config.document.get("architecture", "")),
        manifest_digest=manifest.digest,
        config_digest=config.digest,
        environment={name: value for name, _, value in pairs},
    )


def _may_be_linux_image(entry: object) -> bool:
    """True for an entry without a platform too; an attestation is listed with platform `unknown/unknown`."""
    if not isinstance(entry, dict) or not is_digest(str(entry.get("digest"))):
        return False
    platform = entry.get("platform")
    return not isinstance(platform, dict) or platform.get("os") == "linux"


def _what_else(document: Mapping[str, Any]) -> str:
    """Say what a manifest is that is no image for Linux."""
    if document.get("schemaVersion") == 1:
        return "a manifest of Docker's schema 1, which container runtimes no longer pull"
    if isinstance(document.get("manifests"), list):
        return "an index without an image for Linux"
    config = document.get("config")
    kind = document.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    return f"an artifact of type {kind}" if kind and kind not in _CONFIGS else "an image without a config for Linux"

"""Image registries, through the OCI distribution API: what an image reference names, verified by digests."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestration.adapters.http import require_plain_url
from orchestration.adapters.oci_host import Content, RegistryHost, read_docker_auths
from orchestration.promotion.images import ImageRef, is_digest
from orchestration.promotion.ports import PlatformImage, ResolvedImage

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_ACCEPT = ", ".join((*_INDEXES, *_MANIFESTS))
_MAX_PLATFORMS = 32


class OciRegistry:
    """Implements the `ImageRegistry` port.

    A registry with a mirror is asked through it, as with containerd's hosts files: the mirror gets the same path and
    `?ns=<host>`. When the mirror does not have an image, the registry itself is not asked. Credentials are sent only
    to the host that they are stored for, and to the token server that this host names.
    """

    def __init__(self, mirrors: Mapping[str, str], docker_config: Path | None = None) -> None:
        """Contact nothing yet.

        Args:
            mirrors: the address to ask instead, by the registry's host.
            docker_config: a Docker `config.json` with logins in its `auths`; None reads the one of `docker login`.

        Raises:
            InvalidInputError: a mirror's address is not http(s) or has a password in it, or the Docker configuration
                cannot be read.
        """
        self._mirrors = {host: require_plain_url(f"the mirror of {host}", url) for host, url in mirrors.items()}
        self._auths = read_docker_auths(docker_config)
        self._hosts: dict[str, RegistryHost] = {}

    def resolve(self, reference: ImageRef) -> ResolvedImage | None:
        """Find what a reference names; None when the registry does not have it. A digest takes precedence over a tag.

        An artifact that is not an image resolves to an image without platforms.
        """
        domain, path = split_repository(reference.repository)
        host = self._host(domain)
        manifest = _manifest(host, path, reference.digest or reference.tag or "latest")
        if manifest is None:
            return None
        platforms = tuple(_platforms(host, path, manifest))
        return ResolvedImage(ImageRef(reference.repository, reference.tag, manifest.digest), platforms)

    def _host(self, domain: str) -> RegistryHost:
        if domain not in self._hosts:
            self._hosts[domain] = RegistryHost.of(domain, self._mirrors.get(domain), self._auths)
        return self._hosts[domain]


def split_repository(repository: str) -> tuple[str, str]:
    """Split a repository's name into host and path by Docker's rules: `redis` is `docker.io` and `library/redis`."""
    first, slash, rest = repository.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return "docker.io", repository if slash else f"library/{repository}"


def _manifest(host: RegistryHost, path: str, name: str) -> Content | None:
    return host.get(path, f"manifests/{name}", digest=name if is_digest(name) else None, accept=_ACCEPT)


def _platforms(host: RegistryHost, path: str, top: Content) -> Iterator[PlatformImage]:
    entries = top.document.get("manifests")
    if not isinstance(entries, list):
        yield from _platform(host, path, top)
        return
    for entry in entries[:_MAX_PLATFORMS]:
        if not isinstance(entry, dict) or not _may_be_linux_image(entry) or not is_digest(str(entry.get("digest"))):
            continue
        # An index may name platforms that this registry does not have; they cannot be pulled from here.
        child = _manifest(host, path, str(entry["digest"]))
        if child is not None:
            yield from _platform(host, path, child)


def _platform(host: RegistryHost, path: str, manifest: Content) -> Iterator[PlatformImage]:
    descriptor = manifest.document.get("config")
    if not isinstance(descriptor, dict) or descriptor.get("mediaType") not in _CONFIGS:
        return
    digest = str(descriptor.get("digest"))
    config = host.get(path, f"blobs/{digest}", digest=digest) if is_digest(digest) else None
    if config is None:
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


def _may_be_linux_image(entry: dict[str, Any]) -> bool:
    """True for an entry without a platform too; an attestation is listed with platform `unknown/unknown`."""
    platform = entry.get("platform")
    return not isinstance(platform, dict) or platform.get("os") == "linux"

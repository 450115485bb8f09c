"""Image registries, over the OCI distribution API: what an image reference names, verified by its digests."""

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
    """Plays the port `ImageRegistry`.

    `mirrors` maps a registry's host to the address that is asked instead, as containerd's hosts files do: the mirror
    gets the same path and `?ns=<host>`. There is no way back to the registry itself when the mirror has no such image.
    Credentials come from the `auths` of `docker_config`, by default the file where `docker login` keeps them; they go
    to the host that they are kept for, and to the token server that this host names.
    """

    def __init__(self, mirrors: Mapping[str, str], docker_config: Path | None = None) -> None:
        """Contact nothing yet.

        Raises:
            InvalidInputError: a mirror's address is not http(s) or has a password in it, or the Docker configuration
                cannot be read.
        """
        self._mirrors = {host: require_plain_url(f"the mirror of {host}", url) for host, url in mirrors.items()}
        self._auths = read_docker_auths(docker_config)
        self._hosts: dict[str, RegistryHost] = {}

    def resolve(self, reference: ImageRef) -> ResolvedImage | None:
        """What a reference names; with a digest in it, its tag is not asked for.

        What is no image but another artifact resolves to an image without platforms.
        """
        domain, path = split_repository(reference.repository)
        host = self._host(domain)
        found = _manifest(host, path, reference.digest or reference.tag or "latest")
        if found is None:
            return None
        platforms = tuple(_platforms(host, path, found))
        return ResolvedImage(ImageRef(reference.repository, reference.tag, found.digest), platforms)

    def _host(self, domain: str) -> RegistryHost:
        if domain not in self._hosts:
            self._hosts[domain] = RegistryHost.of(domain, self._mirrors.get(domain), self._auths)
        return self._hosts[domain]


def split_repository(repository: str) -> tuple[str, str]:
    """Host and path, with Docker's rules for names that begin with no host: `redis` is `docker.io`, `library/redis`."""
    first, slash, rest = repository.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return "docker.io", repository if slash else f"library/{repository}"


def _manifest(host: RegistryHost, path: str, asked: str) -> Content | None:
    return host.get(path, f"manifests/{asked}", digest=asked if is_digest(asked) else None, accept=_ACCEPT)


def _platforms(host: RegistryHost, path: str, top: Content) -> Iterator[PlatformImage]:
    entries = top.document.get("manifests")
    if not isinstance(entries, list):
        yield from _platform(host, path, top)
        return
    for entry in entries[:_MAX_PLATFORMS]:
        if not isinstance(entry, dict) or _is_no_linux_image(entry) or not is_digest(str(entry.get("digest"))):
            continue
        # An index may name platforms that this registry does not hold; they are then not to be had here.
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


def _is_no_linux_image(entry: dict[str, Any]) -> bool:
    """Attestations stand in an index as platform `unknown/unknown`; an entry without a platform may be an image."""
    platform = entry.get("platform")
    return isinstance(platform, dict) and platform.get("os") != "linux"

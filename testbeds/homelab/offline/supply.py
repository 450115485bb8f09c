"""The homelab's supply where everything is built: programs from Go modules, images from these and packages."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from testbeds.common.oci import digest_of
from testbeds.homelab import settings
from testbeds.homelab.docker import Docker, daemon_answers
from testbeds.homelab.offline import daemon, images, packages
from testbeds.homelab.offline.go_build import BUILDS, build, manifest
from testbeds.homelab.offline.node_image import PACKAGES, load_node_image
from testbeds.homelab.offline.rootfs import root_file_system
from testbeds.homelab.progress import Say, phase

_FOR_DOCKER = (settings.K3D_TOOLS_IMAGE, settings.REGISTRY_IMAGE, settings.PYTHON_IMAGE)
"""The images that Docker itself runs, besides the nodes'."""


class OfflineSupply:
    """Everything is built here and kept in the cache; the Docker daemon is the machine's, or the homelab's own."""

    name = "built here"
    docker = daemon.DOCKER

    @cached_property
    def k3d(self) -> Path:
        return build("k3d", _quietly) / "k3d"

    @cached_property
    def kubectl(self) -> Path:
        return build("kubernetes", _quietly) / "kubectl"

    def environment(self) -> Mapping[str, str]:
        """Return what tells where the homelab's own daemon is; nothing for the machine's daemon."""
        return {} if self._has_machines_daemon else daemon.SETTINGS

    def build(self, say: Say) -> None:
        """Install packages, and build programs, file systems and images into the cache."""
        packages.ensure(say)
        for name, how in BUILDS.items():
            if not how.on_demand:
                build(name, say)
        root_file_system(PACKAGES, say)
        images.make_all(say)

    def prepare(self, say: Say) -> None:
        """Build what is missing, start the daemon and load the images that it runs."""
        self.build(say)
        if not self._has_machines_daemon:
            daemon.start(say)
        docker = Docker(self.docker, self.environment())
        load_node_image(docker, say)
        for image in _FOR_DOCKER:
            _load(docker, image, say)

    def fill_registry(self, url: str, say: Say) -> None:
        """Push the images that pods run."""
        images.fill(url, say)

    def provide(self, image: str, url: str, say: Say) -> None:
        """Build an image that only some tests need, and push it."""
        images.push(image, url, say)

    def manifest(self, program: str, say: Say) -> str:
        """Return what the module of the program that is built here has."""
        return str(manifest(program, say))

    def stop(self, say: Say) -> None:
        """End the homelab's own daemon, or remove from the machine's daemon the images with borrowed names."""
        if not self._has_machines_daemon:
            daemon.stop(say)
            return
        docker = Docker(self.docker)
        for image in (settings.NODE_IMAGE, *_FOR_DOCKER):
            if docker.find("image", image) is not None:
                docker.run("image", "rm", image)

    @cached_property
    def _has_machines_daemon(self) -> bool:
        return not daemon.runs() and daemon_answers(self.docker)


def _load(docker: Docker, name: str, say: Say) -> None:
    """Load an image into Docker, unless Docker has exactly this image."""
    if docker.find("image", name) == digest_of(images.make_image(name, say).config()):
        return
    tar = images.docker_tar(name, say)
    with phase(f"image {name} loaded", say):
        docker.run("load", f"--input={tar}")
        tar.unlink()  # Docker keeps it now


def _quietly(line: str) -> None:
    """Say nothing: what is in the cache takes no time."""

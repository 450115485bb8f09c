"""Where the homelab's programs and images come from: the internet, or this machine itself."""

import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from testbeds.homelab import settings
from testbeds.homelab.docker import Docker, daemon_answers
from testbeds.homelab.offline import daemon
from testbeds.homelab.offline.supply import OfflineSupply
from testbeds.homelab.progress import Say

_HUB = "https://registry-1.docker.io/v2/"
_ANSWERS_WITHIN_SECONDS = 5.0


class Supply(Protocol):
    """Brings the homelab's programs and images to a machine."""

    @property
    def name(self) -> str: ...

    @property
    def docker(self) -> Path: ...

    @property
    def k3d(self) -> Path: ...

    @property
    def kubectl(self) -> Path: ...

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables by which `docker` and `k3d` reach the supply's daemon."""
        ...

    def build(self, say: Say) -> None:
        """Build what takes minutes and has not been built; nothing is started.

        Raises:
            ProblemError: something cannot be built.
        """
        ...

    def prepare(self, say: Say) -> None:
        """Provide all programs, the images that Docker itself runs, and the daemon. It may be repeated.

        Raises:
            ProblemError: something is missing and cannot be made.
        """
        ...

    def fill_registry(self, url: str, say: Say) -> None:
        """Push the platform's images to the testbed's registry, unless the clusters pull them from the internet."""
        ...

    def provide(self, image: str, url: str, say: Say) -> None:
        """Push one image that `fill_registry` leaves out, unless the clusters pull it from the internet."""
        ...

    def manifest(self, program: str, say: Say) -> str:
        """Return where kubectl finds a program's own manifests of the pinned version: a file, a folder or an address.

        Args:
            program: a key of `settings.MANIFEST_URLS`.
            say: takes the lines of progress.
        """
        ...

    def stop(self, say: Say) -> None:
        """End what `prepare` started."""
        ...


class OfficialSupply:
    """The machine's own Docker, k3d and kubectl, and every image from the internet."""

    name = "official"

    def __init__(self, docker: Path, k3d: Path, kubectl: Path) -> None:
        self.docker, self.k3d, self.kubectl = docker, k3d, kubectl

    def environment(self) -> Mapping[str, str]:
        """Return no variables: the user's own settings hold."""
        return {}

    def build(self, say: Say) -> None:
        """Do nothing: official images and programs are built."""

    def prepare(self, say: Say) -> None:
        """Do nothing: this supply is chosen only where these programs work."""

    def fill_registry(self, url: str, say: Say) -> None:
        """Do nothing: containerd pulls from the internet what the registry lacks."""

    def provide(self, image: str, url: str, say: Say) -> None:
        """Do nothing, as `fill_registry`."""

    def manifest(self, program: str, say: Say) -> str:
        """Return upstream's address."""
        return settings.MANIFEST_URLS[program]

    def stop(self, say: Say) -> None:
        """Do nothing: the daemon is the user's."""


def find_supply() -> Supply:
    """Choose official programs and images where Docker, k3d, kubectl and the internet exist, else those built here.

    A running homelab keeps the supply that it was started with.
    """
    docker, k3d, kubectl = (shutil.which(name) for name in ("docker", "k3d", "kubectl"))
    if docker and k3d and kubectl and not daemon.runs() and daemon_answers(docker):
        label = f'{{{{index .Config.Labels "{settings.BUILT_HERE_LABEL}"}}}}'
        node_image = Docker(Path(docker)).find("image", settings.NODE_IMAGE, label)
        if node_image == "" or (node_image is None and _hub_answers()):
            return OfficialSupply(Path(docker), Path(k3d), Path(kubectl))
    return OfflineSupply()


def _hub_answers() -> bool:
    """Check that images can be pulled: Docker Hub answers by asking for a login."""
    try:
        with urllib.request.urlopen(_HUB, timeout=_ANSWERS_WITHIN_SECONDS):
            return True
    except urllib.error.HTTPError as answer:
        return answer.code == 401
    except OSError:
        return False

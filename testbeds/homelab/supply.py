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
    """What brings the homelab to a machine."""

    @property
    def name(self) -> str: ...

    @property
    def docker(self) -> Path: ...

    @property
    def k3d(self) -> Path: ...

    @property
    def kubectl(self) -> Path: ...

    def environment(self) -> Mapping[str, str]:
        """What `docker` and `k3d` need in their environment to talk to the supply's daemon."""
        ...

    def build(self, say: Say) -> None:
        """Build what takes minutes and is not there yet; nothing runs afterwards.

        Raises:
            ProblemError: something cannot be built.
        """
        ...

    def prepare(self, say: Say) -> None:
        """Afterwards all programs, the images that Docker itself runs, and the daemon are there. May be repeated.

        Raises:
            ProblemError: something is missing and cannot be made.
        """
        ...

    def fill_registry(self, url: str, say: Say) -> None:
        """Put the platform's images into the testbed's registry, unless the clusters pull them from the internet."""
        ...

    def argocd_manifest(self, say: Say) -> str:
        """Argo CD's own manifests of the pinned version, as `kubectl apply` takes them: a file, or an address."""
        ...

    def stop(self, say: Say) -> None:
        """End what `prepare` started."""
        ...


class OfficialSupply:
    """Docker, k3d and kubectl as the machine has them; every image from the internet."""

    name = "official"

    def __init__(self, docker: Path, k3d: Path, kubectl: Path) -> None:
        self.docker, self.k3d, self.kubectl = docker, k3d, kubectl

    def environment(self) -> Mapping[str, str]:
        """Nothing: the user's own settings hold."""
        return {}

    def build(self, say: Say) -> None:
        """Nothing: what is official is built."""

    def prepare(self, say: Say) -> None:
        """Nothing: that these programs work is why this supply was chosen."""

    def fill_registry(self, url: str, say: Say) -> None:
        """Nothing: what the registry lacks, containerd pulls from the internet."""

    def argocd_manifest(self, say: Say) -> str:
        """Upstream's address."""
        return settings.ARGOCD_MANIFEST_URL

    def stop(self, say: Say) -> None:
        """Nothing: the daemon is the user's."""


def find_supply() -> Supply:
    """The official programs and images where there are Docker, k3d, kubectl and internet, else what is built here.

    A homelab that runs is found again with the supply that it was started with.
    """
    docker, k3d, kubectl = (shutil.which(name) for name in ("docker", "k3d", "kubectl"))
    if docker and k3d and kubectl and not daemon.runs() and daemon_answers(docker):
        label = f'{{{{index .Config.Labels "{settings.BUILT_HERE_LABEL}"}}}}'
        node_image = Docker(Path(docker)).find("image", settings.NODE_IMAGE, label)
        if node_image == "" or (node_image is None and _hub_answers()):
            return OfficialSupply(Path(docker), Path(k3d), Path(kubectl))
    return OfflineSupply()


def _hub_answers() -> bool:
    """Whether images can be pulled: Docker Hub asks for a login, which is an answer."""
    try:
        with urllib.request.urlopen(_HUB, timeout=_ANSWERS_WITHIN_SECONDS):
            return True
    except urllib.error.HTTPError as answer:
        return answer.code == 401
    except OSError:
        return False

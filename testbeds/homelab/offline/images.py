"""Images under their official names, made from Debian's packages, Python's index and Go modules."""

import time
from collections.abc import Callable
from pathlib import Path

from testbeds.common.oci import Image, Registry, write_docker_archive
from testbeds.homelab import settings
from testbeds.homelab.cache import cached, key_of
from testbeds.homelab.offline import recipes
from testbeds.homelab.progress import Say

# In the order in which a starting cluster asks for them.
_FOR_PODS: dict[str, Callable[[Say], Image]] = {
    settings.PAUSE_IMAGE: recipes.program("pause", "/pause", "65535:65535"),
    settings.COREDNS_IMAGE: recipes.program("coredns", "/coredns"),
    settings.LOCAL_PATH_IMAGE: recipes.program("local-path", "/usr/bin/local-path-provisioner"),
    settings.METRICS_SERVER_IMAGE: recipes.program("metrics-server", "/metrics-server", "65534"),
    settings.BUSYBOX_IMAGE: recipes.busybox,
    settings.PYTHON_IMAGE: recipes.python,
    settings.REDIS_IMAGE: recipes.redis,
    settings.ARGOCD_IMAGE: recipes.argocd,
    settings.MLFLOW_IMAGE: recipes.mlflow,
    settings.PROMETHEUS_IMAGE: recipes.prometheus,
    settings.ALERTMANAGER_IMAGE: recipes.alertmanager,
    settings.GRAFANA_IMAGE: recipes.grafana,
    settings.KUBE_STATE_METRICS_IMAGE: recipes.program("kube-state-metrics", "/kube-state-metrics", "65534:65534"),
}
_IMAGES = {**_FOR_PODS, settings.REGISTRY_IMAGE: recipes.registry, settings.K3D_TOOLS_IMAGE: recipes.k3d_tools}
_ON_DEMAND = {
    settings.ARGO_ROLLOUTS_IMAGE: recipes.program("argo-rollouts", "/bin/rollouts-controller", "999"),
    settings.POSTGRES_IMAGE: recipes.postgres,
    settings.KSERVE_IMAGE: recipes.program("kserve", "/manager", "65532:65532"),
}


def fill(registry_url: str, say: Say) -> None:
    """Push the images that pods run and that the registry lacks; missing images are made first.

    Raises:
        ProblemError: an image could not be made, or the registry refused it.
    """
    for name in _FOR_PODS:
        push(name, registry_url, say)


def push(name: str, registry_url: str, say: Say) -> None:
    """Push an image unless the registry has it; it is made first if it is missing.

    Raises:
        KeyError: no image of that name is made here.
        ProblemError: the image could not be made, or the registry refused it.
    """
    began = time.monotonic()
    image = make_image(name, say)
    path, _, tag = name.partition("/")[2].rpartition(":")
    Registry(registry_url).push(path, tag, image)
    if time.monotonic() - began > 1:
        size = sum(layer.size for layer in image.layers) / 1e6
        say(f"image {name}: {size:.0f} MB, {time.monotonic() - began:.1f} s")


def make_all(say: Say) -> None:
    """Make every image that each homelab needs and that has not been made.

    Raises:
        ProblemError: an image could not be made.
    """
    for name in _IMAGES:
        make_image(name, say)


def docker_tar(name: str, say: Say) -> Path:
    """Return an image as a file for `docker load`."""
    image = make_image(name, say)
    key = key_of(name, image.digest)
    return cached("images", f"{key}.tar", lambda unfinished: write_docker_archive(image, name, unfinished))


def make_image(name: str, say: Say) -> Image:
    """Make the image of that name; its layers are in the cache afterwards.

    Raises:
        KeyError: no image of that name is made here.
        ProblemError: a part of it could not be made.
    """
    return {**_IMAGES, **_ON_DEMAND}[name](say)

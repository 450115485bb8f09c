"""The homelab's files say what its settings say, and what is removed from a machine is the homelab's alone."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from testbeds.common.state import node_port, read_policies
from testbeds.common.tools import CHECKOUT
from testbeds.homelab import clusters, settings
from testbeds.homelab.offline import leftovers

K3D = Path(clusters.__file__).with_name("k3d")
NODE = Path(leftovers.__file__).with_name("node")


def k3d_file(name: str) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(K3D / f"{name}.yaml"))


@pytest.mark.parametrize("cluster", settings.CLUSTERS)
def test_a_cluster_is_what_the_settings_say(cluster: str) -> None:
    """Name, network, node image, address and port of the API in k3d's file are those that everything else uses."""
    told = k3d_file(cluster)
    assert told["metadata"] == {"name": cluster}
    assert (told["network"], told["image"]) == (settings.NETWORK, settings.NODE_IMAGE)
    assert told["kubeAPI"] == {
        "host": settings.DEFAULT_ADDRESS,
        "hostIP": settings.DEFAULT_ADDRESS,
        "hostPort": str(settings.API_PORTS[cluster]),
    }


def test_the_published_ports_are_those_of_the_settings() -> None:
    """MLflow, Prometheus and Alertmanager of gcp and the models of edge are published at the one address."""
    published = {name: [one["port"] for one in k3d_file(name)["ports"]] for name in settings.CLUSTERS}
    of_gcp = (settings.MLFLOW_PORT, settings.PROMETHEUS_PORT, settings.ALERTMANAGER_PORT)
    wanted = {settings.GCP: of_gcp, settings.EDGE: settings.SERVICE_PORTS}
    assert {node_port(policy) for policy in read_policies(CHECKOUT / "policies")} == set(settings.SERVICE_PORTS)
    assert published == {
        name: [f"{settings.DEFAULT_ADDRESS}:{port}:{port}" for port in ports] for name, ports in wanted.items()
    }


def test_prometheus_looks_for_the_exporter_where_the_homelab_has_it() -> None:
    """The port of `incumbent metrics` is that of the scrape configuration, and no other program's."""
    config = CHECKOUT / "manifests/platform/monitoring/config/scrape-platform.yml"
    assert f"[{settings.CONTROL_PLANE_HOST}:{settings.EXPORTER_PORT}]" in config.read_text(encoding="utf-8")
    ports = [value for name, value in vars(settings).items() if name.endswith("_PORT")]
    ports += [*settings.API_PORTS.values(), *settings.SERVICE_PORTS]
    assert len(set(ports)) == len(ports)
    fixed = [settings.REGISTRY_ADDRESS, settings.GIT_ADDRESS, settings.RECEIVER_ADDRESS, settings.ADDRESS]
    assert len(set(fixed)) == len(fixed)


def test_images_of_every_place_are_looked_for_in_the_registry_first() -> None:
    """Each host that an image's name begins with is mirrored."""
    names = [value for name, value in vars(settings).items() if name.endswith("_IMAGE")]
    names += [policy.image.repository for policy in read_policies(CHECKOUT / "policies")]
    hosts = {name.partition("/")[0] for name in names}
    mirrors = k3d_file("registries")["mirrors"]
    assert hosts <= set(mirrors)
    endpoints = [endpoint for mirror in mirrors.values() for endpoint in mirror["endpoint"]]
    assert set(endpoints) == {f"http://{settings.REGISTRY}:{settings.REGISTRY_PORT}"}


def test_only_the_models_cluster_measures_its_pods() -> None:
    """Autoscalers are on edge; the small node of gcp has no room for what nobody asks there."""
    disabled = {
        name: {one["arg"] for one in k3d_file(name)["options"]["k3s"]["extraArgs"] if "--disable" in one["arg"]}
        for name in settings.CLUSTERS
    }
    assert disabled[settings.GCP] - disabled[settings.EDGE] == {"--disable=metrics-server"}


def test_the_node_starts_what_the_settings_name() -> None:
    """The images that come with a node are those that the registry is filled with."""
    manifests = "".join(path.read_text(encoding="utf-8") for path in (NODE / "manifests").iterdir())
    metrics = settings.METRICS_SERVER_IMAGE
    for image in (settings.COREDNS_IMAGE, settings.LOCAL_PATH_IMAGE, settings.BUSYBOX_IMAGE, metrics):
        assert image.removeprefix("docker.io/") in manifests
    assert settings.PAUSE_IMAGE in (NODE / "containerd.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("rule", "ours"),
    [
        ("-A FORWARD -j DOCKER-USER", True),
        ("-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER", True),
        (f"-A POSTROUTING -s {settings.SUBNET} ! -o {settings.BRIDGE} -j MASQUERADE", True),
        (f"-A POSTROUTING -s {settings.REGISTRY_ADDRESS}/32 -d {settings.REGISTRY_ADDRESS}/32 -j MASQUERADE", True),
        ("-A INPUT -s 192.0.2.0/24 -j ACCEPT", False),
        ('-A INPUT -m comment --comment "not for DOCKER" -j ACCEPT', False),
        ("-A INPUT -s fd00::/64 -j ACCEPT", False),
    ],
)
def test_only_the_homelabs_firewall_rules_are_removed(rule: str, ours: bool) -> None:
    """Rules of Docker's chains and of the homelab's network are; a rule of the machine's owner is not."""
    assert leftovers.belongs_to_homelab(rule) is ours

"""The homelab's files agree with its settings, and cleaning up removes only what belongs to the homelab."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from orchestration.dispatcher.configuration import parse_configuration
from testbeds.common.state import node_port, read_policies
from testbeds.common.tools import CHECKOUT
from testbeds.homelab import clusters, gitops, settings
from testbeds.homelab.libraries import for_any_interpreter
from testbeds.homelab.offline import leftovers

K3D = Path(clusters.__file__).with_name("k3d")
NODE = Path(leftovers.__file__).with_name("node")


def k3d_file(name: str) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(gitops.followed(f"testbeds/homelab/k3d/{name}.yaml")))


@pytest.mark.parametrize("cluster", settings.CLUSTERS)
def test_a_cluster_agrees_with_the_settings(cluster: str) -> None:
    """k3d's file of a cluster has the name, network, node image and API address of the settings."""
    config = k3d_file(cluster)
    assert config["metadata"] == {"name": cluster}
    assert (config["network"], config["image"]) == (settings.NETWORK, settings.NODE_IMAGE)
    assert config["kubeAPI"] == {
        "host": settings.ADDRESS,
        "hostIP": settings.ADDRESS,
        "hostPort": str(settings.API_PORTS[cluster]),
    }


def test_the_published_ports_are_those_of_the_settings() -> None:
    """gcp's MLflow, Prometheus and Alertmanager and edge's models are published at the homelab's address."""
    published = {name: [mapping["port"] for mapping in k3d_file(name)["ports"]] for name in settings.CLUSTERS}
    of_gcp = (settings.MLFLOW_PORT, settings.PROMETHEUS_PORT, settings.ALERTMANAGER_PORT)
    wanted = {settings.GCP: of_gcp, settings.EDGE: settings.SERVICE_PORTS}
    assert {node_port(policy) for policy in read_policies(CHECKOUT / "policies")} == set(settings.SERVICE_PORTS)
    assert published == {
        name: [f"{settings.ADDRESS}:{port}:{port}" for port in ports] for name, ports in wanted.items()
    }


def test_prometheus_scrapes_the_exporter_at_the_homelabs_port() -> None:
    """The scrape configuration has the port of the companion, and no two programs share a port or an address."""
    config = gitops.followed("manifests/platform/monitoring/config/scrape-platform.yml")
    assert f"[{settings.CONTROL_PLANE_HOST}:{settings.EXPORTER_PORT}]" in config
    ports = [value for name, value in vars(settings).items() if name.endswith("_PORT")]
    ports += [*settings.API_PORTS.values(), *settings.SERVICE_PORTS]
    assert len(set(ports)) == len(ports)
    addresses = [settings.REGISTRY_ADDRESS, settings.GIT_ADDRESS, settings.RECEIVER_ADDRESS, settings.GITHUB_ADDRESS]
    addresses.append(settings.ADDRESS)
    assert len(set(addresses)) == len(addresses)


def test_images_of_every_host_come_from_the_homelabs_registry() -> None:
    """Every host in the name of an image has the homelab's registry as its mirror."""
    names = [value for name, value in vars(settings).items() if name.endswith("_IMAGE")]
    names += [policy.images.repository for policy in read_policies(CHECKOUT / "policies")]
    hosts = {name.partition("/")[0] for name in names}
    mirrors = k3d_file("registries")["mirrors"]
    assert hosts <= set(mirrors)
    endpoints = [endpoint for mirror in mirrors.values() for endpoint in mirror["endpoint"]]
    assert set(endpoints) == {f"http://{settings.REGISTRY}:{settings.REGISTRY_PORT}"}


def test_the_dispatchers_image_and_repository_are_the_homelabs() -> None:
    """The manifests name the image that the homelab makes from the checkout, and what its stand-in for GitHub holds."""
    dispatcher = "manifests/platform/dispatcher"
    assert f"image: {settings.COMPANION_IMAGE}\n" in gitops.followed(f"{dispatcher}/dispatcher.yaml")
    read = parse_configuration("dispatcher.yml", gitops.followed(f"{dispatcher}/config/dispatcher.yml"))
    assert (read.repository, read.ref) == (settings.GITHUB_REPOSITORY, settings.OWNER.branch)
    assert read.api == settings.GITHUB_URL


def test_only_the_models_cluster_runs_a_metrics_server() -> None:
    """metrics-server runs on edge, where the autoscalers need it, and is disabled on gcp, whose node is small."""
    disabled = {
        name: {extra["arg"] for extra in k3d_file(name)["options"]["k3s"]["extraArgs"] if "--disable" in extra["arg"]}
        for name in settings.CLUSTERS
    }
    assert disabled[settings.GCP] - disabled[settings.EDGE] == {"--disable=metrics-server"}


def test_the_node_starts_the_images_of_the_settings() -> None:
    """A node's manifests and container runtime name the images that the registry is filled with."""
    manifests = "".join(path.read_text(encoding="utf-8") for path in (NODE / "manifests").iterdir())
    metrics = settings.METRICS_SERVER_IMAGE
    for image in (settings.COREDNS_IMAGE, settings.LOCAL_PATH_IMAGE, settings.BUSYBOX_IMAGE, metrics):
        assert image.removeprefix("docker.io/") in manifests
    assert settings.PAUSE_IMAGE in (NODE / "containerd.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("program", "module", "image"),
    [
        ("argo-rollouts", "github.com/argoproj/argo-rollouts", settings.ARGO_ROLLOUTS_IMAGE),
        ("kserve", "github.com/kserve/kserve", settings.KSERVE_IMAGE),
    ],
)
def test_a_controller_has_one_version(program: str, module: str, image: str) -> None:
    """The module that is built, the manifests that are fetched and the image that pods run have the same version."""
    name, _, version = image.rpartition(":")
    go_mod = (K3D.parent / "offline/go" / program / "go.mod").read_text(encoding="utf-8")
    assert f"{module} {version}" in go_mod
    assert f"/{version}/" in settings.MANIFEST_URLS[program]
    (change,) = YAML(typ="safe").load(K3D.parent / "kustomize" / program / "kustomization.yaml")["images"]
    assert (change.get("newName", change["name"]), change["newTag"]) == (name, version)


@pytest.mark.parametrize(
    ("rule", "is_homelab"),
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
def test_only_the_homelabs_firewall_rules_are_removed(rule: str, is_homelab: bool) -> None:
    """Rules of Docker's chains and of the homelab's network are removed; a rule of the machine's owner is not."""
    assert leftovers.belongs_to_homelab(rule) is is_homelab


@pytest.mark.parametrize(
    "head",
    [
        b"#!/checkout/.venv/bin/python\n",
        b"#!/bin/sh\n'''exec' '/a checkout/.venv/bin/python' \"$0\" \"$@\"\n' '''\n",
    ],
    ids=["a plain path", "a path with a space"],
)
def test_an_installed_script_runs_with_the_images_python(head: bytes) -> None:
    """No image has the interpreter of the checkout that installed the libraries, wherever that checkout is."""
    body = b"# -*- coding: utf-8 -*-\nimport sys\n"
    assert for_any_interpreter(head + body) == b"#!/usr/bin/env python3\n" + body
    assert for_any_interpreter(b"#!/bin/sh\necho python\n") == b"#!/bin/sh\necho python\n"

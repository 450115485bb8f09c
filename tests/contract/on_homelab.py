"""The contract on real clusters, in a namespace, project, branch and image repository of its own.

All but the images are deleted afterwards.
"""

import contextlib
import json
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from ruamel.yaml import YAML

from bootstrap.kubectl import Kubectl
from testbeds.common.layers import layer_in_memory
from testbeds.common.oci import Registry
from testbeds.homelab import settings
from testbeds.homelab.homelab import Homelab
from tests.contract.content import write_all
from tests.contract.manifests import Json, application
from tests.contract.place import ARGOCD, NAMESPACE, REGISTRY, STEADY, TROUBLED, Place, Repository
from tests.sandbox.cluster import pod_server

_PATH, _PROGRAM = "contract/model", "/srv/pod_server.py"
_STRANGER = "stranger"
_PROJECT = "contract"


@contextlib.contextmanager
def contract_place(folder: Path, homelab: Homelab) -> Iterator[Place]:
    """Set up what the contract tests need on the running homelab, until the block ends."""
    registry = Registry(homelab.registry_url)
    repository, _, tag = settings.PYTHON_IMAGE.partition("/")[2].rpartition(":")
    base = registry.read(repository, tag)
    assert base is not None, "the models' images are built on it, so the homelab has it"
    program = layer_in_memory(lambda layer: layer.file(_PROGRAM, Path(pod_server.__file__)))

    def publish(tag: str, environment: Mapping[str, str]) -> str:
        image = base.extended(program, environment=environment, Entrypoint=[], Cmd=["python", _PROGRAM], User="10001")
        return registry.push(_PATH, tag, image)

    place = Place(
        kubeconfig=homelab.admin_kubeconfig,
        stranger=folder / "stranger.yaml",
        wrong=folder / "wrong.yaml",
        repository=Repository(folder, homelab.git_url, homelab.trunk.git_token_file),
        image_repository=f"{REGISTRY}/{_PATH}",
        publish=publish,
        targets=lambda: _targets(homelab.prometheus_url),
    )
    _remove(homelab)
    try:
        for cluster in (homelab.gcp, homelab.edge):
            cluster.apply([_object("v1", "Namespace", NAMESPACE)])
            cluster.apply([_object("v1", "ServiceAccount", _STRANGER, NAMESPACE)])
        tokens = {cluster.context: _token(cluster) for cluster in (homelab.gcp, homelab.edge)}
        _write_kubeconfig(place.kubeconfig, place.stranger, tokens)
        _write_kubeconfig(place.kubeconfig, place.wrong, dict.fromkeys(tokens, "nobody's"))
        write_all(place)
        place.repository.push(first=True)
        applications = [application(name, homelab.git_url, _PROJECT) for name in (STEADY, TROUBLED)]
        homelab.gcp.apply([_project(homelab.git_url)])
        homelab.gcp.apply(applications)
        yield place
    finally:
        if homelab.admin_kubeconfig.exists():  # the last test of the homelab takes it down with all that is in it
            _remove(homelab)
            place.repository.delete_branch()


def _remove(homelab: Homelab) -> None:
    """Delete the objects of the contract tests; Applications first, so that they do not restore the others."""
    options = ("--ignore-not-found", "--timeout=60s")
    argocd = f"--namespace={ARGOCD}"
    homelab.gcp.run("delete", "applications.argoproj.io", STEADY, TROUBLED, argocd, *options, seconds=70)
    homelab.gcp.run("delete", "appprojects.argoproj.io", _PROJECT, argocd, *options, seconds=70)
    for cluster in (homelab.gcp, homelab.edge):
        cluster.run("delete", "namespace", NAMESPACE, *options, seconds=70)


def _token(cluster: Kubectl) -> str:
    return cluster.run("create", "token", _STRANGER, f"--namespace={NAMESPACE}").strip()


def _write_kubeconfig(admin: Path, path: Path, tokens: Mapping[str, str]) -> None:
    """Write a copy of the administrator's kubeconfig in which each context uses the token given for it."""
    yaml = YAML(typ="safe", pure=True)
    config = yaml.load(admin.read_text(encoding="utf-8"))
    for context in config["contexts"]:
        context["context"]["user"] = context["name"]
    config["users"] = [{"name": name, "user": {"token": token}} for name, token in tokens.items()]
    path.touch(mode=0o600)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(config, file)


def _object(version: str, kind: str, name: str, namespace: str = "") -> Json:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _project(repository: str) -> Json:
    kinds = [("apps", "Deployment"), ("apps", "StatefulSet"), ("apps", "DaemonSet"), ("", "ConfigMap")]
    spec = {
        "sourceRepos": [repository],
        "destinations": [{"name": settings.EDGE, "namespace": NAMESPACE}],
        "clusterResourceWhitelist": [],
        "namespaceResourceWhitelist": [{"group": group, "kind": kind} for group, kind in kinds],
    }
    return {**_object("argoproj.io/v1alpha1", "AppProject", _PROJECT, ARGOCD), "spec": spec}


def _targets(prometheus_url: str) -> list[dict[str, str]]:
    """Return the labels of the models' pods, which the homelab's Prometheus scrapes.

    It does not scrape the namespace of the contract tests, but the models' pods have the annotations of `steady`'s.
    """
    with urllib.request.urlopen(f"{prometheus_url}/api/v1/targets?state=active", timeout=10) as response:
        active = json.load(response)["data"]["activeTargets"]
    common = ("job", "instance")
    pods = [target["labels"] for target in active if target["scrapePool"] == "edge-pods"]
    return [{name: value for name, value in labels.items() if name not in common} for labels in pods]

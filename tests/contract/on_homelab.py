"""The contract on real clusters: an own namespace, project, branch and image repository, all gone afterwards."""

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
    """What the contract needs on the homelab that runs, until the block ends."""
    registry = Registry(homelab.registry_url)
    repository, _, tag = settings.PYTHON_IMAGE.partition("/")[2].rpartition(":")
    ground = registry.read(repository, tag)
    assert ground is not None, "models' images stand on it, and the homelab has some"
    program = layer_in_memory(lambda layer: layer.file(_PROGRAM, Path(pod_server.__file__)))

    def publish(tag: str, environment: Mapping[str, str]) -> str:
        image = ground.extended(program, environment=environment, Entrypoint=[], Cmd=["python", _PROGRAM], User="10001")
        return registry.push(_PATH, tag, image)

    place = Place(
        kubeconfig=homelab.admin_kubeconfig,
        stranger=folder / "stranger.yaml",
        wrong=folder / "wrong.yaml",
        repository=Repository(folder, homelab.git_url, homelab.git_token_file),
        image_repository=f"{REGISTRY}/{_PATH}",
        publish=publish,
        targets=lambda: _targets(homelab.prometheus_url),
    )
    _remove(homelab)
    try:
        for cluster in (homelab.gcp, homelab.edge):
            cluster.apply([_object("v1", "Namespace", NAMESPACE)])
            cluster.apply([_object("v1", "ServiceAccount", _STRANGER, NAMESPACE)])
        tokens = {one.context: _token(one) for one in (homelab.gcp, homelab.edge)}
        _write_kubeconfig(place.kubeconfig, place.stranger, tokens)
        _write_kubeconfig(place.kubeconfig, place.wrong, dict.fromkeys(tokens, "nobody's"))
        write_all(place)
        place.repository.push(first=True)
        applications = [application(name, homelab.git_url, _PROJECT) for name in (STEADY, TROUBLED)]
        homelab.gcp.apply([_project(homelab.git_url)])
        homelab.gcp.apply(applications)
        yield place
    finally:
        if homelab.admin_kubeconfig.exists():  # the homelab's last test ends it, with all that is in it
            _remove(homelab)
            place.repository.delete_branch()


def _remove(homelab: Homelab) -> None:
    """Take away what the contract made; Applications first, so that they bring nothing back."""
    gone = ("--ignore-not-found", "--timeout=60s")
    homelab.gcp.run("delete", "applications.argoproj.io", STEADY, TROUBLED, f"--namespace={ARGOCD}", *gone, seconds=70)
    homelab.gcp.run("delete", "appprojects.argoproj.io", _PROJECT, f"--namespace={ARGOCD}", *gone, seconds=70)
    for cluster in (homelab.gcp, homelab.edge):
        cluster.run("delete", "namespace", NAMESPACE, *gone, seconds=70)


def _token(cluster: Kubectl) -> str:
    return cluster.run("create", "token", _STRANGER, f"--namespace={NAMESPACE}").strip()


def _write_kubeconfig(admin: Path, path: Path, tokens: Mapping[str, str]) -> None:
    """The administrator's kubeconfig with other users: those of these tokens, by context."""
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
    spec = {
        "sourceRepos": [repository],
        "destinations": [{"name": settings.EDGE, "namespace": NAMESPACE}],
        "clusterResourceWhitelist": [],
        "namespaceResourceWhitelist": [{"group": "apps", "kind": "Deployment"}, {"group": "", "kind": "ConfigMap"}],
    }
    return {**_object("argoproj.io/v1alpha1", "AppProject", _PROJECT, ARGOCD), "spec": spec}


def _targets(prometheus_url: str) -> list[dict[str, str]]:
    """Of the pods that the homelab's own Prometheus scrapes: the model's, which are annotated as `steady`'s are."""
    with urllib.request.urlopen(f"{prometheus_url}/api/v1/targets?state=active", timeout=10) as answer:
        active = json.load(answer)["data"]["activeTargets"]
    common = ("job", "instance")
    labels = [one["labels"] for one in active if one["scrapePool"] == "edge-pods"]
    return [{name: one for name, one in found.items() if name not in common} for found in labels]

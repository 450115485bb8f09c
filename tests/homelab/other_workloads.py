"""A model that is deployed as another kind of workload, as a lab of its own beside the platform's models."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bootstrap.kubectl import Document
from bootstrap.secrets import TRAINING
from orchestration.promotion.policy import parse_policy
from testbeds.homelab import gitops, settings
from testbeds.homelab.bootstrap import mlflow_login
from testbeds.homelab.environment import HomelabEnvironment
from testbeds.homelab.homelab import Homelab
from testbeds.homelab.waiting import applications, await_all, pods_words
from testbeds.story.look import Git
from testbeds.story.pushing import commit_and_push, write_files
from testbeds.story.stories import registry
from tests.homelab.lab import SETTLE_SECONDS, Lab

NAMESPACE = "ml-apps"
_RIGHTS = "incumbent-more-kinds"
_WINE = "manifests/applications/wine-quality"
_CASCADE = '--patch={"metadata": {"finalizers": ["resources-finalizer.argocd.argoproj.io"]}}'
"""With it, an Application that is deleted takes its objects along."""


@dataclass(frozen=True)
class Other:
    """A workload and what belongs to it."""

    kind: str
    name: str
    application: str
    container: str
    path: str
    """The manifest's path in the GitOps repository."""
    policy: str
    """The platform's policy that its own is made of."""
    node_port: int
    rights: tuple[Document, ...]
    """The rules of a Role that the pipeline needs beside those of the platform."""
    files: Mapping[str, str]
    """What is written into the GitOps repository for it, by path; nothing that is there already."""
    by_address: bool = False
    """Whether promotions change its `storageUri` in place of its image."""


@contextmanager
def deployed(environment: HomelabEnvironment, other: Other, argocd: Sequence[Document]) -> Iterator[Lab]:
    """Deploy a workload, and yield a lab for it with a client of its own; at the end all of it is removed.

    Args:
        environment: the homelab, with Dagster running.
        other: the workload.
        argocd: the AppProject and the Application that deploy it.
    """
    homelab, name = environment.homelab, f"{other.name}-edge"
    policies = homelab.state / "policies"
    address = f"http://{_node_address(environment)}:{other.node_port}"
    text = _policy(policies / f"{other.policy}.yaml", other, address)
    policy = parse_policy(name, text)
    own = HomelabEnvironment(replace(homelab, policy=policy), environment.processes, environment.dagster)
    lab = Lab(own, registry(own))
    with ExitStack() as undo:
        undo.callback(_forget_aliases, lab)
        own_application = {
            "apiGroups": ["argoproj.io"],
            "resources": ["applications"],
            "resourceNames": [other.application],
            "verbs": ["get", "patch"],
        }
        for cluster, namespace, rules in (
            (homelab.edge, NAMESPACE, other.rights),
            (homelab.gcp, "argocd", (own_application,)),
        ):
            cluster.apply(_grants(namespace, rules))
            undo.callback(cluster.run, "delete", "role,rolebinding", _RIGHTS, f"--namespace={namespace}")
        if other.files:
            commit(own, f"Deploy {other.name}", other.files)
            undo.callback(commit, own, f"Remove {other.name}", dict.fromkeys(other.files, ""))
        for document in argocd:
            homelab.gcp.apply([document])
            undo.callback(_delete, homelab, document["kind"], document["metadata"]["name"])
        homelab.gcp.run("patch", "application", other.application, "--namespace=argocd", "--type=merge", _CASCADE)
        await_all(f"{other.name} is Synced and Healthy", lambda: _missing(lab), SETTLE_SECONDS, print)
        (policies / f"{name}.yaml").write_text(text, encoding="utf-8")
        undo.callback((policies / f"{name}.yaml").unlink)
        own.start_client()
        undo.callback(own.stop_client)
        lab.wait_until_steady()
        yield lab


def application(other: Other, repository: str, kinds: Sequence[tuple[str, str]]) -> list[Document]:
    """Return a project for a workload's kinds, each with its group, and its Application."""
    metadata = {"name": other.application, "namespace": "argocd"}
    destination = {"name": "edge", "namespace": NAMESPACE}
    project = {
        "sourceRepos": [repository],
        "destinations": [destination],
        "clusterResourceWhitelist": [],
        "namespaceResourceWhitelist": [{"group": group, "kind": kind} for group, kind in kinds],
    }
    spec = {
        "project": other.application,
        "source": {
            "repoURL": repository,
            "targetRevision": settings.OWNER.serving.branch,
            "path": str(Path(other.path).parent),
        },
        "destination": destination,
        "syncPolicy": {"automated": {"prune": True, "selfHeal": True}},
    }
    version = "argoproj.io/v1alpha1"
    return [
        {"apiVersion": version, "kind": "AppProject", "metadata": metadata, "spec": project},
        {"apiVersion": version, "kind": "Application", "metadata": metadata, "spec": spec},
    ]


def wine_quality(name: str, node_port: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the Deployment and the Service of the platform's second model, under another name and port."""
    deployment, service = (_renamed(f"{_WINE}/{file}", name) for file in ("deployment.yaml", "service.yaml"))
    service["spec"]["ports"][0]["nodePort"] = node_port
    return deployment, service


def text_of(*documents: Document) -> str:
    """Write objects as a person would, in block style."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 1000  # an image stays on the line of its key, where the verifier of the stories looks for it
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        yaml.dump_all(documents, file)
        file.seek(0)
        return file.read()


def edit(environment: HomelabEnvironment, path: str, before: str, after: str, message: str) -> None:
    """Replace a text that occurs once in a file of the GitOps repository, as a person does."""
    with tempfile.TemporaryDirectory() as folder:
        git = Git(environment, Path(folder))
        file = git.folder / path
        text = file.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{before!r} in {text}"
        file.write_text(text.replace(before, after), encoding="utf-8")
        commit_and_push(git, message)


def _renamed(file: str, name: str) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(gitops.followed(file).replace("wine-quality", name)))


def _policy(template: Path, other: Other, address: str) -> str:
    manifest = (
        f"{{path: {other.path}, kind: {other.kind}, namespace: {NAMESPACE}, name: {other.name}, "
        f"container: {other.container}{', storage_uri: true' if other.by_address else ''}}}"
    )
    lines = {
        "challenger_alias": f"{other.name}-challenger",
        "champion_alias": f"{other.name}-champion",
        "manifest": manifest,
        "argocd": f"{{application: {other.application}, namespace: argocd}}",
        "service": f"{{url: {address}, protocol: features}}",
    }
    text = template.read_text(encoding="utf-8")
    for key, value in lines.items():
        text, count = re.subn(rf"^{key}: .*$", f"{key}: {value}", text, flags=re.MULTILINE)
        assert count == 1, f"{template} has {key} {count} times"
    return re.sub(r"^image: .*$", "deploys: model_uri", text, flags=re.MULTILINE) if other.by_address else text


def _grants(namespace: str, rules: Sequence[Document]) -> list[Document]:
    metadata = {"name": _RIGHTS, "namespace": namespace}
    version = "rbac.authorization.k8s.io/v1"
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": _RIGHTS}
    account = {"kind": "ServiceAccount", "name": "incumbent", "namespace": "incumbent"}
    return [
        {"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": list(rules)},
        {"apiVersion": version, "kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": [account]},
    ]


def _node_address(environment: HomelabEnvironment) -> str:
    """Return where edge's node ports are: only those of the platform's models are published on this machine."""
    addresses = environment.homelab.edge.items("nodes")[0]["status"]["addresses"]
    return str(next(each["address"] for each in addresses if each["type"] == "InternalIP"))


def commit(environment: HomelabEnvironment, message: str, files: Mapping[str, str]) -> None:
    """Commit files to the models' branch; those without content are removed."""
    with tempfile.TemporaryDirectory() as folder:
        git = Git(environment, Path(folder))
        write_files(git, files)
        commit_and_push(git, message)


def _delete(homelab: Homelab, kind: str, name: str) -> None:
    homelab.gcp.run("delete", kind, name, "--namespace=argocd", seconds=SETTLE_SECONDS)


def _missing(lab: Lab) -> str:
    name = lab.homelab.policy.argocd.application
    found = next((each for each in applications(lab.homelab.gcp) if each.name == name), None)
    if found is not None and found.well:
        return ""
    lab.refresh(name)
    return "; ".join([str(found or f"no application {name}"), *pods_words(lab.homelab.edge, NAMESPACE)])


def _forget_aliases(lab: Lab) -> None:
    """Remove the aliases, because what they name is not deployed any more.

    The models' owner does it: with the pipeline's rights, MLflow lets an alias be set and not be removed.
    """
    environment = lab.environment
    existing = lab.client.get_registered_model(environment.model).aliases
    with pytest.MonkeyPatch.context() as patch:
        for name, value in mlflow_login(lab.homelab.gcp, TRAINING).items():
            patch.setenv(name, value)
        for alias in (environment.challenger_alias, environment.champion_alias):
            if alias in existing:
                lab.client.delete_registered_model_alias(environment.model, alias)

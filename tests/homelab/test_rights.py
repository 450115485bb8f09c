"""The rights of the accounts on real clusters: each is needed, and there are no others."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bootstrap.kubectl import Kubectl
from bootstrap.registration import ACCESS
from orchestration.adapters.argocd import ArgoCDApplications
from orchestration.adapters.clusters import KubernetesCluster
from orchestration.adapters.kube_api import KubeApi
from orchestration.promotion.problems import DependencyError, ProblemError
from testbeds.common.processes import wait_until
from testbeds.common.tools import CHECKOUT
from testbeds.homelab.environment import HomelabEnvironment
from testbeds.homelab.homelab import Homelab
from testbeds.homelab.settings import EDGE, GCP

_FOLDERS = {EDGE: "edge", GCP: "control-plane"}
_PROBE, _PROBE_NAMESPACE = "rights-probe", "default"
_SECONDS = 20.0
_RBAC = "rbac.authorization.k8s.io"
_MODELS, _ARGOCD = "ml-apps", "argocd"


@dataclass(frozen=True)
class Right:
    """One verb on one resource; `namespace` is None for a right on the whole cluster."""

    cluster: str
    namespace: str | None
    group: str
    resource: str
    verb: str
    names: tuple[str, ...] = ()
    """The only objects; empty for all."""

    def __str__(self) -> str:
        return f"{self.cluster}: {self.verb} {self.resource}"

    def refused_in(self, message: str) -> bool:
        """Return whether an API server's refusal names this right."""
        return f'cannot {self.verb} resource "{self.resource}" in API group "{self.group}"' in message


def granted(cluster: str, account: str) -> list[Right]:
    """Return the rights that the manifests grant to an account, whose roles are in the file of its name."""
    file = CHECKOUT / "manifests/platform/access" / _FOLDERS[cluster] / f"{account}.yaml"
    roles = [document for document in YAML(typ="safe").load_all(file) if document["kind"] in ("Role", "ClusterRole")]
    return [
        Right(cluster, role["metadata"].get("namespace"), group, resource, verb, tuple(rule.get("resourceNames", ())))
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


OF_PIPELINE = [right for cluster in (EDGE, GCP) for right in granted(cluster, "incumbent")]
Call = Callable[[Homelab, Path], object]


def _workload(homelab: Homelab, kubeconfig: Path) -> object:
    target = homelab.policy.manifest
    return KubernetesCluster(kubeconfig, EDGE).workload(target.kind, target.namespace, target.name)


def _log(homelab: Homelab, kubeconfig: Path) -> object:
    target = homelab.policy.manifest
    cluster = KubernetesCluster(kubeconfig, EDGE)
    return cluster.log_tail(target.namespace, _a_pod(homelab), target.container, previous=False)


def _ask_pod(homelab: Homelab, kubeconfig: Path) -> object:
    body, headers = json.dumps({"features": [5.1, 3.5, 1.4, 0.2]}).encode(), {"X-Incumbent-Replay": "true"}
    pod = _a_pod(homelab)
    return KubernetesCluster(kubeconfig, EDGE).ask_pod(_MODELS, pod, 8080, "predict", body, headers, 10.0)


def _nodes(homelab: Homelab, kubeconfig: Path) -> object:
    return KubernetesCluster(kubeconfig, EDGE).nodes()


def _services(homelab: Homelab, kubeconfig: Path) -> object:
    return KubeApi(kubeconfig, EDGE).items(f"/api/v1/namespaces/{_MODELS}/services")  # the adapter takes a refusal


def _application(homelab: Homelab, kubeconfig: Path) -> object:
    target = homelab.policy.argocd
    return ArgoCDApplications(kubeconfig, GCP).application(target.namespace, target.application)


def _refresh(homelab: Homelab, kubeconfig: Path) -> None:
    target = homelab.policy.argocd
    ArgoCDApplications(kubeconfig, GCP).refresh(target.namespace, target.application)


CALLS: Mapping[tuple[str, str], Call] = {
    ("deployments", "get"): _workload,
    ("replicasets", "list"): _workload,
    ("pods", "list"): _workload,
    ("events", "list"): _workload,
    ("services", "list"): _services,
    ("pods/log", "get"): _log,
    ("pods/proxy", "create"): _ask_pod,
    ("nodes", "list"): _nodes,
    ("applications", "get"): _application,
    ("applications", "patch"): _refresh,
}
"""For each right, one of the pipeline's calls that needs it."""


def _a_pod(homelab: Homelab) -> str:
    target = homelab.policy.manifest
    pods = homelab.edge.items("pods", target.namespace, f"app={target.name}")
    return str(next(pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]))


class Probe:
    """An account like the pipeline's on one cluster, whose rights a test may change without harming the pipeline."""

    def __init__(self, admin: Kubectl, folder: Path) -> None:
        self.admin, self.kubeconfig = admin, folder / "probe.kubeconfig"
        admin.apply([self._document("v1", "ServiceAccount", _PROBE_NAMESPACE)])
        token = admin.run("create", "token", _PROBE, f"--namespace={_PROBE_NAMESPACE}").strip()
        config = json.loads(admin.run("config", "view", "--raw", "--output=json"))
        config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
        self.kubeconfig.write_text(json.dumps(config), encoding="utf-8")

    @staticmethod
    def _document(version: str, kind: str, namespace: str | None, **fields: object) -> dict[str, Any]:
        scope = {"namespace": namespace} if namespace else {}
        return {"apiVersion": version, "kind": kind, "metadata": {"name": _PROBE, **scope}, **fields}

    def grant(self, rights: list[Right]) -> None:
        """Grant the account these rights and no others."""
        for namespace in {right.namespace for right in OF_PIPELINE if right.cluster == self.admin.context}:
            kind = "Role" if namespace else "ClusterRole"
            rules = [
                {
                    "apiGroups": [right.group],
                    "resources": [right.resource],
                    "resourceNames": list(right.names),
                    "verbs": [right.verb],
                }
                for right in rights
                if right.namespace == namespace
            ]
            account = {"kind": "ServiceAccount", "name": _PROBE, "namespace": _PROBE_NAMESPACE}
            role = {"apiGroup": _RBAC, "kind": kind, "name": _PROBE}
            self.admin.apply(
                [
                    self._document(f"{_RBAC}/v1", kind, namespace, rules=rules),
                    self._document(f"{_RBAC}/v1", f"{kind}Binding", namespace, roleRef=role, subjects=[account]),
                ]
            )

    def remove(self) -> None:
        for namespace in {right.namespace for right in OF_PIPELINE if right.cluster == self.admin.context}:
            kind, scope = ("role", [f"--namespace={namespace}"]) if namespace else ("clusterrole", [])
            self.admin.run("delete", f"{kind},{kind}binding", _PROBE, *scope, "--ignore-not-found")
        self.admin.run("delete", "serviceaccount", _PROBE, f"--namespace={_PROBE_NAMESPACE}")


@pytest.fixture(scope="module")
def running(homelab: HomelabEnvironment) -> Homelab:
    return homelab.homelab


@pytest.fixture(scope="module")
def probes(running: Homelab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Probe]]:
    """Create a probe on each cluster."""
    clusters = (running.edge, running.gcp)
    created = {cluster.context: Probe(cluster, tmp_path_factory.mktemp(cluster.context)) for cluster in clusters}
    yield created
    for probe in created.values():
        probe.remove()


def test_each_right_has_a_call_that_needs_it() -> None:
    """The pipeline's rights are exactly those that its calls need."""
    assert {(right.resource, right.verb) for right in OF_PIPELINE} == set(CALLS)
    assert len(OF_PIPELINE) == len(CALLS)


@pytest.mark.parametrize("right", OF_PIPELINE, ids=str)
def test_each_right_is_needed(running: Homelab, probes: dict[str, Probe], right: Right) -> None:
    """Without the right, the adapter's call is refused with an error that names it; with it, the call succeeds."""
    probe, call = probes[right.cluster], CALLS[right.resource, right.verb]
    all_rights = [each for each in OF_PIPELINE if each.cluster == right.cluster]
    probe.grant([each for each in all_rights if each != right])

    def refused() -> bool:
        try:
            call(running, probe.kubeconfig)
        except DependencyError as error:
            # Until the API server knows the new role, it names the right that the call needs first.
            return right.refused_in(str(error))
        return False

    wait_until(refused, _SECONDS, f"{right} is refused")
    probe.grant(all_rights)

    def succeeds() -> bool:
        try:
            call(running, probe.kubeconfig)
        except DependencyError:
            return False
        return True

    wait_until(succeeds, _SECONDS, f"{right} is allowed")


ACCOUNTS = [
    (EDGE, "incumbent", _MODELS),
    (GCP, "incumbent", _ARGOCD),
    (EDGE, "prometheus", _MODELS),
    (EDGE, "prometheus", "monitoring"),
    (EDGE, "analyst", _MODELS),
    (GCP, "analyst", "monitoring"),
]


@pytest.mark.parametrize(("cluster", "account", "namespace"), ACCOUNTS)
def test_no_account_has_further_rights(
    running: Homelab, tmp_path: Path, cluster: str, account: str, namespace: str
) -> None:
    """The API server lists exactly the rights that the manifests grant the account, and those of every account."""
    kubectl = _as_account(running, cluster, account, tmp_path)
    rights = granted(cluster, account)
    of_cluster = {_told(right) for right in rights if right.namespace is None}
    of_namespace = {_told(right) for right in rights if right.namespace == namespace}
    assert _rights_in(kubectl, namespace) == of_cluster | of_namespace | _rights_of_everyone()
    assert _rights_in(kubectl, "default") == of_cluster | _rights_of_everyone()


REFUSED = [
    (EDGE, ["patch", "deployment", "iris-classifier", "--patch={}"], 'cannot patch resource "deployments"'),
    (EDGE, ["delete", "deployment", "iris-classifier"], 'cannot delete resource "deployments"'),
    (EDGE, ["create", "deployment", "another", "--image=another"], 'cannot create resource "deployments"'),
    (EDGE, ["get", "secrets"], 'cannot list resource "secrets"'),
    (EDGE, ["get", "pods", "--namespace=kube-system"], 'cannot list resource "pods"'),
    (EDGE, ["get", "deployment", "coredns", "--namespace=kube-system"], 'cannot get resource "deployments"'),
    (EDGE, ["delete", "node", "k3d-edge-server-0"], 'cannot delete resource "nodes"'),
    (EDGE, ["create", "token", "default"], 'cannot create resource "serviceaccounts/token"'),
    (GCP, ["delete", "application", "iris-classifier", "--namespace=argocd"], 'cannot delete resource "applications"'),
    (GCP, ["get", "applications", "--namespace=argocd"], 'cannot list resource "applications"'),
    (GCP, ["get", "application", "root", "--namespace=argocd"], 'cannot get resource "applications"'),
    (GCP, ["get", "secrets", "--namespace=argocd"], 'cannot list resource "secrets"'),
    (GCP, ["get", "pods", "--namespace=mlflow"], 'cannot list resource "pods"'),
    (GCP, ["get", "nodes"], 'cannot list resource "nodes"'),
]


@pytest.mark.parametrize(("cluster", "command", "reason"), REFUSED, ids=lambda value: str(value)[:60])
def test_commands_beyond_its_rights_are_refused(
    running: Homelab, cluster: str, command: list[str], reason: str
) -> None:
    """With the pipeline's own kubeconfig, whatever is not the pipeline's job is forbidden."""
    pipeline = Kubectl(running.supply.kubectl, running.kubeconfig, cluster)
    scope = [] if any(word.startswith("--namespace") for word in command) else [f"--namespace={_MODELS}"]
    with pytest.raises(ProblemError) as refusal:
        pipeline.run(*command, *scope)
    assert "is forbidden" in str(refusal.value)
    assert reason in str(refusal.value)


def test_no_command_can_be_run_in_a_pod(running: Homelab) -> None:
    """With the pipeline's token, no command can be executed in a model's pod."""
    pipeline = Kubectl(running.supply.kubectl, running.kubeconfig, EDGE)
    path = f"/api/v1/namespaces/{_MODELS}/pods/{_a_pod(running)}/exec?command=id&stdout=true"
    with pytest.raises(ProblemError, match='cannot create resource "pods/exec"'):
        pipeline.run("create", "--raw", path, "--filename=-", stdin="{}")


def _as_account(homelab: Homelab, cluster: str, account: str, folder: Path) -> Kubectl:
    """Return a kubectl that uses an account's own token."""
    admin = homelab.edge if cluster == EDGE else homelab.gcp
    secret = admin.read("secret", f"{account}-token", ACCESS)
    assert secret is not None, f"{cluster} has no account {account}"
    config = json.loads(homelab.kubeconfig.read_text(encoding="utf-8"))
    token = base64.b64decode(secret["data"]["token"]).decode()
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(config), encoding="utf-8")
    return Kubectl(homelab.supply.kubectl, kubeconfig, cluster)


Told = tuple[str, str, str, tuple[str, ...]]
"""A right as group, resource, verb, and the names of the only objects."""


def _told(right: Right) -> Told:
    return right.group, right.resource, right.verb, right.names


def _rights_in(kubectl: Kubectl, namespace: str) -> set[Told]:
    """Return the rights that the API server says kubectl's account has in a namespace."""
    request = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    create = ("create", "--validate=false", "--filename=-", "--output=json")  # validating takes a right of its own
    review = json.loads(kubectl.run(*create, stdin=json.dumps(request)))
    return {
        (group, resource, verb, tuple(rule.get("resourceNames") or ()))
        for rule in review["status"]["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _rights_of_everyone() -> set[Told]:
    """Return the rights that Kubernetes grants to every account: to ask who it is and what it may do."""
    reviews = ("selfsubjectaccessreviews", "selfsubjectrulesreviews")
    authorization: set[Told] = {("authorization.k8s.io", review, "create", ()) for review in reviews}
    return authorization | {("authentication.k8s.io", "selfsubjectreviews", "create", ())}

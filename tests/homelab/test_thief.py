"""A thief with all that the pipeline has: its Git token, its kubeconfig and its login to MLflow; docs/blast-radius.md.

Each attempt to reach more fails by the refusal that is meant for it, and what the pipeline needs still works. Nothing
that an attempt leaves behind makes the next one fail, so that these tests can be repeated on a running homelab.
"""

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bootstrap.kubectl import Document, Kubectl
from orchestration.adapters.argocd import ArgoCDApplications
from orchestration.adapters.kube_api import KubeApi
from orchestration.promotion.problems import ProblemError
from testbeds.common.processes import wait_until
from testbeds.homelab.settings import EDGE, GCP, OWNER
from testbeds.homelab.waiting import await_all
from testbeds.story.look import Git
from testbeds.story.pushing import commit_and_push
from tests.homelab.lab import SETTLE_SECONDS, Lab

pytestmark = pytest.mark.timeout(600)
MODELS, ARGOCD = "ml-apps", "argocd"
VICTIM = "wine-quality"
"""The Application on whose files the thief puts his own; the other model serves undisturbed."""
LOOT = f"manifests/applications/{VICTIM}/loot.yaml"
TRUNK = f"refs/heads/{OWNER.branch}"
POLICY = "ValidatingAdmissionPolicy 'incumbent-refreshes'"


def thief(lab: Lab, cluster: str) -> Kubectl:
    """Return a kubectl with the pipeline's own kubeconfig."""
    return Kubectl(lab.homelab.supply.kubectl, lab.homelab.kubeconfig, cluster)


# Git


@pytest.fixture
def clone(lab: Lab, tmp_path: Path) -> Git:
    """A clone of the models' branch, with the pipeline's token."""
    return Git(lab.environment, tmp_path)


@pytest.mark.parametrize(
    "ref",
    [TRUNK, "refs/heads/anything", "refs/tags/v1", "refs/heads/modelsmore", "refs/notes/commits"],
)
def test_the_token_pushes_to_no_other_ref(clone: Git, ref: str) -> None:
    """The Git server refuses the push by the name of the ref, also a deletion."""
    with pytest.raises(RuntimeError, match=f"may not push to {ref}"):
        clone.run("push", "--force", "origin", f"HEAD:{ref}")
    if ref == TRUNK:
        with pytest.raises(RuntimeError, match=f"may not push to {ref}"):
            clone.run("push", "origin", f":{ref}")


def test_the_token_pushes_what_the_pipeline_needs(lab: Lab, clone: Git) -> None:
    """A lease, a tag and the branch itself are accepted, atomically, and so is taking the first two away again."""
    lease, tag = "refs/incumbent/lease/thief", "refs/tags/incumbent/thief/1-1"
    clone.run("push", "--atomic", "origin", f"HEAD:{lease}", f"HEAD:{tag}", f"HEAD:refs/heads/{OWNER.serving.branch}")
    clone.run("push", "--atomic", "origin", f":{lease}", f":{tag}")


def test_argocds_token_pushes_nothing(lab: Lab, clone: Git) -> None:
    """The password in Argo CD's Secret reads the repository, and may push to no branch."""
    secret = lab.homelab.gcp.read("secret", "gitops-repository", ARGOCD)
    assert secret is not None
    script = "#!/bin/sh\ncase $1 in Username*) echo argocd ;; *) echo $PASSWORD | base64 -d ;; esac\n"
    askpass = clone.folder.parent / "argocds"
    askpass.write_text(script, encoding="utf-8")
    askpass.chmod(0o700)
    login = {**clone.environment, "GIT_ASKPASS": str(askpass), "PASSWORD": secret["data"]["password"]}
    for command, code, said in (
        ("ls-remote", 0, OWNER.serving.branch),
        ("push", 1, f"may not push to refs/heads/{OWNER.serving.branch}"),
    ):
        words = [] if command == "ls-remote" else ["--force", f"HEAD~1:refs/heads/{OWNER.serving.branch}"]
        done = subprocess.run(
            ["git", command, "origin", *words], cwd=clone.folder, env=login, capture_output=True, text=True
        )
        assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stderr


# Kubernetes, by the kubeconfig

_METADATA = {"name": "loot", "namespace": MODELS}
_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": _METADATA,
    "spec": {"containers": [{"name": "c", "image": "busybox", "securityContext": {"privileged": True}}]},
}
_BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "loot"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"kind": "ServiceAccount", "name": "incumbent", "namespace": "incumbent"}],
}
_NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "loot"}}
_APPLICATION = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Application",
    "metadata": {"name": "loot", "namespace": ARGOCD},
    "spec": {
        "project": "access",
        "source": {"repoURL": "https://evil.example/x.git", "path": "."},
        "destination": {"name": "in-cluster", "namespace": ARGOCD},
    },
}
_CREATED: dict[str, tuple[Document, str]] = {
    "a ClusterRoleBinding": (_BINDING, "clusterrolebindings"),
    "a privileged pod": (_POD, "pods"),
    "a Namespace": (_NAMESPACE, "namespaces"),
}


@pytest.mark.parametrize("cluster", [EDGE, GCP])
@pytest.mark.parametrize(("document", "resource"), _CREATED.values(), ids=_CREATED)
def test_nothing_can_be_created(lab: Lab, cluster: str, document: Document, resource: str) -> None:
    """For each of them the API server says which right is missing, before it looks at the object."""
    with pytest.raises(ProblemError, match=f'cannot create resource "{resource}"'):
        thief(lab, cluster).run("create", "--validate=false", "--filename=-", stdin=json.dumps(document))


def test_no_application_can_be_created(lab: Lab) -> None:
    """Else its project could be that of the accounts."""
    with pytest.raises(ProblemError, match='cannot create resource "applications"'):
        thief(lab, GCP).run("create", "--validate=false", "--filename=-", stdin=json.dumps(_APPLICATION))


_REACHED: list[tuple[str, list[str], str]] = [
    (EDGE, ["get", "secrets", "--all-namespaces"], 'cannot list resource "secrets"'),
    (EDGE, ["get", "pods", "--namespace=kube-system"], 'cannot list resource "pods"'),
    (EDGE, ["get", "secret", "prometheus-token", "--namespace=incumbent"], 'cannot get resource "secrets"'),
    (EDGE, ["get", "nodes", "--as=system:admin"], 'cannot impersonate resource "users"'),
    (EDGE, ["create", "token", "argocd-manager", "--namespace=kube-system"], "serviceaccounts/token"),
    (EDGE, ["get", "--raw", "/api/v1/nodes/k3d-edge-server-0/proxy/pods"], 'cannot get resource "nodes/proxy"'),
    (GCP, ["get", "secret", "cluster-edge", f"--namespace={ARGOCD}"], 'cannot get resource "secrets"'),
    (GCP, ["get", "secret", "mlflow-server", "--namespace=mlflow"], 'cannot get resource "secrets"'),
    (GCP, ["get", "appproject", "models", f"--namespace={ARGOCD}"], 'cannot get resource "appprojects"'),
    (GCP, ["patch", "appproject", "models", f"--namespace={ARGOCD}", "--patch={}", "--type=merge"], "appprojects"),
    (GCP, ["delete", "application", "root", f"--namespace={ARGOCD}"], 'cannot delete resource "applications"'),
    (
        GCP,
        ["annotate", "application", "root", "argocd.argoproj.io/refresh=hard", f"--namespace={ARGOCD}"],
        'applications.argoproj.io "root" is forbidden',
    ),
]


@pytest.mark.parametrize(("cluster", "command", "refusal"), _REACHED, ids=lambda value: str(value)[:60])
def test_other_namespaces_secrets_and_projects_are_out_of_reach(
    lab: Lab, cluster: str, command: list[str], refusal: str
) -> None:
    """Argo CD's logins, MLflow's administrator, other accounts' tokens and root: each is refused for its own right."""
    with pytest.raises(ProblemError) as refused:
        thief(lab, cluster).run(*command)
    assert refusal in str(refused.value)
    assert "forbidden" in str(refused.value)


_CHANGES: dict[str, Mapping[str, Any]] = {
    "source": {"spec": {"source": {"path": "manifests/platform/access/edge", "targetRevision": OWNER.branch}}},
    "repository": {"spec": {"source": {"repoURL": "https://evil.example/x.git"}}},
    "project": {"spec": {"project": "access"}},
    "destination": {"spec": {"destination": {"name": "in-cluster", "namespace": "kube-system"}}},
    "operation": {"operation": {"sync": {"revision": "evil"}}},
}


@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES)
def test_the_models_application_stays_as_it_is(lab: Lab, change: Mapping[str, Any]) -> None:
    """The admission policy refuses what the right to patch would allow, and a refresh is still admitted."""
    target = lab.homelab.policy.argocd
    patch = ("patch", "application", target.application, f"--namespace={ARGOCD}", "--type=merge")
    with pytest.raises(ProblemError) as refused:
        thief(lab, GCP).run(*patch, f"--patch={json.dumps(change)}")
    assert POLICY in str(refused.value)
    ArgoCDApplications(lab.homelab.kubeconfig, GCP).refresh(target.namespace, target.application)


def test_no_command_can_be_run_in_a_pod(lab: Lab) -> None:
    """Neither by exec, nor by attaching, nor by a container that is added to the pod."""
    target = lab.homelab.policy.manifest
    pod = next(
        each["metadata"]["name"] for each in lab.homelab.edge.items("pods", target.namespace, f"app={target.name}")
    )
    edge, place = thief(lab, EDGE), f"/api/v1/namespaces/{MODELS}/pods/{pod}"
    for part in ("exec", "attach"):
        with pytest.raises(ProblemError, match=f'cannot create resource "pods/{part}"'):
            edge.run("create", "--raw", f"{place}/{part}?command=id&stdout=true", "--filename=-", stdin="{}")
    api = KubeApi(lab.homelab.kubeconfig, EDGE)
    kind = {"Content-Type": "application/merge-patch+json"}
    assert b"cannot patch resource" in api.send("PATCH", f"{place}/ephemeralcontainers", {}, kind).body


# Argo CD, by what the thief may commit


@contextmanager
def committed(lab: Lab, *documents: Document) -> Iterator[None]:
    """Commit objects to the models' branch with the pipeline's token, and take them away at the end."""

    def put(text: str, message: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            git = Git(lab.environment, Path(folder))
            file = git.folder / LOOT
            if text:
                file.write_text(text, encoding="utf-8")
            else:
                file.unlink(missing_ok=True)
            if git.run("status", "--porcelain"):
                commit_and_push(git, message)

    put("\n---\n".join(json.dumps(document) for document in documents), "Take the loot")
    try:
        yield
    finally:
        put("", "Leave the loot")
        lab.refresh_until(VICTIM, lambda: _is_well(lab), f"{VICTIM} is Synced and Healthy again")


def _is_well(lab: Lab) -> bool:
    status = lab.application(VICTIM).get("status", {})
    return [status.get(name, {}).get("status") for name in ("sync", "health")] == ["Synced", "Healthy"]


def _results(lab: Lab) -> dict[tuple[str, str], str]:
    """Return what Argo CD's last sync says about each object, by kind and namespace.

    It gives the application's namespace to objects that have none.
    """
    operation = lab.application(VICTIM).get("status", {}).get("operationState", {})
    resources = operation.get("syncResult", {}).get("resources") or ()
    return {(each["kind"], each.get("namespace", "")): each.get("message", "") for each in resources}


def _namespaced(kind: str, version: str = "v1", namespace: str = MODELS, **fields: Any) -> Document:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "loot", "namespace": namespace}, **fields}


def _deployment(namespace: str, **pod: Any) -> Document:
    labels = {"app": "loot"}
    container = {"name": "loot", "image": "busybox", "resources": {"limits": {"cpu": "10m", "memory": "16Mi"}}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], **pod}}
    return _namespaced(
        "Deployment", "apps/v1", namespace, spec={"selector": {"matchLabels": labels}, "template": template}
    )


_RBAC = "rbac.authorization.k8s.io"
_ROLE: dict[str, Any] = {
    "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [],
}
_NOT_PERMITTED: dict[str, tuple[Document, tuple[str, str], str]] = {
    "a ClusterRoleBinding": (_BINDING, ("ClusterRoleBinding", MODELS), f"resource {_RBAC}:ClusterRoleBinding"),
    "a Namespace": (_NAMESPACE, ("Namespace", MODELS), "resource :Namespace"),
    "a RoleBinding": (
        _namespaced("RoleBinding", f"{_RBAC}/v1", **_ROLE),
        ("RoleBinding", MODELS),
        f"resource {_RBAC}:RoleBinding",
    ),
    "a pod": (_POD, ("Pod", MODELS), "resource :Pod"),
    "a Secret with an account's token": (_namespaced("Secret"), ("Secret", MODELS), "resource :Secret"),
    "no network policy": (
        _namespaced("NetworkPolicy", "networking.k8s.io/v1", spec={"podSelector": {}, "ingress": [{}]}),
        ("NetworkPolicy", MODELS),
        "resource networking.k8s.io:NetworkPolicy",
    ),
    "a Deployment elsewhere": (
        _deployment("kube-system"),
        ("Deployment", "kube-system"),
        "namespace kube-system is not permitted",
    ),
}


def test_argocd_deploys_nothing_that_its_project_does_not_allow(lab: Lab) -> None:
    """Committed to the models' branch, each of them is refused by name, and none of them exists afterwards."""
    documents = [document for document, _, _ in _NOT_PERMITTED.values()]
    expected = {key: text for _, key, text in _NOT_PERMITTED.values()}

    def not_refused() -> str:
        lab.refresh(VICTIM)
        found = _results(lab)
        return "; ".join(
            f"{' '.join(key)}: {found.get(key, 'not in the last sync')}"
            for key, text in expected.items()
            if text not in found.get(key, "") or "is not permitted in project" not in found[key]
        )

    with committed(lab, *documents):
        await_all("each object is refused by the project", not_refused, SETTLE_SECONDS, print)
        edge = lab.homelab.edge
        assert edge.read("clusterrolebinding", "loot", "default") is None
        assert edge.read("namespace", "loot", "default") is None
        assert edge.read("deployment", "loot", "kube-system") is None


_DANGEROUS: dict[str, tuple[dict[str, Any], str]] = {
    "the node's files": ({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, "hostPath"),
    "privileges": (
        {"containers": [{"name": "loot", "image": "busybox", "securityContext": {"privileged": True}}]},
        "privileged",
    ),
    "the node's network": ({"hostNetwork": True, "hostPID": True}, "host namespaces"),
}


@pytest.mark.parametrize(("pod", "word"), _DANGEROUS.values(), ids=_DANGEROUS)
def test_no_pod_that_harms_its_node_starts(lab: Lab, pod: dict[str, Any], word: str) -> None:
    """Argo CD creates the Deployment, whose kind is allowed, and Pod Security refuses each of its pods."""

    def not_refused() -> str:
        lab.refresh(VICTIM)
        deployment = lab.homelab.edge.read("deployment", "loot", MODELS) or {}
        conditions = deployment.get("status", {}).get("conditions") or ()
        said = [each.get("message", "") for each in conditions if each["type"] == "ReplicaFailure"]
        refused = any('violates PodSecurity "restricted' in text and word in text for text in said)
        return "" if refused else f"the Deployment says {said or list(conditions) or 'nothing'}"

    with committed(lab, _deployment(MODELS, **pod)):
        await_all("Pod Security refuses the pod", not_refused, SETTLE_SECONDS, print)
        assert lab.homelab.edge.items("pods", MODELS, "app=loot") == []
    wait_until(
        lambda: lab.homelab.edge.read("deployment", "loot", MODELS) is None, SETTLE_SECONDS, "the Deployment is pruned"
    )


# MLflow, by the login


def _mlflow(lab: Lab) -> httpx2.Client:
    login = lab.homelab.mlflow_login()
    auth = (login["MLFLOW_TRACKING_USERNAME"], login["MLFLOW_TRACKING_PASSWORD"])
    return httpx2.Client(base_url=f"{lab.homelab.mlflow_url}/api", auth=auth, timeout=60.0)


Attempt = Callable[[str], tuple[str, str, dict[str, Any]]]
"""Makes the method, path and content of a request from the model's name; what it names need not exist."""
_MLFLOW: dict[str, Attempt] = {
    "delete the model": lambda model: ("DELETE", "2.0/mlflow/registered-models/delete", {"name": model}),
    "delete a version": lambda model: (
        "DELETE",
        "2.0/mlflow/model-versions/delete",
        {"name": model, "version": "999999"},
    ),
    "take an alias away": lambda model: (
        "DELETE",
        "2.0/mlflow/registered-models/alias",
        {"name": model, "alias": "nobody"},
    ),
    "another experiment": lambda _: ("POST", "2.0/mlflow/experiments/update", {"experiment_id": "0", "new_name": "x"}),
    "an account": lambda _: ("POST", "2.0/mlflow/users/create", {"username": "loot", "password": "loot-loot-loot"}),
    "a permission": lambda _: (
        "POST",
        "3.0/mlflow/users/permissions/grant",
        {"username": "incumbent", "resource_type": "experiment", "resource_id": "0", "permission": "MANAGE"},
    ),
    "the administrator's password": lambda _: (
        "PATCH",
        "2.0/mlflow/users/update-password",
        {"username": "admin", "password": "loot-loot-loot"},
    ),
}


@pytest.mark.parametrize("attempt", _MLFLOW.values(), ids=_MLFLOW)
def test_the_registry_is_no_ones_to_destroy(lab: Lab, attempt: Attempt) -> None:
    """MLflow answers 403, which is its word for a right that is missing, and what was asked for is still there."""
    method, path, content = attempt(lab.environment.model)
    with _mlflow(lab) as client:
        answer = client.request(method, f"/{path}", json=content)
        assert answer.status_code == 403, answer.text
        kept = client.get("/2.0/mlflow/registered-models/get", params={"name": lab.environment.model})
    assert kept.status_code == 200
    assert lab.environment.champion_alias in {each["alias"] for each in kept.json()["registered_model"]["aliases"]}


def test_what_the_pipeline_needs_still_works(lab: Lab) -> None:
    """With the same token, kubeconfig and login, a version becomes champion, and no request is lost."""
    lab.promote().becomes_champion()

"""From two empty clusters to a platform that Argo CD keeps: what a person types once, with the waiting in between.

The order matters: Argo CD's core mode makes no project `default`, so the projects come before root; root applied before
the repo-server answers stays in its error until somebody asks for a comparison.
"""

import base64
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from testbeds.homelab import gitops, settings
from testbeds.homelab.kubectl import Document, Kubectl
from testbeds.homelab.supply import Say
from testbeds.homelab.waiting import applications, await_all, backing_off, not_rolled_out, phase, pods_words

ARGOCD = "argocd"
ACCESS = "incumbent"
"""The namespace of the pipeline's and Prometheus's accounts, on both clusters."""
_MONITORING = "monitoring"
_MODELS = "ml-apps"
_MANAGER = Path(__file__).with_name("argocd-manager.yaml")
_FETCHES = {"app": "fetch-early"}
_ASK_AGAIN_SECONDS = 5.0
_SECONDS = 240.0
"""The longest that any one step may take, on two busy cores."""


@dataclass(frozen=True)
class Account:
    """A service account's token, and the CA by which its cluster is known, as its Secret has them (base64)."""

    token: str
    ca: str

    @property
    def plain_token(self) -> str:
        return base64.b64decode(self.token).decode()


def install_argocd(gcp: Kubectl, manifest: str, say: Say) -> None:
    """Apply upstream's manifests (a file, or an address) unchanged.

    The password of its Redis is made here: the controller's pod would miss the one that a pod of Redis makes, and wait
    in back-off.
    """
    password = base64.b64encode(secrets.token_urlsafe(24).encode()).decode()
    with phase("Argo CD's manifests applied", say):
        gcp.apply([_namespace(ARGOCD), _namespace(_MONITORING), _secret("argocd-redis", ARGOCD, {"auth": password})])
        gcp.run("apply", "--server-side", f"--namespace={ARGOCD}", f"--filename={manifest}", seconds=_SECONDS)


def fetch_early(cluster: Kubectl, image: str) -> None:
    """Let every node pull an image now that it needs in a minute; `forget_fetches` removes the pods that asked."""
    nodes = [one["metadata"]["name"] for one in cluster.items("nodes")]
    container = {"name": "fetch", "image": image, "command": ["true"]}
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
    metadata = [{"name": f"fetch-{node}", "namespace": "default", "labels": _FETCHES} for node in nodes]
    cluster.apply(
        [
            {"apiVersion": "v1", "kind": "Pod", "metadata": one, "spec": {"nodeName": node, **spec}}
            for node, one in zip(nodes, metadata, strict=True)
        ]
    )


def forget_fetches(cluster: Kubectl) -> None:
    """Remove what `fetch_early` made; it has ended long ago."""
    selector = ",".join(f"{key}={value}" for key, value in _FETCHES.items())
    cluster.run("delete", "pods", "--namespace=default", f"--selector={selector}", "--wait=false")


def register(gcp: Kubectl, edge: Kubectl, git_token: str, say: Say) -> None:
    """Tell Argo CD of the repository and of the edge cluster: two Secrets, the only ones that it needs."""
    with phase("the repository and edge registered in Argo CD", say):
        edge.apply(_documents(_MANAGER.read_text(encoding="utf-8")))
        account = await_account(edge, "kube-system", "argocd-manager-token", say)
        config = {
            "bearerToken": account.plain_token,
            "tlsClientConfig": {"insecure": False, "caData": account.ca},
        }
        repository = {"type": "git", "url": gitops.URL, "username": "argocd", "password": git_token}
        cluster = {"name": settings.EDGE, "server": settings.api_url(settings.EDGE), "config": json.dumps(config)}
        gcp.apply([_argocd_secret("repository", repository), _argocd_secret("cluster", cluster)])


def start_root(gcp: Kubectl, content: Path, say: Say) -> None:
    """Apply the projects, wait until Argo CD is up, and apply root, which brings everything else."""
    built = _documents(gcp.run("kustomize", content / "argocd-apps"))
    projects = [one for one in built if one["kind"] == "AppProject"]

    def refused() -> str:
        gcp.apply(projects)  # refused until the API server has got to know the kind, which came a moment ago
        return ""

    await_all("the projects are applied", refused, _SECONDS, say)
    await_all("Argo CD is up", lambda: not_rolled_out(gcp, ARGOCD), _SECONDS, say)
    root = next(one for one in built if one["kind"] == "Application" and one["metadata"]["name"] == "root")
    gcp.apply([root])


def give_prometheus_its_account(gcp: Kubectl, edge: Kubectl, say: Say) -> None:
    """Copy the token of edge's account, which root has brought, to where Prometheus reads it."""
    account = await_account(edge, ACCESS, "prometheus-token", say)
    secret = {"token": account.token, "ca.crt": account.ca}
    gcp.apply([_secret("prometheus-edge", _MONITORING, secret)])


def pull_now(edge: Kubectl) -> None:
    """Replace the pods that wait in back-off: the image that they asked for too early is there now."""
    for pod in backing_off(edge, _MODELS):
        edge.run("delete", "pod", pod, f"--namespace={_MODELS}", "--wait=false")


def await_healthy(gcp: Kubectl, edge: Kubectl, content: Path, say: Say, seconds: float = _SECONDS) -> None:
    """Wait until every application is there, Synced and Healthy; one that could not be compared is asked again."""
    built = _documents(gcp.run("kustomize", content / "argocd-apps"))
    wanted = {one["metadata"]["name"] for one in built if one["kind"] == "Application"}
    asked_at = time.monotonic()

    def missing() -> str:
        nonlocal asked_at
        found = applications(gcp)
        unwell = [one for one in found if not one.well]
        not_compared = [one.name for one in unwell if one.sync == "Unknown"]
        if not_compared and time.monotonic() - asked_at > _ASK_AGAIN_SECONDS:
            asked_at = time.monotonic()
            _compare(gcp, not_compared)
        absent = sorted(wanted - {one.name for one in found})
        said = [f"no application {name}" for name in absent]
        for one in unwell:
            said += [str(one), *pods_words(edge if one.cluster == settings.EDGE else gcp, one.namespace)]
        return "; ".join(said)

    await_all("every application is Synced and Healthy", missing, seconds, say)


def write_pipeline_kubeconfig(path: Path, gcp: Kubectl, edge: Kubectl, say: Say) -> None:
    """The pipeline's own kubeconfig: a context a cluster, with the token of its account there, for its owner alone."""
    names = (gcp.context, edge.context)
    accounts = [await_account(cluster, ACCESS, "incumbent-token", say) for cluster in (gcp, edge)]
    servers = [
        {"server": settings.api_url(name), "certificate-authority-data": account.ca}
        for name, account in zip(names, accounts, strict=True)
    ]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": server} for name, server in zip(names, servers, strict=True)],
        "users": [
            {"name": name, "user": {"token": account.plain_token}}
            for name, account in zip(names, accounts, strict=True)
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in names],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")  # JSON is YAML


def await_account(cluster: Kubectl, namespace: str, secret: str, say: Say) -> Account:
    """The account of a token Secret, as soon as it is there and its cluster has filled it."""
    found: list[Account] = []

    def missing() -> str:
        data = (cluster.read("secret", secret, namespace) or {}).get("data", {})
        if "token" not in data or "ca.crt" not in data:
            return f"Secret {namespace}/{secret} is not there or not filled"
        found.append(Account(data["token"], data["ca.crt"]))
        return ""

    await_all(f"account of {namespace}/{secret} on {cluster.context}", missing, _SECONDS, say)
    return found[0]


def _compare(gcp: Kubectl, names: list[str]) -> None:
    kind, annotation = "applications.argoproj.io", "argocd.argoproj.io/refresh=normal"
    gcp.run("annotate", kind, *names, annotation, f"--namespace={ARGOCD}", "--overwrite")


def _documents(text: str) -> list[dict[str, Any]]:
    return [dict(one) for one in YAML(typ="safe").load_all(text)]


def _namespace(name: str) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _argocd_secret(what: str, content: Mapping[str, str]) -> Document:
    """A Secret by which Argo CD knows a repository or a cluster."""
    labels = {"argocd.argoproj.io/secret-type": what}
    data = {key: base64.b64encode(value.encode()).decode() for key, value in content.items()}
    return _secret(f"homelab-{what}", ARGOCD, data, labels)


def _secret(name: str, namespace: str, data: Mapping[str, str], labels: Mapping[str, str] | None = None) -> Document:
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels or {})}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": dict(data)}

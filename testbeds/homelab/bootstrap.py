"""From two empty clusters to a platform that Argo CD keeps: what a person types once, with the waiting in between.

What a person does by `python -m bootstrap` is done by the same functions here.

The order matters: Argo CD's core mode makes no project `default`, so the projects come before root; root applied before
the repo-server answers stays in its error until somebody asks for a comparison.
"""

import secrets
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bootstrap import mlflow_accounts, registration
from bootstrap import secrets as secrets_of_platform
from bootstrap.kubectl import Kubectl
from bootstrap.objects import namespace, secret
from bootstrap.registration import ARGOCD
from bootstrap.secrets import Wanted
from testbeds.common.services import answers
from testbeds.homelab import alerts, gitops, settings
from testbeds.homelab.progress import Say, phase
from testbeds.homelab.waiting import applications, await_all, backing_off, not_rolled_out, pods_words

_MODELS = "ml-apps"
_FETCHES = {"app": "fetch-early"}
_ASK_AGAIN_SECONDS = 5.0
_SECONDS = 240.0
"""The longest that any one step may take, on two busy cores."""


def install_argocd(gcp: Kubectl, manifest: str, say: Say) -> None:
    """Apply upstream's manifests (a file, or an address) unchanged.

    The password of its Redis is made here: the controller's pod would miss the one that a pod of Redis makes, and wait
    in back-off.
    """
    redis = secret("argocd-redis", ARGOCD, {"auth": secrets.token_urlsafe(24)})
    with phase("Argo CD's manifests applied", say):
        gcp.apply([namespace(ARGOCD), redis])
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


def make_secrets(gcp: Kubectl, say: Say) -> None:
    """Make the Secrets that Git does not have, before root is applied: pods whose Secret comes later wait for it."""
    with phase("secrets made", say):
        list(secrets_of_platform.make_secrets(gcp, alerts.URL))


def register(gcp: Kubectl, edge: Kubectl, git_token: str, say: Say) -> None:
    """Tell Argo CD of the repository and of the edge cluster."""
    with phase("the repository and edge registered in Argo CD", say):
        registration.register_repository(gcp, gitops.URL, git_token)
        registration.register_edge(gcp, edge, settings.api_url(settings.EDGE))


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
    """Copy the token of edge's account, as soon as root has brought it, to where Prometheus reads it."""
    with phase("Prometheus has its account on edge", say):
        registration.give_prometheus_its_account(gcp, edge)


def make_mlflow_accounts(gcp: Kubectl, say: Say) -> None:
    """Make MLflow's accounts as soon as it answers; the training waits for its own."""
    from testbeds.training.models import FAMILIES

    await_all("MLflow answers", lambda: _silent(f"{settings.MLFLOW_URL}/health"), _SECONDS, say)
    experiments = {family.model: family.experiment for family in FAMILIES}
    with phase("MLflow's accounts made", say):
        list(mlflow_accounts.make_accounts(settings.MLFLOW_URL, gcp, experiments))


def mlflow_login(gcp: Kubectl, account: Wanted) -> dict[str, str]:
    """An account of MLflow as its clients read it from their environment."""
    found = mlflow_accounts.read_login(gcp, account)
    return {"MLFLOW_TRACKING_USERNAME": found.username, "MLFLOW_TRACKING_PASSWORD": found.password}


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


def write_pipeline_kubeconfig(path: Path, gcp: Kubectl, edge: Kubectl) -> None:
    """The pipeline's own kubeconfig: contexts named as the clusters are."""
    clusters = {one.context: one for one in (gcp, edge)}
    registration.write_kubeconfig(path, clusters, {name: settings.api_url(name) for name in clusters})


def _compare(gcp: Kubectl, names: list[str]) -> None:
    kind, annotation = "applications.argoproj.io", "argocd.argoproj.io/refresh=normal"
    gcp.run("annotate", kind, *names, annotation, f"--namespace={ARGOCD}", "--overwrite")


def _documents(text: str) -> list[dict[str, Any]]:
    return [dict(one) for one in YAML(typ="safe").load_all(text)]


def _silent(url: str) -> str:
    return "" if answers(url) else f"no answer at {url}"

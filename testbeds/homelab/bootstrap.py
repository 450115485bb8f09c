"""From two empty clusters to a platform that Argo CD keeps: what a person types once, with the waiting in between.

The functions behind `python -m bootstrap` do here what a person does with that command.

The order matters: Argo CD's core mode makes no project `default`, so the projects come before root. A root application
that is applied before the repo-server answers stays in its error until a comparison is requested.
"""

import secrets
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bootstrap import mlflow_accounts, registration, registry_backup
from bootstrap import secrets as secrets_of_platform
from bootstrap.kubectl import Kubectl
from bootstrap.objects import namespace, secret
from bootstrap.registration import ARGOCD
from bootstrap.secrets import Wanted
from testbeds.homelab import gitops, settings
from testbeds.homelab.progress import Say, phase
from testbeds.homelab.waiting import applications, await_all, backing_off, not_rolled_out, pods_words, silent
from testbeds.training.models import FAMILIES

_MODELS = "ml-apps"
_FETCHES = {"app": "fetch-early"}
_ASK_AGAIN_SECONDS = 5.0
_SECONDS = 240.0
"""The longest that any one step may take, on two busy cores."""


def install_argocd(gcp: Kubectl, manifest: str, say: Say) -> None:
    """Apply upstream's manifests (a file, or an address) unchanged.

    The password for Redis is made first: without it, the controller's pod would start before Redis's pod has made one,
    and wait in back-off.
    """
    redis = secret("argocd-redis", ARGOCD, {"auth": secrets.token_urlsafe(24)})
    with phase("Argo CD's manifests applied", say):
        gcp.apply([namespace(ARGOCD), redis])
        gcp.run("apply", "--server-side", f"--namespace={ARGOCD}", f"--filename={manifest}", seconds=_SECONDS)


def fetch_early(cluster: Kubectl, image: str) -> None:
    """Let every node pull an image that it will need in a minute; `forget_fetches` removes the pods that do so."""
    nodes = [node["metadata"]["name"] for node in cluster.items("nodes")]
    container = {"name": "fetch", "image": image, "command": ["true"]}
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
    metadata = [{"name": f"fetch-{node}", "namespace": "default", "labels": _FETCHES} for node in nodes]
    cluster.apply(
        [
            {"apiVersion": "v1", "kind": "Pod", "metadata": pod_metadata, "spec": {"nodeName": node, **spec}}
            for node, pod_metadata in zip(nodes, metadata, strict=True)
        ]
    )


def forget_fetches(cluster: Kubectl) -> None:
    """Remove the pods that `fetch_early` made; they ended long ago."""
    selector = ",".join(f"{key}={value}" for key, value in _FETCHES.items())
    cluster.run("delete", "pods", "--namespace=default", f"--selector={selector}", "--wait=false")


def make_secrets(gcp: Kubectl, say: Say, github_token: str | None = None) -> None:
    """Make the Secrets that are not in Git before root is applied, so that no pod waits for its Secret.

    Args:
        gcp: the control plane.
        say: takes the lines of progress.
        github_token: what a person would bring; a new one unless it is given.
    """
    with phase("secrets made", say):
        list(secrets_of_platform.make_secrets(gcp, github_token=github_token or secrets.token_urlsafe(24)))


def register(gcp: Kubectl, edge: Kubectl, git_token: str, say: Say) -> None:
    """Register the repository and the edge cluster in Argo CD."""
    with phase("the repository and edge registered in Argo CD", say):
        registration.register_repository(gcp, gitops.URL, git_token)
        registration.register_edge(gcp, edge, settings.api_url(settings.EDGE))


def start_root(gcp: Kubectl, content: Path, say: Say) -> None:
    """Apply the projects, wait until Argo CD is up, and apply root, which brings everything else."""
    built = _documents(gcp.run("kustomize", content / "argocd-apps"))
    projects = [document for document in built if document["kind"] == "AppProject"]

    def refused() -> str:
        gcp.apply(projects)  # refused until the API server knows the kind, which was applied a moment ago
        return ""

    await_all("the projects are applied", refused, _SECONDS, say)
    await_all("Argo CD is up", lambda: not_rolled_out(gcp, ARGOCD), _SECONDS, say)
    root = next(each for each in built if each["kind"] == "Application" and each["metadata"]["name"] == "root")
    gcp.apply([root])


def give_prometheus_its_account(gcp: Kubectl, edge: Kubectl, say: Say) -> None:
    """Copy the token of edge's account to where Prometheus reads it, as soon as root has brought the account."""
    with phase("Prometheus has its account on edge", say):
        registration.give_prometheus_its_account(gcp, edge)


def make_mlflow_accounts(gcp: Kubectl, say: Say) -> None:
    """Make MLflow's accounts as soon as MLflow answers; the training waits for its account."""
    await_all("MLflow answers", lambda: silent(f"{settings.MLFLOW_URL}/health"), _SECONDS, say)
    experiments = {family.model: family.experiment for family in FAMILIES}
    with phase("MLflow's accounts made", say):
        list(mlflow_accounts.make_accounts(settings.MLFLOW_URL, gcp, experiments))


def restore_backup(gcp: Kubectl, file: Path, say: Say) -> None:
    """Put a backup of the registry onto the control plane, from where MLflow restores it at its first start."""
    with phase("the registry's backup is on the control plane", say):
        list(registry_backup.restore_backup(gcp, file))


def mlflow_login(gcp: Kubectl, account: Wanted) -> dict[str, str]:
    """Return an account of MLflow as environment variables for MLflow's clients."""
    login = mlflow_accounts.read_login(gcp, account)
    return {"MLFLOW_TRACKING_USERNAME": login.username, "MLFLOW_TRACKING_PASSWORD": login.password}


def pull_now(edge: Kubectl) -> None:
    """Replace the pods that wait in back-off, because they asked for their image before it was published."""
    for pod in backing_off(edge, _MODELS):
        edge.run("delete", "pod", pod, f"--namespace={_MODELS}", "--wait=false")


def await_healthy(gcp: Kubectl, edge: Kubectl, content: Path, say: Say, seconds: float = _SECONDS) -> None:
    """Wait until every application exists and is Synced and Healthy; failed comparisons are requested again."""
    built = _documents(gcp.run("kustomize", content / "argocd-apps"))
    wanted = {document["metadata"]["name"] for document in built if document["kind"] == "Application"}
    asked_at = time.monotonic()

    def missing() -> str:
        nonlocal asked_at
        existing = applications(gcp)
        unwell = [application for application in existing if not application.well]
        not_compared = [application.name for application in unwell if application.sync == "Unknown"]
        if not_compared and time.monotonic() - asked_at > _ASK_AGAIN_SECONDS:
            asked_at = time.monotonic()
            _compare(gcp, not_compared)
        absent = sorted(wanted - {application.name for application in existing})
        problems = [f"no application {name}" for name in absent]
        for application in unwell:
            cluster = edge if application.cluster == settings.EDGE else gcp
            problems += [str(application), *pods_words(cluster, application.namespace)]
        return "; ".join(problems)

    await_all("every application is Synced and Healthy", missing, seconds, say)


def write_pipeline_kubeconfig(path: Path, gcp: Kubectl, edge: Kubectl) -> None:
    """Write the pipeline's own kubeconfig, with a context for each cluster."""
    clusters = {cluster.context: cluster for cluster in (gcp, edge)}
    registration.write_kubeconfig(path, clusters, {name: settings.api_url(name) for name in clusters})


def _compare(gcp: Kubectl, names: list[str]) -> None:
    kind, annotation = "applications.argoproj.io", "argocd.argoproj.io/refresh=normal"
    gcp.run("annotate", kind, *names, annotation, f"--namespace={ARGOCD}", "--overwrite")


def _documents(text: str) -> list[dict[str, Any]]:
    return [dict(document) for document in YAML(typ="safe").load_all(text)]

"""The platform and the notifications as the environment describes them: settings, and the clients made from them."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import dagster as dg

from orchestration.adapters.policies import load_policy, policy_names
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import (
    ArgoCD,
    Clients,
    Clock,
    Cluster,
    Destination,
    GitOpsRepository,
    ImageRegistry,
    Metrics,
    Notifier,
    Registry,
    Service,
)
from orchestration.promotion.problems import InvalidInputError, Problem


class EnvironmentPlatform(dg.ConfigurableResource):  # type: ignore[type-arg] # generic only for resources that are other values
    """Implements `Platform` with the MLflow, Git, Argo CD, clusters, Prometheus and registries of the environment."""

    mlflow_tracking_uri: str
    policies_folder: str
    git_url: str
    git_branch: str
    git_token_file: str
    kubeconfig: str
    argocd_context: str
    prometheus_url: str
    oci_mirrors: str
    state: str

    def policy_names(self) -> tuple[str, ...]:
        """List the names of all policies, broken ones included.

        Raises:
            InvalidInputError: the policies folder does not exist.
        """
        return policy_names(Path(self.policies_folder))

    def policy(self, name: str) -> Policy:
        """Read one policy as it is now.

        Raises:
            InvalidInputError: no such policy exists, or it cannot be used as it stands.
        """
        return load_policy(Path(self.policies_folder), name)

    def clock(self) -> Clock:
        """Return the machine's own clock."""
        from orchestration.adapters.clock import SystemClock

        return SystemClock()

    def registry(self) -> Registry:
        """Return a client of the MLflow registry; nothing is contacted yet.

        Raises:
            InvalidInputError: MLFLOW_TRACKING_URI is missing or unusable.
        """
        from orchestration.adapters.mlflow_registry import MlflowRegistry  # late: importing mlflow takes seconds

        return MlflowRegistry(required("MLFLOW_TRACKING_URI", self.mlflow_tracking_uri))

    def git(self) -> GitOpsRepository:
        """Return a client of the GitOps repository; nothing is contacted yet.

        Raises:
            InvalidInputError: INCUMBENT_GIT_URL or INCUMBENT_GIT_BRANCH is missing or unusable.
        """
        from orchestration.adapters.git.repository import GitRepository

        return GitRepository(
            required("INCUMBENT_GIT_URL", self.git_url),
            self.git_branch,
            token_file=Path(self.git_token_file) if self.git_token_file else None,
            state=Path(self.state).expanduser(),
            clock=self.clock(),
        )

    def images(self) -> ImageRegistry:
        """Return a client of the image registries; nothing is contacted yet.

        Raises:
            InvalidInputError: INCUMBENT_OCI_MIRRORS is not a list of mirrors.
        """
        from orchestration.adapters.oci import OciRegistry

        return OciRegistry(parse_mirrors(self.oci_mirrors))

    def cluster(self, context: str) -> Cluster:
        """Return a client of the cluster that a context of the kubeconfig names; nothing is read yet.

        Raises:
            InvalidInputError: INCUMBENT_KUBECONFIG is missing.
        """
        from orchestration.adapters.clusters import KubernetesCluster

        return KubernetesCluster(Path(required("INCUMBENT_KUBECONFIG", self.kubeconfig)), context)

    def argocd(self) -> ArgoCD:
        """Return a client of Argo CD's Applications; nothing is read yet.

        Raises:
            InvalidInputError: INCUMBENT_KUBECONFIG or INCUMBENT_ARGOCD_CONTEXT is missing.
        """
        from orchestration.adapters.argocd import ArgoCDApplications

        kubeconfig = Path(required("INCUMBENT_KUBECONFIG", self.kubeconfig))
        return ArgoCDApplications(kubeconfig, required("INCUMBENT_ARGOCD_CONTEXT", self.argocd_context))

    def metrics(self) -> Metrics:
        """Return a client of Prometheus; nothing is contacted yet.

        Raises:
            InvalidInputError: PROMETHEUS_URL is missing or unusable.
        """
        from orchestration.adapters.prometheus import Prometheus

        return Prometheus(required("PROMETHEUS_URL", self.prometheus_url))

    def service(self) -> Service:
        """Return a client of the models' services."""
        from orchestration.adapters.service import HttpService

        return HttpService()

    def contexts(self) -> Mapping[str, str]:
        """Read the kubeconfig's contexts: the address of each one's API server.

        Raises:
            InvalidInputError: INCUMBENT_KUBECONFIG is missing, or names no kubeconfig.
        """
        from orchestration.adapters.kube_api import servers_of_contexts

        return servers_of_contexts(Path(required("INCUMBENT_KUBECONFIG", self.kubeconfig)))

    def clients(self, policy: Policy) -> Clients:
        """Return all clients that a promotion under this policy needs; nothing is contacted yet.

        Raises:
            InvalidInputError: a setting is missing or unusable.
        """
        return Clients(
            clock=self.clock(),
            registry=self.registry(),
            git=self.git(),
            argocd=self.argocd(),
            cluster=self.cluster(policy.cluster),
            service=self.service(),
            metrics=self.metrics(),
            images=self.images(),
        )


class EnvironmentNotifications(dg.ConfigurableResource):  # type: ignore[type-arg] # as above
    """Implements `Notifications` with the addresses that the environment names.

    INCUMBENT_NOTIFY_URLS is read only when it is used, because it holds secrets and no configuration may show them.
    """

    notify_file: str
    dagster_url: str

    def destinations(self) -> tuple[Destination, ...]:
        """Read where notifications go now.

        Raises:
            InvalidInputError: the file that INCUMBENT_NOTIFY_FILE names cannot be read.
        """
        from orchestration.adapters.notifier import read_destinations

        return read_destinations(self.notify_file, os.environ.get("INCUMBENT_NOTIFY_URLS", ""))

    def notifier(self) -> Notifier:
        """Return what sends notifications; nothing is contacted yet."""
        from orchestration.adapters.notifier import AppriseNotifier

        return AppriseNotifier()

    def run_url(self, run_id: str) -> str:
        """Return the address of a run's page in Dagster; empty when INCUMBENT_DAGSTER_URL is not set."""
        return f"{self.dagster_url.rstrip('/')}/runs/{run_id}" if self.dagster_url else ""


def required(name: str, value: str) -> str:
    """Return a setting's value.

    Raises:
        InvalidInputError: the value is empty.
    """
    if not value:
        raise InvalidInputError(
            Problem(f"setting {name}", "a value", "no value", "Set it in the environment (docs/configuration.md).")
        )
    return value


def parse_mirrors(text: str) -> dict[str, str]:
    """Parse a list of registry mirrors such as `ghcr.io=http://127.0.0.1:5000,quay.io=https://mirror`.

    Returns:
        The address to ask instead, by the registry's host.

    Raises:
        InvalidInputError: an entry is not `host=URL`.
    """
    mirrors = {}
    for entry in filter(None, (piece.strip() for piece in text.split(","))):
        host, equals, url = entry.partition("=")
        if not equals or not url.startswith(("http://", "https://")):
            finding = f"the entry {entry!r}"
            problem = Problem("setting INCUMBENT_OCI_MIRRORS", "host=URL,host=URL", finding, "Correct that entry.")
            raise InvalidInputError(problem)
        mirrors[host] = url
    return mirrors


_DEFAULTS = {
    "INCUMBENT_POLICIES": "policies",
    "INCUMBENT_GIT_BRANCH": "main",
    "INCUMBENT_STATE": "~/.local/state/incumbent",
}


def _setting(name: str) -> str:
    # EnvVar keeps the value out of the configuration that Dagster stores and shows, but refuses an unset variable.
    return dg.EnvVar(name) if os.environ.get(name) else _DEFAULTS.get(name, "")


def plain_setting(name: str) -> str:
    """Return a setting's value or default, for a process that shows and stores no configuration."""
    return os.environ.get(name) or _DEFAULTS.get(name, "")


def platform_from_environment(setting: Callable[[str], str] = _setting) -> EnvironmentPlatform:
    """Return the platform that the environment describes; nothing is contacted yet."""
    return EnvironmentPlatform(
        mlflow_tracking_uri=setting("MLFLOW_TRACKING_URI"),
        policies_folder=setting("INCUMBENT_POLICIES"),
        git_url=setting("INCUMBENT_GIT_URL"),
        git_branch=setting("INCUMBENT_GIT_BRANCH"),
        git_token_file=setting("INCUMBENT_GIT_TOKEN_FILE"),
        kubeconfig=setting("INCUMBENT_KUBECONFIG"),
        argocd_context=setting("INCUMBENT_ARGOCD_CONTEXT"),
        prometheus_url=setting("PROMETHEUS_URL"),
        oci_mirrors=setting("INCUMBENT_OCI_MIRRORS"),
        state=setting("INCUMBENT_STATE"),
    )


def notifications_from_environment() -> EnvironmentNotifications:
    """Return where notifications go as the environment describes it; nothing is read or contacted yet."""
    return EnvironmentNotifications(
        notify_file=_setting("INCUMBENT_NOTIFY_FILE"), dagster_url=_setting("INCUMBENT_DAGSTER_URL")
    )

"""What the pipeline is given: addresses and files, by environment, and the clients made from them."""

import functools
import os
from pathlib import Path

import dagster as dg

from orchestration.adapters.policies import load_policy, policy_names
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clients, Clock, Cluster, GitOpsRepository, Registry
from orchestration.promotion.problems import InvalidInputError, Problem


class EnvironmentPlatform(dg.ConfigurableResource):  # type: ignore[type-arg] # generic only for resources that are other values
    """MLflow, Git, Argo CD, the clusters, Prometheus and the image registries, as the environment names them."""

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
        """The names of all policies, broken ones included.

        Raises:
            InvalidInputError: the folder is not there.
        """
        return policy_names(Path(self.policies_folder))

    def policy(self, name: str) -> Policy:
        """One policy, read now.

        Raises:
            InvalidInputError: it is not there, or cannot be used as it stands.
        """
        return load_policy(Path(self.policies_folder), name)

    def clock(self) -> Clock:
        from orchestration.adapters.clock import SystemClock

        return SystemClock()

    def registry(self) -> Registry:
        from orchestration.adapters.mlflow_registry import MlflowRegistry  # late: importing mlflow takes seconds

        return MlflowRegistry(required("MLFLOW_TRACKING_URI", self.mlflow_tracking_uri))

    def git(self) -> GitOpsRepository:
        from orchestration.adapters.git.repository import GitRepository

        return GitRepository(
            required("INCUMBENT_GIT_URL", self.git_url),
            self.git_branch,
            token_file=Path(self.git_token_file) if self.git_token_file else None,
            state=Path(self.state).expanduser(),
            clock=self.clock(),
        )

    def cluster(self, context: str) -> Cluster:
        """The cluster of that context of the kubeconfig; nothing is read yet.

        Raises:
            InvalidInputError: no kubeconfig is named.
        """
        from orchestration.adapters.clusters import KubernetesCluster

        return KubernetesCluster(Path(required("INCUMBENT_KUBECONFIG", self.kubeconfig)), context)

    def clients(self, policy: Policy) -> Clients:
        """The clients for one policy.

        Raises:
            InvalidInputError: a setting is missing or unusable.
        """
        from orchestration.adapters.argocd import ArgoCDApplications
        from orchestration.adapters.oci import OciRegistry
        from orchestration.adapters.prometheus import Prometheus
        from orchestration.adapters.service import HttpService

        kubeconfig = Path(required("INCUMBENT_KUBECONFIG", self.kubeconfig))
        return Clients(
            clock=self.clock(),
            registry=self.registry(),
            git=self.git(),
            argocd=ArgoCDApplications(kubeconfig, required("INCUMBENT_ARGOCD_CONTEXT", self.argocd_context)),
            cluster=self.cluster(policy.cluster),
            service=HttpService(),
            metrics=Prometheus(required("PROMETHEUS_URL", self.prometheus_url)),
            images=OciRegistry(parse_mirrors(self.oci_mirrors)),
        )


def required(name: str, value: str) -> str:
    """A setting's value.

    Raises:
        InvalidInputError: it is empty.
    """
    if not value:
        raise InvalidInputError(Problem(f"setting {name}", "a value", "none", "Set it in the environment (README)."))
    return value


def parse_mirrors(text: str) -> dict[str, str]:
    """Registry mirrors of a setting such as `ghcr.io=http://127.0.0.1:5000,quay.io=https://mirror`.

    Raises:
        InvalidInputError: a part is not `host=URL`.
    """
    mirrors = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        host, equals, url = part.partition("=")
        if not equals or not url.startswith(("http://", "https://")):
            problem = Problem("setting INCUMBENT_OCI_MIRRORS", "host=URL,host=URL", repr(part), "Correct that part.")
            raise InvalidInputError(problem)
        mirrors[host] = url
    return mirrors


_DEFAULTS = {
    "INCUMBENT_POLICIES": "policies",
    "INCUMBENT_GIT_BRANCH": "main",
    "INCUMBENT_STATE": "~/.local/state/incumbent",
}


def _setting(name: str) -> str:
    # EnvVar keeps the value out of the UI's stored configuration, but refuses what is not set.
    return dg.EnvVar(name) if os.environ.get(name) else _DEFAULTS.get(name, "")


@functools.cache
def platform_from_environment() -> EnvironmentPlatform:
    """The platform that the environment describes; nothing is contacted yet."""
    return EnvironmentPlatform(
        mlflow_tracking_uri=_setting("MLFLOW_TRACKING_URI"),
        policies_folder=_setting("INCUMBENT_POLICIES"),
        git_url=_setting("INCUMBENT_GIT_URL"),
        git_branch=_setting("INCUMBENT_GIT_BRANCH"),
        git_token_file=_setting("INCUMBENT_GIT_TOKEN_FILE"),
        kubeconfig=_setting("INCUMBENT_KUBECONFIG"),
        argocd_context=_setting("INCUMBENT_ARGOCD_CONTEXT"),
        prometheus_url=_setting("PROMETHEUS_URL"),
        oci_mirrors=_setting("INCUMBENT_OCI_MIRRORS"),
        state=_setting("INCUMBENT_STATE"),
    )

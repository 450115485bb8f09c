"""The platform as the environment describes it: settings, and the clients made from them; without Dagster."""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from orchestration.adapters.paths import path_of
from orchestration.adapters.policies import PolicyFolder
from orchestration.promotion.images import is_registry_host, registry_host
from orchestration.promotion.policy import GitTarget, Policy
from orchestration.promotion.ports import (
    ArgoCD,
    Bell,
    Clients,
    Clock,
    Cluster,
    GitOpsRepository,
    ImageRegistry,
    Metrics,
    Registry,
    Service,
)
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.pull_requests import PullRequests
from orchestration.promotion.redact import redact

_REGISTRY_HOST = re.compile(r"([a-z0-9][a-z0-9.-]*|\[[0-9a-f:]+\])(:\d{1,5})?")

_COMMA = re.compile(r"(?<!\\),")


@dataclass(frozen=True)
class EnvironmentPlatform:
    """Implements `Platform` with the MLflow, Git, Argo CD, clusters, Prometheus and registries of the environment."""

    mlflow_tracking_uri: str
    artifact_roots: str
    policies_folder: str
    git_url: str
    git_branch: str
    git_token_file: str
    git_username: str
    git_app_id: str
    git_app_installation: str
    git_app_key_file: str
    git_ssh_key_file: str
    git_known_hosts_file: str
    git_author: str
    git_committer: str
    git_subject: str
    git_trailers: str
    git_signing_key: str
    git_api_token_file: str
    kubeconfig: str
    argocd_context: str
    prometheus_url: str
    prometheus_token_file: str
    prometheus_username: str
    prometheus_password_file: str
    prometheus_sigv4_region: str
    prometheus_headers: str
    prometheus_query_parameters: str
    prometheus_ca_file: str
    prometheus_client_cert_file: str
    prometheus_client_key_file: str
    oci_mirrors: str
    oci_login_file: str
    state: str

    def policy_names(self) -> tuple[str, ...]:
        """List the names of all policies, broken ones included.

        Raises:
            InvalidInputError: the policies folder does not exist, or cannot be read.
        """
        return self._policies.names()

    def ignored_files(self) -> tuple[str, ...]:
        """List what is in the policies folder and is no policy, as it was when the names were asked for."""
        return self._policies.ignored()

    def policy(self, name: str) -> Policy:
        """Read one policy as it is now.

        Raises:
            InvalidInputError: no such policy exists, or it cannot be used as it stands.
        """
        return self._policies.policy(name)

    @property
    def policies_path(self) -> Path:
        """The folder of policies.

        Raises:
            InvalidInputError: INCUMBENT_POLICIES is no path.
        """
        return path_of(self.policies_folder, "INCUMBENT_POLICIES")

    @cached_property
    def _policies(self) -> PolicyFolder:
        return PolicyFolder(self.policies_path)

    def clock(self) -> Clock:
        """Return the machine's own clock."""
        from orchestration.adapters.clock import SystemClock

        return SystemClock()

    def bell(self) -> AbstractContextManager[Bell]:
        """Return what rings when the registry may have changed, as long as the block lasts.

        Raises:
            InvalidInputError: INCUMBENT_STATE is no path.
        """
        from orchestration.adapters.bell import bell

        return bell(path_of(self.state, "INCUMBENT_STATE"))

    def registry(self) -> Registry:
        """Return a client of the MLflow registry; nothing is contacted yet.

        Raises:
            InvalidInputError: MLFLOW_TRACKING_URI is missing, or it or INCUMBENT_ARTIFACT_ROOTS is unusable.
        """
        from orchestration.adapters.mlflow_registry import MlflowRegistry, parse_roots

        uri = required("MLFLOW_TRACKING_URI", self.mlflow_tracking_uri)
        return MlflowRegistry(uri, parse_roots(self.artifact_roots))

    def git(self, policy: Policy | None = None) -> GitOpsRepository:
        """Return a client of a policy's GitOps repository; of the settings' for a policy that names none, and for None.

        Nothing is contacted yet.

        Raises:
            InvalidInputError: a setting of Git is missing or unusable.
        """
        return self._git("", None) if policy is None else self._git(policy.name, policy.git)

    def git_of(self, policy: str, own: GitTarget) -> GitOpsRepository:
        """Return a client of the repository that a policy is to name; nothing is contacted yet.

        Raises:
            InvalidInputError: it, or a setting of Git, is missing or unusable.
        """
        return self._git(policy, own)

    def _git(self, policy: str, own: GitTarget | None) -> GitOpsRepository:
        from orchestration.adapters.git.authorship import trailer_fault
        from orchestration.adapters.git.settings import git_repository

        settings = self._git_settings(own)
        trailers = parse_pairs("INCUMBENT_GIT_TRAILERS", self.git_trailers, "Key=value", trailer_fault)
        state = path_of(self.state, "INCUMBENT_STATE")
        return git_repository(settings, trailers, own, policy, state, self.clock())

    def pull_requests(self, policy: Policy) -> PullRequests | None:
        """Return a client of the Git host's pull requests; None for a policy that delivers by pushes.

        Raises:
            InvalidInputError: a setting is missing or unusable.
        """
        if policy.delivery.pull_request is None:
            return None
        from orchestration.adapters.git.settings import pull_requests

        return pull_requests(self._git_settings(policy.git), policy, policy.delivery.pull_request, self.clock())

    def _git_settings(self, own: GitTarget | None) -> dict[str, str]:
        if own is None or own.url is None:
            required("INCUMBENT_GIT_URL", self.git_url)
        values = {name: getattr(self, field) for field, name in SETTINGS.items() if field.startswith("git_")}
        return {name: _expanded(name, value) for name, value in values.items()}

    def images(self) -> ImageRegistry:
        """Return a client of the image registries; nothing is contacted yet.

        Raises:
            InvalidInputError: INCUMBENT_OCI_MIRRORS is not a list of mirrors, or a file with logins is unusable.
        """
        from orchestration.adapters.oci import OciRegistry

        login_file = path_of(self.oci_login_file, "INCUMBENT_OCI_LOGIN_FILE") if self.oci_login_file else None
        return OciRegistry(parse_mirrors(self.oci_mirrors), login_file)

    def cluster(self, context: str) -> Cluster:
        """Return a client of the cluster that a context names; nothing is read yet.

        Raises:
            InvalidInputError: the context is one of the kubeconfig's, and INCUMBENT_KUBECONFIG is missing.
        """
        from orchestration.adapters.clusters import KubernetesCluster

        return KubernetesCluster(self._kubeconfig_of(context), context)

    def argocd(self) -> ArgoCD:
        """Return a client of Argo CD's Applications; nothing is read yet.

        Raises:
            InvalidInputError: INCUMBENT_ARGOCD_CONTEXT is missing, or INCUMBENT_KUBECONFIG, whose context it names.
        """
        from orchestration.adapters.argocd import ArgoCDApplications

        context = required("INCUMBENT_ARGOCD_CONTEXT", self.argocd_context)
        return ArgoCDApplications(self._kubeconfig_of(context), context)

    def metrics(self) -> Metrics:
        """Return a client of Prometheus; nothing is contacted yet.

        Raises:
            InvalidInputError: PROMETHEUS_URL is missing, or it or another of its settings is unusable.
        """
        from orchestration.adapters.prometheus import Prometheus
        from orchestration.adapters.prometheus_access import parse_access

        access = parse_access(
            token_file=self.prometheus_token_file,
            username=self.prometheus_username,
            password_file=self.prometheus_password_file,
            sigv4_region=self.prometheus_sigv4_region,
            headers=self.prometheus_headers,
            parameters=self.prometheus_query_parameters,
            ca_file=self.prometheus_ca_file,
            client_cert_file=self.prometheus_client_cert_file,
            client_key_file=self.prometheus_client_key_file,
        )
        return Prometheus(required("PROMETHEUS_URL", self.prometheus_url), access)

    def service(self) -> Service:
        """Return a client of the models' services."""
        from orchestration.adapters.service import HttpService

        return HttpService()

    def contexts(self) -> Mapping[str, str]:
        """Read the contexts: those of the kubeconfig, and the pod's own cluster where Argo CD is in it.

        Returns:
            The address of each one's API server.

        Raises:
            InvalidInputError: INCUMBENT_KUBECONFIG is missing and needed, or names no kubeconfig.
        """
        from orchestration.adapters.kube_api import IN_CLUSTER, OWN_SERVER, servers_of_contexts

        own = {IN_CLUSTER: OWN_SERVER} if self.argocd_context == IN_CLUSTER else {}
        if own and not self.kubeconfig:
            return own
        return {**servers_of_contexts(self._kubeconfig), **own}

    @property
    def _kubeconfig(self) -> Path:
        return path_of(required("INCUMBENT_KUBECONFIG", self.kubeconfig), "INCUMBENT_KUBECONFIG")

    def _kubeconfig_of(self, context: str) -> Path | None:
        """Return the file that has a context; None for the pod's own cluster."""
        from orchestration.adapters.kube_api import IN_CLUSTER

        return None if context == IN_CLUSTER else self._kubeconfig

    def clients(self, policy: Policy) -> Clients:
        """Return all clients that a promotion under this policy needs; nothing is contacted yet.

        Raises:
            InvalidInputError: a setting is missing or unusable.
        """
        return Clients(
            clock=self.clock(),
            registry=self.registry(),
            git=self.git(policy),
            argocd=self.argocd(),
            cluster=self.cluster(policy.cluster),
            service=self.service(),
            metrics=self.metrics(),
            images=self.images(),
            requests=self.pull_requests(policy),
        )


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


def _expanded(name: str, value: str) -> str:
    """Return a setting of Git with its home folder, if it is a path; a key to sign with may be a name as well."""
    is_path = name.endswith("_FILE") or (name == "INCUMBENT_GIT_SIGNING_KEY" and value.startswith("~"))
    return str(path_of(value, name)) if value and is_path else value


def parse_mirrors(text: str) -> dict[str, str]:
    """Parse a list of registry mirrors such as `ghcr.io=http://127.0.0.1:5000,quay.io=https://mirror`.

    Returns:
        The address to ask instead, by the registry's host as images name it: Docker Hub has several names.

    Raises:
        InvalidInputError: an entry is not `host=URL`, or a host has two.
    """

    def fault(host: str, url: str) -> str | None:
        if not _REGISTRY_HOST.fullmatch(host) or not is_registry_host(host):
            return f"{host!r} is not the host of a registry"
        return None if url.startswith(("http://", "https://")) else "a mirror's address begins with http:// or https://"

    return parse_pairs("INCUMBENT_OCI_MIRRORS", text, "host=URL", fault, registry_host)


def parse_pairs(
    name: str,
    text: str,
    form: str,
    fault: Callable[[str, str], str | None],
    as_key: Callable[[str], str] = str,
) -> dict[str, str]:
    r"""Parse a setting that is a list of pairs, `left=right,left=right`; a comma in a pair is written `\,`.

    Args:
        name: the setting's name.
        text: its value.
        form: how one pair is written, for errors.
        fault: says what is wrong with a pair; None for one that may stand in the list. What lacks its `=` has an empty
            right side.
        as_key: by what a left side is known, where several mean the same.

    Raises:
        InvalidInputError: an entry is not usable, or the second one for its left side.
    """
    pairs: dict[str, str] = {}
    pieces = (piece.replace("\\,", ",").strip() for piece in _COMMA.split(text))
    for entry in filter(None, pieces):
        left, right = (side.strip() for side in entry.partition("=")[::2])
        wrong = fault(left, right) or (f"{as_key(left)} stands there twice" if as_key(left) in pairs else None)
        if wrong is not None:
            found, next_step = redact(f"the entry {entry!r}: {wrong}"), "Correct that entry."
            if "=" not in entry:  # it may be the rest of a value
                next_step += " A comma in a value is written \\,."
            raise InvalidInputError(Problem(f"setting {name}", f"{form},{form}", found, next_step))
        pairs[as_key(left)] = right
    return pairs


DEFAULTS = {
    "INCUMBENT_POLICIES": "policies",
    "INCUMBENT_GIT_BRANCH": "main",
    "INCUMBENT_STATE": "~/.local/state/incumbent",
}


SETTINGS = {
    "mlflow_tracking_uri": "MLFLOW_TRACKING_URI",
    "artifact_roots": "INCUMBENT_ARTIFACT_ROOTS",
    "policies_folder": "INCUMBENT_POLICIES",
    "git_url": "INCUMBENT_GIT_URL",
    "git_branch": "INCUMBENT_GIT_BRANCH",
    "git_token_file": "INCUMBENT_GIT_TOKEN_FILE",
    "git_username": "INCUMBENT_GIT_USERNAME",
    "git_app_id": "INCUMBENT_GIT_APP_ID",
    "git_app_installation": "INCUMBENT_GIT_APP_INSTALLATION",
    "git_app_key_file": "INCUMBENT_GIT_APP_KEY_FILE",
    "git_ssh_key_file": "INCUMBENT_GIT_SSH_KEY_FILE",
    "git_known_hosts_file": "INCUMBENT_GIT_KNOWN_HOSTS_FILE",
    "git_author": "INCUMBENT_GIT_AUTHOR",
    "git_committer": "INCUMBENT_GIT_COMMITTER",
    "git_subject": "INCUMBENT_GIT_SUBJECT",
    "git_trailers": "INCUMBENT_GIT_TRAILERS",
    "git_signing_key": "INCUMBENT_GIT_SIGNING_KEY",
    "git_api_token_file": "INCUMBENT_GIT_API_TOKEN_FILE",
    "kubeconfig": "INCUMBENT_KUBECONFIG",
    "argocd_context": "INCUMBENT_ARGOCD_CONTEXT",
    "prometheus_url": "PROMETHEUS_URL",
    "prometheus_token_file": "PROMETHEUS_TOKEN_FILE",
    "prometheus_username": "PROMETHEUS_USERNAME",
    "prometheus_password_file": "PROMETHEUS_PASSWORD_FILE",
    "prometheus_sigv4_region": "PROMETHEUS_SIGV4_REGION",
    "prometheus_headers": "PROMETHEUS_HEADERS",
    "prometheus_query_parameters": "PROMETHEUS_QUERY_PARAMETERS",
    "prometheus_ca_file": "PROMETHEUS_CA_FILE",
    "prometheus_client_cert_file": "PROMETHEUS_CLIENT_CERT_FILE",
    "prometheus_client_key_file": "PROMETHEUS_CLIENT_KEY_FILE",
    "oci_mirrors": "INCUMBENT_OCI_MIRRORS",
    "oci_login_file": "INCUMBENT_OCI_LOGIN_FILE",
    "state": "INCUMBENT_STATE",
}
"""The setting of each field of the platform."""


def setting(name: str) -> str:
    """Return a setting's value or default."""
    return os.environ.get(name) or DEFAULTS.get(name, "")


def platform_from_environment() -> EnvironmentPlatform:
    """Return the platform that the environment describes; nothing is contacted yet."""
    return EnvironmentPlatform(**{field: setting(name) for field, name in SETTINGS.items()})

"""Registrations: the repository and edge with Argo CD, Prometheus's account on edge, the pipeline's kubeconfig."""

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ruamel.yaml import YAML

from bootstrap.kubectl import Document, Kubectl
from bootstrap.objects import await_account, namespace, secret
from orchestration.promotion.problems import InvalidInputError, Problem

ARGOCD = "argocd"
EDGE = "edge"
"""The models' cluster, by the name that the applications and projects use."""
ACCESS = "incumbent"
"""The namespace of these accounts and of Prometheus's, on both clusters."""
PIPELINE, ANALYST = "incumbent", "analyst"
"""The accounts that get a kubeconfig: the pipeline's, and that of the analysis of alerts."""
_MONITORING = "monitoring"
_MANAGER = Path(__file__).with_name("argocd-manager.yaml")
_ONLY_HERE = ("localhost", "127.0.0.1", "0.0.0.0", "::1", "::")  # noqa: S104 # as local kubeconfigs have them
_SECONDS = 240.0


def register_repository(gcp: Kubectl, url: str, token: str | None) -> None:
    """Tell Argo CD how to read the GitOps repository, with a token or, if it is public, without."""
    login = {} if token is None else {"username": "argocd", "password": token}
    content = {"type": "git", "url": url, **login}
    gcp.apply([namespace(ARGOCD), _argocd_secret("gitops-repository", "repository", content)])


def register_edge(gcp: Kubectl, edge: Kubectl, server: str) -> None:
    """Make Argo CD's account on edge, and register the cluster with Argo CD at that address.

    Raises:
        InvalidInputError: the address is one that only this machine can use.
        ProblemError: a cluster refuses, or does not issue the account's token.
    """
    require_reachable(server)
    edge.apply(_documents(_MANAGER.read_text(encoding="utf-8")))
    account = await_account(edge, "kube-system", "argocd-manager-token", _SECONDS)
    config = {"bearerToken": account.token, "tlsClientConfig": {"insecure": False, "caData": account.ca_data}}
    content = {"name": EDGE, "server": server, "config": json.dumps(config)}
    gcp.apply([namespace(ARGOCD), _argocd_secret(f"cluster-{EDGE}", "cluster", content)])


def give_prometheus_its_account(gcp: Kubectl, edge: Kubectl) -> None:
    """Copy the token of the account that the application access-edge brings to where Prometheus reads it.

    Raises:
        ProblemError: a cluster refuses, or edge does not issue the token in time.
    """
    account = await_account(edge, ACCESS, "prometheus-token", _SECONDS)
    content = {"token": account.token, "ca.crt": account.ca}
    gcp.apply([namespace(_MONITORING), secret("prometheus-edge", _MONITORING, content)])


def write_kubeconfig(
    path: Path, clusters: Mapping[str, Kubectl], servers: Mapping[str, str], account: str = PIPELINE
) -> None:
    """Write a kubeconfig, readable by its owner alone: one context per cluster, with the token of an account there.

    Args:
        path: The file.
        clusters: The clusters, by the contexts' names.
        servers: The addresses of their API servers, by the same names.
        account: The account's name, on each of them.

    Raises:
        ProblemError: a cluster does not issue the account's token in time.
    """
    text = kubeconfig_of(clusters, servers, account)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text, encoding="utf-8")


def kubeconfig_of(clusters: Mapping[str, Kubectl], servers: Mapping[str, str], account: str = PIPELINE) -> str:
    """Return the text of such a kubeconfig; see `write_kubeconfig`.

    Raises:
        ProblemError: a cluster does not issue the account's token in time.
    """
    secret_name = f"{account}-token"
    accounts = {name: await_account(cluster, ACCESS, secret_name, _SECONDS) for name, cluster in clusters.items()}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": servers[name], "certificate-authority-data": account.ca_data}}
            for name, account in accounts.items()
        ],
        "users": [{"name": name, "user": {"token": account.token}} for name, account in accounts.items()],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in accounts],
    }
    return json.dumps(config, indent=2) + "\n"  # JSON is YAML


def require_reachable(server: str) -> None:
    """Raise `InvalidInputError` for an address of edge's API server that only one machine can use."""
    parts = urlsplit(server)
    if parts.scheme != "https" or not parts.hostname or parts.hostname in _ONLY_HERE:
        raise InvalidInputError(
            Problem(
                "address of edge's API server",
                "https:// with a name or address that gcp can reach",
                server or "an empty address",
                "Give its address in the tailnet: --edge-server https://100.x.y.z:6550.",
            )
        )


def _argocd_secret(name: str, what: str, content: Mapping[str, str]) -> Document:
    """Return a Secret that registers a repository or a cluster with Argo CD."""
    return secret(name, ARGOCD, content, {"argocd.argoproj.io/secret-type": what})


def _documents(text: str) -> list[Document]:
    return [dict(document) for document in YAML(typ="safe").load_all(text)]

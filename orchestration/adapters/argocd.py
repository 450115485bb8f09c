"""Argo CD, through its Applications in the Kubernetes API: no separate login, and no rights beyond Applications."""

from pathlib import Path

from orchestration.adapters.kube_api import KubeApi, api_path
from orchestration.promotion.cluster_json import parse_application
from orchestration.promotion.cluster_status import ApplicationStatus
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.rights import Right

_REFRESH = "argocd.argoproj.io/refresh"
_MERGE_PATCH = "application/merge-patch+json"


class ArgoCDApplications:
    """Implements the `ArgoCD` port.

    The account needs `get` and `patch` on applications in Argo CD's namespace, and nothing else.
    """

    def __init__(self, kubeconfig: Path | None, context: str) -> None:
        """Read nothing yet; an unusable kubeconfig or context raises `InvalidInputError` at the first call.

        Without a kubeconfig, the pod's service account logs in.
        """
        self._api = KubeApi(kubeconfig, context)

    def __str__(self) -> str:
        return f"Argo CD by the {self._api.subject}"

    def ready(self) -> None:
        """Raise `DependencyError` unless the API server that holds the Applications is ready."""
        self._api.ready()

    def application(self, namespace: str, name: str) -> ApplicationStatus | None:
        """Read an Application's status; None when the Application does not exist."""
        application = self._api.read(_path(namespace, name))
        return None if application is None else parse_application(application)

    def may(self, right: Right) -> bool | None:
        """Whether the account has a right; None when the API server does not tell."""
        return self._api.may(right)

    def server_time(self) -> float | None:
        """Ask the API server for its time, in whole seconds since the epoch; None when it does not tell."""
        return self._api.server_time()

    def refresh(self, namespace: str, name: str, *, hard: bool = False) -> None:
        """Set the annotation that requests a comparison; the controller removes it when the comparison begins."""
        patch = {"metadata": {"annotations": {_REFRESH: "hard" if hard else "normal"}}}
        reply = self._api.send("PATCH", _path(namespace, name), patch, {"Content-Type": _MERGE_PATCH})
        if reply.status == 404 and reply.is_status:
            raise DependencyError(
                Problem(
                    f"Application {namespace}/{name}",
                    "an Application to refresh",
                    "no such Application",
                    "Apply its manifest from argocd-apps/, or correct argocd in the policy.",
                )
            )
        # A conflict means that the controller wrote at the same time; the caller asks again until something moves.
        if reply.status not in (200, 409):
            raise self._api.unexpected(reply, f"Application {namespace}/{name} to be refreshed")


def _path(namespace: str, name: str) -> str:
    return api_path("apis", "argoproj.io", "v1alpha1", "namespaces", namespace, "applications", name)

"""Argo CD, through its Applications in the Kubernetes API: no login of its own, no other rights than on these."""

from pathlib import Path

from orchestration.adapters.kube_api import KubeApi, api_path
from orchestration.promotion.cluster_json import parse_application
from orchestration.promotion.cluster_status import ApplicationStatus
from orchestration.promotion.problems import DependencyError, Problem

_REFRESH = "argocd.argoproj.io/refresh"
_MERGE_PATCH = "application/merge-patch+json"


class ArgoCDApplications:
    """Plays the port `ArgoCD`. Its user needs `get` and `patch` on applications in Argo CD's namespace, and no more."""

    def __init__(self, kubeconfig: Path, context: str) -> None:
        """Read nothing yet; an unusable kubeconfig or context is an `InvalidInputError` of the first call."""
        self._api = KubeApi(kubeconfig, context)

    def ready(self) -> None:
        self._api.ready()

    def application(self, namespace: str, name: str) -> ApplicationStatus | None:
        raw = self._api.read(_path(namespace, name))
        return None if raw is None else parse_application(raw)

    def refresh(self, namespace: str, name: str, *, hard: bool = False) -> None:
        """Set the annotation that asks for a comparison; the controller takes it away when it begins."""
        patch = {"metadata": {"annotations": {_REFRESH: "hard" if hard else "normal"}}}
        reply = self._api.send("PATCH", _path(namespace, name), patch, {"Content-Type": _MERGE_PATCH})
        if reply.status == 404 and reply.is_status:
            raise DependencyError(
                Problem(
                    f"Application {namespace}/{name}",
                    "to be there to be refreshed",
                    "no such Application",
                    "Apply its manifest from argocd-apps/, or correct argocd in the policy.",
                )
            )
        # A conflict means that the controller wrote in between: the caller asks again until something moves.
        if reply.status not in (200, 409):
            raise self._api.unexpected(reply, f"Application {namespace}/{name} to be refreshed")


def _path(namespace: str, name: str) -> str:
    return api_path("apis", "argoproj.io", "v1alpha1", "namespaces", namespace, "applications", name)

"""The manifests of the contract tests: small Deployments, and the Applications that deploy them."""

from typing import Any

from tests.contract.place import ARGOCD, BRANCH, CONTAINER, NAMESPACE, PORT

Json = dict[str, Any]


def application(name: str, repository: str, project: str) -> Json:
    """Return an Application that follows the folder of its name and retries a failed sync once."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": name, "namespace": ARGOCD},
        "spec": {
            "project": project,
            "source": {"repoURL": repository, "targetRevision": BRANCH, "path": name},
            "destination": {"name": "edge", "namespace": NAMESPACE},
            "syncPolicy": {
                "automated": {"prune": True, "selfHeal": True},
                "retry": {"limit": 1, "backoff": {"duration": "2s", "factor": 2, "maxDuration": "1m"}},
            },
        },
    }


def deployment(name: str, image: str, *, replicas: int = 1, deadline: int = 600, **pod: Any) -> Json:
    """Return a Deployment of one container.

    Args:
        deadline: seconds without progress after which the rollout counts as failed.
        pod: more fields of the pod's spec; `env` is added to the container's.
    """
    field = {"fieldRef": {"fieldPath": "metadata.name"}}
    container = {
        "name": CONTAINER,
        "image": image,
        "ports": [{"name": "http", "containerPort": PORT}],
        "env": [
            {"name": "HOST", "value": "0.0.0.0"},
            {"name": "PORT", "value": str(PORT)},
            {"name": "POD_NAME", "valueFrom": field},
            *pod.pop("env", ()),
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "96Mi"}},
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1},
    }
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": deadline,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {"prometheus.io/scrape": "true"}},
                "spec": {"terminationGracePeriodSeconds": 5, "containers": [container], **pod},
            },
        },
    }


def config_map(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}

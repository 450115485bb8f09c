"""The manifests of the contract tests: small Deployments, and the Applications that deploy them."""

from typing import Any

from tests.contract.place import ARGOCD, BRANCH, CONTAINER, NAMESPACE, PORT

Json = dict[str, Any]
KSERVE_CONTAINER = "kserve-container"
"""The name that KServe wants a container of one's own to have."""


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


def stateful_set(name: str, image: str, *, replicas: int) -> Json:
    """Return a StatefulSet of one container, which updates its pods one by one as Kubernetes does by default."""
    manifest = deployment(name, image, replicas=replicas)
    spec = {field: manifest["spec"][field] for field in ("replicas", "selector", "template")}
    return {**manifest, "kind": "StatefulSet", "spec": {"serviceName": name, **spec}}


def daemon_set(name: str, image: str) -> Json:
    """Return a DaemonSet of one container, which starts a node's new pod before it ends the old one."""
    manifest = deployment(name, image)
    spec = {field: manifest["spec"][field] for field in ("selector", "template")}
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    return {**manifest, "kind": "DaemonSet", "spec": {"updateStrategy": strategy, **spec}}


def rollout(name: str, image: str, steps: list[Json], **spec: Any) -> Json:
    """Return a Rollout of one container with two replicas and a canary of these steps.

    Args:
        spec: more fields of its spec.
    """
    manifest = deployment(name, image, replicas=2)
    kept = {field: manifest["spec"][field] for field in ("replicas", "selector", "template")}
    canary = {"strategy": {"canary": {"steps": steps, "maxSurge": 1, "maxUnavailable": 0}}}
    own = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}
    return {**manifest, **own, "spec": {**kept, **canary, **spec}}


def inference_service(name: str, image: str) -> Json:
    """Return an InferenceService of one container of one's own, in KServe's raw mode and without an autoscaler."""
    (container,) = deployment(name, image)["spec"]["template"]["spec"]["containers"]
    mode = {"serving.kserve.io/deploymentMode": "RawDeployment", "serving.kserve.io/autoscalerClass": "none"}
    predictor = {"minReplicas": 1, "maxReplicas": 1, "containers": [{**container, "name": KSERVE_CONTAINER}]}
    metadata = {"name": name, "annotations": mode}
    own = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}
    return {**own, "metadata": metadata, "spec": {"predictor": predictor}}


def config_map(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}

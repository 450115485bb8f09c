"""Pods and events as an API server describes them."""

from collections.abc import Mapping
from typing import Any

NAME = "iris-7d9c6b5f4d-x2x9z"
HASH = "7d9c6b5f4d"


def a_pod(name: str = NAME, *, ready: bool = True, **status: Any) -> dict[str, Any]:
    """A pod of the Deployment `iris` in `ml-apps`, whose one container has no trouble."""
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-11-26T08:00:00Z"}
    return {
        "metadata": {
            "name": name,
            "namespace": "ml-apps",
            "creationTimestamp": "2026-11-26T07:00:00Z",
            "labels": {"app": "iris", "pod-template-hash": HASH},
            "annotations": {},
            "ownerReferences": [{"kind": "ReplicaSet", "name": f"iris-{HASH}", "controller": True}],
        },
        "spec": {
            "nodeName": "edge-0",
            "containers": [
                {
                    "name": "model-server",
                    "image": "ghcr.io/acme/iris:v1",
                    "env": [{"name": "DB_PASSWORD", "value": "hunter2"}],
                    "resources": {"requests": {"memory": "256Mi"}, "limits": {"memory": "512Mi", "cpu": "500m"}},
                }
            ],
        },
        "status": {
            "phase": "Running",
            "conditions": [condition],
            "containerStatuses": [{"name": "model-server", "ready": ready, "restartCount": 0, "state": {}}],
            **status,
        },
    }


def killed_for_memory(name: str = NAME, restarts: int = 3) -> dict[str, Any]:
    """A pod that the kernel has killed for its memory, and that waits to be started again."""
    end = {
        "reason": "OOMKilled",
        "exitCode": 137,
        "startedAt": "2026-11-26T08:01:00Z",
        "finishedAt": "2026-11-26T08:02:05Z",
    }
    message = "back-off 40s restarting failed container"
    container = {
        "name": "model-server",
        "ready": False,
        "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": message}},
        "lastState": {"terminated": end},
    }
    return a_pod(name, ready=False, containerStatuses=[container])


def an_event(message: str, pod: str = NAME, **fields: Any) -> dict[str, Any]:
    """A warning about a pod."""
    about: Mapping[str, Any] = {
        "type": "Warning",
        "reason": "BackOff",
        "count": 3,
        "firstTimestamp": "2026-11-26T08:00:00Z",
        "lastTimestamp": "2026-11-26T08:05:00Z",
    }
    return {"involvedObject": {"kind": "Pod", "name": pod}, "message": message, **about, **fields}

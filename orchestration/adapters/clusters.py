"""The cluster that serves the model, through its API server and nothing else."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from orchestration.adapters.kube_api import KubeApi, api_path
from orchestration.promotion.cluster_json import parse_node, parse_workload
from orchestration.promotion.cluster_status import Node, WorkloadStatus
from orchestration.promotion.ports import Answer
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.redact import redact


class KubernetesCluster:
    """Plays the port `Cluster`.

    Its user needs `get` on deployments, `list` on replicasets, pods, events and nodes, `get` on pods/log and `create`
    on pods/proxy, and no more.
    """

    def __init__(self, kubeconfig: Path, context: str) -> None:
        """Read nothing yet; an unusable kubeconfig or context is an `InvalidInputError` of the first call."""
        self._api = KubeApi(kubeconfig, context)

    def ready(self) -> None:
        self._api.ready()

    def nodes(self) -> tuple[Node, ...]:
        return tuple(parse_node(raw) for raw in self._api.items("/api/v1/nodes"))

    def workload(self, kind: str, namespace: str, name: str) -> WorkloadStatus | None:
        """A Deployment with its ReplicaSets, pods and their warning events.

        The Deployment is read first: pods that came since are then seen as too many, never as too few.
        """
        if kind != "Deployment":
            raise InvalidInputError(
                Problem(f"{kind} {namespace}/{name}", "kind Deployment", kind, "Correct manifest.kind in the policy.")
            )
        deployment = self._api.read(api_path("apis", "apps", "v1", "namespaces", namespace, "deployments", name))
        if deployment is None:
            return None
        labels = _match_labels(deployment)
        if not labels:
            raise DependencyError(
                Problem(
                    f"Deployment {namespace}/{name}",
                    "a selector with matchLabels",
                    "none",
                    "Select its pods by labels, so that they can be told from others.",
                )
            )
        selector = {"labelSelector": labels}
        replicasets = self._api.items(api_path("apis", "apps", "v1", "namespaces", namespace, "replicasets"), selector)
        pods = self._api.items(api_path("api", "v1", "namespaces", namespace, "pods"), selector)
        events = self._api.items(
            api_path("api", "v1", "namespaces", namespace, "events"),
            {"fieldSelector": "involvedObject.kind=Pod,type=Warning"},
        )
        return parse_workload(kind, deployment, replicasets, pods, events)

    def log_tail(self, namespace: str, pod: str, container: str, *, previous: bool, lines: int = 20) -> str:
        path = api_path("api", "v1", "namespaces", namespace, "pods", pod, "log")
        query = {"container": container, "tailLines": str(lines)} | ({"previous": "true"} if previous else {})
        reply = self._api.get(path, query)
        # None of these has a log. 204: no node has the pod yet; 400: the container has not started, or has no previous
        # one; 404: the pod is gone.
        if reply.status == 204 or (reply.status in (400, 404) and reply.is_status):
            return ""
        if reply.status != 200:
            raise self._api.unexpected(reply, f"the log of pod {namespace}/{pod}")
        return redact(reply.body.decode("utf-8", "replace"))

    def ask_pod(
        self, namespace: str, pod: str, port: int, path: str, body: bytes, headers: Mapping[str, str], timeout: float
    ) -> Answer:
        """POST once; silence beyond `timeout`, and a refusal (which names the missing right), are `DependencyError`s.

        The generated client's call of this name takes no body, so the request is made below it.
        """
        proxied = api_path("api", "v1", "namespaces", namespace, "pods", f"{pod}:{port}", "proxy")
        target = f"{proxied}/{quote(path.lstrip('/'))}"
        started = time.monotonic()
        document = json.loads(body)  # the client writes JSON bodies itself
        reply = self._api.send("POST", target, document, {"Content-Type": "application/json", **headers}, timeout)
        if reply.status in (401, 403) and reply.is_status:
            raise self._api.unexpected(reply, f"pod {namespace}/{pod} to be asked")
        return Answer(reply.status, reply.body, time.monotonic() - started, from_api=reply.is_status)


def _match_labels(deployment: Mapping[str, object]) -> str:
    spec = deployment.get("spec")
    selector = spec.get("selector") if isinstance(spec, dict) else None
    labels = selector.get("matchLabels") if isinstance(selector, dict) else None
    return ",".join(f"{name}={value}" for name, value in (labels or {}).items())

"""The cluster that serves the model, reached through its API server alone."""

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
from orchestration.promotion.rights import Right


class KubernetesCluster:
    """Implements the `Cluster` port.

    The kubeconfig's user needs `get` on deployments, `list` on replicasets, pods, events and nodes, `get` on pods/log
    and `create` on pods/proxy, and nothing else.
    """

    def __init__(self, kubeconfig: Path, context: str) -> None:
        """Read nothing yet; an unusable kubeconfig or context raises `InvalidInputError` at the first call."""
        self._api = KubeApi(kubeconfig, context)

    def ready(self) -> None:
        """Raise `DependencyError` unless the API server's /readyz says ok."""
        self._api.ready()

    def may(self, right: Right) -> bool | None:
        """Whether the kubeconfig's user has a right; None when the API server does not tell."""
        return self._api.may(right)

    def nodes(self) -> tuple[Node, ...]:
        """List the cluster's nodes."""
        return tuple(parse_node(node) for node in self._api.items("/api/v1/nodes"))

    def workload(self, kind: str, namespace: str, name: str) -> WorkloadStatus | None:
        """Read a Deployment with its ReplicaSets, pods and their warning events; None when it does not exist.

        The Deployment is read first: pods that were added since then count as too many, and none can be missing.

        Raises:
            InvalidInputError: the kind is not Deployment.
            DependencyError: the API server does not answer, or the Deployment selects its pods without labels.
        """
        if kind != "Deployment":
            raise InvalidInputError(
                Problem(
                    f"{kind} {namespace}/{name}",
                    "kind Deployment",
                    f"kind {kind}",
                    "Correct manifest.kind in the policy.",
                )
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
                    "a selector without matchLabels",
                    "Select its pods by labels, so that they can be told apart from others.",
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
        """Read the last lines of a container's log, without secrets; empty when the container has none.

        Args:
            namespace: the pod's namespace.
            pod: the pod's name.
            container: the container within the pod.
            previous: whether to read the log of the container's previous life, before its last restart.
            lines: how many lines to read at most.
        """
        path = api_path("api", "v1", "namespaces", namespace, "pods", pod, "log")
        query = {"container": container, "tailLines": str(lines)} | ({"previous": "true"} if previous else {})
        reply = self._api.get(path, query)
        # In these cases no log exists. 204: the pod is on no node yet; 400: the container has not started, or has no
        # previous life; 404: the pod is gone.
        if reply.status == 204 or (reply.status in (400, 404) and reply.is_status):
            return ""
        if reply.status != 200:
            raise self._api.unexpected(reply, f"the log of pod {namespace}/{pod}")
        return redact(reply.body.decode("utf-8", "replace"), self._api.secrets())

    def ask_pod(
        self, namespace: str, pod: str, port: int, path: str, body: bytes, headers: Mapping[str, str], timeout: float
    ) -> Answer:
        """POST JSON once to one pod, through the API server's pod proxy.

        The generated client's method for this takes no body, so the request is made one level below it.

        Args:
            namespace: the pod's namespace.
            pod: the pod's name.
            port: the port that the pod listens on.
            path: the path on the pod.
            body: the JSON document.
            headers: sent with the request.
            timeout: seconds to wait for the whole answer.

        Raises:
            DependencyError: no answer came in time, or the API server refused; its message names the missing right.
        """
        proxied = api_path("api", "v1", "namespaces", namespace, "pods", f"{pod}:{port}", "proxy")
        target = f"{proxied}/{quote(path.lstrip('/'))}"
        started = time.monotonic()
        document = json.loads(body)  # the client encodes JSON bodies itself
        reply = self._api.send("POST", target, document, {"Content-Type": "application/json", **headers}, timeout)
        if reply.status in (401, 403) and reply.is_status:
            raise self._api.unexpected(reply, f"an answer of pod {namespace}/{pod}")
        return Answer(reply.status, reply.body, time.monotonic() - started, from_api=reply.is_status)


def _match_labels(deployment: Mapping[str, object]) -> str:
    spec = deployment.get("spec")
    selector = spec.get("selector") if isinstance(spec, dict) else None
    labels = selector.get("matchLabels") if isinstance(selector, dict) else None
    return ",".join(f"{name}={value}" for name, value in (labels or {}).items())

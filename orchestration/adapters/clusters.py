"""The cluster that serves the model, reached through its API server alone."""

import json
import re
import time
from pathlib import Path

from orchestration.adapters.headers import read_headers, secrets_of, without_header_secrets
from orchestration.adapters.kube_api import ForbiddenError, KubeApi, api_path
from orchestration.promotion.cluster_json import parse_inference_service, parse_node, parse_service, parse_workload
from orchestration.promotion.cluster_status import ClusterService, Node, WorkloadStatus
from orchestration.promotion.json_reading import Json, controller_uid, items_of, mapping_at, text_of
from orchestration.promotion.ports import Answer, Headers
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.redact import redact
from orchestration.promotion.rights import Right
from orchestration.promotion.workload_kinds import JUDGED, kind_fault

_LOG_BYTES = 256 * 1024
"""Of a log's last lines, as many bytes as are read: lines have any length."""
_MANAGER = "incumbent"
"""Who applies for trial, as the API server wants to know of everyone who applies."""
_QUOTED_OBJECT = re.compile(r'"\{.*\}"')
"""An object that the API server repeats in a message, as text in quotes: all of what is live, variables included."""
_REFUSALS = (400, 403, 404, 422)
"""What means that an object would not be applied: it cannot be decoded, admission denies it, there is no such API, or
it is invalid."""


class KubernetesCluster:
    """Implements the `Cluster` port.

    The rights that the account needs are in `promotion/rights.py`.
    """

    def __init__(self, kubeconfig: Path | None, context: str) -> None:
        """Read nothing yet; an unusable kubeconfig or context raises `InvalidInputError` at the first call.

        Without a kubeconfig, the pod's service account logs in.
        """
        self._api = KubeApi(kubeconfig, context)

    def __str__(self) -> str:
        return self._api.subject

    def ready(self) -> None:
        """Raise `DependencyError` unless the API server's /readyz says ok."""
        self._api.ready()

    def may(self, right: Right) -> bool | None:
        """Whether the account has a right; None when the API server does not tell."""
        return self._api.may(right)

    def server_time(self) -> float | None:
        """Ask the API server for its time, in whole seconds since the epoch; None when it does not tell."""
        return self._api.server_time()

    def try_to_apply(self, plural: str, document: Json, *, server_side: bool) -> str | None:
        """Apply an object in a dry run, in the way that Argo CD does; return the API server's refusal, or None.

        A patch drops unknown fields and keeps lists whole, as Argo CD's does. With a server-side apply, fields that
        others manage are taken over (`force`).

        Args:
            plural: its kind in addresses, such as `deployments`.
            document: the object, with its namespace.
            server_side: whether by a server-side apply, which refuses unknown fields and doubled keys.

        Raises:
            DependencyError: the API server, or a webhook of its admission, does not answer.
        """
        metadata = mapping_at(document, "metadata")
        namespace, name = text_of(metadata, "namespace") or "", text_of(metadata, "name") or ""
        path = api_path(*_root_of(document["apiVersion"]), "namespaces", namespace, plural, name)
        query = f"dryRun=All&fieldManager={_MANAGER}{'&force=true' if server_side else ''}"
        kind = "application/apply-patch+yaml" if server_side else "application/merge-patch+json"
        reply = self._api.send("PATCH", f"{path}?{query}", document, {"Content-Type": kind})
        if reply.status in (200, 201):
            return None
        if reply.status in _REFUSALS and reply.is_status:
            said = str(reply.document.get("message") or f"HTTP {reply.status}")
            return redact(_QUOTED_OBJECT.sub("{...}", " ".join(said.split())), self._api.secrets())
        raise self._api.unexpected(reply, f"an answer to a dry run of {plural} {namespace}/{name}")

    def schemas(self, api_version: str) -> Json | None:
        """Read the OpenAPI schemas of an API; None when there are none, or the account may not read them."""
        reply = self._api.get(api_path("openapi", "v3", *_root_of(api_version)))
        if reply.status in (403, 404):
            return None
        if reply.status != 200 or not isinstance(reply.document, dict):
            raise self._api.unexpected(reply, f"the schemas of {api_version}")
        return mapping_at(reply.document, "components", "schemas") or None

    def nodes(self) -> tuple[Node, ...]:
        """List the cluster's nodes."""
        return tuple(parse_node(node) for node in self._api.items("/api/v1/nodes"))

    def workload(self, kind: str, namespace: str, name: str) -> WorkloadStatus | None:
        """Read a workload with its revisions, pods and their warning events; None when it does not exist.

        The workload is read first: pods that were added since then count as too many, and none can be missing.

        Raises:
            InvalidInputError: the kind cannot be judged.
            DependencyError: the API server does not answer, or the workload selects its pods by nothing.
        """
        if fault := kind_fault(kind):
            subject, next_step = f"{kind} {namespace}/{name}", "Correct manifest.kind in the policy."
            raise InvalidInputError(Problem(subject, "a kind that can be judged", fault, next_step))
        known = JUDGED[kind]
        raw = self._api.read(api_path("apis", known.group, known.version, "namespaces", namespace, known.plural, name))
        if raw is None:
            return None
        if not known.deployment_suffix:
            return self._with_pods(kind, namespace, name, raw)
        made = f"{name}{known.deployment_suffix}"
        deployment = self._api.read(api_path("apis", "apps", "v1", "namespaces", namespace, "deployments", made))
        if deployment is None or controller_uid(deployment) != text_of(mapping_at(raw, "metadata"), "uid"):
            return parse_inference_service(raw, None)
        return parse_inference_service(raw, self._with_pods("Deployment", namespace, made, deployment))

    def _with_pods(self, kind: str, namespace: str, name: str, raw: Json) -> WorkloadStatus:
        selector = label_selector(mapping_at(raw, "spec", "selector"))
        if not selector:
            raise DependencyError(
                Problem(
                    f"{kind} {namespace}/{name}",
                    "a selector by labels",
                    "a selector that names no label",
                    "Select its pods by labels, so that they can be told apart from others.",
                )
            )
        by_labels, revisions = {"labelSelector": selector}, JUDGED[kind].revisions
        listed = (
            self._api.items(api_path("apis", "apps", "v1", "namespaces", namespace, revisions), by_labels)
            if revisions
            else []
        )
        pods = self._api.items(api_path("api", "v1", "namespaces", namespace, "pods"), by_labels)
        events = self._api.items(
            api_path("api", "v1", "namespaces", namespace, "events"),
            {"fieldSelector": "involvedObject.kind=Pod,type=Warning"},
        )
        return parse_workload(kind, raw, listed, pods, events)

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
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(_LOG_BYTES)}
        query |= {"previous": "true"} if previous else {}
        reply = self._api.get(path, query)
        # In these cases no log exists. 204: the pod is on no node yet; 400: the container has not started, or has no
        # previous life; 404: the pod is gone.
        if reply.status == 204 or (reply.status in (400, 404) and reply.is_status):
            return ""
        if reply.status != 200:
            raise self._api.unexpected(reply, f"the log of pod {namespace}/{pod}")
        body = reply.body
        # A line that was cut may end with half a secret, which is not recognised. The limit is not kept to the byte.
        if len(body) > _LOG_BYTES // 2 and not body.endswith(b"\n"):
            body = body[: body.rfind(b"\n") + 1]
        return redact(body.decode("utf-8", "replace"), self._api.secrets())

    def pods(self, namespace: str, *, fields: str = "", labels: str = "") -> tuple[Json, ...]:
        """List pods of a namespace, chosen by a field selector and a label selector."""
        query = {"fieldSelector": fields, "labelSelector": labels}
        path = api_path("api", "v1", "namespaces", namespace, "pods")
        return tuple(self._api.items(path, {name: value for name, value in query.items() if value}))

    def pod_events(self, namespace: str, pod: str) -> tuple[Json, ...]:
        """List the events about a pod; the API server forgets them after an hour unless it is told otherwise."""
        path = api_path("api", "v1", "namespaces", namespace, "events")
        query = {"fieldSelector": f"involvedObject.kind=Pod,involvedObject.name={pod}"}
        return tuple(self._api.items(path, query))

    def services(self, namespace: str) -> tuple[ClusterService, ...] | None:
        """List the Services of a namespace; None when the account may not."""
        try:
            found = self._api.items(api_path("api", "v1", "namespaces", namespace, "services"))
        except ForbiddenError:
            return None
        return tuple(parse_service(raw) for raw in found)

    def ask_pod(
        self, namespace: str, pod: str, port: int, path: str, body: bytes, headers: Headers, timeout: float
    ) -> Answer:
        """POST JSON once to one pod, through the API server's pod proxy.

        The generated client's method for this takes no body, so the request is made one level below it. `Authorization`
        is left out, because it logs in at the API server.

        Args:
            namespace: the pod's namespace.
            pod: the pod's name.
            port: the port that the pod listens on.
            path: the path on the pod, escaped, with its query.
            body: the JSON document.
            headers: sent with the request.
            timeout: seconds to wait for the whole answer.

        Raises:
            DependencyError: no answer came in time, or the API server refused; its message names the missing right.
        """
        proxied = api_path("api", "v1", "namespaces", namespace, "pods", f"{pod}:{port}", "proxy")
        target = f"{proxied}/{path.removeprefix('/')}"
        sent = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        values = read_headers(sent)
        secrets = list(secrets_of(sent, values))
        started = time.monotonic()
        document = json.loads(body)  # the client encodes JSON bodies itself
        reply = self._api.send("POST", target, document, {"Content-Type": "application/json", **values}, timeout)
        if reply.status in (401, 403) and reply.is_status:
            raise self._api.unexpected(reply, f"an answer of pod {namespace}/{pod}")
        return Answer(
            reply.status,
            without_header_secrets(reply.body, secrets),
            time.monotonic() - started,
            from_api=reply.is_status,
            content_type=reply.content_type,
        )


def _root_of(api_version: str) -> tuple[str, ...]:
    """Return the beginning of an API's paths, in its parts."""
    group, _, version = api_version.rpartition("/")
    return ("apis", group, version) if group else ("api", version)


def label_selector(selector: Json) -> str:
    """Write a workload's selector as a list's query takes it; empty when it selects by nothing."""
    equal = [f"{name}={value}" for name, value in mapping_at(selector, "matchLabels").items()]
    return ",".join([*equal, *(_requirement(each) for each in items_of(selector, "matchExpressions"))])


def _requirement(expression: Json) -> str:
    key, operator, values = expression.get("key"), expression.get("operator"), expression.get("values")
    if operator in ("In", "NotIn"):
        return f"{key} {str(operator).lower()} ({','.join(values if isinstance(values, list) else ())})"
    return f"!{key}" if operator == "DoesNotExist" else f"{key}"

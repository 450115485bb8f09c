"""Waiting for the clusters: what is still missing, in the objects' own words, until nothing is missing."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bootstrap.kubectl import Kubectl
from orchestration.promotion.problems import Problem, ProblemError
from testbeds.common.services import answers
from testbeds.homelab.progress import Say

_POLL_SECONDS = 0.5
_REPORT_SECONDS = 10.0
_WORDS = 400
_WORKLOADS = "deployments,statefulsets"
_STARTING = ("ContainerCreating", "PodInitializing")


def await_all(what: str, missing: Callable[[], str], seconds: float, say: Say) -> None:
    """Wait until `missing` returns an empty text; say meanwhile what is missing, and at the end how long it took.

    A cluster that does not answer for a moment is waited for like everything else.

    Args:
        what: what is waited for, as a statement.
        missing: says what is still missing; empty when nothing is.
        seconds: how long to wait.
        say: takes the lines of progress.

    Raises:
        ProblemError: something was still missing after that time; the error says what.
    """
    began = reported = time.monotonic()
    while True:
        try:
            still_missing = missing()
        except ProblemError as error:
            still_missing = str(error)
        now = time.monotonic()
        if not still_missing:
            say(f"{what}: {now - began:.1f} s")
            return
        if now - began > seconds:
            raise ProblemError(
                Problem("homelab", f"{what} within {seconds:g} s", still_missing, "Fix the cause, and try again.")
            )
        if now - reported > _REPORT_SECONDS:
            reported = now
            say(f"{what}: {now - began:.0f} s so far; {still_missing}")
        time.sleep(_POLL_SECONDS)


def silent(url: str) -> str:
    """Say that a URL does not answer; empty when it does."""
    return "" if answers(url) else f"no answer at {url}"


@dataclass(frozen=True)
class Application:
    """What Argo CD says about one application."""

    name: str
    cluster: str
    """Argo CD's name for the cluster that the application is deployed to."""
    namespace: str
    sync: str
    health: str
    revision: str
    conditions: tuple[str, ...]

    @property
    def well(self) -> bool:
        """Whether the application is Synced and Healthy."""
        return self.sync == "Synced" and self.health == "Healthy"

    def __str__(self) -> str:
        conditions = f": {'; '.join(self.conditions)[:300]}" if self.conditions else ""
        return f"{self.name} {self.sync or 'unknown'}, {self.health or 'unknown'}{conditions}"


def applications(gcp: Kubectl) -> list[Application]:
    """List all applications as Argo CD sees them now."""
    return [_application(raw) for raw in gcp.items("applications.argoproj.io", "argocd")]


def _application(raw: Mapping[str, Any]) -> Application:
    status = raw.get("status", {})
    sync, operation = status.get("sync", {}), status.get("operationState", {})
    conditions = [
        f"{condition['type']}: {condition.get('message', '')}" for condition in status.get("conditions") or ()
    ]
    if operation.get("phase") in ("Failed", "Error"):
        conditions.append(str(operation.get("message", "")))
    destination = raw["spec"]["destination"]
    return Application(
        raw["metadata"]["name"],
        destination["name"],
        destination["namespace"],
        sync.get("status", ""),
        status.get("health", {}).get("status", ""),
        sync.get("revision", ""),
        tuple(conditions),
    )


def not_rolled_out(cluster: Kubectl, namespace: str) -> str:
    """Name the workloads of a namespace that are not up, and what their pods say.

    Empty when the namespace has workloads and all are up.
    """
    workloads = cluster.items(_WORKLOADS, namespace)
    waiting = [workload["metadata"]["name"] for workload in workloads if not _is_rolled_out(workload)]
    if workloads and not waiting:
        return ""
    return "; ".join([", ".join(waiting) or f"no workload in {namespace}", *pods_words(cluster, namespace)])


def _is_rolled_out(workload: Mapping[str, Any]) -> bool:
    wanted, status = workload["spec"].get("replicas", 1), workload.get("status", {})
    current = status.get("observedGeneration", 0) >= workload["metadata"]["generation"]
    # A StatefulSet counts replicas as available that are not updated yet.
    counts = (status.get("updatedReplicas", 0), status.get("availableReplicas", 0))
    return bool(current and counts == (wanted, wanted))


def pods_words(cluster: Kubectl, namespace: str) -> list[str]:
    """Return what the pods that cannot start say."""
    words = []
    for pod in cluster.items("pods", namespace):
        conditions = pod.get("status", {}).get("conditions") or ()
        reasons = [each.get("message", "") for each in conditions if each.get("reason") == "Unschedulable"]
        reasons += filter(None, map(_words, _containers(pod)))
        if reasons:
            words.append(f"pod {pod['metadata']['name']}: {', '.join(reasons)}")
    return words


def _words(container: Mapping[str, Any]) -> str:
    """Say why a container waits and how it last ended; empty for a container that does not wait."""
    if _waiting_reason(container) in ("", *_STARTING):
        return ""
    waiting, ended = container["state"]["waiting"], container.get("lastState", {}).get("terminated", {})
    last = f"; it ended with {ended.get('exitCode')}: {ended.get('message', '')}" if ended else ""
    return f"{waiting['reason']}: {waiting.get('message', '')}{last}"[:_WORDS]


def backing_off(cluster: Kubectl, namespace: str) -> list[str]:
    """Name the pods that wait before they pull their image again."""
    waiting = ("ErrImagePull", "ImagePullBackOff")
    pods = cluster.items("pods", namespace)
    return [
        pod["metadata"]["name"]
        for pod in pods
        if any(_waiting_reason(container) in waiting for container in _containers(pod))
    ]


def _containers(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _waiting_reason(container: Mapping[str, Any]) -> str:
    return str(container.get("state", {}).get("waiting", {}).get("reason", ""))

"""Waiting for the clusters: what is still missing, in the objects' own words, until nothing is."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bootstrap.kubectl import Kubectl
from orchestration.promotion.problems import Problem, ProblemError
from testbeds.homelab.progress import Say

_POLL_SECONDS = 0.5
_REPORT_SECONDS = 10.0
_WORDS = 400
_WORKLOADS = "deployments,statefulsets"
_STARTING = ("ContainerCreating", "PodInitializing")


def await_all(what: str, missing: Callable[[], str], seconds: float, say: Say) -> None:
    """Return when `missing` has nothing to say any more; tell how long it took, and what is missing meanwhile.

    A cluster that does not answer for a moment is waited for like everything else.

    Raises:
        ProblemError: something was still missing after that time; with what.
    """
    began = reported = time.monotonic()
    while True:
        try:
            found = missing()
        except ProblemError as error:
            found = str(error)
        now = time.monotonic()
        if not found:
            say(f"{what}: {now - began:.1f} s")
            return
        if now - began > seconds:
            raise ProblemError(Problem("homelab", f"{what} within {seconds:g} s", found, "Look at it, and try again."))
        if now - reported > _REPORT_SECONDS:
            reported = now
            say(f"{what}: {now - began:.0f} s so far; {found}")
        time.sleep(_POLL_SECONDS)


@dataclass(frozen=True)
class Application:
    """What Argo CD says of one application."""

    name: str
    cluster: str
    """The name by which Argo CD knows the cluster that it is deployed to."""
    namespace: str
    sync: str
    health: str
    revision: str
    conditions: tuple[str, ...]

    @property
    def well(self) -> bool:
        return self.sync == "Synced" and self.health == "Healthy"

    def __str__(self) -> str:
        said = f": {'; '.join(self.conditions)[:300]}" if self.conditions else ""
        return f"{self.name} {self.sync or 'unknown'}, {self.health or 'unknown'}{said}"


def applications(gcp: Kubectl) -> list[Application]:
    """All applications, as Argo CD sees them now."""
    return [_application(one) for one in gcp.items("applications.argoproj.io", "argocd")]


def _application(raw: Mapping[str, Any]) -> Application:
    status = raw.get("status", {})
    sync, operation = status.get("sync", {}), status.get("operationState", {})
    conditions = [f"{one['type']}: {one.get('message', '')}" for one in status.get("conditions") or ()]
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
    """The workloads of a namespace that are not up, and what their pods say; empty when there are some and all are."""
    workloads = cluster.items(_WORKLOADS, namespace)
    waiting = [one["metadata"]["name"] for one in workloads if not _is_rolled_out(one)]
    if workloads and not waiting:
        return ""
    return "; ".join([", ".join(waiting) or f"no workload in {namespace}", *pods_words(cluster, namespace)])


def _is_rolled_out(workload: Mapping[str, Any]) -> bool:
    wanted, status = workload["spec"].get("replicas", 1), workload.get("status", {})
    current = status.get("observedGeneration", 0) >= workload["metadata"]["generation"]
    # A StatefulSet's replicas that are not updated yet count as available.
    counts = (status.get("updatedReplicas", 0), status.get("availableReplicas", 0))
    return bool(current and counts == (wanted, wanted))


def pods_words(cluster: Kubectl, namespace: str) -> list[str]:
    """What each pod says that cannot start."""
    found = []
    for pod in cluster.items("pods", namespace):
        conditions = pod.get("status", {}).get("conditions") or ()
        said = [one.get("message", "") for one in conditions if one.get("reason") == "Unschedulable"]
        said += [words for one in _containers(pod) if (words := _words(one))]
        if said:
            found.append(f"pod {pod['metadata']['name']}: {', '.join(said)}")
    return found


def _words(container: Mapping[str, Any]) -> str:
    """Why a container waits, and how it ended before."""
    if _waiting_reason(container) in ("", *_STARTING):
        return ""
    waiting, ended = container["state"]["waiting"], container.get("lastState", {}).get("terminated", {})
    last = f"; it ended with {ended.get('exitCode')}: {ended.get('message', '')}" if ended else ""
    return f"{waiting['reason']}: {waiting.get('message', '')}{last}"[:_WORDS]


def backing_off(cluster: Kubectl, namespace: str) -> list[str]:
    """The pods that wait before they ask for their image again."""
    waiting = ("ErrImagePull", "ImagePullBackOff")
    pods = cluster.items("pods", namespace)
    return [
        one["metadata"]["name"] for one in pods if any(_waiting_reason(each) in waiting for each in _containers(one))
    ]


def _containers(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _waiting_reason(container: Mapping[str, Any]) -> str:
    return str(container.get("state", {}).get("waiting", {}).get("reason", ""))

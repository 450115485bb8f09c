"""What Argo CD and a cluster say, as plain values; parsed from their JSON and from nothing else.

The parsers never fail: an object that has just been made lacks most fields, and what is absent reads as "not yet".
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class ApplicationStatus:
    """The parts of an Argo CD Application that a rollout is judged by. Times are seconds since the epoch."""

    name: str
    sync_status: str
    """Synced, OutOfSync or Unknown."""
    sync_revision: str | None
    """The commit that was compared; None also while nothing could be, when Argo CD names the branch instead."""
    health_status: str
    """Healthy, Progressing, Degraded, Suspended, Missing or Unknown."""
    operation_phase: str | None
    """Running, Succeeded, Failed, Error or Terminating."""
    operation_revision: str | None
    operation_finished_at: float | None
    operation_message: str
    reconciled_at: float | None
    auto_sync: bool
    conditions: tuple[tuple[str, str], ...] = ()
    """Type and message of each condition, such as ComparisonError."""


@dataclass(frozen=True)
class ContainerStatus:
    """One container of a pod; `waiting_*`, `terminated_*` and `last_*` are None when that state does not hold."""

    name: str
    image: str
    image_id: str
    """As the kubelet reports it: `repository@sha256:...`, or a bare digest; empty until it has pulled."""
    ready: bool
    restarts: int
    waiting_reason: str | None = None
    waiting_message: str | None = None
    terminated_reason: str | None = None
    terminated_exit_code: int | None = None
    last_terminated_reason: str | None = None
    last_exit_code: int | None = None
    last_message: str | None = None


@dataclass(frozen=True)
class PodStatus:
    name: str
    uid: str
    template_hash: str | None
    phase: str
    ready: bool
    deleting: bool
    node: str | None
    created_at: float
    containers: tuple[ContainerStatus, ...] = ()
    reason: str | None = None
    """The pod's own reason, such as Evicted."""
    unschedulable: str | None = None
    """The scheduler's message while the pod cannot be placed."""
    warnings: tuple[str, ...] = ()
    """Warning events, newest last, as `Reason: message`."""

    @property
    def finished(self) -> bool:
        """Whether it will never run again; a Deployment's pod ends so when it is evicted or its node shuts down."""
        return self.phase in ("Succeeded", "Failed")

    def container(self, name: str) -> ContainerStatus | None:
        return next((container for container in self.containers if container.name == name), None)


@dataclass(frozen=True)
class WorkloadStatus:
    """A Deployment with its pods, read together."""

    kind: str
    namespace: str
    name: str
    generation: int
    observed_generation: int
    wanted: int
    updated: int
    ready: int
    available: int
    total: int
    images: dict[str, str] = field(default_factory=dict)
    """The image reference of each container in the pod template."""
    template_hash: str | None = None
    """pod-template-hash of the ReplicaSet whose template is the Deployment's own."""
    progress_deadline_exceeded: bool = False
    paused: bool = False
    ports: dict[str, int] = field(default_factory=dict)
    """The first containerPort of each container: where the pod proxy is asked."""
    pods: tuple[PodStatus, ...] = ()

    @property
    def new_pods(self) -> tuple[PodStatus, ...]:
        """Pods of the current template that serve or will: not going away, and not finished (evicted ones linger)."""
        return tuple(pod for pod in self.current_pods if not pod.deleting and not pod.finished)

    @property
    def current_pods(self) -> tuple[PodStatus, ...]:
        """All pods of the current template; none while it is unknown which ReplicaSet that is."""
        return tuple(pod for pod in self.pods if self.template_hash and pod.template_hash == self.template_hash)

    @property
    def old_pods(self) -> tuple[PodStatus, ...]:
        """Pods of another template, until they are gone; finished ones do not count.

        A pod of the current template that goes away is none: an autoscaler took it, and what it still answers is right.
        """
        current = {pod.name for pod in self.current_pods}
        return tuple(pod for pod in self.pods if pod.name not in current and not pod.finished)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Node:
    name: str
    architecture: str
    """`kubernetes.io/arch`: amd64, arm64, ..."""
    ready: bool


def parse_application(raw: Json) -> ApplicationStatus:
    """An Argo CD Application's JSON. One with several sources has no single revision and reads as having none."""
    status = _mapping(raw, "status")
    operation = _mapping(status, "operationState")
    # While an operation begins, it has no result yet, but says what it was asked to sync.
    revision = _commit(_mapping(operation, "syncResult")) or _commit(_mapping(operation, "operation", "sync"))
    automated = _mapping(raw, "spec", "syncPolicy").get("automated")
    return ApplicationStatus(
        name=_text(_mapping(raw, "metadata"), "name") or "",
        sync_status=_text(_mapping(status, "sync"), "status") or "Unknown",
        sync_revision=_commit(_mapping(status, "sync")),
        health_status=_text(_mapping(status, "health"), "status") or "Unknown",
        operation_phase=_text(operation, "phase"),
        operation_revision=revision,
        operation_finished_at=_time(operation, "finishedAt"),
        operation_message=_text(operation, "message") or "",
        reconciled_at=_time(status, "reconciledAt"),
        # `automated: {}` is on; since Argo CD 3.0 `enabled: false` keeps the settings and switches it off.
        auto_sync=isinstance(automated, Mapping) and automated.get("enabled") is not False,
        conditions=tuple(
            (_text(one, "type") or "", _text(one, "message") or "") for one in _list(status, "conditions")
        ),
    )


def parse_workload(
    kind: str, deployment: Json, replicasets: Iterable[Json], pods: Iterable[Json], events: Iterable[Json]
) -> WorkloadStatus:
    """A Deployment's JSON with its ReplicaSets, the pods that its selector finds and their warning events."""
    metadata, spec, status = (_mapping(deployment, part) for part in ("metadata", "spec", "status"))
    containers = [
        *_list(_mapping(spec, "template", "spec"), "initContainers"),
        *_list(_mapping(spec, "template", "spec"), "containers"),
    ]
    warnings = _warnings(events)
    replicas = spec.get("replicas")
    progressing = _condition(status, "Progressing")
    return WorkloadStatus(
        kind=kind,
        namespace=_text(metadata, "namespace") or "",
        name=_text(metadata, "name") or "",
        generation=_int(metadata, "generation"),
        observed_generation=_int(status, "observedGeneration"),
        wanted=replicas if isinstance(replicas, int) else 1,
        updated=_int(status, "updatedReplicas"),
        ready=_int(status, "readyReplicas"),
        available=_int(status, "availableReplicas"),
        total=_int(status, "replicas"),
        images={_text(one, "name") or "": _text(one, "image") or "" for one in containers},
        template_hash=_template_hash(deployment, replicasets),
        progress_deadline_exceeded=progressing.get("reason") == "ProgressDeadlineExceeded",
        paused=spec.get("paused") is True,
        ports={
            _text(one, "name") or "": _int(ports[0], "containerPort")
            for one in containers
            if (ports := _list(one, "ports"))
        },
        pods=tuple(
            _pod(pod, warnings.get(_text(_mapping(pod, "metadata"), "name") or "", ()))
            for pod in pods
            if _may_be_a_replica(pod)
        ),
    )


def parse_node(raw: Json) -> Node:
    metadata, status = _mapping(raw, "metadata"), _mapping(raw, "status")
    return Node(
        name=_text(metadata, "name") or "",
        architecture=_text(_mapping(metadata, "labels"), "kubernetes.io/arch")
        or _text(_mapping(status, "nodeInfo"), "architecture")
        or "",
        ready=_condition(status, "Ready").get("status") == "True",
    )


def _template_hash(deployment: Json, replicasets: Iterable[Json]) -> str | None:
    """The hash of the ReplicaSet that the Deployment means, found as its controller finds it: by an equal template.

    The annotation `deployment.kubernetes.io/revision` would name the *old* ReplicaSet from the moment of an edit until
    the controller has seen it, which is just when a rollout must not be taken for done. Several equal ones can be left
    by a cluster upgrade; the controller uses the oldest.
    """
    owner = _text(_mapping(deployment, "metadata"), "uid")
    template = _without_hash(_mapping(deployment, "spec", "template"))
    equal = [
        one
        for one in replicasets
        if any(_text(by, "uid") == owner for by in _list(_mapping(one, "metadata"), "ownerReferences"))
        and _without_hash(_mapping(one, "spec", "template")) == template
    ]
    oldest = min(equal, key=lambda one: _text(_mapping(one, "metadata"), "creationTimestamp") or "", default=None)
    return None if oldest is None else _text(_mapping(oldest, "metadata", "labels"), "pod-template-hash")


def _without_hash(template: Json) -> Json:
    """A pod template without what only one of the two sides has: the hash label and the empty creation time."""
    metadata = {key: value for key, value in _mapping(template, "metadata").items() if key != "creationTimestamp"}
    labels = {key: value for key, value in _mapping(metadata, "labels").items() if key != "pod-template-hash"}
    return {**template, "metadata": {**metadata, "labels": labels}}


def _may_be_a_replica(pod: Json) -> bool:
    """Whether a ReplicaSet owns the pod or may adopt it; a Job's pod can share the labels and is nobody's replica."""
    owners = _list(_mapping(pod, "metadata"), "ownerReferences")
    return not owners or any(_text(owner, "kind") == "ReplicaSet" for owner in owners)


def _pod(raw: Json, warnings: tuple[str, ...]) -> PodStatus:
    metadata, status = _mapping(raw, "metadata"), _mapping(raw, "status")
    scheduled = _condition(status, "PodScheduled")
    unplaced = scheduled.get("status") == "False"
    statuses = [*_list(status, "initContainerStatuses"), *_list(status, "containerStatuses")]
    return PodStatus(
        name=_text(metadata, "name") or "",
        uid=_text(metadata, "uid") or "",
        template_hash=_text(_mapping(metadata, "labels"), "pod-template-hash"),
        phase=_text(status, "phase") or "Unknown",
        ready=_condition(status, "Ready").get("status") == "True",
        deleting=_text(metadata, "deletionTimestamp") is not None,
        node=_text(_mapping(raw, "spec"), "nodeName"),
        created_at=_time(metadata, "creationTimestamp") or 0.0,
        containers=tuple(_container(one) for one in statuses),
        reason=_text(status, "reason"),
        unschedulable=(_text(scheduled, "message") or _text(scheduled, "reason") or "no reason") if unplaced else None,
        warnings=warnings,
    )


def _container(raw: Json) -> ContainerStatus:
    waiting, terminated = _mapping(raw, "state", "waiting"), _mapping(raw, "state", "terminated")
    last = _mapping(raw, "lastState", "terminated")
    return ContainerStatus(
        name=_text(raw, "name") or "",
        image=_text(raw, "image") or "",
        image_id=_text(raw, "imageID") or "",
        ready=raw.get("ready") is True,
        restarts=_int(raw, "restartCount"),
        waiting_reason=_text(waiting, "reason"),
        waiting_message=_text(waiting, "message"),
        terminated_reason=_text(terminated, "reason"),
        terminated_exit_code=_int(terminated, "exitCode") if terminated else None,
        last_terminated_reason=_text(last, "reason"),
        last_exit_code=_int(last, "exitCode") if last else None,
        last_message=_text(terminated, "message") or _text(last, "message"),
    )


def _warnings(events: Iterable[Json]) -> dict[str, tuple[str, ...]]:
    """Warning events by pod, oldest first. Events keep their times in one of three fields, by age of their API."""
    found: dict[str, list[tuple[float, str]]] = {}
    for event in events:
        about = _mapping(event, "involvedObject")
        if _text(event, "type") != "Warning" or _text(about, "kind") not in ("Pod", None):
            continue
        at = (
            _time(_mapping(event, "series"), "lastObservedTime")
            or _time(event, "lastTimestamp")
            or _time(event, "eventTime")
            or 0.0
        )
        text = f"{_text(event, 'reason') or 'Warning'}: {_text(event, 'message') or ''}"
        found.setdefault(_text(about, "name") or "", []).append((at, text))
    return {pod: tuple(text for _, text in sorted(texts, key=lambda one: one[0])) for pod, texts in found.items()}


def _condition(status: Json, kind: str) -> Json:
    return next((one for one in _list(status, "conditions") if one.get("type") == kind), {})


def _mapping(raw: Json, *path: str) -> Json:
    """The mapping at a path; an empty one when anything on the way is absent or something else."""
    for key in path:
        found = raw.get(key)
        raw = found if isinstance(found, Mapping) else {}
    return raw


def _list(raw: Json, key: str) -> Sequence[Json]:
    found = raw.get(key)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _text(raw: Json, key: str) -> str | None:
    found = raw.get(key)
    return found if isinstance(found, str) and found else None


def _commit(raw: Json) -> str | None:
    """The revision, when it is a whole commit; a branch's name says nothing of what was seen there."""
    revision = _text(raw, "revision")
    return revision if revision is not None and _COMMIT.fullmatch(revision) else None


def _int(raw: Json, key: str) -> int:
    found = raw.get(key)
    return found if isinstance(found, int) else 0


def _time(raw: Json, key: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 time, with or without fractions; None when it is absent or no such."""
    text = _text(raw, key)
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.timestamp() if at.tzinfo is not None else None

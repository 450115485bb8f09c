"""Argo CD's and Kubernetes' JSON, read as the values of `cluster_status`.

The parsers never fail: an object that was just created lacks most fields, and an absent field reads as "not yet".
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from orchestration.promotion.cluster_status import (
    ApplicationSource,
    ApplicationStatus,
    ContainerSpec,
    ContainerStatus,
    Node,
    PodStatus,
    WorkloadStatus,
)

Json = Mapping[str, Any]
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def parse_application(raw: Json) -> ApplicationStatus:
    """Read an Argo CD Application. With several sources it has no single revision, so both revisions are None."""
    status = _mapping(raw, "status")
    operation = _mapping(status, "operationState")
    # An operation that has just begun has no result yet, but says what it was asked to sync.
    revision = _commit(_mapping(operation, "syncResult")) or _commit(_mapping(operation, "operation", "sync"))
    spec = _mapping(raw, "spec")
    automated = _mapping(spec, "syncPolicy").get("automated")
    destination = _mapping(spec, "destination")
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
        # `automated: {}` switches auto-sync on; since Argo CD 3.0 `enabled: false` in it switches it off.
        auto_sync=isinstance(automated, Mapping) and automated.get("enabled") is not False,
        conditions=tuple(
            (_text(condition, "type") or "", _text(condition, "message") or "")
            for condition in _list(status, "conditions")
        ),
        source=_source(spec),
        destination=_text(destination, "name") or _text(destination, "server") or "",
        resources=tuple(
            (_text(each, "kind") or "", _text(each, "namespace") or "", _text(each, "name") or "")
            for each in _list(status, "resources")
        ),
    )


def _source(spec: Json) -> ApplicationSource | None:
    source = _mapping(spec, "source")
    if _list(spec, "sources") or not source:
        return None
    repository, revision, path = (_text(source, part) or "" for part in ("repoURL", "targetRevision", "path"))
    return ApplicationSource(repository, revision, path)


def parse_workload(
    kind: str, deployment: Json, replicasets: Iterable[Json], pods: Iterable[Json], events: Iterable[Json]
) -> WorkloadStatus:
    """Read a Deployment together with its ReplicaSets, the pods that its selector matches, and their events.

    Args:
        kind: the workload's kind, as the policy spells it.
        deployment: the workload itself.
        replicasets: at least those that the Deployment owns.
        pods: those that its selector matches; pods that cannot be its replicas are left out.
        events: of those pods; all but warnings are left out.
    """
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
        images={_text(container, "name") or "": _text(container, "image") or "" for container in containers},
        template_hash=_template_hash(deployment, replicasets),
        progress_deadline_exceeded=progressing.get("reason") == "ProgressDeadlineExceeded",
        paused=spec.get("paused") is True,
        ports={
            _text(container, "name") or "": _int(ports[0], "containerPort")
            for container in containers
            if (ports := _list(container, "ports"))
        },
        pods=tuple(
            _pod(pod, warnings.get(_text(_mapping(pod, "metadata"), "name") or "", ()))
            for pod in pods
            if _may_be_a_replica(pod)
        ),
    )


def parse_node(raw: Json) -> Node:
    """Read a node. Its label is believed before its own report of the architecture, because scheduling goes by it."""
    metadata, status = _mapping(raw, "metadata"), _mapping(raw, "status")
    addresses = {_text(each, "type"): _text(each, "address") for each in _list(status, "addresses")}
    return Node(
        name=_text(metadata, "name") or "",
        architecture=_text(_mapping(metadata, "labels"), "kubernetes.io/arch")
        or _text(_mapping(status, "nodeInfo"), "architecture")
        or "",
        ready=_condition(status, "Ready").get("status") == "True",
        address=addresses.get("ExternalIP") or addresses.get("InternalIP") or "",
    )


def _template_hash(deployment: Json, replicasets: Iterable[Json]) -> str | None:
    """The hash of the Deployment's current ReplicaSet, found as its controller finds it: by an equal template.

    The annotation `deployment.kubernetes.io/revision` names the *old* ReplicaSet from the moment of an edit until the
    controller has seen the edit, which is exactly when a rollout must not be taken for done. A cluster upgrade can
    leave several ReplicaSets with equal templates; the controller uses the oldest.
    """
    owner = _text(_mapping(deployment, "metadata"), "uid")
    template = _without_hash(_mapping(deployment, "spec", "template"))
    equal = [
        replicaset
        for replicaset in replicasets
        if any(_text(by, "uid") == owner for by in _list(_mapping(replicaset, "metadata"), "ownerReferences"))
        and _without_hash(_mapping(replicaset, "spec", "template")) == template
    ]
    oldest = min(equal, key=lambda raw: _text(_mapping(raw, "metadata"), "creationTimestamp") or "", default=None)
    return None if oldest is None else _text(_mapping(oldest, "metadata", "labels"), "pod-template-hash")


def _without_hash(template: Json) -> Json:
    """A pod template without what a Deployment's and a ReplicaSet's differ in: hash label and empty creation time."""
    metadata = {key: value for key, value in _mapping(template, "metadata").items() if key != "creationTimestamp"}
    labels = {key: value for key, value in _mapping(metadata, "labels").items() if key != "pod-template-hash"}
    return {**template, "metadata": {**metadata, "labels": labels}}


def _may_be_a_replica(pod: Json) -> bool:
    """Whether the pod is a ReplicaSet's or may be adopted by one; a Job's pod with the same labels is not one."""
    owners = _list(_mapping(pod, "metadata"), "ownerReferences")
    return not owners or any(_text(owner, "kind") == "ReplicaSet" for owner in owners)


def _pod(raw: Json, warnings: tuple[str, ...]) -> PodStatus:
    metadata, spec, status = (_mapping(raw, part) for part in ("metadata", "spec", "status"))
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
        node=_text(spec, "nodeName"),
        created_at=_time(metadata, "creationTimestamp") or 0.0,
        containers=tuple(_container(container) for container in statuses),
        reason=_text(status, "reason"),
        unschedulable=(_text(scheduled, "message") or _text(scheduled, "reason") or "no reason") if unplaced else None,
        warnings=warnings,
        specs=tuple(_spec(container) for part in ("initContainers", "containers") for container in _list(spec, part)),
    )


def _spec(raw: Json) -> ContainerSpec:
    """Read how a container is started. Of two variables of one name the later one counts, as for the kubelet."""
    return ContainerSpec(
        name=_text(raw, "name") or "",
        environment={_text(variable, "name") or "": literal_value(variable) for variable in _list(raw, "env")},
        takes_more_environment=bool(_list(raw, "envFrom")),
        replaces_command=bool(raw.get("command") or raw.get("args")),
    )


def literal_value(variable: Json) -> str | None:
    """Return the value of an entry of `env`; None when it is not in the entry itself.

    The API server leaves out an empty value. `$(NAME)` in a value stands for another variable.
    """
    value = _text(variable, "value") or ""
    return None if variable.get("valueFrom") is not None or "$(" in value else value


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
    """Warning events by pod, oldest first. An event has its time in one of three fields, depending on its API's age."""
    dated: dict[str, list[tuple[float, str]]] = {}
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
        dated.setdefault(_text(about, "name") or "", []).append((at, text))
    return {pod: tuple(text for _, text in sorted(texts, key=itemgetter(0))) for pod, texts in dated.items()}


def _condition(status: Json, kind: str) -> Json:
    return next((condition for condition in _list(status, "conditions") if condition.get("type") == kind), {})


def _mapping(raw: Json, *path: str) -> Json:
    """The mapping at a path; an empty mapping when any part of the path is absent or of another type."""
    for key in path:
        value = raw.get(key)
        raw = value if isinstance(value, Mapping) else {}
    return raw


def _list(raw: Json, key: str) -> Sequence[Json]:
    value = raw.get(key)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _text(raw: Json, key: str) -> str | None:
    value = raw.get(key)
    return value if isinstance(value, str) and value else None


def _commit(raw: Json) -> str | None:
    """The revision when it is a full commit id; None for a branch's name, which does not say what was seen there."""
    revision = _text(raw, "revision")
    return revision if revision is not None and _COMMIT.fullmatch(revision) else None


def _int(raw: Json, key: str) -> int:
    value = raw.get(key)
    return value if isinstance(value, int) else 0


def _time(raw: Json, key: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 time, with or without fractions; None when absent or malformed."""
    text = _text(raw, key)
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.timestamp() if at.tzinfo is not None else None

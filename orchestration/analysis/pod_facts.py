"""What a cluster says about a pod and its events, read from Kubernetes' JSON.

Nothing here fails: what is absent, or of another type, reads as empty. Environment variables are never read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from orchestration.analysis.alert import cron_job_of
from orchestration.promotion.json_reading import Json, int_of, items_of, mapping_at, text_of, time_of

_REVISION_LABELS = (
    "pod-template-hash",
    "controller-revision-hash",
    "rollouts-pod-template-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "pod-template-generation",
    "batch.kubernetes.io/controller-uid",
    "controller-uid",
    "batch.kubernetes.io/job-name",
    "job-name",
)
"""Labels by which pods of one workload differ."""


@dataclass(frozen=True)
class Termination:
    """How a container's process ended; times are seconds since the epoch."""

    reason: str
    exit_code: int
    signal: int
    message: str
    started_at: float | None
    finished_at: float | None


@dataclass(frozen=True)
class Container:
    """One container of a pod, with the ends of its processes' logs."""

    name: str
    image: str
    is_init: bool
    ready: bool
    restarts: int
    requests: Mapping[str, str]
    limits: Mapping[str, str]
    running_since: float | None = None
    waiting: str = ""
    """The reason for which it waits, such as CrashLoopBackOff; empty while it does not."""
    waiting_message: str = ""
    ended: Termination | None = None
    """How it ended, while it does not run."""
    ended_before: Termination | None = None
    """How its previous process ended."""
    log: str = ""
    previous_log: str = ""

    @property
    def last_end(self) -> Termination | None:
        """How its newest process to end did."""
        return self.ended or self.ended_before


@dataclass(frozen=True)
class Condition:
    """One condition in a pod's status."""

    kind: str
    status: str
    reason: str
    message: str
    since: float | None


@dataclass(frozen=True)
class Event:
    """An event about a pod; times are seconds since the epoch."""

    kind: str
    """Normal or Warning."""
    reason: str
    message: str
    count: int
    first_at: float | None
    last_at: float | None


@dataclass(frozen=True)
class Pod:
    """A pod as its API server describes it."""

    name: str
    phase: str
    reason: str
    message: str
    node: str
    created_at: float | None
    deleted_at: float | None
    """When its deletion was asked for; None when it was not."""
    workload: str
    """The name of what made it: a Deployment's and not its ReplicaSet's, a CronJob's and not its Job's."""
    conditions: tuple[Condition, ...] = ()
    containers: tuple[Container, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        """Whether its condition Ready is true."""
        return any(condition.kind == "Ready" and condition.status == "True" for condition in self.conditions)


def parse_pod(raw: Json) -> Pod:
    """Read a pod without its logs."""
    metadata, spec, status = (mapping_at(raw, part) for part in ("metadata", "spec", "status"))
    labels = _texts(mapping_at(metadata, "labels"))
    return Pod(
        name=text_of(metadata, "name") or "",
        phase=text_of(status, "phase") or "",
        reason=text_of(status, "reason") or "",
        message=text_of(status, "message") or "",
        node=text_of(spec, "nodeName") or "",
        created_at=time_of(metadata, "creationTimestamp"),
        deleted_at=time_of(metadata, "deletionTimestamp"),
        workload=_workload(metadata, labels),
        conditions=tuple(_condition(each) for each in items_of(status, "conditions")),
        containers=(
            *_containers(spec, status, "initContainers", "initContainerStatuses"),
            *_containers(spec, status, "containers", "containerStatuses"),
        ),
        labels=labels,
        annotations=_texts(mapping_at(metadata, "annotations")),
    )


def parse_events(raw: Iterable[Json]) -> tuple[Event, ...]:
    """Read events, the newest last."""
    events = [
        Event(
            kind=text_of(each, "type") or "",
            reason=text_of(each, "reason") or "",
            message=text_of(each, "message") or "",
            count=int_of(each, "count") or int_of(mapping_at(each, "series"), "count") or 1,
            first_at=time_of(each, "firstTimestamp") or time_of(each, "eventTime"),
            last_at=time_of(each, "lastTimestamp")
            or time_of(mapping_at(each, "series"), "lastObservedTime")
            or time_of(each, "eventTime"),
        )
        for each in raw
    ]
    return tuple(sorted(events, key=lambda event: event.last_at or 0.0))


def sibling_selector(pod: Pod) -> str:
    """Return the label selector of a pod's workload; empty when its labels do not tell it from others."""
    return ",".join(f"{name}={value}" for name, value in pod.labels.items() if name not in _REVISION_LABELS)


def _workload(metadata: Json, labels: Mapping[str, str]) -> str:
    owner = next((owner for owner in items_of(metadata, "ownerReferences") if owner.get("controller") is True), {})
    name = text_of(owner, "name") or text_of(metadata, "name") or ""
    if text_of(owner, "kind") == "Job":
        return cron_job_of(name)
    template = labels.get("pod-template-hash") or labels.get("rollouts-pod-template-hash")
    return name.removesuffix(f"-{template}") if template and text_of(owner, "kind") == "ReplicaSet" else name


def _condition(raw: Json) -> Condition:
    kind, status, reason, message = (text_of(raw, key) or "" for key in ("type", "status", "reason", "message"))
    return Condition(kind, status, reason, message, time_of(raw, "lastTransitionTime"))


def _containers(spec: Json, status: Json, specs: str, statuses: str) -> Iterable[Container]:
    said = {text_of(each, "name"): each for each in items_of(status, statuses)}
    for each in items_of(spec, specs):
        name = text_of(each, "name") or ""
        now = said.get(name, {})
        state, before = mapping_at(now, "state"), mapping_at(now, "lastState")
        resources = mapping_at(each, "resources")
        yield Container(
            name=name,
            image=text_of(each, "image") or "",
            is_init=specs == "initContainers",
            ready=now.get("ready") is True,
            restarts=int_of(now, "restartCount"),
            requests=_texts(mapping_at(resources, "requests")),
            limits=_texts(mapping_at(resources, "limits")),
            running_since=time_of(mapping_at(state, "running"), "startedAt"),
            waiting=text_of(mapping_at(state, "waiting"), "reason") or "",
            waiting_message=text_of(mapping_at(state, "waiting"), "message") or "",
            ended=_termination(mapping_at(state, "terminated")),
            ended_before=_termination(mapping_at(before, "terminated")),
        )


def _termination(raw: Json) -> Termination | None:
    if not raw:
        return None
    return Termination(
        reason=text_of(raw, "reason") or "",
        exit_code=int_of(raw, "exitCode"),
        signal=int_of(raw, "signal"),
        message=text_of(raw, "message") or "",
        started_at=time_of(raw, "startedAt"),
        finished_at=time_of(raw, "finishedAt"),
    )


def _texts(raw: Json) -> Mapping[str, str]:
    return {str(name): str(value) for name, value in raw.items()}

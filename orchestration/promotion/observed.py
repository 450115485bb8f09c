"""What Argo CD and a cluster say, as plain values; parsed from their JSON and from nothing else."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ApplicationStatus:
    """The parts of an Argo CD Application that a rollout is judged by. Times are seconds since the epoch."""

    name: str
    sync_status: str
    """Synced, OutOfSync or Unknown."""
    sync_revision: str | None
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
        """Pods of the current template that are not going away."""
        return tuple(pod for pod in self.pods if pod.template_hash == self.template_hash and not pod.deleting)

    @property
    def old_pods(self) -> tuple[PodStatus, ...]:
        """Pods of another template, and those that are going away; finished ones do not count."""
        return tuple(
            pod
            for pod in self.pods
            if (pod.template_hash != self.template_hash or pod.deleting) and pod.phase not in ("Succeeded", "Failed")
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Node:
    name: str
    architecture: str
    """`kubernetes.io/arch`: amd64, arm64, ..."""
    ready: bool

"""What Argo CD and a cluster report, as plain values; `cluster_json` reads them from the JSON of their APIs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

_ROLLOUT_HASH = "rollouts-pod-template-hash"


@dataclass(frozen=True)
class ApplicationSource:
    """Where an Application's manifests come from; each part is empty when the Application does not state it."""

    repository: str
    revision: str
    """A branch, tag or commit; empty and `HEAD` mean the repository's default branch."""
    path: str
    chart: str = ""
    """The chart of a Helm repository; such a source has no path."""
    ref: str = ""
    """The name by which value files of other sources are found in this one (`$values`)."""
    recurses: bool = False
    """Whether plain manifests in folders below the path are read, too."""
    has_plugin: bool = False
    value_files: tuple[str, ...] = ()
    kustomize_images: tuple[str, ...] = ()
    """As `kustomize edit set image` takes them, such as `name=repository:tag`."""
    kustomize_fields: frozenset[str] = frozenset()
    """All fields by which the Application adds to the kustomization, such as `patches`."""
    helm_values: tuple[tuple[str, str], ...] = ()
    """What the Application sets over the value files: the field under `helm` (`parameters`), and the value's path."""
    helm_text: str = field(default="", repr=False)
    """The values that it sets as a text in YAML (`helm.values`)."""


@dataclass(frozen=True)
class ApplicationStatus:
    """The parts of an Argo CD Application that a rollout is judged by. Times are seconds since the epoch."""

    name: str
    sync_status: str
    """Synced, OutOfSync or Unknown."""
    sync_revision: str | None
    """The commit that Argo CD compared; None also while it can compare nothing and names the branch instead."""
    health_status: str
    """Healthy, Progressing, Degraded, Suspended, Missing or Unknown."""
    operation_phase: str | None
    """Running, Succeeded, Failed, Error or Terminating."""
    operation_revision: str | None
    operation_finished_at: float | None
    operation_message: str
    reconciled_at: float | None
    auto_sync: bool
    applies_server_side: bool = False
    """Whether a sync applies by server-side apply, to which a field that the API server does not know is an error."""
    conditions: tuple[tuple[str, str], ...] = ()
    """Type and message of each condition, such as ComparisonError."""
    source: ApplicationSource | None = None
    """None when there are several sources."""
    sources: tuple[ApplicationSource, ...] = ()
    """The sources when there are several, in their order."""
    sync_revisions: tuple[str | None, ...] = ()
    """The commit that Argo CD compared, of each of several sources; None for a chart's version."""
    operation_revisions: tuple[str | None, ...] = ()
    source_type: str = ""
    """How its one source is built: Directory, Kustomize, Helm or Plugin; empty when that is not known yet."""
    hydrates: bool = False
    """Whether a source hydrator writes what is deployed to another branch."""
    made_by: str = ""
    """The ApplicationSet that makes it, as `ApplicationSet models`; empty when none does."""
    destination: str = ""
    """The name of the cluster that it deploys to, or else the address of its API server."""
    resources: tuple[tuple[str, str, str], ...] = ()
    """Kind, namespace and name of what it has deployed."""
    external_urls: tuple[str, ...] = ()
    """Where Argo CD says that clients reach what it has deployed: the hosts of Ingresses, and links that people set."""

    @property
    def is_changed_in(self) -> str:
        """Where a person changes its spec, for a sentence; an ApplicationSet reverts changes of what it makes."""
        return (
            f"the template of {self.made_by}, which reverts edits of the Application"
            if self.made_by
            else "its manifest"
        )


@dataclass(frozen=True)
class ContainerStatus:
    """One container of a pod; `waiting_*`, `terminated_*` and `last_*` are None when that state does not hold."""

    name: str
    image: str
    image_id: str
    """As the kubelet reports it: `repository@sha256:...` or a bare digest; empty until it has pulled the image."""
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
class ContainerSpec:
    """How a pod, or a pod template, starts one of its containers, as far as its spec says so by itself."""

    name: str
    environment: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    """Its variables; None for one whose value is elsewhere (`valueFrom`) or is made of others (`$(NAME)`)."""
    takes_more_environment: bool = False
    """Whether it has `envFrom`, so that there may be more variables."""
    replaces_command: bool = False
    """Whether `command` or `args` stand in place of the image's."""
    arguments: tuple[str, ...] = field(default=(), repr=False)
    """What `command` and `args` say, one after the other."""


@dataclass(frozen=True)
class PodStatus:
    """One pod with its containers; `created_at` is in seconds since the epoch."""

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
    """The scheduler's message while it cannot place the pod."""
    warnings: tuple[str, ...] = ()
    """Warning events, newest last, as `Reason: message`."""
    specs: tuple[ContainerSpec, ...] = ()
    """How each container is started, init containers included."""

    @property
    def finished(self) -> bool:
        """Whether the pod will never run again: it was evicted, say, or its node shut down."""
        return self.phase in ("Succeeded", "Failed")

    def container(self, name: str) -> ContainerStatus | None:
        """The container of that name, init containers included; None while the pod reports no such container."""
        return next((container for container in self.containers if container.name == name), None)

    def spec(self, name: str) -> ContainerSpec | None:
        """How the container of that name is started, init containers included; None when the pod has none."""
        return next((spec for spec in self.specs if spec.name == name), None)


@dataclass(frozen=True)
class ContainerPort:
    """A port that a container declares; its name is empty when it has none."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.number} ({self.name})" if self.name else str(self.number)


@dataclass(frozen=True)
class ServicePort:
    """One port over TCP of a Service: clients ask `port` or `node_port`, and pods answer at `target`."""

    port: int
    target: int | str
    """A number, or the name of a port that a container declares."""
    node_port: int | None = None


@dataclass(frozen=True)
class ClusterService:
    """A Kubernetes Service: which pods it selects, and how it leads to them."""

    name: str
    selector: dict[str, str]
    """Empty when it selects no pods by itself."""
    ports: tuple[ServicePort, ...]
    addresses: tuple[str, ...] = ()
    """Hosts outside the cluster that lead to it: those of its load balancer, and external addresses."""

    def selects(self, labels: dict[str, str]) -> bool:
        """Whether pods with these labels are behind it, whichever ReplicaSet's pods Argo Rollouts shows there now."""
        wanted = {name: value for name, value in self.selector.items() if name != _ROLLOUT_HASH}
        return bool(wanted) and wanted.items() <= labels.items()


@dataclass(frozen=True)
class GivenUp:
    """Why a workload's own controller takes its rollout no further."""

    by_verdict: bool
    """Whether the new version was judged, by an analysis or a person, and found wanting."""
    reason: str


@dataclass(frozen=True)
class WorkloadStatus:
    """A workload with its pods, read together; the counts are the workload's own."""

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
    specs: tuple[ContainerSpec, ...] = ()
    """How the pod template starts each container, init containers included."""
    storage_uri: str = ""
    """The address of the model of a KServe InferenceService, as its pod template has it; empty for any other."""
    template_hash: str | None = None
    """The label by which pods of the current template are told; None until the controller has seen that template."""
    progress_deadline_exceeded: bool = False
    paused: bool = False
    unfinished: str | None = None
    """Why its controller has not finished the rollout, whatever the counts say: a pause, a canary's step."""
    given_up: GivenUp | None = None
    never_rolls_out: str | None = None
    """Why a new image in its manifest never reaches its pods by itself."""
    ports: dict[str, tuple[ContainerPort, ...]] = field(default_factory=dict)
    """The ports over TCP that each container declares, if it declares any."""
    pod_labels: dict[str, str] = field(default_factory=dict)
    """The labels of the pod template, by which Services select."""
    pods: tuple[PodStatus, ...] = ()

    def spec(self, name: str) -> ContainerSpec | None:
        """How the template starts the container of that name, init containers included; None when it has none."""
        return next((spec for spec in self.specs if spec.name == name), None)

    @property
    def is_observed(self) -> bool:
        """Whether its controller has seen the newest generation."""
        return self.observed_generation >= self.generation

    @property
    def new_pods(self) -> tuple[PodStatus, ...]:
        """Pods of the current template that serve or will serve: neither being deleted nor finished (evicted)."""
        return tuple(pod for pod in self.current_pods if not pod.deleting and not pod.finished)

    @property
    def current_pods(self) -> tuple[PodStatus, ...]:
        """All pods of the current template; none while that is unknown."""
        return tuple(pod for pod in self.pods if self.template_hash and pod.template_hash == self.template_hash)

    @property
    def old_pods(self) -> tuple[PodStatus, ...]:
        """Pods of another template that have not finished, until they are gone.

        A pod of the current template that is being deleted is not an old pod: an autoscaler removed it, and its last
        answers are still the new model's.
        """
        current = {pod.name for pod in self.current_pods}
        return tuple(pod for pod in self.pods if pod.name not in current and not pod.finished)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Node:
    """One node of the cluster."""

    name: str
    architecture: str
    """`kubernetes.io/arch`: amd64, arm64, ..."""
    ready: bool
    address: str = ""
    """Where its node ports are: an external address if it has one, or else the internal one; empty without any."""

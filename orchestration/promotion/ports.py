"""The ports of a promotion: what its stages ask of the world, and the values that come back.

Every method raises `DependencyError` when the other side cannot answer (it is down, times out, answers 5xx or refuses
the credentials), and `InvalidInputError` for a person's mistake (in an address, a path or a context). What a caller
decides on is a value in the return type. `orchestration.adapters` implements each port against a real server; the
tests' fakes are held to the same contract tests. A port's text, `str(port)`, names the other side by
its address.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from orchestration.promotion.acts import Act
from orchestration.promotion.cluster_status import ApplicationStatus, ClusterService, Node, WorkloadStatus
from orchestration.promotion.image_signatures import ImageSignature
from orchestration.promotion.images import ImageRef
from orchestration.promotion.input_drift import FeatureDrift
from orchestration.promotion.json_reading import Json
from orchestration.promotion.model_version import ModelVersion, Signature, TrainingRun
from orchestration.promotion.notifying import Message
from orchestration.promotion.policy import CosignPolicy, HeaderFile
from orchestration.promotion.pull_requests import PullRequests
from orchestration.promotion.rights import Right
from orchestration.promotion.served_quality import ServedQuality
from orchestration.promotion.serving_protocols import Example

Decision = TypeVar("Decision")
"""What a caller's `decide` returns instead of an edit."""
Sign = Callable[[bytes], bytes]
"""Returns the armored signature of a tag object's content."""
Headers = Mapping[str, str | HeaderFile]
"""HTTP headers by name; the value of one that is secret is in a file, and is removed from what comes back."""


class Clock(Protocol):
    """Time, passed in so that tests need not wait."""

    def now(self) -> float:
        """Return the time in seconds since the epoch."""

    def sleep(self, seconds: float) -> None:
        """Return when that many seconds have passed."""


class Bell(Protocol):
    """Rings when somebody says that a model's aliases have moved: worth a question to the registry, and no more."""

    def wait(self, seconds: float) -> frozenset[str]:
        """Return when that many seconds have passed, or at once when it has rung since the last call.

        Returns:
            The models that it has rung for.
        """


class Registry(Protocol):
    """The model registry (MLflow)."""

    def ping(self) -> None:
        """Raise `DependencyError` unless the registry answers."""

    def server_version(self) -> str | None:
        """Return the server's own version, such as `3.17.2`; None when it does not tell."""

    def server_time(self) -> float | None:
        """Return what time it is there, in whole seconds since the epoch; None when the server does not tell."""

    def may_edit(self, model: str) -> bool | None:
        """Return whether our account may write to a model; None when the server does not tell, or asks for no login."""

    def artifact_root(self, run_id: str) -> str | None:
        """Return where a run's artifacts are, as the registry has it; None when the run is gone."""

    def latest_version(self, model: str) -> ModelVersion | None:
        """Return the version of a model with the highest number; None when there is no such model, or no version."""

    def version_by_alias(self, model: str, alias: str) -> ModelVersion | None:
        """Return the version that an alias names, in one call; None when the model or the alias does not exist."""

    def named_by(self, alias: str, models: Collection[str]) -> Mapping[str, int] | None:
        """Return which version an alias names, by model, for many models in few calls; None when it cannot be asked so.

        It is a hint: a model is left out that has no such alias, does not exist or may not be seen.
        """

    def version(self, model: str, version: int) -> ModelVersion | None:
        """Return a version by its number; None when the registry has no such version."""

    def tagged(self, key: str, start: str) -> tuple[ModelVersion, ...]:
        """Return all versions, of any model and in any order, whose version tag `key` begins with `start`."""

    def training(self, version: ModelVersion) -> TrainingRun | None:
        """Return a version's training run, with its logged model's metrics; None when it has none, or it is gone."""

    def model_location(self, version: ModelVersion) -> str | None:
        """Return where the files of a version's model are, as the registry has it; None when they are gone."""

    def signature(self, version: ModelVersion) -> Signature | None:
        """Return the signature that the version's model was logged with; None when it has none."""

    def input_example(self, version: ModelVersion) -> Example | None:
        """Return the input example that the model was logged with, as MLflow's server takes it; None without one."""

    def artifact(self, run_id: str, path: str) -> bytes | None:
        """Return a run's artifact, 10 MB at most; None when there is none at that path."""

    def put_artifact(self, run_id: str, path: str, content: bytes) -> None:
        """Write an artifact of a run, in place of any that exists at that path."""

    def write_tags(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Write version tags one by one, in the order of `tags`."""

    def set_alias(self, version: ModelVersion, alias: str) -> None:
        """Point an alias at a version; it then no longer names the version that it named before."""

    def last_evaluation(self, policy: str) -> ServedQuality | None:
        """Return what the last evaluation of a policy's served champion found; None before the first one."""

    def record_evaluation(self, found: ServedQuality, drift: Sequence[FeatureDrift]) -> str:
        """Keep what an evaluation found, with each input's drift, and return the address of its page."""

    def version_url(self, version: ModelVersion) -> str:
        """Return the address of the version's page."""


@dataclass(frozen=True)
class LeaseRecord:
    """A lease as Git has it: who may write for one application, and until when (seconds since the epoch)."""

    application: str
    holder: str
    expires_at: float
    object_id: str
    """The Git object that the lease's ref names: the expected-old value that fences a stale owner."""


@dataclass(frozen=True)
class LeaseBusy:
    """Another run holds the lease."""

    record: LeaseRecord


@dataclass(frozen=True)
class LeaseLost:
    """Someone else took the lease or deleted it; a run that notices this stops writing at once."""

    current: LeaseRecord | None
    """The lease as it is now; None when there is none."""


@dataclass(frozen=True)
class BranchCommit:
    """A commit of the GitOps branch that carries incumbent's trailers."""

    commit: str
    parent: str
    subject: str
    committed_at: float
    trailers: Mapping[str, str]


@dataclass(frozen=True)
class FileChange:
    """A commit of the branch that changed one file; a merge that brought the change in counts as one."""

    commit: str
    author: str
    subject: str
    committed_at: float


@dataclass(frozen=True)
class FileEdit:
    """One commit to make on top of the head that it was decided on: one file's new content, subject and trailers."""

    path: str
    content: bytes
    subject: str
    trailers: Mapping[str, str]
    body: str = ""


@dataclass(frozen=True)
class Pushed:
    """The commit that a push brought to the branch, and the lease as it was renewed with it."""

    commit: str
    lease: LeaseRecord
    attempts: int
    """How many pushes it took; above 1 when other committers came first."""


@dataclass(frozen=True)
class Proposal:
    """A commit that waits beside the branch for the merge of its pull request."""

    name: str
    """`<policy>/promote-<version>-<attempt>`."""
    commit: BranchCommit

    @property
    def branch(self) -> str:
        """The branch that the pull request is from."""
        return proposal_branch(self.name)


def proposal_branch(name: str) -> str:
    """Return the branch of a proposal."""
    return f"incumbent/{name}"


@dataclass(frozen=True)
class TagRecord:
    """An annotated tag of the GitOps repository."""

    name: str
    commit: str
    message: str
    at: float = 0.0
    """When it was made, in seconds since the epoch."""
    object_id: str = field(default="", compare=False)
    """The tag object, so that a signature is checked of what was read."""


@dataclass(frozen=True)
class RepositoryAddress:
    """Where a repository is, and the branch in it."""

    url: str
    branch: str


class GitOpsRepository(Protocol):
    """The GitOps repository: one branch, the leases beside it, and no checkout."""

    def address(self) -> RepositoryAddress:
        """Return the address and the branch that this is, from the settings."""

    def check_push(self) -> None:
        """Raise `DependencyError` unless the server lets us begin an atomic push; nothing is pushed.

        That proves the login and the right to push to the repository, but not what is decided only when refs arrive:
        protected branches and tags, and hooks.
        """

    def check_signing(self) -> bool:
        """Sign something that nobody keeps, as each commit is signed; return whether commits are signed at all.

        Raises:
            DependencyError: the key cannot sign, or its program is missing.
        """

    def list_files(self, commit: str, folder: str) -> tuple[str, ...]:
        """Return the paths of all files below a folder at a commit, sorted; none when there is no such folder."""

    def fetch(self) -> str:
        """Fetch the branch and return the id of its head commit."""

    def read_file(self, commit: str, path: str) -> bytes | None:
        """Return a file's content at a commit; None when there is none at that path."""

    def history(self, head: str, policy: str) -> tuple[BranchCommit, ...]:
        """Return the policy's promotion and rollback commits that are reachable from `head`, newest first.

        A commit belongs to the policy when its trailer `Promotion-Id` or `Rollback-Of` starts with `<policy>/`.
        """

    def history_since(self, before: str, head: str, policy: str) -> tuple[BranchCommit, ...] | None:
        """Return what `history` has at `head` and not at `before`, at the cost of the commits between them.

        None when `head` does not descend from `before` (the branch was rewritten), or `before` was never fetched.
        """

    def changes(self, head: str, path: str, limit: int | None = None) -> tuple[FileChange, ...]:
        """Return the commits that changed one file as the branch had it, newest first, `limit` of them at most.

        First parents alone are followed: what was changed on another branch counts when its merge brought it in.
        """

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Return whether a commit is the other one or its ancestor; False when either was never fetched."""

    def push_edit(
        self, decide: Callable[[str], FileEdit | Decision], lease: LeaseRecord, ttl: float
    ) -> Pushed | LeaseLost | Decision:
        """Fetch, ask `decide(head)`, commit its edit and push it atomically with a renewed lease.

        Anything but a `FileEdit` ends it and is returned as it is. When the push is refused or its answer is lost,
        everything begins again with the fetch: `decide` must recognise its own work (by trailer), and no text is ever
        rebased.
        """

    def propose(
        self, name: str, decide: Callable[[str], FileEdit | Decision], lease: LeaseRecord, ttl: float
    ) -> Pushed | LeaseLost | Decision:
        """Do as `push_edit` does, to a branch of the proposal's own in place of ours; what was proposed before goes.

        With the branch comes a record, which `proposals` lists: a host may delete the branch of a merged request.
        """

    def proposals(self, policy: str) -> tuple[Proposal, ...]:
        """Return what is proposed under a policy as the server has it now, by name."""

    def withdraw(self, name: str, lease: LeaseRecord, ttl: float) -> LeaseRecord | LeaseLost:
        """Delete a proposal and its branch together with a renewed lease; one that is gone counts as withdrawn."""

    def conclude(self, proposal: Proposal, merged_as: str | None) -> None:
        """Delete a proposal that was merged, with its branch, if it is still the same; it needs no lease.

        Args:
            proposal: The proposal.
            merged_as: The commit of the branch that it became, when that lacks its trailers. It is recorded with them,
                and from the next fetch on `history` has it as if it had them itself.
        """

    def create_tag(
        self, name: str, commit: str, message: str, lease: LeaseRecord, ttl: float
    ) -> LeaseRecord | LeaseLost:
        """Push an annotated tag together with a renewed lease; a tag of that name on that commit counts as pushed."""

    def tag(self, name: str) -> TagRecord | None:
        """Return a tag as the server has it; None when there is no such tag."""

    def tags_below(self, prefix: str) -> tuple[TagRecord, ...]:
        """Return all annotated tags whose names begin with `prefix`, as the server has them now, by name.

        `prefix` ends with a slash. The server filters, and only tags that were not seen before are transferred.
        """

    def signers(self, tags: Sequence[TagRecord], keys: Mapping[str, str]) -> Mapping[str, str]:
        """Return by whose key each tag is signed: the key's name in `keys`, by the tag's name.

        Left out are tags without a valid signature of one of the keys, and those that were signed under another name:
        a signature counts for one tag. `keys` are public keys of OpenSSH or armored ones of PGP.
        """

    def record_act(self, act: Act, sign: Sign | None = None) -> Act:
        """Record an act on the head of the branch, signed if `sign` is given, and return it as it was recorded.

        It needs no lease, because acts are only ever added. When another act has the same name, its time is moved on by
        milliseconds, so that none is lost; the very same act is recorded once.
        """

    def lease(self, application: str) -> LeaseRecord | None:
        """Return the lease as the server has it now, expired or not."""

    def acquire_lease(
        self, application: str, holder: str, ttl: float, *, take_over: bool = False
    ) -> LeaseRecord | LeaseBusy:
        """Take the lease when it is free, expired or already the holder's own, for `ttl` seconds.

        With `take_over` it is also taken from a run that is at work: that run's next push, tag or renewal fails.
        """

    def renew_lease(self, lease: LeaseRecord, ttl: float) -> LeaseRecord | LeaseLost:
        """Extend the lease to `ttl` seconds from now, if it is still ours."""

    def release_lease(self, lease: LeaseRecord) -> None:
        """Give the lease back; one that is no longer ours is left alone."""

    def commit_url(self, commit: str) -> str | None:
        """Return the web page of a commit; None when the repository's address has an unknown form."""

    def diff(self, commit: str) -> str:
        """Return a commit's change as a unified diff."""


class ArgoCD(Protocol):
    """Argo CD, through its Applications."""

    def ready(self) -> None:
        """Raise `DependencyError` unless the API server that holds the Applications is ready."""

    def application(self, namespace: str, name: str) -> ApplicationStatus | None:
        """Return an Application; None when there is no such Application."""

    def server_time(self) -> float | None:
        """Return what time it is there, in whole seconds since the epoch; None when the server does not tell."""

    def may(self, right: Right) -> bool | None:
        """Return whether our account has a right; None when the API server does not tell."""

    def refresh(self, namespace: str, name: str, *, hard: bool = False) -> None:
        """Ask the controller to compare again. It may drop the request, so ask until something moves."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. `from_api` tells the API server's own errors (`kind: Status`) from the model's answers."""

    status: int
    body: bytes
    seconds: float
    from_api: bool = False
    content_type: str = ""
    """In lower case, without parameters; empty when the answer has none."""

    @property
    def is_routed(self) -> bool:
        """Whether something behind the address answered: it did not for a failed connection or a gateway's error."""
        return self.status not in (0, 502, 503, 504)

    @property
    def described(self) -> str:
        """The status and the beginning of the body, as a finding; without a status, why no answer came."""
        shown = self.body[:200].decode("utf-8", "replace")
        return f"status {self.status}: {shown}" if self.status else f"no answer ({shown})"


class Cluster(Protocol):
    """The cluster that serves the model."""

    def ready(self) -> None:
        """Raise `DependencyError` unless the API server's /readyz says ok."""

    def server_time(self) -> float | None:
        """Return what time it is there, in whole seconds since the epoch; None when the server does not tell."""

    def may(self, right: Right) -> bool | None:
        """Return whether our account has a right; None when the API server does not tell."""

    def try_to_apply(self, plural: str, document: Json, *, server_side: bool) -> str | None:
        """Apply an object for trial, in a dry run that keeps nothing; return the API server's refusal, or None.

        It takes the right to patch. `plural` is its kind in addresses; `server_side` is how Argo CD applies it.
        """

    def schemas(self, api_version: str) -> Json | None:
        """Return the OpenAPI schemas of an API, such as apps/v1, by name; None when it publishes none."""

    def nodes(self) -> tuple[Node, ...]:
        """Return all nodes, ready or not."""

    def workload(self, kind: str, namespace: str, name: str) -> WorkloadStatus | None:
        """Return a workload with its pods; None when the cluster has no such workload."""

    def log_tail(self, namespace: str, pod: str, container: str, *, previous: bool, lines: int = 20) -> str:
        """Return the last lines of a container's log; empty when it has none."""

    def pods(self, namespace: str, *, fields: str = "", labels: str = "") -> tuple[Json, ...]:
        """Return the pods of a namespace that these selectors choose, as the API server describes them."""

    def pod_events(self, namespace: str, pod: str) -> tuple[Json, ...]:
        """Return the events about a pod, as the API server describes them."""

    def services(self, namespace: str) -> tuple[ClusterService, ...] | None:
        """Return the Services of a namespace; None when our account may not list them."""

    def ask_pod(
        self, namespace: str, pod: str, port: int, path: str, body: bytes, headers: Headers, timeout: float
    ) -> Answer:
        """POST JSON to one pod through the API server's pod proxy; `path` may have a query, and is escaped already.

        The header `Authorization` is the API server's, and does not reach the pod.
        """


class Service(Protocol):
    """The model's service, as its clients outside the cluster reach it."""

    def ask(self, url: str, body: bytes, headers: Headers, timeout: float) -> Answer:
        """POST JSON to the policy's service; a connection that fails is an `Answer` of status 0."""

    def reach(self, url: str, headers: Headers, timeout: float) -> Answer:
        """GET an address, which changes nothing and counts as no request; a failed connection has status 0."""

    def check_headers(self, headers: Headers) -> None:
        """Raise `DependencyError` unless the values of all headers can be read."""


@dataclass(frozen=True)
class Sample:
    """One series of an answer, with its value."""

    labels: Mapping[str, str]
    value: float
    at: float
    """When it was evaluated, seconds since the epoch."""


@dataclass(frozen=True)
class QueryResult:
    """What Prometheus answers to a query that it accepts."""

    samples: tuple[Sample, ...]
    warnings: tuple[str, ...] = ()
    """What makes the answer doubtful: a source that was not asked, a partial response. Such an answer never passes."""
    infos: tuple[str, ...] = ()
    """Remarks on the query's style, such as a counter whose name does not end in `_total`; the value stays certain."""


@dataclass(frozen=True)
class QueryRejected:
    """Prometheus understood the request and refuses the query, which is the policy's fault."""

    message: str


class Metrics(Protocol):
    """Prometheus."""

    def ready(self) -> None:
        """Raise `DependencyError` unless Prometheus is ready."""

    def query(self, expression: str, at: float | None = None) -> QueryResult | QueryRejected:
        """Evaluate an instant query, at `at` (seconds since the epoch) or else by Prometheus's own clock."""


@dataclass(frozen=True)
class PlatformImage:
    """One platform of an image: the digests of its manifest and config, and the config's environment."""

    architecture: str
    manifest_digest: str
    config_digest: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class ResolvedImage:
    """An image in the registry: the digest to pin, and all the digests by which a kubelet may name it."""

    reference: ImageRef
    """repository:tag@digest."""
    platforms: tuple[PlatformImage, ...]
    instead: str = ""
    """What it is when it has no platforms, such as an artifact of another type."""

    @property
    def digest(self) -> str:
        """The digest that the manifest pins."""
        assert self.reference.digest is not None
        return self.reference.digest

    @property
    def known_digests(self) -> frozenset[str]:
        """All digests by which a kubelet may name the image."""
        manifests = (platform.manifest_digest for platform in self.platforms)
        configs = (platform.config_digest for platform in self.platforms)
        return frozenset((self.digest, *manifests, *configs))


class ImageRegistry(Protocol):
    """The registries that images are pulled from."""

    def resolve(self, reference: ImageRef) -> ResolvedImage | None:
        """Return what a reference names now; None when the registry answers that it has no such image.

        `RateLimitedError` means that the registry wants to be asked later.
        """

    def signatures(self, image: ImageRef, wanted: CosignPolicy) -> tuple[ImageSignature, ...]:
        """Return what is stored as a signature of an image, named by digest, and why each is not by who is wanted."""


@dataclass(frozen=True)
class Clients:
    """All ports of one promotion, bound to the clusters of its policy."""

    clock: Clock
    registry: Registry
    git: GitOpsRepository
    argocd: ArgoCD
    cluster: Cluster
    service: Service
    metrics: Metrics
    images: ImageRegistry
    requests: PullRequests | None = None
    """Where pull requests are opened; None unless the policy delivers by them."""


@dataclass(frozen=True)
class Destination:
    """Where notifications go."""

    name: str
    """What a person calls it in an error, without anything of the address: `line 2 of notify.txt (Slack)`."""
    address: str = field(repr=False)
    """Holds secrets, so nothing shows it."""


class Notifier(Protocol):
    """Sends notifications."""

    def send(self, destination: Destination, message: Message) -> None:
        """Send a message once, in bounded time; `DependencyError` unless the destination took it."""

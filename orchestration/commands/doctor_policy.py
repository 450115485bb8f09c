"""What `incumbent doctor` asks about one policy: its model, manifest, application, workload, queries and images."""

from collections.abc import Callable, Iterator
from functools import cached_property, partial

from orchestration.commands.probes import Finding, Outcome, Probe, failed, ok, unknown
from orchestration.promotion.cluster_status import ApplicationStatus, WorkloadStatus
from orchestration.promotion.gate import stale_after
from orchestration.promotion.gate_queries import GateQuery, answer_now, gate_queries
from orchestration.promotion.images import ImageRef, parse_image
from orchestration.promotion.manifest import EditRefused, read_image
from orchestration.promotion.platform import PlatformInParts
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import QueryRejected
from orchestration.promotion.problems import Problem, ProblemError
from orchestration.promotion.promql import expand
from orchestration.promotion.recorded_requests import RECORDING_PATH, parse_recording
from orchestration.promotion.repository_address import is_same_repository
from orchestration.promotion.rights import Right, argocd_rights, cluster_rights

_PROXIED = "mlflow-artifacts:"
_NOT_ROUTED = (0, 502, 503, 504)
_SERVICE_SECONDS = 10.0
_UP = 'up{namespace="$namespace",pod=~"$pods"}'


def policy_probes(platform: PlatformInParts, name: str) -> list[Probe]:
    """List what to ask about one policy; only whether it can be read, when it cannot."""
    try:
        policy = platform.policy(name)
    except ProblemError as error:
        problem = error.problem
        return [Probe(name, "policy", lambda: failed(problem))]
    own = _Examined(platform, policy)
    registry, branch, argocd = "MLflow: answers", "Git: branch", "Argo CD: answers"
    manifest, application, cluster, workload = (
        f"{name}: {what}" for what in ("manifest", "application", "cluster", "workload")
    )
    measured = (workload, "Prometheus: answers")
    probes = [
        Probe(name, "policy", lambda: ok(f"promotes {policy.model} to {policy.manifest.path}")),
        Probe(name, "artifacts", own.artifacts, (registry,)),
        Probe(name, "right to edit", own.permission, (registry,)),
        Probe(name, "champion", partial(own.alias, policy.champion_alias), (registry,)),
        Probe(name, "challenger", partial(own.alias, policy.challenger_alias), (registry,)),
        Probe(name, "manifest", own.manifest, (branch,)),
        Probe(name, "image registry", own.image_registry, (manifest, "settings: INCUMBENT_OCI_MIRRORS")),
        Probe(name, "application", own.application_exists, (argocd,)),
        Probe(name, "its source", own.source, (application, branch)),
        Probe(name, "automated sync", own.automated_sync, (application,)),
        Probe(name, "rights in Argo CD", own.rights_in_argocd, (argocd,)),
        Probe(name, "cluster", own.cluster_answers, ("settings: INCUMBENT_KUBECONFIG",)),
        Probe(name, "rights in cluster", own.rights_in_cluster, (cluster,)),
        Probe(name, "nodes", own.nodes, (cluster,)),
        Probe(name, "workload", own.workload_serves, (cluster,)),
        Probe(name, "container", own.container, (workload,)),
        Probe(name, "service_url", own.service),
        Probe(name, "scrapes", own.scrapes, measured),
    ]
    return probes + [Probe(name, what, ask, measured) for what, ask in own.queries()]


class _Examined:
    """One policy and what it names in the world; each method asks one question."""

    def __init__(self, platform: PlatformInParts, policy: Policy) -> None:
        self.platform, self.policy = platform, policy
        self.target = policy.manifest

    @cached_property
    def workload(self) -> WorkloadStatus | None:
        """The workload as the cluster has it; read once, however many probes need it."""
        cluster = self.platform.cluster(self.policy.cluster)
        return cluster.workload(self.target.kind, self.target.namespace, self.target.name)

    @cached_property
    def application(self) -> ApplicationStatus | None:
        """The Application as Argo CD has it."""
        return self.platform.argocd().application(self.policy.argocd.namespace, self.policy.argocd.application)

    def artifacts(self) -> Finding:
        """Whether artifacts go through the server, by where the newest version's run has them, and by reading one."""
        registry = self.platform.registry()
        version = registry.latest_version(self.policy.model)
        if version is None or not version.run_id:
            return unknown(
                f"no version of {self.policy.model} with a run, so nothing to read",
                "Train and register one: log_model(registered_model_name=).",
            )
        root = registry.artifact_root(version.run_id)
        if root is None or not root.startswith(_PROXIED):
            problem = Problem(
                f"the artifacts of {version}",
                f"a place under {_PROXIED}/",
                root or f"no run {version.run_id}",
                "Start the MLflow server with --serve-artifacts, and log runs in an experiment created after that.",
            )
            return failed(problem)
        registry.artifact(version.run_id, RECORDING_PATH)
        return ok(f"{root} can be read. Writing is not tried: the first is the evidence of a promotion")

    def permission(self) -> Finding:
        """Whether the account may write the model's tags and aliases."""
        model, registry = self.policy.model, self.platform.registry()
        if registry.latest_version(model) is None:  # for a model that does not exist, the answer is always no
            return unknown(f"no version of {model} is registered", "Correct model in the policy, or register one.")
        allowed = registry.may_edit(model)
        if allowed is None:
            return unknown("the server does not tell: it asks for no login, or is older than 3.17")
        if allowed:
            return ok(f"the account may edit {model}")
        next_step = "Grant it, as an administrator: python -m bootstrap mlflow-accounts."
        return failed(Problem(f"the account's right on {model}", "EDIT", "less than EDIT", next_step))

    def alias(self, alias: str) -> Finding:
        """Whether the version that an alias names has recorded requests that can be read."""
        registry, model = self.platform.registry(), self.policy.model
        version = registry.version_by_alias(model, alias)
        if version is None:
            return ok(f"no version of {model} has the alias {alias} now")
        content = registry.artifact(version.run_id, RECORDING_PATH) if version.run_id else None
        recording = parse_recording(content) if content is not None else None
        next_step = f"Record them: incumbent record {model} {version.version} --url URL."
        if recording is None:
            missing = "no recorded requests"
            return failed(Problem(str(version), f"the artifact {RECORDING_PATH} of its run", missing, next_step))
        if isinstance(recording, Problem):
            return failed(Problem(f"{recording.subject} of {version}", recording.expected, recording.found, next_step))
        return ok(f"version {version.version}, with {len(recording.requests)} recorded request(s)")

    def manifest(self) -> Finding:
        """Whether the manifest is on the branch, with an image that can be edited."""
        return ok(f"{self.target.path} has {self._image_on_branch()}")

    def _image_on_branch(self) -> str:
        git = self.platform.git()
        head = git.fetch()
        content = git.read_file(head, self.target.path)
        if content is None:
            problem = Problem(
                f"{self.target.path} at {head[:12]}",
                f"the manifest that policy {self.policy.name} names",
                "no such file",
                "Correct manifest.path in the policy, or commit the file.",
            )
            raise ProblemError(problem)
        current = read_image(content, self.target)
        if isinstance(current, EditRefused):
            raise ProblemError(current.problem)
        return current.value

    def image_registry(self) -> Finding:
        """Whether the image that serves now is in its registry, and the policy's repository lets this machine in."""
        images, current = self.platform.images(), self._image_on_branch()
        reference = parse_image(current)
        if reference is None or images.resolve(reference) is None:
            next_step = "Push it again, or commit an image that exists, so that there is a way back."
            return failed(Problem(f"image {current}", "an image that can be pulled", "no such image", next_step))
        repository = self.policy.image.repository
        if reference.repository != repository:
            images.resolve(ImageRef(repository, "incumbent-doctor"))  # absent is an answer; a refused login is none
            return ok(f"{current} is there, and {repository}, from which the policy deploys, lets us in")
        return ok(f"{current} is there")

    def application_exists(self) -> Finding:
        """Whether Argo CD has the Application."""
        target, found = self.policy.argocd, self.application
        if found is None:
            problem = Problem(
                f"Application {target.namespace}/{target.application}",
                "the application that the policy names",
                "no such application",
                f"Correct argocd in the policy, or apply its manifest. To list them: kubectl -n {target.namespace} get "
                "applications.",
            )
            return failed(problem)
        return ok(f"{target.namespace}/{target.application} is {found.sync_status} and {found.health_status}")

    def source(self) -> Finding:
        """Whether Argo CD deploys what a promotion edits: this repository, this branch, and the manifest's folder."""
        assert self.application is not None, "this probe needs the application"
        git, source = self.platform.git(), self.application.source
        subject = f"Application {self.policy.argocd.namespace}/{self.policy.argocd.application}"
        if source is None:
            next_step = "Give it one source: with several it has no single revision to wait for."
            return failed(Problem(subject, "one source", "several sources, or none", next_step))
        address, revision = git.address(), self.application.sync_revision
        follows = revision is not None and git.is_ancestor(revision, git.fetch())
        if not is_same_repository(source.repository, address.url) and not follows:
            next_step = "Set INCUMBENT_GIT_URL to the repository that Argo CD reads."
            return failed(Problem(subject, f"the repository {address.url}", source.repository, next_step))
        if source.revision not in (address.branch, f"refs/heads/{address.branch}") and (
            source.revision not in ("", "HEAD") or not follows
        ):
            next_step = "Set INCUMBENT_GIT_BRANCH to the branch that Argo CD follows (spec.source.targetRevision)."
            return failed(Problem(subject, f"the branch {address.branch}", source.revision or "HEAD", next_step))
        folder = source.path.strip("/")
        if folder not in ("", ".") and not self.target.path.startswith(f"{folder}/"):
            next_step = (
                "Correct manifest.path in the policy. With Kustomize or Helm, let it be a file that this builds."
            )
            return failed(Problem(subject, f"a folder with {self.target.path} in it", source.path, next_step))
        another = "" if is_same_repository(source.repository, address.url) else ", by another address"
        return ok(f"{source.path} on {source.revision or 'HEAD'} of {source.repository}{another}")

    def automated_sync(self) -> Finding:
        """Whether Argo CD rolls out by itself what is committed."""
        assert self.application is not None, "this probe needs the application"
        if self.application.auto_sync:
            return ok("on")
        name, namespace = self.policy.argocd.application, self.policy.argocd.namespace
        return failed(
            Problem(
                f"Application {namespace}/{name}",
                "automated sync",
                "automated sync turned off",
                f"Set spec.syncPolicy.automated in its manifest, or: argocd app set {name} --sync-policy automated.",
            )
        )

    def rights_in_argocd(self) -> Finding:
        """Whether the account may read and refresh Applications."""
        return _rights(self.platform.argocd().may, argocd_rights(self.policy), "control-plane")

    def cluster_answers(self) -> Finding:
        """Whether the cluster's API server is ready."""
        self.platform.cluster(self.policy.cluster).ready()
        return ok(f"{self.policy.cluster} is ready")

    def rights_in_cluster(self) -> Finding:
        """Whether the account may do what a rollout and the gate ask of the cluster."""
        return _rights(self.platform.cluster(self.policy.cluster).may, cluster_rights(self.policy), "edge")

    def nodes(self) -> Finding:
        """Whether there is a ready node, and of which architecture images must be."""
        nodes = self.platform.cluster(self.policy.cluster).nodes()
        ready = [node for node in nodes if node.ready]
        if not ready:
            found = f"{len(nodes)} node(s), none of them ready" if nodes else "no nodes"
            next_step = f"Look at them: kubectl --context {self.policy.cluster} get nodes."
            return failed(Problem(f"cluster {self.policy.cluster}", "a node that is ready", found, next_step))
        return ok(f"{len(ready)} of {len(nodes)} ready; {', '.join(sorted({node.architecture for node in ready}))}")

    def workload_serves(self) -> Finding:
        """Whether the workload exists and has a pod that serves."""
        workload, target = self.workload, self.target
        subject = f"{target.kind} {target.namespace}/{target.name}"
        look = f"kubectl --context {self.policy.cluster} -n {target.namespace} get deployments,pods"
        if workload is None:
            next_step = f"Correct manifest in the policy. To see what is there: {look}."
            return failed(Problem(subject, "the workload that the policy names", "no such workload", next_step))
        ready = self._pods()
        if not ready:
            found = f"{len(workload.new_pods)} pod(s) of its newest template, none of them ready"
            return failed(Problem(subject, "a pod that is ready", found, f"Look at them: {look}."))
        return ok(f"{subject} has {len(ready)} of {workload.wanted} pods ready")

    def _pods(self) -> list[str]:
        return [pod.name for pod in self.workload.new_pods if pod.ready] if self.workload is not None else []

    def container(self) -> Finding:
        """Whether the container exists, and states the port at which pods are asked."""
        assert self.workload is not None, "this probe needs the workload"
        name = self.target.container
        if name not in self.workload.images:
            found = f"only {', '.join(self.workload.images) or 'containers without a name'}"
            next_step = "Correct manifest.container in the policy."
            return failed(Problem(str(self.workload), f"a container {name}", found, next_step))
        if name not in self.workload.ports:
            next_step = f"Give container {name} a containerPort in {self.target.path}."
            return failed(Problem(str(self.workload), f"a containerPort of {name}", "no containerPort", next_step))
        return ok(f"{name}, asked at port {self.workload.ports[name]}")

    def service(self) -> Finding:
        """Whether something answers where clients reach the model; any page will do."""
        url = self.policy.service_url
        answer = self.platform.service().reach(url, _SERVICE_SECONDS)
        if answer.status not in _NOT_ROUTED:
            return ok(f"{url} answers (HTTP {answer.status} to a GET)")
        found = f"HTTP {answer.status}" if answer.status else answer.body.decode("utf-8", "replace")
        next_step = "Correct service_url in the policy, or look at the Service and its endpoints."
        return failed(Problem(url, "an answer of the model's server", found, next_step), unanswered=not answer.status)

    def scrapes(self) -> Finding:
        """Whether Prometheus scrapes each pod, once, with success and often enough."""
        metrics, pods = self.platform.metrics(), self._pods()
        namespace, window = self.target.namespace, self.policy.gate.soak
        up, times = (
            metrics.query(expand(query, pods=pods, window=window, namespace=namespace, source=""))
            for query in (_UP, f"timestamp({_UP})")
        )
        assert not isinstance(up, QueryRejected), "a plain selector is accepted"
        assert not isinstance(times, QueryRejected), "and so is its time"
        values = {pod: [sample.value for sample in up.samples if sample.labels.get("pod") == pod] for pod in pods}
        ages = {sample.labels.get("pod", ""): sample.at - sample.value for sample in times.samples}
        limit = stale_after(self.policy.gate)
        for pod, found in values.items():
            problem = None
            if len(found) != 1:
                problem = "no such series" if not found else f"{len(found)} of them, from several scrape jobs"
            elif found != [1.0]:
                problem = "a last scrape that failed"
            elif ages.get(pod, 0.0) > limit:
                problem = f"a last scrape {ages[pod]:.0f} s ago, too rare for a soak of {window:g} s"
            if problem is not None:
                next_step = "Correct the scrape configuration: docs/policies.md lists what Prometheus must provide."
                expected = f'one series up{{namespace="{namespace}",pod="{pod}"}} with the value 1'
                return failed(Problem(f"Prometheus, pod {pod}", expected, problem, next_step))
        oldest = max((ages.get(pod, 0.0) for pod in pods), default=0.0)
        return ok(f"each of {len(pods)} pods is scraped; the oldest last scrape is {oldest:.1f} s old")

    def queries(self) -> Iterator[tuple[str, Callable[[], Finding]]]:
        """List the gate's queries by name, each with its question; the pods are known only when it is asked."""
        for number, asked in enumerate(gate_queries(self.policy, ["pod"])):
            if asked.query:
                source = f" ({asked.source})" if asked.name == "requests" else ""
                yield f"query {asked.name}{source}", partial(self._query, number)

    def _query(self, number: int) -> Finding:
        assert self.workload is not None, "this probe needs the workload"
        asked: GateQuery = list(gate_queries(self.policy, self._pods()))[number]
        answer = answer_now(asked, self.policy, self.workload, self.platform.metrics())
        if answer.usable:
            return ok(f"{answer.finding}{f', must be {asked.bound}' if asked.bound else ''}")
        field = "gate.requests" if asked.name == "requests" else f"SLO {asked.name}"
        pods = "|".join(self._pods())
        next_step = (
            f"Correct {field} in {self.policy.name}.yaml. What the pods have, in Prometheus: "
            f'count by (__name__) ({{namespace="{self.target.namespace}",pod=~"{pods}"}}).'
        )
        found = failed(Problem(f"{field}", "one number about the pods that serve now", answer.finding, next_step))
        if asked.source == "replayed" and answer.finding.startswith("no data"):
            return Finding(Outcome.UNKNOWN, "no data: no recorded request was ever sent to these pods")
        return found


def _rights(may: Callable[[Right], bool | None], rights: Iterator[Right], role: str) -> Finding:
    answers = {str(right): may(right) for right in rights}
    missing = [right for right, allowed in answers.items() if allowed is False]
    if missing:
        next_step = f"Grant them as manifests/platform/access/{role}/incumbent.yaml does (docs/architecture.md#rights)."
        return failed(Problem("the account", ", ".join(answers), f"no right to {'; '.join(missing)}", next_step))
    if None in answers.values():
        return unknown(
            "the API server does not tell which rights the account has",
            "Ask as that account: kubectl auth can-i --list.",
        )
    return ok(f"{len(answers)} of {len(answers)} that promotions use")

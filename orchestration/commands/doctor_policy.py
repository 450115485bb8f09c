"""What `incumbent doctor` asks about one policy: its model, manifest, application, workload, queries and images."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import PurePosixPath
from threading import Lock

from orchestration.commands.clocks import clock_of
from orchestration.commands.probes import Finding, Outcome, Probe, failed, ok, unknown
from orchestration.promotion.application_files import as_one_source
from orchestration.promotion.branch_view import manifest_at
from orchestration.promotion.cluster_status import ApplicationStatus, WorkloadStatus
from orchestration.promotion.gate_queries import SCRAPES, ask_gate, gate_queries, look_at_gate, query_name
from orchestration.promotion.github import RefusedError
from orchestration.promotion.images import ImageRef, parse_image
from orchestration.promotion.live_target import look_at_container, look_at_workload
from orchestration.promotion.looks import Bearing, Look
from orchestration.promotion.platform import PlatformInParts
from orchestration.promotion.pod_port import pod_port
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import GitOpsRepository
from orchestration.promotion.problems import Problem, ProblemError
from orchestration.promotion.recorded_requests import RECORDING_PATH, recording_of
from orchestration.promotion.rights import Right, argocd_rights, cluster_rights
from orchestration.promotion.version_image import serving_image, version_address
from orchestration.promotion.workload_kinds import JUDGED
from orchestration.stages.look_before import source_of
from orchestration.stages.try_manifest import try_manifest

_DEPLOYABLE = frozenset((".json", ".jsonnet", ".tpl", ".yaml", ".yml"))
"""Suffixes of files from which Argo CD makes objects."""


def policy_probes(platform: PlatformInParts, name: str) -> list[Probe]:
    """List what to ask about one policy; only whether it can be read, when it cannot."""
    try:
        policy = platform.policy(name)
    except ProblemError as error:
        problem = error.problem
        return [Probe(name, "policy", lambda: failed(problem))]
    own = _Examined(platform, policy)
    registry, argocd = "MLflow: answers", "Argo CD: answers"
    branch = "Git: branch" if policy.git is None else f"{name}: branch"
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
        Probe(name, "clock", clock_of(platform.clock(), f"cluster {policy.cluster}", own.cluster_time), (cluster,)),
        Probe(name, "rights in cluster", own.rights_in_cluster, (cluster,)),
        Probe(name, "nodes", own.nodes, (cluster,)),
        Probe(name, "workload", own.workload_serves, (cluster,)),
        Probe(name, "container", own.container, (workload,)),
        Probe(name, "manifest applies", own.manifest_applies, (manifest, application, workload)),
        Probe(name, "service", own.service),
    ]
    if policy.git is not None:
        probes.insert(1, Probe(name, "branch", lambda: branch_of(platform.git(policy))))
        probes.insert(2, Probe(name, "push", lambda: push_to(platform.git(policy)), (branch,)))
        probes.insert(
            3, Probe(name, "reach", lambda: reach_of(platform.git(policy), [policy.manifest.path]), (branch,))
        )
    if policy.has_own_repository:
        probes.insert(4, Probe(name, "signing", lambda: signing_for(platform.git(policy))))
    if policy.delivery.pull_request is not None:
        probes.append(Probe(name, "pull requests", own.pull_requests))
    if policy.slot.holds_address:
        probes.append(Probe(name, "address", own.address, (registry,)))
    return probes + [Probe(name, what, ask, measured) for what, ask in own.gate()]


def branch_of(git: GitOpsRepository) -> Finding:
    """Whether the repository has the branch."""
    head, address = git.fetch(), git.address()
    return ok(f"branch {address.branch} of {address.url} is at {head[:12]}")


def push_to(git: GitOpsRepository) -> Finding:
    """Whether the login may push, as far as that is told before anything is sent."""
    git.check_push()
    return ok(
        "a dry run gets as far as the refs: the login may push, and atomically. Not proved: protected branches "
        "and tags, hidden refs and hooks, which decide when a push arrives"
    )


def reach_of(git: GitOpsRepository, manifests: Iterable[str]) -> Finding:
    """Whether the branch, to which the login may push, holds more than the policies' models.

    Whether anything is deployed from the rest is not known here: the account may read no other Application.

    Args:
        git: the repository.
        manifests: the paths of the manifests that promotions edit there.
    """
    folders = {PurePosixPath(path).parent for path in manifests}
    files = [PurePosixPath(path) for path in git.list_files(git.fetch(), ".")]
    others = [file for file in files if file.suffix in _DEPLOYABLE and folders.isdisjoint(file.parents)]
    branch = f"branch {git.address().branch}"
    if not others:
        return ok(f"{branch} holds the policies' models alone")
    return unknown(
        f"{branch} also has {others[0]}{f' and {len(others) - 1} more' if others[1:] else ''}; whoever has the "
        "pipeline's login can change what is deployed from there",
        "Give the pipeline a branch, or a repository, that holds the models alone: docs/blast-radius.md.",
    )


def signing_for(git: GitOpsRepository) -> Finding:
    """Whether commits can be signed with the key that the settings name, if they name one."""
    if git.check_signing():
        return ok("the key signs, and asks for no passphrase. Not proved: that the server knows it")
    return ok("commits are not signed, because INCUMBENT_GIT_SIGNING_KEY names no key")


class _Examined:
    """One policy and what it names in the world; each method asks one question."""

    def __init__(self, platform: PlatformInParts, policy: Policy) -> None:
        self.platform, self.policy = platform, policy
        self.target = policy.manifest
        self._asking = Lock()  # of what several probes read, each in a thread of its own

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
        """Whether artifacts can be read where the newest version's run has them: by the server, or where we may."""
        registry = self.platform.registry()
        version = registry.latest_version(self.policy.model)
        if version is None or not version.run_id:
            return unknown(
                f"no version of {self.policy.model} with a run, so nothing to read",
                "Train and register one: log_model(registered_model_name=).",
            )
        root = registry.artifact_root(version.run_id)
        if root is None:
            next_step = "Restore the run, or register a new version."
            return failed(Problem(str(version), "a training run", f"no run {version.run_id}", next_step))
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
        recording = recording_of(registry, version.run_id)
        next_step = f"Record them: incumbent record {model} {version.version} --url URL."
        if recording is None:
            missing = "no recorded requests"
            return failed(Problem(str(version), f"the artifact {RECORDING_PATH} of its run", missing, next_step))
        if isinstance(recording, Problem):
            return failed(Problem(f"{recording.subject} of {version}", recording.expected, recording.found, next_step))
        return ok(f"version {version.version}, with {len(recording.requests)} recorded request(s)")

    def manifest(self) -> Finding:
        """Whether the manifest is on the branch, with an image, or an address, that can be edited."""
        return ok(f"{self.target.path} has {self.image_on_branch}")

    @cached_property
    def _manifest(self) -> tuple[bytes, str]:
        """The manifest at the head of the branch, and the image or the address in it."""
        git = self.platform.git(self.policy)
        read = manifest_at(git, self.policy, git.fetch())
        if isinstance(read, Problem):
            raise ProblemError(read)
        return read

    @property
    def image_on_branch(self) -> str:
        """The image, or the address, in the manifest at the head of the branch."""
        return self._manifest[1]

    def pull_requests(self) -> Finding:
        """Whether the Git host lets the token open requests into the branch."""
        policy, requests = self.policy, self.platform.pull_requests(self.policy)
        rule = policy.delivery.pull_request
        assert rule is not None, "this probe is of policies that deliver by pull requests"
        assert requests is not None, "so there is a host to ask"
        try:
            requests.check_open(rule.auto_merge)
        except RefusedError as error:  # it answered, and answers the same the next time
            return failed(error.problem)
        return ok(f"{requests} lets the token open requests; merging them is for people and the branch's rules")

    def image_registry(self) -> Finding:
        """Whether the image that serves now is in its registry, and the policy's repository lets this machine in."""
        if self.policy.slot.holds_address:
            return self._serving_image()
        images, current = self.platform.images(), self.image_on_branch
        reference = parse_image(current)
        resolved = images.resolve(reference) if reference is not None else None
        if reference is None or resolved is None:
            next_step = "Push it again, or commit an image that exists, so that there is a way back."
            return failed(Problem(f"image {current}", "an image that can be pulled", "no such image", next_step))
        if self.policy.signature is not None:  # the key or the root must be there; only new images must be signed
            images.signatures(resolved.reference, self.policy.signature.cosign)
        repository = self.policy.images.repository
        if reference.repository != repository:
            images.resolve(ImageRef(repository, "incumbent-doctor"))  # absent is an answer; a refused login is none
            return ok(f"{current} is there, and {repository}, from which the policy deploys, lets us in")
        return ok(f"{current} is there")

    def _serving_image(self) -> Finding:
        """Whether the image is in its registry that serves the models whose addresses are deployed."""
        found = serving_image(self.platform.images(), self.policy, self._manifest[0])
        if found is None:
            return unknown(f"{self.target.path} has no image: the platform chooses it")
        if isinstance(found, Problem):
            return failed(found)
        return ok(f"{found.resolved.reference}, which serves all versions, is there")

    def address(self) -> Finding:
        """Whether the newest version's model has an address that may be deployed."""
        registry = self.platform.registry()
        version = registry.latest_version(self.policy.model)
        if version is None:
            return unknown(f"no version of {self.policy.model} is registered", "Register one.")
        found = version_address(registry, self.policy, version)
        return failed(found) if isinstance(found, Problem) else ok(f"version {version.version} would be {found}")

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
        """Whether Argo CD deploys what a promotion edits, and sets no other image over it."""
        assert self.application is not None, "this probe needs the application"
        git = self.platform.git(self.policy)
        return _found(source_of(git, self.policy, self.application, git.fetch()))

    def automated_sync(self) -> Finding:
        """Whether Argo CD rolls out by itself what is committed."""
        assert self.application is not None, "this probe needs the application"
        if self.application.auto_sync:
            return ok("on")
        name, namespace = self.policy.argocd.application, self.policy.argocd.namespace
        next_step = f"Set spec.syncPolicy.automated in {self.application.is_changed_in}."
        if not self.application.made_by:
            next_step += f" At once, by hand: argocd app set {name} --sync-policy automated."
        found = "automated sync turned off"
        return failed(Problem(f"Application {namespace}/{name}", "automated sync", found, next_step))

    def rights_in_argocd(self) -> Finding:
        """Whether the account may read and refresh Applications."""
        return _rights(self.platform.argocd().may, argocd_rights(self.policy), "control-plane")

    def cluster_answers(self) -> Finding:
        """Whether the cluster's API server is ready."""
        self.platform.cluster(self.policy.cluster).ready()
        return ok(f"{self.policy.cluster} is ready")

    def cluster_time(self) -> float | None:
        """What time it is at the cluster's API server; None when it does not tell."""
        return self.platform.cluster(self.policy.cluster).server_time()

    def rights_in_cluster(self) -> Finding:
        """Whether the account may do what a rollout and the gate ask of the cluster."""
        return _rights(self.platform.cluster(self.policy.cluster).may, cluster_rights(self.policy), "edge")

    def manifest_applies(self) -> Finding:
        """Whether the manifest is valid as it is, and what a promotion asks about it: a dry run, or the schema."""
        assert self.application is not None, "this probe needs the application"
        git, cluster = self.platform.git(self.policy), self.platform.cluster(self.policy.cluster)
        application = as_one_source(self.application, git.address(), self.target.path)
        return _found(try_manifest(cluster, git, self.policy, application, git.fetch(), self._manifest[0]))

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
        """Whether the workload exists, rolls out by itself, and has a pod that serves."""
        found = _found(look_at_workload(self.policy, self._application_if_known(), self.workload))
        if found.outcome is not Outcome.OK or self._pods():
            return found
        assert self.workload is not None, "a workload that is missing is a problem"
        target = self.target
        pods = f"{len(self.workload.new_pods)} pod(s) of its newest template, none of them ready"
        look = f"kubectl --context {self.policy.cluster} -n {target.namespace} get {JUDGED[target.kind].plural},pods"
        return failed(Problem(str(self.workload), "a pod that is ready", pods, f"Look at them: {look}."))

    def _application_if_known(self) -> ApplicationStatus | None:
        """The Application, by whose resources a missing workload's name may be told; None while Argo CD is silent."""
        try:
            return self.application
        except ProblemError:
            return None

    def _pods(self) -> list[str]:
        return [pod.name for pod in self.workload.new_pods if pod.ready] if self.workload is not None else []

    def container(self) -> Finding:
        """Whether the container exists, and it is known at which port pods are asked."""
        assert self.workload is not None, "this probe needs the workload"
        name = self.target.container
        found = _found(look_at_container(self.policy, self.workload))
        if found.outcome is not Outcome.OK:
            return found
        port = pod_port(self.policy, self.workload, self.platform.cluster(self.policy.cluster))
        if isinstance(port, Problem):
            return failed(port)
        return ok(f"{name}, asked at port {port}, {self.policy.service.pod_path(self.policy.model)}")

    def service(self) -> Finding:
        """Whether something answers where clients reach the model; any page will do."""
        settings = self.policy.service
        url = settings.address(self.policy.model)
        answer = self.platform.service().reach(url, settings.headers, settings.timeout)
        if answer.is_routed:
            return ok(f"{url} answers (HTTP {answer.status} to a GET)")
        found = f"HTTP {answer.status}" if answer.status else answer.body.decode("utf-8", "replace")
        next_step = "Correct service.url in the policy, or look at the Service and its endpoints."
        return failed(Problem(url, "an answer of the model's server", found, next_step), unanswered=not answer.status)

    def gate(self) -> Iterator[tuple[str, Callable[[], Finding]]]:
        """List what is asked of Prometheus, each with its question; the pods are known only when it is asked."""
        yield SCRAPES, partial(self._gate, SCRAPES)
        for asked in gate_queries(self.policy, ["pod"]):
            if asked.query:
                yield query_name(asked), partial(self._gate, query_name(asked))

    def _gate(self, name: str) -> Finding:
        with self._asking:
            return _found(self._looks[name])

    @cached_property
    def _looks(self) -> Mapping[str, Look]:
        """What Prometheus says about the pods that serve now; asked once, however many probes need it."""
        assert self.workload is not None, "these probes need the workload"
        registry, policy = self.platform.registry(), self.policy
        try:
            is_proved = registry.version_by_alias(policy.model, policy.champion_alias) is not None
        except ProblemError:  # it has a line of its own
            is_proved = False
        now_serving = ask_gate(policy, self.workload, self.platform.metrics())
        looks = look_at_gate(policy, now_serving, is_proved=is_proved, now=self.platform.clock().now())
        return {look.what: look for look in looks}


def _found(look: Look) -> Finding:
    """Say what a look before the commit found, as the stage says it."""
    if look.problem is not None:
        return failed(look.problem)
    return unknown(look.finding) if look.bearing is Bearing.NOTED else ok(look.finding)


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

"""Drafting a policy from a live Argo CD application, its workload, its pods' metrics and the newest model version."""

import math
import re
from collections.abc import Sequence

from orchestration.promotion.cluster_status import ApplicationStatus, WorkloadStatus
from orchestration.promotion.images import parse_image
from orchestration.promotion.manifest import CurrentImage, read_image
from orchestration.promotion.manifest_place import Selector
from orchestration.promotion.platform import PlatformInParts
from orchestration.promotion.policy import parse_policy
from orchestration.promotion.policy_draft import (
    PolicyDraft,
    latency_histograms,
    propose_latency,
    propose_quality,
    read_traffic,
    request_counters,
)
from orchestration.promotion.ports import QueryResult, Sample
from orchestration.promotion.problems import InvalidInputError, Problem, ProblemError
from orchestration.promotion.promql import expand

IN_CLUSTER = "https://kubernetes.default.svc"
"""How Argo CD names the cluster that it runs in."""
_WINDOW_SECONDS = 3600.0
"""How far to look back for requests, to propose a bound."""
_PLAIN_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
"""What PromQL accepts as a name without quotes; Prometheus 3 has others, too."""
_PODS = 'namespace="$namespace",pod=~"$pods"'


def draft_policy(
    platform: PlatformInParts, model: str, namespace: str, application: str, name: str, own_context: str
) -> PolicyDraft:
    """Draft a policy; whatever cannot be found out is left open in it, with the reason.

    Args:
        platform: the platform.
        model: the registered model.
        namespace: the namespace of the Application.
        application: the Application's name.
        name: the policy's name.
        own_context: the context of the cluster that Argo CD runs in.

    Raises:
        InvalidInputError: there is no such Application, or a setting is missing.
        DependencyError: Argo CD does not answer.
    """
    found = platform.argocd().application(namespace, application)
    if found is None:
        subject = f"Application {namespace}/{application}"
        next_step = f"Correct --application. To list them: kubectl -n {namespace} get applications."
        raise InvalidInputError(Problem(subject, "an application of Argo CD", "no such application", next_step))
    draft = PolicyDraft(name, model, application, namespace)
    workload = _workload(platform, found, draft, own_context)
    _manifest(platform, found, draft, workload)
    _service(platform, found, draft)
    _quality(platform, draft)
    _gate(platform, draft, workload)
    _prove(draft)
    return draft


def _workload(
    platform: PlatformInParts, application: ApplicationStatus, draft: PolicyDraft, own_context: str
) -> WorkloadStatus | None:
    """Find the Deployment that the application deploys, its container and its image's repository."""
    contexts = platform.contexts()
    where = application.destination
    candidates = [where] if where in contexts else [name for name, server in contexts.items() if server == where]
    draft.cluster = own_context if where == IN_CLUSTER else next(iter(candidates), "")
    if not draft.cluster:
        known = ", ".join(contexts) or "none"
        draft.leave_open("cluster", f"the kubeconfig's context of {where or 'the destination'} (contexts: {known})")
    deployments = [(space, name) for kind, space, name in application.resources if kind == "Deployment"]
    chosen = [each for each in deployments if each[1] == application.name] or deployments
    if len(chosen) == 1:
        draft.namespace, draft.workload = chosen[0]
    else:
        names = ", ".join(f"{space}/{name}" for space, name in deployments) or "none in the application's status"
        for part in ("namespace", "name"):
            draft.leave_open(f"manifest.{part}", f"the {part} of the Deployment that serves the model ({names})")
    workload = None
    if draft.cluster and draft.workload:
        try:
            workload = platform.cluster(draft.cluster).workload(draft.kind, draft.namespace, draft.workload)
        except ProblemError as error:
            draft.leave_open("manifest.container", _because("the container that serves the model", error))
    if workload is not None:
        _container(draft, workload)
    for name, meaning in (
        ("manifest.container", "the container that serves the model"),
        ("image.repository", "the repository of its images, without tag"),
    ):
        if not (draft.container if name == "manifest.container" else draft.repository):
            draft.open.setdefault(name, meaning)
    return workload


def _container(draft: PolicyDraft, workload: WorkloadStatus) -> None:
    with_ports = [name for name in workload.images if name in workload.ports]
    candidates = with_ports if len(workload.images) > 1 else list(workload.images)
    if len(candidates) != 1:
        draft.leave_open("manifest.container", f"the one that serves the model, of {', '.join(workload.images)}")
        return
    draft.container = candidates[0]
    reference = parse_image(workload.images[draft.container])
    if reference is not None and "/" in reference.repository:
        draft.repository = reference.repository
    else:
        draft.leave_open(
            "image.repository", f"the full repository of its images, with host (now {workload.images[draft.container]})"
        )


def _manifest(
    platform: PlatformInParts, application: ApplicationStatus, draft: PolicyDraft, workload: WorkloadStatus | None
) -> None:
    """Find the file on the branch that has the container's image."""
    expected = "the file with the Deployment"
    source = application.source
    if source is None or workload is None or not draft.container:
        reason = "the application has several sources" if source is None else "the workload is not known"
        draft.leave_open("manifest.path", f"{expected}, relative to the repository ({reason})")
        return
    try:
        git = platform.git()
        head = git.fetch()
        files = [path for path in git.list_files(head, source.path) if path.endswith((".yaml", ".yml"))]
        selector = Selector("", draft.kind, draft.namespace, draft.workload, draft.container)
        matching = [path for path in files if _has_image(git.read_file(head, path), selector)]
    except ProblemError as error:
        draft.leave_open("manifest.path", _because(expected, error))
        return
    kustomized = next((path for path in files if path.endswith(("kustomization.yaml", "kustomization.yml"))), None)
    if kustomized is not None:
        yaml_path = f"images[name={draft.repository}].newTag"
        by_kustomize = Selector("", yaml_path=yaml_path)
        if _has_image(git.read_file(head, kustomized), by_kustomize):
            draft.path, draft.yaml_path = kustomized, yaml_path
            return
    if len(matching) == 1:
        draft.path = matching[0]
        return
    among = ", ".join(matching) if matching else f"no single one under {source.path}"
    draft.leave_open("manifest.path", f"{expected}, relative to the repository ({among}); for Helm, with yaml_path")


def _has_image(content: bytes | None, selector: Selector) -> bool:
    return content is not None and isinstance(read_image(content, selector), CurrentImage)


def _service(platform: PlatformInParts, application: ApplicationStatus, draft: PolicyDraft) -> None:
    """Propose a node's address with the node port in the application's files, if something answers there."""
    meaning = "where clients reach the model, such as http://host:30808 or https://host/predict"
    try:
        address = _node_port_address(platform, application, draft)
    except ProblemError as error:
        draft.leave_open("service_url", _because(meaning, error))
        return
    if address and platform.service().reach(address, 5.0).status not in (0, 502, 503, 504):
        draft.service_url = address
        return
    draft.leave_open("service_url", f"{meaning} ({f'{address} does not answer from here' if address else 'not found'})")


def _node_port_address(platform: PlatformInParts, application: ApplicationStatus, draft: PolicyDraft) -> str:
    if application.source is None or not draft.cluster:
        return ""
    git = platform.git()
    head = git.fetch()
    ports: set[str] = set()
    for path in git.list_files(head, application.source.path):
        if path.endswith((".yaml", ".yml")):
            text = (git.read_file(head, path) or b"").decode("utf-8", "replace")
            ports |= set(re.findall(r"^\s*(?:- )?nodePort: ([0-9]{4,5})\s*$", text, re.MULTILINE))
    nodes = [node.address for node in platform.cluster(draft.cluster).nodes() if node.ready and node.address]
    return f"http://{nodes[0]}:{ports.pop()}" if nodes and len(ports) == 1 else ""


def _quality(platform: PlatformInParts, draft: PolicyDraft) -> None:
    meaning = "- {metric: NAME, at_least: NUMBER}, for a metric of the training run"
    try:
        registry = platform.registry()
        version = registry.latest_version(draft.model)
        run = registry.run(version.run_id) if version is not None and version.run_id else None
    except ProblemError as error:
        draft.leave_open("quality", _because(meaning, error))
        return
    draft.quality = propose_quality(run.metrics) if run is not None else []
    if not draft.quality:
        logged = ", ".join(sorted(run.metrics)) if run is not None else "no version with a run"
        draft.leave_open("quality", f"{meaning} (the newest version's run has: {logged or 'no metrics'})")


def _gate(platform: PlatformInParts, draft: PolicyDraft, workload: WorkloadStatus | None) -> None:
    """Propose the gate's queries from the metrics that Prometheus has of the pods that serve now."""
    meaning = 'a query that counts requests and selects by source=~"$source"'
    pods = [pod.name for pod in workload.new_pods if pod.ready] if workload is not None else []
    draft.slos.append("    - {name: restarts, from: pods, at_most: 0}")
    if not pods:
        draft.leave_open("gate.requests", f"{meaning} (no pod serves now)")
        return
    try:
        listed = _ask(platform, draft, pods, f"count by (__name__) ({{{_PODS}}})")
        named = (sample.labels.get("__name__", "") for sample in listed)
        names = [each for each in named if _PLAIN_NAME.fullmatch(each)]
        _requests(platform, draft, pods, names, meaning)
        for histogram in latency_histograms(names)[:1]:
            series = _ask(platform, draft, pods, f"{histogram}{{{_PODS}}}")
            recent = f"histogram_quantile(0.95, sum by (le) (rate({histogram}{{{_PODS}}}[$window])))"
            p95 = next((sample.value for sample in _ask(platform, draft, pods, recent)), None)
            draft.slos += propose_latency(histogram, series, p95 if p95 is not None and math.isfinite(p95) else None)
    except ProblemError as error:
        draft.leave_open("gate.requests", _because(meaning, error))


def _requests(
    platform: PlatformInParts, draft: PolicyDraft, pods: Sequence[str], names: Sequence[str], meaning: str
) -> None:
    counters = request_counters(names)
    found = [read_traffic(name, _ask(platform, draft, pods, f"{name}{{{_PODS}}}")) for name in counters[:5]]
    traffic = next((each for each in found if each.tells_replayed), None)
    if traffic is None:
        seen = f"without a label source: {', '.join(counters)}" if counters else f"{len(names)} other metrics"
        draft.leave_open("gate.requests", f"{meaning}; docs/policies.md says why (the pods have {seen})")
        return
    draft.requests = traffic.requests()
    if traffic.good:
        draft.slos += traffic.success_ratio()
    else:
        draft.leave_open("gate.slos", f"an SLO for wrong answers; no label of {traffic.counter} tells them from others")


def _ask(platform: PlatformInParts, draft: PolicyDraft, pods: Sequence[str], query: str) -> Sequence[Sample]:
    expression = expand(query, pods=pods, window=_WINDOW_SECONDS, namespace=draft.namespace, source="real|replayed")
    answer = platform.metrics().query(expression)
    return answer.samples if isinstance(answer, QueryResult) else ()


def _prove(draft: PolicyDraft) -> None:
    """Read the draft as a policy, when nothing is left open."""
    if not draft.open:
        parse_policy(draft.name, draft.text)


def _because(meaning: str, error: ProblemError) -> str:
    return f"{meaning} ({error.problem.subject}: {' '.join(error.problem.found.split())})"

"""Drafting a policy from a live Argo CD application, its workload, its pods' metrics and the newest model version."""

import math
import re
from collections.abc import Iterator, Sequence

from orchestration.commands.drafting_manifest import because, find_manifest
from orchestration.commands.drafting_service import find_service
from orchestration.promotion.cluster_status import ApplicationStatus, WorkloadStatus
from orchestration.promotion.deployed import Slot, parse_address
from orchestration.promotion.evaluation import ANY_TRAFFIC
from orchestration.promotion.images import parse_image
from orchestration.promotion.platform import PlatformInParts
from orchestration.promotion.policy import GitTarget, parse_policy
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
from orchestration.promotion.workload_kinds import JUDGED

IN_CLUSTER = "https://kubernetes.default.svc"
"""How Argo CD names the cluster that it runs in."""
_WINDOW_SECONDS = 3600.0
"""How far to look back for requests, to propose a bound."""
_PLAIN_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
"""What PromQL accepts as a name without quotes; Prometheus 3 has others, too."""
_PODS = 'namespace="$namespace",pod=~"$pods"'


def draft_policy(
    platform: PlatformInParts,
    model: str,
    namespace: str,
    application: str,
    name: str,
    own: GitTarget | None = None,
) -> PolicyDraft:
    """Draft a policy; whatever cannot be found out is left open in it, with the reason.

    Args:
        platform: the platform.
        model: the registered model.
        namespace: the namespace of the Application.
        application: the Application's name.
        name: the policy's name.
        own: the policy's own GitOps repository; None for the settings'.

    Raises:
        InvalidInputError: there is no such Application, its own repository cannot be used, or a setting is missing.
        DependencyError: Argo CD does not answer.
    """
    found = platform.argocd().application(namespace, application)
    if found is None:
        subject = f"Application {namespace}/{application}"
        next_step = f"Correct --application. To list them: kubectl -n {namespace} get applications."
        raise InvalidInputError(Problem(subject, "an application of Argo CD", "no such application", next_step))
    if own is not None:
        platform.git_of(name, own)  # what cannot be used is not written into a policy
    draft = PolicyDraft(name, model, application, namespace, own)
    workload = _workload(platform, found, draft)
    find_manifest(platform, found, draft, workload)
    find_service(platform, found, draft, workload)
    _quality(platform, draft)
    _gate(platform, draft, workload)
    _prove(draft)
    return draft


def _workload(platform: PlatformInParts, application: ApplicationStatus, draft: PolicyDraft) -> WorkloadStatus | None:
    """Find the workload that the application deploys, its container and its image's repository."""
    contexts = platform.contexts()
    where = application.destination
    candidates = [where] if where in contexts else [name for name, server in contexts.items() if server == where]
    draft.cluster = platform.argocd_context if where == IN_CLUSTER else next(iter(candidates), "")
    if not draft.cluster:
        known = ", ".join(contexts) or "none"
        draft.leave_open("cluster", f"the kubeconfig's context of {where or 'the destination'} (contexts: {known})")
    deployed = [each for each in application.resources if each[0] in JUDGED]
    named = [each for each in deployed if each[2] == application.name]
    chosen = named or [each for each in deployed if each[0] == "Deployment"] or deployed
    if len(chosen) == 1:
        draft.kind, draft.namespace, draft.workload = chosen[0]
    else:
        found = ", ".join(f"{kind} {space}/{name}" for kind, space, name in deployed)
        for part in ("namespace", "name"):
            meaning = f"the {part} of the workload that serves the model"
            draft.leave_open(f"manifest.{part}", f"{meaning} ({found or 'none in the status of the application'})")
    workload = None
    if draft.cluster and draft.workload:
        try:
            workload = platform.cluster(draft.cluster).workload(draft.kind, draft.namespace, draft.workload)
        except ProblemError as error:
            draft.leave_open("manifest.container", because("the container that serves the model", error))
    if workload is not None:
        _container(draft, workload)
    for name, meaning in (
        ("manifest.container", "the container that serves the model"),
        ("image.repository", "the repository of its images, without tag"),
    ):
        if not (draft.container if name == "manifest.container" else draft.repository or draft.slot.holds_address):
            draft.open.setdefault(name, meaning)
    return workload


def _container(draft: PolicyDraft, workload: WorkloadStatus) -> None:
    with_ports = [name for name in workload.images if name in workload.ports]
    candidates = with_ports if len(workload.images) > 1 else list(workload.images)
    if len(candidates) != 1:
        draft.leave_open("manifest.container", f"the one that serves the model, of {', '.join(workload.images)}")
        return
    draft.container = candidates[0]
    slots = list(_slots_of_address(workload, draft.container, draft.model))
    if len(slots) == 1:
        (draft.slot,) = slots
        return
    reference = parse_image(workload.images[draft.container])
    if reference is not None and "/" in reference.repository:
        draft.repository = reference.repository
    else:
        draft.leave_open(
            "image.repository", f"the full repository of its images, with host (now {workload.images[draft.container]})"
        )


def _slots_of_address(workload: WorkloadStatus, container: str, model: str) -> Iterator[Slot]:
    """Find where a container has the address of a version of the model, so that one image may serve all versions."""

    def is_one(text: str | None) -> bool:
        address = parse_address(text or "")
        named = address.version if address is not None else None
        return named is not None and named[0] == model

    spec = workload.spec(container)
    if parse_address(workload.storage_uri) is not None:
        yield Slot("storageUri")
    for name, value in spec.environment.items() if spec is not None else ():
        if is_one(value):
            yield Slot("variable", name)
    arguments = spec.arguments if spec is not None else ()
    for before, text in zip(("", *arguments), arguments, strict=False):
        name, equals, value = text.partition("=")
        if equals and name.startswith("-") and is_one(value):
            yield Slot("argument", name)
        elif is_one(text) and before.startswith("-"):
            yield Slot("argument", before)


def _quality(platform: PlatformInParts, draft: PolicyDraft) -> None:
    meaning = "- {metric: NAME, at_least: NUMBER}, for a metric of the training run"
    try:
        registry = platform.registry()
        version = registry.latest_version(draft.model)
        run = registry.training(version) if version is not None else None
    except ProblemError as error:
        draft.leave_open("quality", because(meaning, error))
        return
    draft.quality = propose_quality(run.metrics) if run is not None else []
    if not draft.quality:
        logged = ", ".join(sorted(run.metrics)) if run is not None else "no version with a run"
        draft.leave_open("quality", f"{meaning} (the newest version's run has: {logged or 'no metrics'})")


def _gate(platform: PlatformInParts, draft: PolicyDraft, workload: WorkloadStatus | None) -> None:
    """Propose the gate's queries from the metrics that Prometheus has of the pods that serve now."""
    meaning = "a query that counts requests; docs/policies.md lists presets for well-known servers"
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
        draft.leave_open("gate.requests", because(meaning, error))


def _requests(
    platform: PlatformInParts, draft: PolicyDraft, pods: Sequence[str], names: Sequence[str], meaning: str
) -> None:
    counters = request_counters(names)
    found = [read_traffic(name, _ask(platform, draft, pods, f"{name}{{{_PODS}}}")) for name in counters[:5]]
    if not found:
        draft.leave_open("gate.requests", f"{meaning} (the pods have {len(names)} other metrics)")
        return
    traffic = next((each for each in found if each.tells_replayed), found[0])
    draft.requests = traffic.requests()
    if traffic.good:
        draft.slos += traffic.success_ratio()
    else:
        draft.leave_open("gate.slos", f"an SLO for wrong answers; no label of {traffic.counter} tells them from others")


def _ask(platform: PlatformInParts, draft: PolicyDraft, pods: Sequence[str], query: str) -> Sequence[Sample]:
    expression = expand(query, pods=pods, window=_WINDOW_SECONDS, namespace=draft.namespace, source=ANY_TRAFFIC)
    answer = platform.metrics().query(expression)
    return answer.samples if isinstance(answer, QueryResult) else ()


def _prove(draft: PolicyDraft) -> None:
    """Read the draft as a policy, when nothing is left open."""
    if not draft.open:
        parse_policy(draft.name, draft.text)

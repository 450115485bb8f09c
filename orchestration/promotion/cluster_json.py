"""Argo CD's and Kubernetes' JSON, read as the values of `cluster_status`.

The parsers never fail: an object that was just created lacks most fields, and an absent field reads as "not yet".
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter

from orchestration.promotion.cluster_status import (
    ApplicationSource,
    ApplicationStatus,
    ClusterService,
    ContainerPort,
    ContainerSpec,
    ContainerStatus,
    Node,
    PodStatus,
    ServicePort,
    WorkloadStatus,
)
from orchestration.promotion.json_reading import (
    Json,
    condition_of,
    controller_uid,
    int_of,
    items_of,
    mapping_at,
    text_of,
    time_of,
)
from orchestration.promotion.workload_kinds import JUDGED, POD_TEMPLATE, WorkloadKind

_STORAGE_URI = "internal.serving.kserve.io/storage-initializer-sourceuri"
"""The annotation by which KServe's controller tells its webhook, in the pod template, where the model is."""
SERVER_SIDE = "ServerSideApply=true"
"""Argo CD's option of a sync that the API server does; by default Argo CD sends a patch, as `kubectl apply` does."""
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def parse_application(raw: Json) -> ApplicationStatus:
    """Read an Argo CD Application. With several sources it has no single revision, but one for each source."""
    status = mapping_at(raw, "status")
    operation = mapping_at(status, "operationState")
    # An operation that has just begun has no result yet, but says what it was asked to sync.
    revision = _commit(mapping_at(operation, "syncResult")) or _commit(mapping_at(operation, "operation", "sync"))
    spec = mapping_at(raw, "spec")
    source, several = mapping_at(spec, "source"), items_of(spec, "sources")
    automated = mapping_at(spec, "syncPolicy").get("automated")
    destination = mapping_at(spec, "destination")
    return ApplicationStatus(
        name=text_of(mapping_at(raw, "metadata"), "name") or "",
        sync_status=text_of(mapping_at(status, "sync"), "status") or "Unknown",
        sync_revision=_commit(mapping_at(status, "sync")),
        health_status=text_of(mapping_at(status, "health"), "status") or "Unknown",
        operation_phase=text_of(operation, "phase"),
        operation_revision=revision,
        operation_finished_at=time_of(operation, "finishedAt"),
        operation_message=text_of(operation, "message") or "",
        reconciled_at=time_of(status, "reconciledAt"),
        # `automated: {}` switches auto-sync on; since Argo CD 3.0 `enabled: false` in it switches it off.
        auto_sync=isinstance(automated, Mapping) and automated.get("enabled") is not False,
        applies_server_side=SERVER_SIDE in _strings(mapping_at(spec, "syncPolicy"), "syncOptions"),
        conditions=tuple(
            (text_of(condition, "type") or "", text_of(condition, "message") or "")
            for condition in items_of(status, "conditions")
        ),
        source=None if several or not source else _source(source),
        sources=tuple(_source(each) for each in several),
        sync_revisions=_commits(mapping_at(status, "sync")) if several else (),
        operation_revisions=_operation_revisions(operation) if several else (),
        source_type=text_of(status, "sourceType") or "",
        hydrates=bool(mapping_at(spec, "sourceHydrator")),
        made_by=_application_set(mapping_at(raw, "metadata")),
        destination=text_of(destination, "name") or text_of(destination, "server") or "",
        resources=tuple(
            (text_of(each, "kind") or "", text_of(each, "namespace") or "", text_of(each, "name") or "")
            for each in items_of(status, "resources")
        ),
        external_urls=tuple(_external_urls(mapping_at(status, "summary"))),
    )


def _external_urls(summary: Json) -> Iterator[str]:
    """The addresses in the summary; a link that a person set by an annotation may be `title|address`."""
    for text in _strings(summary, "externalURLs"):
        url = text.rpartition("|")[2]
        if re.match(r"https?://[^/*]+(/|$)", url):
            yield url


def _application_set(metadata: Json) -> str:
    owners = (owner for owner in items_of(metadata, "ownerReferences") if owner.get("kind") == "ApplicationSet")
    return next((f"ApplicationSet {text_of(owner, 'name')}" for owner in owners), "")


def _source(source: Json) -> ApplicationSource:
    helm, kustomize = mapping_at(source, "helm"), mapping_at(source, "kustomize")
    repository, revision, path = (text_of(source, part) or "" for part in ("repoURL", "targetRevision", "path"))
    return ApplicationSource(
        repository,
        revision,
        path,
        chart=text_of(source, "chart") or "",
        ref=text_of(source, "ref") or "",
        recurses=mapping_at(source, "directory").get("recurse") is True,
        has_plugin=isinstance(source.get("plugin"), Mapping),
        value_files=_strings(helm, "valueFiles"),
        kustomize_images=_strings(kustomize, "images"),
        kustomize_fields=frozenset(kustomize),
        helm_values=tuple(_helm_values(helm)),
        helm_text=text_of(helm, "values") or "",
    )


def _helm_values(helm: Json) -> Iterator[tuple[str, str]]:
    """What stands above the value files, the strongest first, as Argo CD's documentation orders it."""
    for parameter in (*items_of(helm, "parameters"), *items_of(helm, "fileParameters")):
        yield "parameters" if "value" in parameter else "fileParameters", text_of(parameter, "name") or ""
    for path in _leaves(mapping_at(helm, "valuesObject")):
        yield "valuesObject", path


def _leaves(values: Json, above: str = "") -> Iterator[str]:
    for key, value in values.items():
        path = f"{above}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}.")
        else:
            yield path


def parse_workload(
    kind: str, workload: Json, revisions: Sequence[Json], pods: Iterable[Json], events: Iterable[Json]
) -> WorkloadStatus:
    """Read a workload together with its revisions, the pods that its selector matches, and their events.

    Args:
        kind: the workload's kind, as the policy spells it; one with pods of its own.
        workload: the workload itself.
        revisions: at least its own ReplicaSets or ControllerRevisions, whichever the kind has.
        pods: at least its own; what other objects control is left out, whatever its labels are.
        events: of those pods; all but warnings are left out.
    """
    known = JUDGED[kind]
    warnings = _warnings(events)
    owners = _owners_of_pods(known, workload, revisions)
    return replace(
        known.read(_described(kind, workload), workload, revisions),
        pods=tuple(
            _pod(pod, known.hash_label, warnings.get(text_of(mapping_at(pod, "metadata"), "name") or "", ()))
            for pod in pods
            if controller_uid(pod) in owners
        ),
    )


def parse_service(raw: Json) -> ClusterService:
    """Read a Service; ports over UDP or SCTP are left out."""
    return ClusterService(
        name=text_of(mapping_at(raw, "metadata"), "name") or "",
        selector=_texts(raw, "spec", "selector"),
        ports=tuple(_service_port(port) for port in _over_tcp(mapping_at(raw, "spec"))),
        addresses=(*_balancers(raw), *_strings(mapping_at(raw, "spec"), "externalIPs")),
    )


def _balancers(raw: Json) -> Iterator[str]:
    """The hosts of a Service's load balancer; a name is stated in place of an address where there is one."""
    for entry in items_of(mapping_at(raw, "status", "loadBalancer"), "ingress"):
        host = text_of(entry, "hostname") or text_of(entry, "ip")
        if host:
            yield host


def _over_tcp(raw: Json) -> list[Json]:
    return [port for port in items_of(raw, "ports") if (text_of(port, "protocol") or "TCP") == "TCP"]


def _service_port(raw: Json) -> ServicePort:
    number = int_of(raw, "port")
    target = text_of(raw, "targetPort") or int_of(raw, "targetPort") or number
    return ServicePort(number, target, int_of(raw, "nodePort") or None)


def _ports(container: Json) -> tuple[ContainerPort, ...]:
    ports = _over_tcp(container)
    return tuple(ContainerPort(text_of(port, "name") or "", int_of(port, "containerPort")) for port in ports)


def _texts(raw: Json, *path: str) -> dict[str, str]:
    return {str(name): value for name, value in mapping_at(raw, *path).items() if isinstance(value, str)}


def parse_inference_service(raw: Json, deployment: WorkloadStatus | None) -> WorkloadStatus:
    """Read a KServe InferenceService.

    Args:
        raw: the InferenceService.
        deployment: the Deployment that it controls and that runs its pods; None when there is none.
    """
    described = _described("InferenceService", raw)
    if deployment is None:
        base = replace(described, unfinished="the InferenceService has no Deployment")
    else:
        base = replace(deployment, kind=described.kind, name=described.name)
    return JUDGED["InferenceService"].read(base, raw, ())


def _described(kind: str, raw: Json) -> WorkloadStatus:
    """Read what all kinds have alike: their names, their generation, and the containers of the pod template."""
    metadata, template = mapping_at(raw, "metadata"), mapping_at(raw, *POD_TEMPLATE)
    containers = [*items_of(template, "initContainers"), *items_of(template, "containers")]
    return WorkloadStatus(
        kind=kind,
        namespace=text_of(metadata, "namespace") or "",
        name=text_of(metadata, "name") or "",
        generation=int_of(metadata, "generation"),
        observed_generation=0,
        wanted=0,
        updated=0,
        ready=0,
        available=0,
        total=0,
        images={text_of(container, "name") or "": text_of(container, "image") or "" for container in containers},
        specs=tuple(_spec(container) for container in containers),
        storage_uri=text_of(mapping_at(raw, "spec", "template", "metadata", "annotations"), _STORAGE_URI) or "",
        ports={text_of(container, "name") or "": ports for container in containers if (ports := _ports(container))},
        pod_labels=_texts(raw, "spec", "template", "metadata", "labels"),
    )


def _owners_of_pods(known: WorkloadKind, workload: Json, revisions: Iterable[Json]) -> frozenset[str]:
    """The uids of what controls the workload's pods: its ReplicaSets, or the workload itself.

    Labels do not tell: those of another workload's pods may match the selector as well, as a canary's do.
    """
    own = text_of(mapping_at(workload, "metadata"), "uid")
    if own is None:
        return frozenset()
    if not known.owns_pods_through_replicasets:
        return frozenset((own,))
    uids = (text_of(mapping_at(each, "metadata"), "uid") for each in revisions if controller_uid(each) == own)
    return frozenset(uid for uid in uids if uid is not None)


def parse_node(raw: Json) -> Node:
    """Read a node. Its label is believed before its own report of the architecture, because scheduling goes by it."""
    metadata, status = mapping_at(raw, "metadata"), mapping_at(raw, "status")
    addresses = {text_of(each, "type"): text_of(each, "address") for each in items_of(status, "addresses")}
    return Node(
        name=text_of(metadata, "name") or "",
        architecture=text_of(mapping_at(metadata, "labels"), "kubernetes.io/arch")
        or text_of(mapping_at(status, "nodeInfo"), "architecture")
        or "",
        ready=condition_of(status, "Ready").get("status") == "True",
        address=addresses.get("ExternalIP") or addresses.get("InternalIP") or "",
    )


def _pod(raw: Json, hash_label: str, warnings: tuple[str, ...]) -> PodStatus:
    metadata, spec, status = (mapping_at(raw, part) for part in ("metadata", "spec", "status"))
    scheduled = condition_of(status, "PodScheduled")
    unplaced = text_of(scheduled, "message") or text_of(scheduled, "reason") or "no reason"
    statuses = [*items_of(status, "initContainerStatuses"), *items_of(status, "containerStatuses")]
    return PodStatus(
        name=text_of(metadata, "name") or "",
        uid=text_of(metadata, "uid") or "",
        template_hash=text_of(mapping_at(metadata, "labels"), hash_label),
        phase=text_of(status, "phase") or "Unknown",
        ready=condition_of(status, "Ready").get("status") == "True",
        deleting=text_of(metadata, "deletionTimestamp") is not None,
        node=text_of(spec, "nodeName"),
        created_at=time_of(metadata, "creationTimestamp") or 0.0,
        containers=tuple(_container(container) for container in statuses),
        reason=text_of(status, "reason"),
        unschedulable=unplaced if scheduled.get("status") == "False" else None,
        warnings=warnings,
        specs=tuple(
            _spec(container) for part in ("initContainers", "containers") for container in items_of(spec, part)
        ),
    )


def _spec(raw: Json) -> ContainerSpec:
    """Read how a container is started. Of two variables of one name the later one counts, as for the kubelet."""
    return ContainerSpec(
        name=text_of(raw, "name") or "",
        environment={text_of(variable, "name") or "": literal_value(variable) for variable in items_of(raw, "env")},
        takes_more_environment=bool(items_of(raw, "envFrom")),
        replaces_command=bool(raw.get("command") or raw.get("args")),
        arguments=(*_strings(raw, "command"), *_strings(raw, "args")),
    )


def literal_value(variable: Json) -> str | None:
    """Return the value of an entry of `env`; None when it is not in the entry itself.

    The API server leaves out an empty value. `$(NAME)` in a value stands for another variable.
    """
    value = text_of(variable, "value") or ""
    return None if variable.get("valueFrom") is not None or "$(" in value else value


def _container(raw: Json) -> ContainerStatus:
    waiting, terminated = mapping_at(raw, "state", "waiting"), mapping_at(raw, "state", "terminated")
    last = mapping_at(raw, "lastState", "terminated")
    return ContainerStatus(
        name=text_of(raw, "name") or "",
        image=text_of(raw, "image") or "",
        image_id=text_of(raw, "imageID") or "",
        ready=raw.get("ready") is True,
        restarts=int_of(raw, "restartCount"),
        waiting_reason=text_of(waiting, "reason"),
        waiting_message=text_of(waiting, "message"),
        terminated_reason=text_of(terminated, "reason"),
        terminated_exit_code=int_of(terminated, "exitCode") if terminated else None,
        last_terminated_reason=text_of(last, "reason"),
        last_exit_code=int_of(last, "exitCode") if last else None,
        last_message=text_of(terminated, "message") or text_of(last, "message"),
    )


def _warnings(events: Iterable[Json]) -> dict[str, tuple[str, ...]]:
    """Warning events by pod, oldest first. An event has its time in one of three fields, depending on its API's age."""
    dated: dict[str, list[tuple[float, str]]] = {}
    for event in events:
        about = mapping_at(event, "involvedObject")
        if text_of(event, "type") != "Warning" or text_of(about, "kind") not in ("Pod", None):
            continue
        at = (
            time_of(mapping_at(event, "series"), "lastObservedTime")
            or time_of(event, "lastTimestamp")
            or time_of(event, "eventTime")
            or 0.0
        )
        text = f"{text_of(event, 'reason') or 'Warning'}: {text_of(event, 'message') or ''}"
        dated.setdefault(text_of(about, "name") or "", []).append((at, text))
    return {pod: tuple(text for _, text in sorted(texts, key=itemgetter(0))) for pod, texts in dated.items()}


def _operation_revisions(operation: Json) -> tuple[str | None, ...]:
    return _commits(mapping_at(operation, "syncResult")) or _commits(mapping_at(operation, "operation", "sync"))


def _strings(raw: Json, key: str) -> tuple[str, ...]:
    value = raw.get(key)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _commit(raw: Json) -> str | None:
    """The revision when it is a full commit id; None for a branch's name, which does not say what was seen there."""
    revision = text_of(raw, "revision")
    return revision if revision is not None and _COMMIT.fullmatch(revision) else None


def _commits(raw: Json) -> tuple[str | None, ...]:
    """The revisions of several sources, each as `_commit` reads it; their order is that of the sources."""
    return tuple(text if _COMMIT.fullmatch(text) else None for text in _strings(raw, "revisions"))

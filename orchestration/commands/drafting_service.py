"""Finding where clients reach a live model: by an Ingress, a load balancer, a node's port, or inside the cluster."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from orchestration.commands.drafting_manifest import files_of, repository_of
from orchestration.promotion.cluster_status import ApplicationStatus, ClusterService, WorkloadStatus
from orchestration.promotion.platform import PlatformInParts
from orchestration.promotion.policy_draft import PolicyDraft
from orchestration.promotion.ports import Cluster
from orchestration.promotion.problems import Problem, ProblemError
from orchestration.promotion.serving_protocols import PROTOCOLS
from orchestration.promotion.texts import one_line

Known = TypeVar("Known")
_MEANING = "where clients reach the model, such as http://host:30808 or https://host/predict"
_REACH_SECONDS = 5.0
_MOST_ASKED = 8
"""How many addresses are asked whether anything answers there; each may take `_REACH_SECONDS`."""
_ROUTES = ("Ingress", "HTTPRoute", "VirtualService", "IngressRoute", "HTTPProxy", "Route")
"""Kinds that give a Service an address outside the cluster. The pipeline has no right to read them, and Argo CD tells
the addresses of the first alone."""
_PATTERN = re.compile(r"[(*\\$^].*")
"""What of an Ingress's path is a pattern, and no part of an address."""
_NODE_PORT = re.compile(r"^\s*(?:- )?nodePort: ([0-9]{4,5})\s*$", re.MULTILINE)


@dataclass(frozen=True)
class _Way:
    """An address that may lead to the model."""

    url: str
    by: str

    def __str__(self) -> str:
        return f"{self.url} ({self.by})"


def find_service(
    platform: PlatformInParts, application: ApplicationStatus, draft: PolicyDraft, workload: WorkloadStatus | None
) -> None:
    """Propose the first address at which a model's server answers and shows its protocol.

    What clients outside the cluster use comes first. What could not be found out is said, because a route may lead
    there that the pipeline has no right to read.

    Args:
        platform: the platform.
        application: as Argo CD has it; it tells the addresses of its Ingresses.
        draft: gets the address and the protocol, or what is left open.
        workload: what is live; None when it is not known.
    """
    gaps = list(_routes_not_known(application))
    ways = list(_ways(platform, application, draft, workload, gaps))
    silent: list[str] = []
    answering: list[_Way] = []
    for way in ways[:_MOST_ASKED]:
        if not platform.service().reach(way.url, {}, _REACH_SECONDS).is_routed:
            silent.append(f"{way} does not answer from here")
            continue
        protocol = _protocol(platform, way.url, draft.model)
        if protocol:
            draft.service, draft.protocol = way.url, protocol
            return
        answering.append(way)
    if answering:
        choice = f"{{url: {answering[0].url}, protocol: ...}}, one of {', '.join(PROTOCOLS)}"
        names = ", ".join(map(str, answering))
        draft.leave_open("service", one_line(f"{choice}; nothing tells which. What answers from here: {names}"))
        return
    skipped = [f"{way} was not asked" for way in ways[_MOST_ASKED:]]
    found = "; ".join([*silent, *skipped, *gaps]) or "no Service selects its pods"
    draft.leave_open("service", one_line(f"{_MEANING} ({found})"))


def _routes_not_known(application: ApplicationStatus) -> Iterator[str]:
    for kind, namespace, name in application.resources:
        if kind in _ROUTES and not (kind == "Ingress" and application.external_urls):
            yield f"the address of {kind} {namespace}/{name} is not known"


def _ways(
    platform: PlatformInParts,
    application: ApplicationStatus,
    draft: PolicyDraft,
    workload: WorkloadStatus | None,
    gaps: list[str],
) -> Iterator[_Way]:
    """The addresses that are known, those outside the cluster first; what is not known is added to `gaps`."""
    for url in dict.fromkeys(_PATTERN.sub("", url).rstrip("/") for url in application.external_urls):
        yield _Way(url, "as Argo CD has it")
    if workload is None:
        gaps.append("the workload is not known, and so neither are its Services")
        return
    cluster, namespace = platform.cluster(draft.cluster), workload.namespace
    listed = _known(f"the Services of {namespace}", lambda: _listed(cluster, namespace), gaps)
    services = [each for each in listed or () if each.selects(workload.pod_labels)]
    for service in services:
        for port in service.ports:
            yield from (_Way(_url(host, port.port), f"Service {service.name}") for host in service.addresses)
    ports = _node_ports(services)
    if listed is None:
        in_files = _known("its files", lambda: _node_ports_in_files(platform, application, draft), gaps)
        ports = dict.fromkeys(in_files or (), "a node port in the application's files")
    if ports:
        nodes = _known("the nodes", cluster.nodes, gaps) or ()
        addresses = [node.address for node in nodes if node.ready and node.address]
        if nodes and not addresses:
            gaps.append("no node that is ready has an address")
        yield from (_Way(_url(host, number), by) for host in addresses[:1] for number, by in ports.items())
    for service in services:
        for port in service.ports:
            yield _Way(
                _url(f"{service.name}.{namespace}.svc", port.port),
                f"Service {service.name}, for clients inside the cluster",
            )


def _listed(cluster: Cluster, namespace: str) -> Sequence[ClusterService]:
    services = cluster.services(namespace)
    if services is None:
        next_step = "Grant it (docs/architecture.md#rights)."
        raise ProblemError(Problem("the account", "the right to list them", "no right to list them", next_step))
    return services


def _known(what: str, ask: Callable[[], Sequence[Known] | None], gaps: list[str]) -> Sequence[Known] | None:
    """Ask for a list; None, and a note of why, when there is no answer."""
    try:
        return ask()
    except ProblemError as error:
        gaps.append(f"{what} are not known: {error.problem.subject}: {error.problem.found}")
        return None


def _node_ports(services: Iterable[ClusterService]) -> Mapping[int, str]:
    """By which Service each node port leads to the model."""
    found = ((port.node_port, service.name) for service in services for port in service.ports)
    return {number: f"a node port of Service {name}" for number, name in found if number is not None}


def _node_ports_in_files(
    platform: PlatformInParts, application: ApplicationStatus, draft: PolicyDraft
) -> Sequence[int]:
    git = repository_of(platform, draft)
    head = git.fetch()
    texts = ((git.read_file(head, path) or b"").decode("utf-8", "replace") for path in files_of(git, head, application))
    return [int(number) for text in texts for number in _NODE_PORT.findall(text)]


def _url(host: str, port: int) -> str:
    scheme = "https" if port == 443 else "http"
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" if port in (80, 443) else f"{scheme}://{name}:{port}"


def _protocol(platform: PlatformInParts, address: str, model: str) -> str:
    """The protocol of which a server shows signs; empty when none does."""
    for name, protocol in PROTOCOLS.items():
        path = protocol.presence_for(model)
        if path and platform.service().reach(address + path, {}, _REACH_SECONDS).status == 200:
            return name
    return ""

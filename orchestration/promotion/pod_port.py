"""The port at which a pod is asked: what the policy says, or where the Service that clients use leads."""

from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from orchestration.promotion.cluster_status import ClusterService, ServicePort, WorkloadStatus
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Cluster
from orchestration.promotion.problems import Problem


def pod_port(policy: Policy, workload: WorkloadStatus, cluster: Cluster) -> int | Problem:
    """Find the port to ask pods at, as `choose_port` does; Services are read only when they matter.

    Raises:
        DependencyError: the cluster does not answer.
    """
    services = cluster.services(workload.namespace) if policy.service.port is None else ()
    return choose_port(policy, workload, services)


def choose_port(policy: Policy, workload: WorkloadStatus, services: Sequence[ClusterService] | None) -> int | Problem:
    """Find the port to ask pods at.

    It is `service.port` of the policy; else the target of the Services that select the pods, if it is one, where the
    port in the policy's address chooses among several; else the only port that the container declares.

    Args:
        policy: says which container, and where clients reach the model.
        workload: the Deployment as it was last read.
        services: those of its namespace; None when they may not be listed.
    """
    wanted, container = policy.service.port, policy.manifest.container
    declared = workload.ports.get(container, ())
    if isinstance(wanted, int):
        return wanted
    if wanted is not None:
        named = _numbered([wanted], workload, container)
        if len(named) == 1:
            return named.pop()
        next_step = f"Correct service.port in {policy.name}.yaml, or name the port in {policy.manifest.path}."
        return Problem(str(workload), f"a container port named {wanted}", _listed(workload), next_step)
    behind = [port for each in services or () if each.selects(workload.pod_labels) for port in each.ports]
    targets = _numbered([port.target for port in _asked_for(policy, behind)], workload, container)
    if len(targets) == 1:
        return targets.pop()
    if len(declared) == 1:
        return declared[0].number
    found = f"Services that lead to {_joined(sorted(targets))}" if targets else _no_service(workload, services)
    return Problem(
        str(workload),
        "one port to ask its pods at: that of a Service that selects them, or the container's only one",
        f"{found}, and {_listed(workload)}",
        f"Name the one that takes the model's requests in {policy.name}.yaml: service: {{url: ..., port: NUMBER}}.",
    )


def _asked_for(policy: Policy, behind: Sequence[ServicePort]) -> Sequence[ServicePort]:
    """The Services' ports that the policy's address names, as a node port or by itself; all when it names none."""
    url = urlsplit(policy.service.url)
    number = url.port or {"http": 80, "https": 443}[url.scheme]
    by_node = [port for port in behind if port.node_port == number]
    return by_node or [port for port in behind if port.port == number] or behind


def _numbered(targets: Iterable[int | str], workload: WorkloadStatus, container: str) -> set[int]:
    """The numbers of ports; a name is looked for in the policy's container first, and then in the others."""
    numbers: set[int] = set()
    own = {port.name: port.number for port in workload.ports.get(container, ())}
    others = {port.name: port.number for ports in workload.ports.values() for port in ports}
    for target in targets:
        number = target if isinstance(target, int) else own.get(target, others.get(target))
        if number is not None:
            numbers.add(number)
    return numbers


def _no_service(workload: WorkloadStatus, services: Sequence[ClusterService] | None) -> str:
    return "Services that may not be listed" if services is None else "no Service that selects them"


def _listed(workload: WorkloadStatus) -> str:
    declared = [f"{port} of {name}" for name, ports in workload.ports.items() for port in ports]
    return _joined(declared) if declared else "no declared containerPort"


def _joined(parts: Sequence[object]) -> str:
    return ", ".join(str(part) for part in parts)

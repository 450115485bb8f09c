"""The only node, and whether the scheduler would place a pod on it."""

import platform
import re

from testbeds.sandbox.cluster.objects import Json, timestamp
from testbeds.sandbox.cluster.world import World, set_condition, status_of

NODE = "k3d-edge-server-0"
_ALLOCATABLE = {"cpu": "2", "memory": "4Gi", "pods": "110"}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_SUFFIXES = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_SUFFIXES |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGT", start=1)}


def architecture() -> str:
    """Return this machine's architecture by Kubernetes's name: amd64, arm64."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def quantity(text: object) -> float:
    """Parse a quantity such as `500m`, `256Mi` or `1.5`.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text))
    if match is None or match[2] not in _SUFFIXES:
        raise ValueError(f"quantities must match the regular expression of Kubernetes, found {text!r}")
    return float(match[1]) * _SUFFIXES[match[2]]


def create_node(world: World) -> None:
    labels = {"kubernetes.io/arch": architecture(), "kubernetes.io/os": "linux", "kubernetes.io/hostname": NODE}
    node = world.store.create(
        {"kind": "Node", "apiVersion": "v1", "metadata": {"name": NODE, "labels": labels}, "spec": {}}
    )
    status: Json = {"capacity": dict(_ALLOCATABLE), "allocatable": dict(_ALLOCATABLE), "conditions": []}
    status["nodeInfo"] = {"architecture": architecture(), "operatingSystem": "linux", "kubeletVersion": "v1.34.4"}
    status["addresses"] = [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": NODE}]
    world.store.set_status(node, status)
    show_node_condition(world)


def show_node_condition(world: World) -> None:
    """Set the node's Ready condition as the faults say."""
    node = world.store.get("Node", "", NODE)
    assert node is not None, "the node is created first of all"
    status = status_of(node)
    beat = {"lastHeartbeatTime": timestamp()}
    if world.faults.node_not_ready:
        reason, message = "NodeStatusUnknown", "Kubelet stopped posting node status."
        set_condition(status["conditions"], "Ready", "Unknown", reason, message, **beat)
    else:
        message = "kubelet is posting ready status"
        set_condition(status["conditions"], "Ready", "True", "KubeletReady", message, **beat)
    world.store.set_status(node, status)


def unschedulable(world: World, pod: Json) -> str | None:
    """Return the scheduler's message when the pod does not fit on the node now; None when it does."""
    node = world.store.get("Node", "", NODE)
    assert node is not None, "the node is created first of all"
    reasons = []
    if world.faults.node_not_ready:
        reasons.append("1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }")
    wanted = pod["spec"].get("nodeSelector", {})
    if any(node["metadata"]["labels"].get(label) != value for label, value in wanted.items()):
        reasons.append("1 node(s) didn't match Pod's node affinity/selector")
    placed = [other for other in world.store.all("Pod") if other["spec"].get("nodeName")]
    for resource in ("cpu", "memory"):
        used = sum(_requested(other, resource) for other in placed)
        if used + _requested(pod, resource) > quantity(_ALLOCATABLE[resource]):
            reasons.append(f"1 Insufficient {resource}")
    if not reasons:
        return None
    return f"0/1 nodes are available: {', '.join(reasons)}. preemption: 0/1 nodes are available: not played."


def _requested(pod: Json, resource: str) -> float:
    """Return what the pod's containers request; a limit without a request counts as a request."""
    resources = (container.get("resources", {}) for container in pod["spec"]["containers"])
    return sum(quantity({**each.get("limits", {}), **each.get("requests", {})}.get(resource, 0)) for each in resources)

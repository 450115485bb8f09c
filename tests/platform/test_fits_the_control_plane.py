"""What runs on the control plane fits the machine that docs/clusters.md names, by requests and also by limits."""

from collections.abc import Iterator, Mapping
from typing import Any

from testbeds.homelab.offline.go_build import argocd_sources
from tests.platform.crds import documents
from tests.platform.programs import content

NODE_MIB = 4096
"""An e2-medium."""
SMALL_NODE_MIB = 2048
"""An e2-small."""
K3S_MIB = 1522
"""What k3s publishes for a server with a workload: 1596 MB in 95 of 100 readings, with all packaged components."""
LINUX_MIB = 150
"""An allowance for Linux and Tailscale, which nobody has measured on such a machine."""
SYSTEM_MIB = K3S_MIB + LINUX_MIB
EXPORTER_MIB = 240
"""`incumbent companion`, which runs beside the control plane (docs/metrics.md)."""
ARGOCD_MIB = {
    "argocd-application-controller": 256,
    "argocd-repo-server": 80,
    "argocd-redis": 8,
    "argocd-applicationset-controller": 32,
}
"""Memory set aside for Argo CD, whose manifests are applied unchanged and state neither requests nor limits.

`tests/homelab/test_platform.py` checks that this is enough after all stories.
"""
_UNITS = {"Ki": 1 / 1024, "Mi": 1.0, "Gi": 1024.0}
_WORKLOADS = ("Deployment", "StatefulSet", "CronJob")


def mib(quantity: str) -> float:
    return float(quantity[:-2]) * _UNITS[quantity[-2:]]


def pods() -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Yield the name, number of pods and pod spec of each workload that root deploys to the control plane."""
    applications = [document["spec"] for document in content("argocd-apps") if document["kind"] == "Application"]
    paths = [spec["source"]["path"] for spec in applications if spec["destination"]["name"] == "in-cluster"]
    for path in paths:
        for document in content(path):
            if document["kind"] in _WORKLOADS:
                name, spec = document["metadata"]["name"], document["spec"]
                owner = spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec
                yield name, spec.get("replicas", 1), owner["template"]["spec"]


def memory(pod: Mapping[str, Any], bound: str) -> float:
    """Return a pod's memory in MiB as the scheduler counts it.

    That is the sum of its containers, or its greatest init container if that takes more.

    Args:
        bound: `requests` or `limits`.
    """

    def of(containers: list[dict[str, Any]]) -> list[float]:
        return [mib(container["resources"][bound]["memory"]) for container in containers]

    return max(sum(of(pod["containers"])), *of(pod.get("initContainers", [])), 0.0)


def total(bound: str) -> float:
    by_workload = {name: number * memory(pod, bound) for name, number, pod in pods()}
    assert {"mlflow", "mlflow-backup", "prometheus"} <= set(by_workload)
    return sum(by_workload.values()) + sum(ARGOCD_MIB.values())


def test_memory_is_set_aside_for_each_of_argocds_workloads() -> None:
    """Argo CD's workloads are those that `ARGOCD_MIB` lists, and none of them states resources."""
    manifest = argocd_sources() / "manifests/core-install.yaml"
    workloads = [document for document in documents(manifest) if document["kind"] in _WORKLOADS]
    assert {workload["metadata"]["name"] for workload in workloads} == set(ARGOCD_MIB)
    pods = [workload["spec"]["template"]["spec"] for workload in workloads]
    containers = [container for pod in pods for container in pod["containers"]]
    assert not [container["name"] for container in containers if container.get("resources")]


def test_requests_fit() -> None:
    """All pods can be scheduled at once, including the nightly backup, beside the exporter of the promotions."""
    assert total("requests") <= NODE_MIB - SYSTEM_MIB - EXPORTER_MIB


def test_limits_fit() -> None:
    """The node has enough memory even when every container takes as much as its limit allows."""
    assert total("limits") <= NODE_MIB - SYSTEM_MIB - EXPORTER_MIB


def test_a_small_node_has_room_for_argocd_alone() -> None:
    """Beside k3s, an e2-small holds Argo CD and, as long as this test holds, neither MLflow nor the monitoring."""
    left = SMALL_NODE_MIB - SYSTEM_MIB - sum(ARGOCD_MIB.values())
    requests = {name: memory(pod, "requests") for name, _, pod in pods()}
    assert 0 <= left < min(requests["mlflow"], requests["prometheus"])

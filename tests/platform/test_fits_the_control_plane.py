"""What runs on the control plane by default fits an e2-small: its requests, and its limits in the worst moment."""

from collections.abc import Iterator, Mapping
from typing import Any

from testbeds.homelab.offline.go_build import argocd_sources
from tests.platform.crds import documents
from tests.platform.programs import content

NODE_MIB = 2048
SYSTEM_MIB = 500
"""Linux and the k3s server."""
ARGOCD_MIB = {
    "argocd-application-controller": 256,
    "argocd-repo-server": 80,
    "argocd-redis": 8,
    "argocd-applicationset-controller": 32,
}
"""What is allowed for Argo CD's own: its manifests, which are applied unchanged, state neither requests nor limits.

`tests/homelab/test_platform.py` holds what they take after a full story to it.
"""
_UNITS = {"Ki": 1 / 1024, "Mi": 1.0, "Gi": 1024.0}
_WORKLOADS = ("Deployment", "StatefulSet", "CronJob")


def mib(quantity: str) -> float:
    return float(quantity[:-2]) * _UNITS[quantity[-2:]]


def pods() -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Every workload of the applications that root brings to the control plane: name, number of pods, their spec."""
    applications = [one for one in content("argocd-apps") if one["kind"] == "Application"]
    here = [one["spec"]["source"]["path"] for one in applications if one["spec"]["destination"]["name"] == "in-cluster"]
    for path in here:
        for one in content(path):
            if one["kind"] in _WORKLOADS:
                spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
                yield one["metadata"]["name"], one["spec"].get("replicas", 1), spec["template"]["spec"]


def memory(pod: Mapping[str, Any], bound: str) -> float:
    """As the scheduler counts: all containers together, or the greatest init container when that is more."""

    def of(containers: list[dict[str, Any]]) -> list[float]:
        return [mib(one["resources"][bound]["memory"]) for one in containers]

    return max(sum(of(pod["containers"])), *of(pod.get("initContainers", [])), 0.0)


def together(bound: str) -> float:
    own = {name: number * memory(pod, bound) for name, number, pod in pods()}
    assert {"mlflow", "mlflow-backup", "prometheus"} <= set(own)
    return sum(own.values()) + sum(ARGOCD_MIB.values())


def test_argocds_workloads_are_those_that_are_allowed_for() -> None:
    """An Argo CD with one more workload does not come unnoticed."""
    manifest = argocd_sources() / "manifests/core-install.yaml"
    workloads = [one for one in documents(manifest) if one["kind"] in _WORKLOADS]
    assert {one["metadata"]["name"] for one in workloads} == set(ARGOCD_MIB)
    containers = [each for one in workloads for each in one["spec"]["template"]["spec"]["containers"]]
    assert not [one["name"] for one in containers if one.get("resources")]


def test_requests_fit() -> None:
    """All pods can be scheduled at once, the nightly backup included."""
    assert together("requests") <= NODE_MIB - SYSTEM_MIB


def test_limits_fit() -> None:
    """No pod is killed for another one's sake, even when each takes what it may."""
    assert together("limits") <= NODE_MIB - SYSTEM_MIB

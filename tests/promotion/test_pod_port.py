"""The port at which pods are asked, chosen as a client's request would find its way."""

from dataclasses import replace
from typing import Any

import pytest

from orchestration.promotion.cluster_status import ClusterService, ContainerPort, ServicePort, WorkloadStatus
from orchestration.promotion.pod_port import choose_port, pod_port
from orchestration.promotion.policy import Policy, parse_policy
from orchestration.promotion.problems import Problem
from tests.fakes.cluster import FakeCluster, a_deployment
from tests.fakes.world import POLICY_TEXT

METRICS, HTTP = ContainerPort("metrics", 9090), ContainerPort("http", 8080)
OWN = (METRICS, HTTP)
ROLLOUT = "rollouts-pod-template-hash"
"""What Argo Rollouts adds to the selector of its Services."""
LABELS = {"app": "iris", "tier": "model"}


def policy(url: str = "http://edge:30808", **service: Any) -> Policy:
    plain = parse_policy("iris-edge", POLICY_TEXT)
    return plain.model_copy(update={"service": plain.service.model_copy(update={"url": url, **service})})


def workload(*ports: ContainerPort, **others: tuple[ContainerPort, ...]) -> WorkloadStatus:
    declared = {name: own for name, own in {"model-server": ports, **others}.items() if own}
    plain = a_deployment("image", (), namespace="ml-apps", name="iris")
    return replace(plain, ports=declared, pod_labels=LABELS)


def service(*ports: ServicePort, **selector: str) -> ClusterService:
    return ClusterService("iris", selector or {"app": "iris"}, ports)


@pytest.mark.parametrize(
    ("asked", "status", "services", "expected"),
    [
        (policy(port=8000), workload(), (), 8000),
        (policy(port="http"), workload(*OWN), None, 8080),
        (policy(port="proxied"), workload(*OWN, sidecar=(ContainerPort("proxied", 8443),)), (), 8443),
        (policy(), workload(*OWN), (service(ServicePort(80, 8080)),), 8080),
        (policy(), workload(*OWN), (service(ServicePort(80, "http")),), 8080),
        (policy(), workload(), (service(ServicePort(80, 8080)),), 8080),
        (policy(), workload(*OWN), (service(ServicePort(80, 8080)), service(ServicePort(81, "http"))), 8080),
        (policy(), workload(*OWN), (service(ServicePort(80, 8080), tier="model"), service(app="other")), 8080),
        (policy(), workload(*OWN), (service(ServicePort(80, 8080, 30808), ServicePort(9090, 9090)),), 8080),
        (policy("http://iris"), workload(*OWN), (service(ServicePort(80, 8080), ServicePort(9090, 9090)),), 8080),
        (policy("http://iris:9"), workload(*OWN), (service(ServicePort(8, "metrics"), ServicePort(9, "http")),), 8080),
        (policy(), workload(*OWN), (service(ServicePort(80, 8080), **{"app": "iris", ROLLOUT: "5d8f"}),), 8080),
        (policy(), workload(HTTP), None, 8080),
        (policy(), workload(HTTP), (), 8080),
        (policy(), workload(HTTP), (service(ServicePort(80, 9090), app="another"),), 8080),
        (policy(), workload(HTTP), (service(ServicePort(80, 8080), ServicePort(81, 9090)),), 8080),
        (policy(), workload(HTTP), (service(ServicePort(80, "gone")),), 8080),
    ],
)
def test_the_port_is_found(
    asked: Policy, status: WorkloadStatus, services: tuple[ClusterService, ...] | None, expected: int
) -> None:
    """By the policy, else by the Services that select the pods, else by the only port of the container."""
    assert choose_port(asked, status, services) == expected


@pytest.mark.parametrize(
    ("asked", "status", "services", "found"),
    [
        (policy(), workload(*OWN), (), "no Service that selects them, and 9090 (metrics) of model-server, 8080 (http)"),
        (policy(), workload(), (), "no Service that selects them, and no declared containerPort"),
        (policy(), workload(*OWN), None, "Services that may not be listed"),
        (
            policy(),
            workload(*OWN),
            (service(ServicePort(80, 8080), ServicePort(81, 9090)),),
            "Services that lead to 8080, 9090",
        ),
        (policy(port="grpc"), workload(*OWN), (), "9090 (metrics) of model-server, 8080 (http) of model-server"),
    ],
)
def test_where_it_is_not_one_the_policy_is_asked(
    asked: Policy, status: WorkloadStatus, services: tuple[ClusterService, ...] | None, found: str
) -> None:
    """The problem lists what there is, and names the field."""
    problem = choose_port(asked, status, services)
    assert isinstance(problem, Problem)
    assert found in problem.found
    assert "iris-edge.yaml" in problem.next_step
    assert "port" in problem.next_step
    assert "9090" not in problem.next_step, "nothing tells that the first port is the model's; it is often the metrics'"


def test_services_are_read_only_where_they_matter() -> None:
    """A policy that names the port needs no right to list them."""
    cluster = FakeCluster()
    cluster.service_list = (service(ServicePort(80, 8080)),)
    assert pod_port(policy(), workload(*OWN), cluster) == 8080
    cluster.down = Problem("the fake", "an answer", "none", "Wait.")
    assert pod_port(policy(port=1), workload(*OWN), cluster) == 1

"""How a model is asked is known before its version is committed: protocol, port and headers."""

from dataclasses import replace

import pytest

from orchestration.promotion.cluster_status import ContainerPort
from orchestration.promotion.problems import Problem
from orchestration.promotion.state import State
from orchestration.stages.plan import Outlook, plan_promotion
from tests.fakes.runs import run_stages
from tests.fakes.world import POLICY_NAME, POLICY_TEXT, World

SERVICE = "service: {url: http://edge:30808, protocol: features}"
TWO_PORTS = (ContainerPort("metrics", 9090), ContainerPort("http", 8033))


def with_service(world: World, **changes: str) -> None:
    fields = {"url": "http://edge:30808", "protocol": "features", **changes}
    text = ", ".join(f"{name}: {value}" for name, value in fields.items())
    world.policies[POLICY_NAME] = POLICY_TEXT.replace(SERVICE, f"service: {{{text}}}")


def with_two_ports(world: World) -> None:
    """Give the container two ports, and no Service that says which of them clients ask."""
    assert world.cluster.status is not None
    world.cluster.status = replace(world.cluster.status, ports={"model-server": TWO_PORTS})


def findings(world: World) -> list[tuple[Outlook, str]]:
    """What a plan says of the dependencies and of how pods are asked."""
    policy, names = world.policy(POLICY_NAME), ("dependencies_ready", "target_can_be_judged")
    plan = plan_promotion(world.clients(policy), policy, 1, lambda _: None)
    return [(check.outlook, check.finding) for check in plan.checks if check.name in names]


def test_a_port_that_is_not_known_keeps_the_version_from_being_committed(world: World) -> None:
    """The version waits and says what the policy must name; with that, the promotion goes on by itself."""
    world.register()
    with_two_ports(world)
    assert any(outlook is Outlook.WAITING and "9090 (metrics)" in finding for outlook, finding in findings(world))
    run_stages(world, 1)
    assert (world.state(1), world.subjects) == (State.WAITING, [])
    assert "service: {url: ..., port: NUMBER}" in world.reason(1)
    with_service(world, port="http")
    assert (Outlook.PASSED, "pods of Deployment ml-apps/iris: asked at port 8033") in findings(world)
    assert run_stages(world, 1).success
    assert world.champion == 1


def test_a_header_without_its_value_keeps_the_version_from_being_committed(world: World) -> None:
    """A secret that is not there yet is looked for before anything is changed."""
    world.register()
    with_service(world, headers="{X-Key: {file: /run/key}}")
    world.service.down = Problem("header X-Key", "its value in /run/key", "No such file", "Write it.")
    assert any(outlook is Outlook.UNANSWERED and "header X-Key" in finding for outlook, finding in findings(world))
    run_stages(world, 1)
    assert (world.state(1), world.subjects) == (State.WAITING, [])
    assert "header X-Key" in world.reason(1)


@pytest.mark.parametrize("protocol", ["mlflow", "v1", "v2"])
def test_requests_of_another_protocol_are_refused_before_the_commit(world: World, protocol: str) -> None:
    """The recorded requests have fields that such a server does not know, and the reason names the policy's field."""
    world.register()
    with_service(world, protocol=protocol)
    run_stages(world, 1)
    assert (world.state(1), world.subjects) == (State.REFUSED, [])
    assert "a request without" in world.reason(1)
    assert "service.protocol" in world.reason(1)


def test_requests_of_any_form_are_not_judged(world: World) -> None:
    """With protocol json only the server can tell whether they fit."""
    world.register()
    with_service(world, protocol="json", path="/predict")
    assert run_stages(world, 1).success
    assert world.champion == 1

"""Rollback, abort, adopt and retry as jobs of Dagster's launchpad, on a platform of fakes."""

import dagster as dg
import pytest

from orchestration.operations import operations
from orchestration.promotion.model_version import TrainingRun
from orchestration.promotion.state import State
from tests.fakes.runs import promote
from tests.fakes.world import MANIFEST, POLICY_NAME, World, WorldPlatform


def launch(world: World, name: str, **told: object) -> dg.ExecuteInProcessResult:
    (job,) = (job for job in operations if job.name == name)
    config = {"policy": POLICY_NAME, "reason": "complaints", "by": "ana", **told}
    result: dg.ExecuteInProcessResult = job.execute_in_process(
        run_config={"ops": {f"do_{name}": {"config": config}}},
        resources={"platform": WorldPlatform(world)},
        raise_on_error=False,
    )
    return result


def reason(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    user = event.step_failure_data.user_failure_data
    assert user is not None
    return user.description or ""


def test_the_three_operations(world: World) -> None:
    """Each does what its command does: a return, an abort of the next request, and an adoption of manual work."""
    for number in (1, 2):
        world.register()
        assert promote(world, number, f"run {number}")
    assert launch(world, "rollback").success
    assert world.champion == 1
    world.register()
    assert launch(world, "abort").success
    assert world.state(3) is State.REFUSED
    world.git.commit("By hand", {"apps/iris.yaml": MANIFEST.format(image=world.image(2)).encode()})
    world.reconcile()
    assert launch(world, "adopt", version=2).success
    assert world.champion == 2
    assert launch(world, "rollback", version=1).success
    assert world.champion == 1


def test_a_version_that_was_refused_is_tried_again(world: World) -> None:
    """What `incumbent retry` does, with who and why in the commit; where nothing has ended, it is refused."""
    world.register(accuracy=0.1)
    promote(world, 1, "run 1")
    assert world.state(1) is State.REFUSED
    world.registry.add_run(TrainingRun("run1", "FINISHED", {"accuracy": 0.9}, world.registry.runs["run1"].datasets))
    assert launch(world, "retry", version=1).success
    assert world.reason(1) == "Tried again by ana: complaints"
    assert promote(world, 1, "run 2")
    assert "complaints" in world.git.log[0].trailers["Retried-Because"]
    again = launch(world, "retry", version=1)
    assert not again.success
    assert "found the champion" in reason(again)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({}, "no other version that was ever verified"),
        ({"version": 7}, "version 7 of iris"),
        ({"reason": " "}, "found reason: expected a text, found an empty one"),
        ({"policy": "broken"}, "policy broken"),
    ],
)
def test_a_refusal_fails_the_run_with_its_reason(world: World, told: dict[str, object], found: str) -> None:
    """The run's page says what was expected and found, without a traceback."""
    world.register()
    world.policies["broken"] = "model: [1, 2"
    result = launch(world, "rollback", **told)
    assert not result.success
    assert found in reason(result)
    assert world.git.leases == {}

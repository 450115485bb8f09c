"""Each refusal's next step, done as it says: what was amiss is mended, the version is retried, and becomes champion."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestration.commands.requesting import request_promotion, retry_promotion
from orchestration.commands.serving import adopt_version, return_to_champion
from orchestration.promotion.decided import Decided
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.recorded_requests import RECORDING_PATH
from orchestration.promotion.state import State
from orchestration.stages.plan import plan_promotion
from orchestration.stages.runner import StageFailed
from tests.fakes.runs import run_stages, run_until
from tests.fakes.world import MANIFEST, POLICY_NAME, REPOSITORY, World, WorldPlatform

Act = Callable[[World], object]


def run_with(status: str = "FINISHED", accuracy: float | None = 0.9) -> Act:
    """Make the training run of version 1 one with that status and metric."""
    metrics = {} if accuracy is None else {"accuracy": accuracy}

    def act(world: World) -> None:
        world.registry.runs["run1"] = replace(world.registry.runs["run1"], status=status, metrics=metrics)

    return act


def recording(content: bytes | None) -> Act:
    """Take the recorded requests of version 1 away, or spoil them."""

    def act(world: World) -> None:
        world.registry.artifacts.pop(("run1", RECORDING_PATH))
        if content is not None:
            world.registry.artifacts["run1", RECORDING_PATH] = content

    return act


def record_again(world: World) -> None:
    other = world.register()
    world.registry.artifacts["run1", RECORDING_PATH] = world.registry.artifacts[other.run_id or "", RECORDING_PATH]


def image_tag(value: str) -> Act:
    def act(world: World) -> None:
        world.registry.write_tags(world.registry.versions["iris", 1], {"image_tag": value})

    return act


def publish(**environment: str) -> Act:
    return lambda world: world.images.publish(REPOSITORY, "v1", environment)


def unpublish(tag: str) -> Act:
    return lambda world: world.images.tags.pop((REPOSITORY, tag))


def unset_alias(world: World) -> None:
    del world.registry.aliases["iris", "challenger"]


def no_application(world: World) -> None:
    world.argocd.status = None


FITTING = publish(MODEL_URI="models:/iris/1")
KINDS: dict[str, tuple[Act, Act]] = {
    "a run that has not ended": (run_with("RUNNING"), run_with()),
    "a metric that was not logged": (run_with(accuracy=None), run_with()),
    "no recorded requests": (recording(None), record_again),
    "spoiled recorded requests": (recording(b"{}"), record_again),
    "an impossible image tag": (image_tag("not a tag"), image_tag("v1")),
    "an image that is not published": (unpublish("v1"), FITTING),
    "an image of another version": (publish(MODEL_URI="models:/iris/9"), FITTING),
    "no alias": (unset_alias, lambda world: None),
    "no Application": (no_application, World.reconcile),
    "no way back": (unpublish("before"), lambda world: world.images.publish(REPOSITORY, "before")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_mended_is_promoted_by_the_command_that_the_refusal_names(world: World, kind: str) -> None:
    """The reason names `incumbent retry` with policy and version, and the command does what it says."""
    spoil, mend = KINDS[kind]
    world.register()
    spoil(world)
    run_stages(world, 1)
    assert world.state(1) is State.REFUSED
    assert "incumbent retry iris-edge 1 --reason '" in world.reason(1)
    mend(world)
    retry_promotion(world.registry, world.git, world.clock, world.policy(POLICY_NAME), 1, by="Jane", reason="mended")
    assert run_stages(world, 1).success
    assert world.champion == 1


def test_a_version_that_is_not_good_enough_is_not_tried_again(world: World) -> None:
    """The same numbers would be refused again: the reason asks for a better model alone."""
    world.register(accuracy=0.1)
    run_stages(world, 1)
    assert "retry" not in world.reason(1)
    assert "Train a better model" in world.reason(1)


def test_a_superseded_version_is_registered_again(world: World) -> None:
    """The reason names `incumbent register`, and the command makes it the challenger once more."""
    world.register()
    world.register()
    run_stages(world, 1)
    assert world.state(1) is State.SUPERSEDED
    assert "incumbent register iris-edge 1" in world.reason(1)
    request_promotion(world.registry, world.clock, world.policy(POLICY_NAME), 1)
    assert run_stages(world, 1).success


def test_a_version_whose_run_is_gone_needs_a_new_one(world: World) -> None:
    """Without its run a version cannot be mended, so no retry is recommended."""
    world.register()
    del world.registry.runs["run1"]
    run_stages(world, 1)
    assert world.state(1) is State.REFUSED
    assert "retry" not in world.reason(1)


def adoption_problem(world: World, number: int) -> Problem:
    decided = Decided("ana", "it serves")
    with pytest.raises(InvalidInputError) as refused:
        adopt_version(WorldPlatform(world), POLICY_NAME, number, decided, "adopt by ana (c0ffee)", world.said.append)
    return refused.value.problem


def test_a_former_champion_that_cannot_be_adopted_is_gone_back_to(world: World) -> None:
    """The refusal names `incumbent rollback` with policy and version, and the command does what it says."""
    for number in (1, 2):
        world.register()
        assert run_stages(world, number).success
    assert "incumbent rollback iris-edge 1 --reason" in adoption_problem(world, 1).next_step
    decided = Decided("ana", "as it says")
    return_to_champion(WorldPlatform(world), POLICY_NAME, 1, decided, "rollback by ana (c0ffee)", world.said.append)
    assert world.champion == 1


def test_a_version_that_a_rollback_left_is_tried_again(world: World) -> None:
    """Neither adopting it nor setting the alias brings it back; both name `incumbent retry`, which does."""
    for number in (1, 2):
        world.register()
        assert run_stages(world, number).success
    decided = Decided("ana", "complaints")
    return_to_champion(WorldPlatform(world), POLICY_NAME, None, decided, "rollback by ana (c0ffee)", world.said.append)
    retry = "incumbent retry iris-edge 2 --reason '"
    assert retry in adoption_problem(world, 2).next_step
    answer = run_until(world, 2)
    assert isinstance(answer, StageFailed)
    assert answer.outcome == "rolled back"
    assert "rolled back to version 1 by ana (complaints)" in answer.problem.found
    assert retry in answer.problem.next_step
    assert world.state(2) is State.ROLLED_BACK
    retry_promotion(world.registry, world.git, world.clock, world.policy(POLICY_NAME), 2, by="Jane", reason="mended")
    assert run_stages(world, 2).success
    assert world.champion == 2


def test_a_version_that_was_never_promoted_and_does_not_serve_is_registered(world: World) -> None:
    """The refusal to adopt it names `incumbent register`."""
    world.register()
    assert "incumbent register iris-edge 1." in adoption_problem(world, 1).next_step
    request_promotion(world.registry, world.clock, world.policy(POLICY_NAME), 1)
    assert run_stages(world, 1).success


@pytest.mark.parametrize("named", [True, False])
def test_what_a_person_deployed_is_adopted(world: World, named: bool) -> None:
    """A version that serves already, with or without the alias, is refused with how to adopt it."""
    version = world.register()
    world.git.commit("By hand", {"apps/iris.yaml": MANIFEST.format(image=world.image(1)).encode()})
    world.reconcile()
    if named:
        world.registry.set_alias(version, "champion")
    policy, adopt = world.policy(POLICY_NAME), "incumbent adopt iris-edge 1 --reason '"
    planned = plan_promotion(world.clients(policy), policy, 1, world.said.append)
    assert adopt in " ".join(check.next_step for check in planned.checks)
    run_stages(world, 1)
    assert world.state(1) is State.REFUSED
    assert adopt in world.reason(1)
    decided = Decided("ana", "it serves")
    adopt_version(WorldPlatform(world), POLICY_NAME, 1, decided, "adopt by ana (c0ffee)", world.said.append)
    assert (world.champion, world.state(1)) == (1, State.CHAMPION)

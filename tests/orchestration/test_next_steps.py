"""Each refusal's next step, done as it says: what was amiss is mended, the version is retried, and becomes champion."""

from collections.abc import Callable
from dataclasses import replace

import dagster as dg
import pytest

from orchestration.commands.requesting import request_promotion, retry_promotion
from orchestration.promotion.recorded_requests import RECORDING_PATH
from orchestration.promotion.state import State
from tests.fakes.world import POLICY_NAME, REPOSITORY, World, run_stages

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
def test_what_is_mended_is_promoted_by_the_command_that_the_refusal_names(
    world: World, instance: dg.DagsterInstance, kind: str
) -> None:
    """The reason names `incumbent retry` with policy and version, and the command does what it says."""
    spoil, mend = KINDS[kind]
    world.register()
    spoil(world)
    run_stages(world, 1, instance)
    assert world.state(1) is State.REFUSED
    assert "incumbent retry iris-edge 1 --reason '" in world.reason(1)
    mend(world)
    retry_promotion(world.registry, world.git, world.clock, world.policy(POLICY_NAME), 1, by="Jane", reason="mended")
    assert run_stages(world, 1, instance).success
    assert world.champion == 1


def test_a_version_that_is_not_good_enough_is_not_tried_again(world: World, instance: dg.DagsterInstance) -> None:
    """The same numbers would be refused again: the reason asks for a better model alone."""
    world.register(accuracy=0.1)
    run_stages(world, 1, instance)
    assert "retry" not in world.reason(1)
    assert "Train a better model" in world.reason(1)


def test_a_superseded_version_is_registered_again(world: World, instance: dg.DagsterInstance) -> None:
    """The reason names `incumbent register`, and the command makes it the challenger once more."""
    world.register()
    world.register()
    run_stages(world, 1, instance)
    assert world.state(1) is State.SUPERSEDED
    assert "incumbent register iris-edge 1" in world.reason(1)
    request_promotion(world.registry, world.clock, world.policy(POLICY_NAME), 1)
    assert run_stages(world, 1, instance).success


def test_a_version_whose_run_is_gone_needs_a_new_one(world: World, instance: dg.DagsterInstance) -> None:
    """Without its run a version cannot be mended, so no retry is recommended."""
    world.register()
    del world.registry.runs["run1"]
    run_stages(world, 1, instance)
    assert world.state(1) is State.REFUSED
    assert "retry" not in world.reason(1)

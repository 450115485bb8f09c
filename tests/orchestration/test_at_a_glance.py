"""What a person sees of a promotion on the version's page in MLflow."""

import dagster as dg

from orchestration.commands.status import read_status
from orchestration.promotion.summary import summary_key
from orchestration.promotion.timestamps import show_time
from tests.fakes.cluster import DOWN
from tests.fakes.runs import run_stages
from tests.fakes.world import POLICY_NAME, World, WorldPlatform, materialize


def glance(world: World, number: int) -> str:
    return world.registry.versions["iris", number].tags[summary_key(POLICY_NAME)]


def test_each_end_is_told_with_its_commit_and_run(world: World, instance: dg.DagsterInstance) -> None:
    """A champion names its commit and its run, a version that was taken back also why, a refused one no commit."""
    world.register()
    result = materialize(world, 1, instance)
    assert glance(world, 1).startswith("champion since ")
    assert f"/commit/{world.git.log[0].id[:12]} | run" in glance(world, 1)
    assert glance(world, 1).endswith(f"run {result.run_id}")
    world.register()
    world.bad_images.add(world.image(2))
    run_stages(world, 2)
    assert glance(world, 2).startswith("rolled back since ")
    assert ": success_ratio violated" in glance(world, 2)
    world.register(accuracy=0.1)
    run_stages(world, 3)
    assert glance(world, 3).startswith("refused since ")
    assert "commit" not in glance(world, 3)


def test_it_is_written_with_the_state_and_not_by_itself(world: World) -> None:
    """The tag is written together with those that it sums up."""
    world.register()
    run_stages(world, 1)
    assert world.registry.calls.count("write_tags") == 3  # a sign of life, committed, champion


def test_status_and_the_page_name_the_same_moment(world: World) -> None:
    """Since when a version waits, is committed or held; held again after a retry by itself, since it was held first."""
    world.register()
    world.argocd.down = DOWN
    run_stages(world, 1)
    same_moment(world, "waiting")
    world.clock.sleep(600)
    world.argocd.down = None
    run_stages(world, 1, ["promotion_candidate", "manifest_commit"])
    same_moment(world, "committed")
    world.cluster.down = DOWN
    for _ in range(2):
        world.clock.sleep(600)
        run_stages(world, 1, ["rollout"])
        same_moment(world, "held")


def same_moment(world: World, state: str) -> None:
    (found,) = read_status(WorldPlatform(world), [POLICY_NAME])
    (one,) = found.under_way
    assert one.since is not None
    assert one.state == state
    assert glance(world, 1).startswith(f"{state} since {show_time(one.since)}")

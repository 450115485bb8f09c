"""Who is champion, who was, and what a champion alias that a person moves is worth."""

import pytest

from orchestration.promotion.state import State
from orchestration.stages.results import StageDone
from orchestration.stages.runner import StageFailed
from tests.fakes.runs import run_until
from tests.fakes.world import World


def champion_alias_check(result: object) -> str:
    assert isinstance(result, StageDone), result
    return next(check.summary for check in result.checks if check.name == "champion_alias")


def test_the_champion_before_becomes_a_former_champion(world: World) -> None:
    """It says which version took over and when, and nothing else is touched."""
    for _ in range(3):
        number = world.register().version
        run_until(world, number)
    assert [world.state(number) for number in (1, 2, 3)] == [
        State.FORMER_CHAMPION,
        State.FORMER_CHAMPION,
        State.CHAMPION,
    ]
    assert "Champion until version 2 took over at 1970-01-12" in world.reason(1)
    assert "version 3" in world.reason(2)
    assert world.reason(3) == ""


def test_only_a_champion_of_this_model_and_policy_becomes_a_former_one(world: World) -> None:
    """A state that merely begins with the same word, and another model's champion, stay as they are."""
    first, second = world.register(), world.register()
    other = world.registry.add_version("wine", "run1")
    world.registry.write_tags(first, {"incumbent.iris-edge.state": "champion of the world"})
    world.registry.write_tags(other, {"incumbent.iris-edge.state": "champion"})
    run_until(world, second.version)
    assert world.champion == second.version
    assert world.registry.versions["iris", 1].tag("iris-edge", "state") == "champion of the world"
    assert world.registry.versions["wine", 1].state("iris-edge") is State.CHAMPION


def test_a_former_champion_that_is_materialized_stays_one(world: World) -> None:
    """It is no candidate, whatever is asked of its partition, and nothing is committed for it."""
    for _ in range(2):
        run_until(world, world.register().version)
    world.registry.set_alias(world.registry.versions["iris", 1], "challenger")
    commits = len(world.git.log)
    result = run_until(world, 1)
    assert isinstance(result, StageFailed)
    assert result.outcome == "former champion"
    assert "incumbent rollback iris-edge 1" in result.problem.next_step
    assert world.state(1) is State.FORMER_CHAMPION
    assert len(world.git.log) == commits


def test_a_champion_whose_commit_is_looked_at_again_stays_champion(world: World) -> None:
    """Its commit is found, and the version is not called committed again."""
    run_until(world, world.register().version)
    assert isinstance(run_until(world, 1, "manifest_commit", run="again"), StageDone)
    assert (world.state(1), len(world.subjects)) == (State.CHAMPION, 1)


@pytest.mark.parametrize("last_before", ["manifest_commit", "rollout"])
def test_an_alias_that_a_person_moves_in_mid_soak_is_set_and_told(world: World, last_before: str) -> None:
    """What was found is on the version, in the evidence tag and in the check; the alias names what was proved."""
    run_until(world, world.register().version)
    elsewhere = world.register()
    number = world.register().version
    run_until(world, number, last_before)
    world.clock.after(35, lambda: world.registry.set_alias(elsewhere, "champion"))
    result = run_until(world, number)
    assert world.champion == number
    told = "Someone moved alias champion from version 1 to version 2 while this version was judged."
    assert world.reason(number) == told
    assert told in champion_alias_check(result)
    assert told in world.git.tags[f"incumbent/iris-edge/{number}-1"].message
    assert told in world.said


def test_an_alias_that_was_moved_while_nobody_worked_is_told_by_the_next_run(world: World) -> None:
    """A run that died after the evidence tag left in it what the alias named, so the next one sees the difference."""
    run_until(world, world.register().version)
    elsewhere = world.register()
    number = world.register().version
    run_until(world, number)
    world.registry.set_alias(elsewhere, "champion")
    run_until(world, number)
    assert world.champion == number
    assert "from version 1 to version 2" in world.reason(number)


def test_an_alias_that_nobody_moves_is_not_mentioned(world: World) -> None:
    """Neither for the first champion, nor for its successor, nor when that one is checked again."""
    for number in (1, 2):
        world.register()
        assert "moved" not in champion_alias_check(run_until(world, number))
    assert "moved" not in champion_alias_check(run_until(world, 2))
    assert not [line for line in world.said if "moved" in line]

"""A promotion that dies at any of its writes, and what the next runs make of it: all is finished, nothing twice."""

from collections.abc import Callable
from typing import Any

import pytest

from orchestration.promotion.acts import ActKind
from orchestration.promotion.branch_view import acts
from orchestration.promotion.state import State
from tests.fakes.runs import Saboteur, promote, resume, run_stages
from tests.fakes.world import POLICY_TEXT, REPOSITORY, World


def is_free(world: World) -> bool:
    """Nobody holds the application; an expired lease of a killed run holds nothing."""
    lease = world.git.lease("iris")
    return lease is None or lease.expires_at <= world.clock.now()


GOOD, BAD, UNJUDGED = "good", "bad", "unjudged"


def begin(kind: str) -> World:
    """Version 1 is champion; version 2 is the challenger, and good, bad or impossible to judge."""
    world = World(POLICY_TEXT.replace("judge_within: 120s", "judge_within: 120s\n  when_unjudged: roll_back"))
    world.register()
    assert promote(world, 1, "first")
    assert world.champion == 1
    world.register()
    if kind is BAD:
        world.bad_images.add(world.image(2))
    if kind is UNJUDGED:
        world.unmeasured_images.add(world.image(2))
    return world


def points(kind: str) -> list[tuple[int, bool]]:
    """Every write that the promotion of version 2 makes when nothing kills it: before the write, and after it."""
    world = begin(kind)
    counting = Saboteur(world, 0, after=False)
    assert promote(world, 2, "run")
    return [(at, after) for at in range(1, counting.count + 1) for after in (False, True)]


def kill_and_resume(kind: str, at: int, *, after: bool) -> World:
    world = begin(kind)
    saboteur = Saboteur(world, at, after=after)
    assert not promote(world, 2, "killed")
    saboteur.revive()
    resume(world, 2)
    return world


@pytest.mark.parametrize(("at", "after"), points(GOOD))
def test_killed_at_any_write_of_a_good_promotion(at: int, after: bool) -> None:
    """It becomes champion all the same, by exactly one commit and one tag, and nobody holds a lease."""
    world = kill_and_resume(GOOD, at, after=after)
    assert world.champion == 2
    assert world.state(2) is State.CHAMPION
    assert world.subjects == ["Promote iris-edge to version 1", "Promote iris-edge to version 2"]
    assert sorted(world.git.tags) == ["incumbent/iris-edge/1-1", "incumbent/iris-edge/2-1"]
    assert world.live_image == world.image(2)
    assert is_free(world)


@pytest.mark.parametrize(
    ("kind", "verdict", "at", "after"),
    [
        *((BAD, "Failed", at, after) for at, after in points(BAD)),
        *((UNJUDGED, "Error", at, after) for at, after in points(UNJUDGED)),
    ],
)
def test_killed_at_any_write_of_a_promotion_that_is_taken_back(kind: str, verdict: str, at: int, after: bool) -> None:
    """It is taken back all the same, by exactly one commit; the champion has never changed, and it never comes back."""
    world = kill_and_resume(kind, at, after=after)
    assert world.champion == 1
    assert world.state(2) is State.ROLLED_BACK
    assert world.subjects == [
        "Promote iris-edge to version 1",
        "Promote iris-edge to version 2",
        "Roll back iris-edge from version 2 to version 1",
    ]
    assert world.git.log[0].trailers["Verdict"] == verdict
    assert sorted(world.git.tags) == ["incumbent/iris-edge/1-1"]
    assert world.live_image == world.image(1)
    assert is_free(world)


def replace_image(world: World) -> None:
    """A person puts the first version's image back as soon as the second one is committed."""
    text = world.git.commits[world.git.head].files["apps/iris.yaml"].decode()
    world.git.commit("Hotfix", {"apps/iris.yaml": text.replace(world.image(2), world.image(1)).encode()})
    world.reconcile()


def delete_version(world: World) -> None:
    """A person deletes the second version from the registry as soon as it is committed."""
    del world.registry.versions["iris", 2]


def begin_disturbed(disturb: Callable[[World], None]) -> World:
    world = begin(GOOD)
    push = world.git.push_edit

    def disturbed(*arguments: Any) -> Any:
        pushed = push(*arguments)
        world.git.push_edit = push  # type: ignore[method-assign]
        disturb(world)
        return pushed

    setattr(world.git, "push_edit", disturbed)  # noqa: B010 - it has the port's generic type
    return world


def disturbed_points() -> list[tuple[Callable[[World], None], int, bool]]:
    points: list[tuple[Callable[[World], None], int, bool]] = []
    for disturb in (replace_image, delete_version):
        world = begin_disturbed(disturb)
        counting = Saboteur(world, 0, after=False)
        assert promote(world, 2, "run")
        points += [(disturb, at, after) for at in range(1, counting.count + 1) for after in (False, True)]
    return points


@pytest.mark.parametrize(("disturb", "at", "after"), disturbed_points())
def test_killed_at_any_write_of_a_promotion_that_a_person_disturbs(
    disturb: Callable[[World], None], at: int, after: bool
) -> None:
    """Its end is in Git exactly once, as an act or as a rollback commit, and the first version serves."""
    world = begin_disturbed(disturb)
    saboteur = Saboteur(world, at, after=after)
    assert not promote(world, 2, "killed")
    saboteur.revive()
    resume(world, 2)
    ended = [act for act in acts(world.git, "iris-edge") if act.kind is ActKind.ENDED]
    rollbacks = [commit for commit in world.git.log if "Rollback-Of" in commit.trailers]
    assert (len(ended), len(rollbacks)) == ((1, 0) if disturb is replace_image else (0, 1))
    assert world.live_image == world.image(1)
    assert world.champion == 1
    assert ("iris", 2) not in world.registry.versions or world.state(2) is State.ROLLED_BACK
    assert is_free(world)


def test_a_good_version_between_other_peoples_commits() -> None:
    """Someone else pushes before each of our pushes: both survive, and ours stays one commit."""
    world = World()
    world.register()
    edits = iter(range(100))
    world.git.before_push = [lambda: world.git.commit("Docs", {"README": f"{next(edits)}\n".encode()})] * 3
    assert promote(world, 1, "run")
    assert world.champion == 1
    assert world.subjects.count("Promote iris-edge to version 1") == 1
    assert world.subjects.count("Docs") == 3


def test_a_person_changes_the_image_before_the_rollback() -> None:
    """A bad version whose image a person replaced in the meantime is rejected, and the person's image stays."""
    world = World()
    world.register()
    world.bad_images.add(world.image(1))
    manifest = world.git.commits[world.git.head].files["apps/iris.yaml"]
    world.images.publish(REPOSITORY, "hotfix")

    def person() -> None:
        hotfix = manifest.replace(b":before", b":hotfix")
        world.git.commit("Hotfix", {"apps/iris.yaml": hotfix})

    run_stages(world, 1, ["promotion_candidate", "manifest_commit", "rollout"])
    world.clock.after(5, person)
    run_stages(world, 1, ["serving_model"])
    assert world.live_image == f"{REPOSITORY}:hotfix"
    assert world.state(1) is State.ROLLED_BACK
    assert world.subjects == ["Promote iris-edge to version 1", "Hotfix"]

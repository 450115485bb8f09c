"""A promotion that dies at any of its writes, and what the next runs make of it: all is finished, nothing twice."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from orchestration.promotion.state import State
from orchestration.stages import manifest_commit, promotion_candidate, rollout, serving_model
from orchestration.stages.rollback import finish_rejection
from orchestration.stages.session import LEASE_SECONDS, StageEnded, open_session
from tests.fakes.world import POLICY_NAME, REPOSITORY, World, run_stages

REGISTRY_WRITES = ("write_tags", "set_alias", "put_artifact")
GIT_WRITES = ("push_edit", "create_tag", "acquire_lease", "renew_lease", "release_lease")


class Killed(BaseException):
    """The process is gone: nothing of it runs any more, no handler either."""


class Saboteur:
    """Counts the writes of a world and dies at one of them: before it is done, or after, its answer lost."""

    def __init__(self, world: World, at: int, *, after: bool) -> None:
        self.count, self.at, self.after = 0, at, after
        for port, names in ((world.registry, REGISTRY_WRITES), (world.git, GIT_WRITES)):
            for name in names:
                setattr(port, name, self._deadly(getattr(port, name)))

    def _deadly(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def dying(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            if self.count == self.at and not self.after:
                raise Killed
            result = write(*arguments, **named)
            if self.count == self.at:
                raise Killed
            return result

        return dying


def promote(world: World, number: int, run: str) -> bool:
    """The main job without Dagster, which handles no kill either; True unless the run was killed."""
    try:
        for stage in (promotion_candidate.examine, manifest_commit.commit, rollout.roll_out, serving_model.serve):
            session = open_session(world.clients(), world.policy(POLICY_NAME), number, run, world.said.append)
            try:
                finish_rejection(session)
                stage(session)
            except StageEnded:
                session.release()
                break
    except Killed:
        return False
    return True


def is_free(world: World) -> bool:
    """Nobody holds the application; an expired lease of a killed run holds nothing."""
    lease = world.git.lease("iris")
    return lease is None or lease.expires_at <= world.clock.now()


def resume(world: World, number: int) -> None:
    """The next runs, as the sensor would request them once the dead run's lease has expired."""
    for resumed in range(3):
        world.clock.sleep(LEASE_SECONDS + 1)
        promote(world, number, f"resume-{resumed}")


def story(world: World, *, bad: bool) -> None:
    """Version 1 is champion; version 2 is the challenger."""
    world.register()
    assert promote(world, 1, "first")
    assert world.champion == 1
    world.register()
    if bad:
        world.bad_images.add(world.image(2))


def writes_of(*, bad: bool) -> int:
    """How many writes the promotion of version 2 makes when nothing kills it."""
    world = World()
    story(world, bad=bad)
    counting = Saboteur(world, 0, after=False)
    assert promote(world, 2, "run")
    return counting.count


def points(*, bad: bool) -> list[tuple[int, bool]]:
    return [(at, after) for at in range(1, writes_of(bad=bad) + 1) for after in (False, True)]


@pytest.mark.parametrize(("at", "after"), points(bad=False))
def test_killed_at_any_write_of_a_good_promotion(at: int, after: bool) -> None:
    """It becomes champion all the same, by exactly one commit and one tag, and nobody holds a lease."""
    world = World()
    story(world, bad=False)
    Saboteur(world, at, after=after)
    assert not promote(world, 2, "killed")
    resume(world, 2)
    assert world.champion == 2
    assert world.state(2) is State.CHAMPION
    assert world.subjects == ["Promote iris-edge to version 1", "Promote iris-edge to version 2"]
    assert sorted(world.git.tags) == ["incumbent/iris-edge/1-1", "incumbent/iris-edge/2-1"]
    assert world.live_image == world.image(2)
    assert is_free(world)


@pytest.mark.parametrize(("at", "after"), points(bad=True))
def test_killed_at_any_write_of_a_bad_promotion(at: int, after: bool) -> None:
    """It is taken back all the same, by exactly one commit; the champion has never changed, and it never comes back."""
    world = World()
    story(world, bad=True)
    Saboteur(world, at, after=after)
    assert not promote(world, 2, "killed")
    resume(world, 2)
    assert world.champion == 1
    assert world.state(2) is State.ROLLED_BACK
    assert world.subjects == [
        "Promote iris-edge to version 1",
        "Promote iris-edge to version 2",
        "Roll back iris-edge from version 2 to version 1",
    ]
    assert sorted(world.git.tags) == ["incumbent/iris-edge/1-1"]
    assert world.live_image == world.image(1)
    assert is_free(world)


def test_a_good_version_between_other_peoples_commits() -> None:
    """Somebody else pushes before each of our pushes: both survive, and ours stays one commit."""
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

    with dg.DagsterInstance.ephemeral() as instance:
        run_stages(world, 1, instance, ["promotion_candidate", "manifest_commit", "rollout"])
        world.clock.after(5, person)
        run_stages(world, 1, instance, ["serving_model"])
    assert world.live_image == f"{REPOSITORY}:hotfix"
    assert world.state(1) is State.ROLLED_BACK
    assert world.subjects == ["Promote iris-edge to version 1", "Hotfix"]

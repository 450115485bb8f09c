"""`incumbent adopt` on a platform of fakes: what serves already becomes the champion, and everything later knows it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestration.commands.history import read_history
from orchestration.commands.serving import adopt_version, return_to_champion
from orchestration.commands.status import read_status
from orchestration.commands.verifying import verify_version
from orchestration.promotion.acts import ActKind
from orchestration.promotion.branch_view import acts
from orchestration.promotion.decided import Decided
from orchestration.promotion.ports import Answer
from orchestration.promotion.problems import DependencyError, InvalidInputError, ProblemError
from orchestration.promotion.recorded_requests import RECORDING_PATH
from orchestration.promotion.reigns import Began
from orchestration.promotion.state import State
from orchestration.stages.lease import LEASE_SECONDS
from tests.fakes.cluster import DOWN
from tests.fakes.runs import Killed, Saboteur, promote, run_until
from tests.fakes.world import MANIFEST, POLICY_NAME, REPOSITORY, World, WorldPlatform, make_pods_serve_another

ANA = Decided("ana@team", "served since last year")


def adopt(world: World, number: int = 1) -> str:
    return adopt_version(WorldPlatform(world), POLICY_NAME, number, ANA, "adopt by ana", world.said.append)


def put(world: World, image: str) -> None:
    """A person commits an image, and Argo CD rolls it out."""
    world.git.commit("By hand", {"apps/iris.yaml": MANIFEST.format(image=image).encode()})
    world.reconcile()


def serving(*, pinned: bool = True) -> World:
    """Version 1 is registered, and serves because a person committed its image."""
    world = World()
    world.register()
    del world.registry.aliases["iris", "challenger"]
    put(world, world.image(1) if pinned else f"{REPOSITORY}:v1")
    return world


def adoptions(world: World) -> list[tuple[int | None, str | None, str]]:
    made = acts(world.git, POLICY_NAME)
    return [(act.version, act.digest, act.by) for act in made if act.kind is ActKind.ADOPT]


@pytest.mark.parametrize("pinned", [True, False])
def test_what_serves_becomes_the_champion(pinned: bool) -> None:
    """Alias, state and act in Git say so, with who and why; nothing is committed, also when the manifest has a tag."""
    world = serving(pinned=pinned)
    said = adopt(world)
    assert said == (
        "version 1 of iris is the champion of iris-edge now: its image serves, and all 2 recorded requests, asked of "
        "2 pods and the service, are answered as recorded."
    )
    assert world.champion == 1
    assert world.state(1) is State.CHAMPION
    assert world.reason(1) == "Adopted by ana@team (served since last year)."
    assert adoptions(world) == [(1, world.images.tags[REPOSITORY, "v1"], ANA.by)]
    assert world.subjects == ["By hand"]
    assert world.git.leases == {}
    assert adopt(world) == "version 1 of iris is the champion of iris-edge already."
    assert len(adoptions(world)) == 1


@pytest.mark.parametrize("pinned", [True, False])
def test_what_was_adopted_is_known_by_status_and_history(pinned: bool) -> None:
    """Git, the cluster and the registry agree, and what serves is the version, since and because it was adopted."""
    world = serving(pinned=pinned)
    adopt(world)
    (found,) = read_status(WorldPlatform(world), [POLICY_NAME])
    assert (found.agrees, found.differences) == (True, ())
    assert found.live is not None
    assert (found.live.version, found.live.why) == (1, f"adopted by {ANA.by}: {ANA.reason}")
    last = read_history(world.git, world.policy(POLICY_NAME)).history.reigns[-1]
    assert (last.version, last.began) == (1, Began.ADOPTED)


@pytest.mark.parametrize("pinned", [True, False])
def test_what_was_adopted_is_verified(pinned: bool) -> None:
    """By its act, the image that the manifest has, the alias, and the pods; it has no commit of ours and no soak."""
    world = serving(pinned=pinned)
    adopt(world)
    assert verified(world) == {
        ("adoption", True),
        ("adopted image", True),
        ("state", True),
        ("alias", True),
        ("manifest at the head", True),
        ("image", True),
        ("pods", True),
    }
    world.images.publish(REPOSITORY, "v1", {"MODEL_URI": "models:/iris/1", "REBUILT": "yes"})
    assert {what for what, ok in verified(world) if not ok} == (set() if pinned else {"image", "pod"})
    world.images.publish(REPOSITORY, "other")
    put(world, f"{REPOSITORY}:other")
    assert {what for what, ok in verified(world) if not ok} == {"manifest at the head"}


def verified(world: World) -> set[tuple[str, bool]]:
    found = verify_version(world.clients(), world.policy(POLICY_NAME), 1, None)
    return {(finding.what.partition(" iris-")[0], finding.ok) for finding in found}


def test_an_act_that_does_not_say_what_the_manifest_had_is_recorded_anew() -> None:
    """An adoption of a tag from before acts said that; adopting the version again makes all agree."""
    world = serving(pinned=False)
    adopt(world)
    ((name, record),) = ((name, tag) for name, tag in world.git.tags.items() if "-adopt-" in name)
    older = "\n".join(line for line in record.message.splitlines() if not line.startswith("Image: "))
    world.git.tags[name] = replace(record, message=older)
    assert read_status(WorldPlatform(world), [POLICY_NAME])[0].agrees is False
    world.clock.sleep(1)
    adopt(world)
    assert len(adoptions(world)) == 2
    assert read_status(WorldPlatform(world), [POLICY_NAME])[0].agrees


def test_a_version_without_recorded_requests_is_adopted() -> None:
    """What was never recorded cannot be asked, and the answer says so."""
    world = serving()
    del world.registry.artifacts["run1", RECORDING_PATH]
    assert "no recorded requests" in adopt(world)
    assert world.champion == 1


def another_image(world: World) -> None:
    world.images.publish(REPOSITORY, "other")
    put(world, f"{REPOSITORY}:other")


def a_tag_pushed_again(world: World) -> None:
    put(world, f"{REPOSITORY}:v1")
    world.images.publish(REPOSITORY, "v1", {"MODEL_URI": "models:/iris/1", "REBUILT": "yes"})


def not_rolled_out(world: World) -> None:
    world.images.publish(REPOSITORY, "other")
    put(world, f"{REPOSITORY}:other")
    world.git.commit("By hand", {"apps/iris.yaml": MANIFEST.format(image=world.image(1)).encode()})


def wrong_answers(world: World) -> None:
    world.cluster.respond = lambda *_: Answer(200, b'{"prediction": 99}', 0.01)


def no_answers(world: World) -> None:
    world.service.respond = lambda *_: Answer(503, b"", 0.01)


def unpublished(world: World) -> None:
    world.images.remove(REPOSITORY, world.images.tags[REPOSITORY, "v1"])


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (another_image, "ghcr.io/acme/iris:other"),
        (a_tag_pushed_again, "imageID|runs another image"),
        (not_rolled_out, "container model-server has ghcr.io/acme/iris:other"),
        (wrong_answers, "99"),
        (no_answers, "the route leads to no pod yet"),
        (unpublished, "no such image"),
    ],
)
def test_what_does_not_serve_is_refused(spoil: Callable[[World], None], found: str) -> None:
    """Nothing is written: neither the alias, nor a state, nor an act."""
    world = serving()
    spoil(world)
    with pytest.raises(InvalidInputError, match=found):
        adopt(world)
    assert world.champion is None
    assert world.state(1) is None
    assert adoptions(world) == []
    assert world.git.leases == {}


def test_what_is_under_way_is_not_adopted() -> None:
    """A promotion whose pods are not judged yet serves already; only its gate makes it champion."""
    world = World()
    world.register()
    run_until(world, 1, "rollout")
    with pytest.raises(InvalidInputError, match="no promotion under way"):
        adopt(world)
    assert world.champion is None


def test_an_image_of_another_version_is_not_adopted() -> None:
    """What the version's tags name must serve the version, by the image's own word."""
    world = serving()
    world.images.publish(REPOSITORY, "v1", {"MODEL_URI": "models:/iris/9"})
    put(world, world.image(1))
    with pytest.raises(ProblemError, match="models:/iris/9"):
        adopt(world)
    assert world.champion is None


def test_pods_that_serve_another_version_are_not_adopted() -> None:
    """Neither image nor manifest says so, and the pods do: something put it there."""
    world = serving()
    make_pods_serve_another(world)
    with pytest.raises(InvalidInputError, match="models:/iris/9"):
        adopt(world)
    assert world.champion is None


def test_an_unknown_version_is_refused() -> None:
    """The version and the model are named."""
    with pytest.raises(InvalidInputError, match="version 9 of iris"):
        adopt(serving(), 9)


def test_a_dead_cluster_is_no_refusal() -> None:
    """It may help to try again later, and nothing was written."""
    world = serving()
    world.cluster.down = DOWN
    with pytest.raises(DependencyError):
        adopt(world)
    assert world.champion is None


def test_the_alias_moves_from_the_champion_before() -> None:
    """A person went back by hand from version 2 to version 1 and adopts it; version 2 was the champion until then."""
    world = World()
    for number in (1, 2):
        world.register()
        assert promote(world, number, f"run {number}")
    put(world, world.image(1))
    adopt(world)
    assert world.champion == 1
    assert world.state(1) is State.CHAMPION
    assert world.state(2) is State.FORMER_CHAMPION


def test_an_adopted_champion_is_never_refused_by_a_run() -> None:
    """It has no commit; whatever is materialized leaves it the champion."""
    world = serving()
    adopt(world)
    for _ in range(2):
        promote(world, 1, "materialized by hand")
        assert world.state(1) is State.CHAMPION
        world.registry.set_alias(world.registry.versions["iris", 1], "challenger")
    assert world.champion == 1
    assert world.subjects == ["By hand"]


@pytest.mark.parametrize("pinned", [True, False])
def test_an_adopted_champion_is_the_way_back(pinned: bool) -> None:
    """The next version is judged against it; taken back, its image serves again, and a person can return to it."""
    world = serving(pinned=pinned)
    adopt(world)
    world.register()
    assert promote(world, 2, "run")
    assert world.champion == 2
    return_to_champion(WorldPlatform(world), POLICY_NAME, None, ANA, "rollback by ana", world.said.append)
    assert world.champion == 1
    assert world.live_image == world.image(1)
    assert world.git.log[0].trailers["Promotion-Id"].endswith("/1")
    world.register()
    world.bad_images.add(world.image(3))
    promote(world, 3, "bad")
    assert world.live_image == world.image(1)


def test_an_unknown_live_image_is_the_way_back_of_the_first_promotion() -> None:
    """Nothing has to be adopted for that: a first version that fails gives way to what served before."""
    world = World()
    world.register()
    world.bad_images.add(world.image(1))
    promote(world, 1, "run")
    assert world.live_image == f"{REPOSITORY}:before"
    assert world.champion is None
    assert world.git.log[0].subject == "Roll back iris-edge from version 1 to the image before, unverified"


def points() -> list[tuple[int, bool]]:
    """Every write of an adoption when nothing kills it: before the write, and after it."""
    world = serving()
    counting = Saboteur(world, 0, after=False)
    adopt(world)
    return [(at, after) for at in range(1, counting.count + 1) for after in (False, True)]


@pytest.mark.parametrize(("at", "after"), points())
def test_killed_at_any_write_of_an_adoption(at: int, after: bool) -> None:
    """The command again finishes it, and the act is recorded once."""
    world = serving()
    saboteur = Saboteur(world, at, after=after)
    with pytest.raises(Killed):
        adopt(world)
    saboteur.revive()
    world.clock.sleep(LEASE_SECONDS + 1)
    adopt(world)
    assert world.champion == 1
    assert world.state(1) is State.CHAMPION
    assert len(adoptions(world)) == 1

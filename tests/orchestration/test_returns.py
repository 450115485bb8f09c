"""`incumbent rollback` on a platform of fakes: back to a former champion, by one commit that the rest follows."""

import json

import pytest

from orchestration.commands.serving import UnfinishedError, abort_promotion, return_to_champion
from orchestration.promotion.decided import Decided
from orchestration.promotion.model_version import tag_key
from orchestration.promotion.ports import Answer
from orchestration.promotion.problems import DependencyError, InvalidInputError
from orchestration.promotion.recorded_requests import RECORDING_PATH
from orchestration.promotion.state import State
from orchestration.stages.lease import LEASE_SECONDS
from tests.fakes.cluster import DOWN
from tests.fakes.runs import Killed, Saboteur, promote, run_stages
from tests.fakes.world import (
    MANIFEST,
    POLICY_NAME,
    POLICY_TEXT,
    REPOSITORY,
    World,
    WorldPlatform,
    make_pods_serve_another,
)

ANA = Decided("ana@team", "complaints since noon")


def go_back(world: World, number: int | None = None, run: str = "rollback by ana") -> str:
    return return_to_champion(WorldPlatform(world), POLICY_NAME, number, ANA, run, world.said.append)


def champions(count: int, policy: str = POLICY_TEXT) -> World:
    """A world in which that many versions became champion, one after the other."""
    world = World(policy)
    for number in range(1, count + 1):
        world.register()
        assert promote(world, number, f"run {number}")
        assert world.champion == number
    return world


def trailers_of_head(world: World) -> dict[str, str]:
    return dict(world.git.log[0].trailers)


def test_the_last_champion_serves_again_and_is_champion() -> None:
    """One commit to the verified digest says who, why and from where; the left version is not promoted again."""
    world = champions(2)
    assert go_back(world) == "version 1 serves again, and is the champion of iris-edge."
    assert world.subjects[-1] == "Return iris-edge to version 1"
    assert world.live_image == world.image(1)
    trailers = trailers_of_head(world)
    digest = world.images.tags[REPOSITORY, "v1"]
    assert trailers["Promotion-Id"] == f"iris-edge/1/{digest.removeprefix('sha256:')[:12]}/2"
    assert (trailers["Returns-From"], trailers["By"], trailers["Reason"]) == ("2", ANA.by, ANA.reason)
    assert trailers["Image-Digest"] == digest
    assert world.champion == 1
    assert world.state(1) is State.CHAMPION
    assert world.state(2) is State.ROLLED_BACK
    assert "ana@team (complaints since noon)" in world.reason(1)
    assert "ana@team (complaints since noon)" in world.reason(2)
    assert world.registry.aliases["iris", "challenger"] == 2
    assert world.git.leases == {}


def test_a_return_has_evidence_of_its_own() -> None:
    """What was asked is kept beside the run, and a tag in Git names it; nothing was soaked."""
    world = champions(2)
    queries = len(world.metrics.queries)
    asked = len(world.cluster.asked)
    go_back(world)
    evidence = json.loads(world.registry.artifacts["run1", "incumbent/iris-edge/1-2.json"])
    assert evidence["recorded"] == {"due": 6, "asked": 6, "wrong": [], "unanswered": []}
    assert "Evidence-Digest: sha256:" in world.git.tags["incumbent/iris-edge/1-2"].message
    assert len(world.cluster.asked) - asked == 4
    assert all(query.startswith("model_info{") for query in world.metrics.queries[queries:])


def test_a_named_champion_is_returned_to_and_each_step_goes_further_back() -> None:
    """Going back twice goes back two champions; a version that was left is returned to only when it is named."""
    world = champions(3)
    go_back(world)
    assert world.champion == 2
    go_back(world)
    assert world.champion == 1
    with pytest.raises(InvalidInputError, match="found none that nobody left; verified were: 2, 3"):
        go_back(world)
    go_back(world, 3)
    assert world.champion == 3
    assert world.live_image == world.image(3)
    assert world.state(1) is State.ROLLED_BACK


def put_back(world: World, number: int) -> None:
    """A person commits a former champion's image by hand, and Argo CD rolls it out."""
    world.git.commit("By hand", {"apps/iris.yaml": MANIFEST.format(image=world.image(number)).encode()})
    world.reconcile()


def test_a_version_that_a_person_left_by_hand_is_returned_to_only_when_it_is_named() -> None:
    """After champion 3 was replaced by hand with 2, a rollback goes on to 1 and not back to 3."""
    world = champions(3)
    put_back(world, 2)
    go_back(world)
    assert world.champion == 1
    world = champions(2)
    put_back(world, 1)
    with pytest.raises(InvalidInputError, match=r"found none that nobody left; verified were: 2\. Name one"):
        go_back(world)
    go_back(world, 2)
    assert world.champion == 2


def test_a_return_that_is_aborted_never_goes_back_to_an_earlier_attempt_of_its_own_version() -> None:
    """Version 1, which a return had left, was put back by hand and is what the manifest had before; so it has again."""
    world = champions(2)
    go_back(world, 1)
    go_back(world, 2)
    put_back(world, 1)
    world.cluster.respond = wrong
    with pytest.raises(UnfinishedError):
        go_back(world, 2)
    abort_promotion(WorldPlatform(world), POLICY_NAME, Decided("ana", "stuck"), world.said.append)
    assert world.live_image == world.image(1)
    assert world.state(2) is State.ROLLED_BACK


def test_the_version_that_was_left_is_promoted_again_by_retry_alone() -> None:
    """The sensor's rule finds it ended; after a retry it becomes champion by another commit."""
    from orchestration.commands.requesting import retry_promotion

    world = champions(2)
    go_back(world)
    promote(world, 2, "materialized by hand")
    assert world.champion == 1
    retry_promotion(
        world.registry, world.git, world.clock, world.policy(POLICY_NAME), 2, by="ana", reason="the network"
    )
    assert promote(world, 2, "retried")
    assert world.champion == 2
    assert world.state(1) is State.FORMER_CHAMPION


def test_a_champion_is_not_returned_to() -> None:
    """Nothing is committed when the version serves and is champion; the answer says so."""
    world = champions(2)
    assert go_back(world, 2) == "version 2 serves and is the champion of iris-edge already."
    assert len(world.subjects) == 2


def test_what_was_never_verified_is_refused() -> None:
    """The refusal names the versions that were; without any there is nothing to return to."""
    world = champions(2)
    world.register()
    for number in (3, 9):
        with pytest.raises(InvalidInputError, match="found one that never was; verified were: 1"):
            go_back(world, number)
    with pytest.raises(InvalidInputError, match="no other version that was ever verified"):
        go_back(World())
    assert len(world.subjects) == 2
    assert world.git.leases == {}


def test_a_version_that_failed_is_never_returned_to() -> None:
    """A version that was taken back has no evidence tag, so its image does not come back."""
    world = champions(1)
    world.register()
    world.bad_images.add(world.image(2))
    promote(world, 2, "bad")
    with pytest.raises(InvalidInputError, match="no other version"):
        go_back(world, 2)


def test_an_image_that_is_gone_is_refused_before_the_commit() -> None:
    """An image that cannot be pulled is no way back."""
    world = champions(2)
    world.images.remove(REPOSITORY, world.images.tags[REPOSITORY, "v1"])
    with pytest.raises(InvalidInputError, match="no such image"):
        go_back(world)
    assert len(world.subjects) == 2


def test_a_tag_that_was_pushed_again_does_not_count() -> None:
    """The digest that was verified comes back, whatever the tag names by now."""
    world = champions(2)
    verified = world.image(1)
    world.images.publish(REPOSITORY, "v1", {"MODEL_URI": "models:/iris/1", "REBUILT": "yes"})
    go_back(world)
    assert world.live_image == verified


def test_another_promotion_under_way_is_ended_first() -> None:
    """Committed and not judged: the refusal names the version and the command that ends it."""
    world = champions(2)
    world.register()
    run_stages(world, 3, ["promotion_candidate", "manifest_commit"])
    with pytest.raises(InvalidInputError, match=r"version 3.*incumbent abort iris-edge"):
        go_back(world)
    world.git.acquire_lease("iris", "a run", 600)
    with pytest.raises(InvalidInputError, match=r"a run.*incumbent abort iris-edge"):
        go_back(world)
    assert len(world.subjects) == 3


def test_a_champion_whose_alias_was_never_written_is_left_all_the_same() -> None:
    """Verified, and its run died before the alias: it counts as what is left, and does not become champion later."""
    world = champions(2)
    world.registry.aliases["iris", "champion"] = 1
    version = world.registry.versions["iris", 2]
    world.registry.write_tags(version, {tag_key(POLICY_NAME, "state"): "committed"})
    go_back(world)
    assert world.champion == 1
    assert world.state(2) is State.ROLLED_BACK


def test_a_persons_image_is_left_for_the_last_champion() -> None:
    """What a person put into the manifest is not overwritten by itself, but by the person's own command it is."""
    world = champions(2)
    world.images.publish(REPOSITORY, "hotfix")
    before = world.git.commits[world.git.head].files["apps/iris.yaml"]
    hotfix = before.replace(world.image(2).encode(), f"{REPOSITORY}:hotfix".encode())
    world.git.commit("Hotfix", {"apps/iris.yaml": hotfix})
    go_back(world)
    assert world.champion == 2
    assert world.live_image == world.image(2)
    assert trailers_of_head(world)["Returns-From"] == f"{REPOSITORY}:hotfix"


def test_an_image_that_changes_meanwhile_is_not_overwritten() -> None:
    """Someone's commit of another image just before the push is refused, and stays."""
    world = champions(2)
    world.images.publish(REPOSITORY, "hotfix")
    before = world.git.commits[world.git.head].files["apps/iris.yaml"]
    hotfix = before.replace(world.image(2).encode(), f"{REPOSITORY}:hotfix".encode())
    world.git.before_push = [lambda: world.git.commit("Hotfix", {"apps/iris.yaml": hotfix})]
    with pytest.raises(InvalidInputError, match="hotfix"):
        go_back(world)
    assert world.live_image == f"{REPOSITORY}:hotfix"


def test_what_a_person_put_back_by_hand_is_adopted() -> None:
    """The manifest has the image without a promotion of its own: the refusal names the command for that."""
    world = champions(2)
    first = world.git.log[1].files["apps/iris.yaml"]
    world.git.commit("Back to version 1 by hand", {"apps/iris.yaml": first})
    with pytest.raises(InvalidInputError, match="incumbent adopt iris-edge 1"):
        go_back(world, 1)


def wrong(target: str, path: str, body: bytes, headers: object) -> Answer:
    return Answer(200, b'{"prediction": 99}', 0.01)


def test_pods_that_serve_another_version_hold_a_return() -> None:
    """Its image serves, and the pods' spec makes it load another model: the alias stays where it is."""
    world = champions(2)

    def inject() -> None:
        world.reconcile()
        make_pods_serve_another(world)

    world.argocd.on_refresh = lambda _: inject()
    with pytest.raises(UnfinishedError, match="models:/iris/9"):
        go_back(world)
    assert (world.state(1), world.champion) == (State.HELD, 2)


def test_a_wrong_answer_holds_and_takes_nothing_back() -> None:
    """The image stays, because a person left what served before; once it answers right, a run makes it champion."""
    world = champions(2)
    right = world.cluster.respond
    world.cluster.respond = wrong
    with pytest.raises(UnfinishedError, match="99"):
        go_back(world)
    assert world.live_image == world.image(1)
    assert world.state(1) is State.HELD
    assert world.champion == 2
    assert world.git.leases == {}
    world.cluster.respond = right
    assert promote(world, 1, "the sensor's")
    assert world.champion == 1
    assert world.state(2) is State.ROLLED_BACK


@pytest.mark.parametrize("when_unjudged", ["hold", "roll_back"])
@pytest.mark.parametrize("fault", ["crash", "cluster down", "no answers"])
def test_whatever_fails_after_the_commit_is_held(fault: str, when_unjudged: str) -> None:
    """A crash, a dead cluster and a silent service hold the return, whatever the policy says about the unjudged."""
    within = f"judge_within: 120s\n  when_unjudged: {when_unjudged}"
    world = champions(2, POLICY_TEXT.replace("judge_within: 120s", within))
    if fault == "crash":
        world.crashing_images.add(world.image(1))
    elif fault == "cluster down":
        world.cluster.down = DOWN
    else:
        world.service.respond = lambda *_: Answer(503, b"", 0.01)
    with pytest.raises(UnfinishedError):
        go_back(world)
    assert world.state(1) is State.HELD
    assert world.subjects[-1] == "Return iris-edge to version 1"
    assert world.live_image == world.image(1)


def test_a_champion_without_recorded_requests_is_returned_to() -> None:
    """Its rollout alone is checked, and that is said."""
    world = champions(2)
    del world.registry.artifacts["run1", RECORDING_PATH]
    go_back(world)
    assert world.champion == 1
    assert any("no recorded requests" in line for line in world.said)


def test_a_registry_that_is_down_keeps_no_bad_model_serving() -> None:
    """The image comes back, and the command says what is left; when the registry answers, one run finishes it."""
    world = champions(2)
    world.registry.down = True
    with pytest.raises(UnfinishedError, match=r"no answer from the registry, while .* serves"):
        go_back(world)
    assert world.live_image == world.image(1)
    assert world.cluster.status is not None
    assert world.image(1) in world.cluster.status.images.values()
    world.registry.down = False
    assert world.state(1) is State.FORMER_CHAMPION
    assert promote(world, 1, "the sensor's")
    assert world.champion == 1
    assert world.state(1) is State.CHAMPION
    assert world.state(2) is State.ROLLED_BACK
    assert world.subjects[-1] == "Return iris-edge to version 1"


@pytest.mark.parametrize("registry_is_down", [True, False])
def test_a_server_that_crashes_is_not_blamed_on_the_model_while_the_registry_is_down(registry_is_down: bool) -> None:
    """It may be unable to load its model. Either way the commit stands, and what finishes it is said."""
    world = champions(2)
    world.crashing_images.add(world.image(1))
    world.registry.down = registry_is_down
    with pytest.raises(UnfinishedError) as raised:
        go_back(world)
    problem, commit = raised.value.problem, world.git.head[:12]
    finishes = f"Commit {commit} stands, and the sensor, or the same command again, finishes it. "
    assert problem.next_step.startswith(finishes)
    assert ("registry" in problem.subject) is registry_is_down
    assert ("incumbent rollback iris-edge VERSION" in problem.next_step) is not registry_is_down
    assert "Correct the model" not in str(problem)
    world.registry.down = False
    world.crashing_images.clear()
    world.reconcile()
    go_back(world)
    assert world.champion == 1


@pytest.mark.parametrize("broken", ["git", "images"])
def test_without_git_or_the_image_registry_nothing_is_changed(broken: str) -> None:
    """What is needed for the commit is asked before it."""
    world = champions(2)
    if broken == "git":
        world.git.down = "no answer"
    else:
        world.images.down = True
    with pytest.raises(DependencyError):
        go_back(world)
    world.git.down = None
    assert len(world.subjects) == 2


def test_the_command_again_goes_on_with_what_it_began() -> None:
    """A held return is not committed again."""
    world = champions(2)
    world.service.respond = lambda *_: Answer(503, b"", 0.01)
    with pytest.raises(UnfinishedError):
        go_back(world)
    world.service.respond = world.cluster.respond
    go_back(world)
    assert world.champion == 1
    assert world.subjects.count("Return iris-edge to version 1") == 1


def test_a_return_ends_when_a_person_puts_another_image_there() -> None:
    """Nothing is crowned, and the person's image stays."""
    world = champions(2)
    world.service.respond = lambda *_: Answer(503, b"", 0.01)
    before = world.git.commits[world.git.head].files

    def keep_version_2() -> None:
        world.git.commit("No, keep version 2", before)
        world.reconcile()

    world.clock.after(10, keep_version_2)
    with pytest.raises(UnfinishedError):
        go_back(world)
    assert world.live_image == world.image(2)
    assert world.champion == 2
    assert world.state(1) is State.ROLLED_BACK


def points() -> list[tuple[int, bool]]:
    """Every write of a return when nothing kills it: before the write, and after it."""
    world = champions(2)
    counting = Saboteur(world, 0, after=False)
    go_back(world)
    return [(at, after) for at in range(1, counting.count + 1) for after in (False, True)]


@pytest.mark.parametrize("again", ["sensor", "command"])
@pytest.mark.parametrize(("at", "after"), points())
def test_killed_at_any_write_of_a_return(at: int, after: bool, again: str) -> None:
    """A run finishes what was committed, and the command begins again otherwise: one commit, one tag."""
    world = champions(2)
    saboteur = Saboteur(world, at, after=after)
    with pytest.raises(Killed):
        go_back(world)
    saboteur.revive()
    world.clock.sleep(LEASE_SECONDS + 1)
    committed = "Return iris-edge to version 1" in world.subjects
    if again == "sensor" and committed:
        promote(world, 1, "the sensor's")
    else:
        go_back(world, 1)
    assert world.champion == 1
    assert world.state(1) is State.CHAMPION
    assert world.state(2) is State.ROLLED_BACK
    assert "ana@team" in world.reason(2)
    assert world.subjects.count("Return iris-edge to version 1") == 1
    assert sorted(world.git.tags) == [f"incumbent/iris-edge/{tag}" for tag in ("1-1", "1-2", "2-1")]
    assert world.live_image == world.image(1)

"""`incumbent abort` on a platform of fakes: whatever is under way is ended, also while a run is at work on it."""

import pytest

from orchestration.commands.requesting import request_promotion, retry_promotion
from orchestration.commands.serving import UnfinishedError, abort_promotion, return_to_champion
from orchestration.promotion.acts import ActKind
from orchestration.promotion.branch_view import acts
from orchestration.promotion.decided import Decided
from orchestration.promotion.identity import partition_key
from orchestration.promotion.model_version import tag_key
from orchestration.promotion.ports import Answer
from orchestration.promotion.problems import DependencyError, InvalidInputError
from orchestration.promotion.sensor_rules import is_new, is_unfinished
from orchestration.promotion.state import State
from orchestration.promotion.summary import summary_key
from orchestration.stages.lease import LEASE_SECONDS, abort_holder, command_holder
from orchestration.stages.pipeline import STAGES
from orchestration.stages.runner import StageFailed, run_stage
from tests.fakes.runs import Host, Killed, Saboteur, promote, run_stages
from tests.fakes.world import POLICY_NAME, REPOSITORY, World, WorldPlatform

ANA = Decided("ana@team", "the wrong training data")
WHO = "ana@team (the wrong training data)"


TWO = Decided("two@team", "I saw it, too")


def abort(world: World, decided: Decided = ANA) -> str:
    return abort_promotion(WorldPlatform(world), POLICY_NAME, decided, world.said.append)


def challenged() -> World:
    """Version 1 is champion, and version 2 was requested."""
    world = World()
    world.register()
    assert promote(world, 1, "first")
    world.register()
    request_promotion(world.registry, world.clock, world.policy(POLICY_NAME), 2)
    return world


def commit_only(world: World, number: int = 2) -> None:
    for stage in STAGES[:2]:
        host = Host("a run", False, world.said.append)
        done = run_stage(stage, WorldPlatform(world), partition_key(POLICY_NAME, number), host)
        assert not isinstance(done, StageFailed), done


def aborted_acts(world: World) -> list[int | None]:
    return [act.version for act in acts(world.git, POLICY_NAME) if act.kind is ActKind.ABORT]


def at_a_glance(world: World, number: int) -> str:
    return world.registry.versions["iris", number].tags[summary_key(POLICY_NAME)]


def is_quiet(world: World, number: int) -> bool:
    """Whether the sensor starts nothing for a version."""
    version = world.registry.versions["iris", number]
    return not is_new(version, POLICY_NAME) and not is_unfinished(version, POLICY_NAME)


def test_a_committed_promotion_is_taken_back() -> None:
    """One rollback commit says who and why; the champion serves again, and the sensor starts nothing."""
    world = challenged()
    commit_only(world)
    done = abort(world)
    assert "version 2 of iris was aborted" in done
    assert not [line for line in world.said if line in done]  # what is done is said once
    trailers = world.git.log[0].trailers
    assert (trailers["Verdict"], trailers["By"], trailers["Reason"]) == ("Aborted", ANA.by, ANA.reason)
    assert trailers["Rollback-Of"].startswith("iris-edge/2/")
    assert world.live_image == world.image(1)
    assert world.cluster.status is not None
    assert world.image(1) in world.cluster.status.images.values()
    assert world.champion == 1
    assert world.state(2) is State.ROLLED_BACK
    assert WHO in world.reason(2)
    assert at_a_glance(world, 2).count(WHO) == 1
    assert is_quiet(world, 2)
    assert world.git.leases == {}


def test_an_aborted_version_comes_back_by_retry() -> None:
    """Its next attempt is judged like any other."""
    world = challenged()
    commit_only(world)
    abort(world)
    policy = world.policy(POLICY_NAME)
    assert retry_promotion(world.registry, world.git, world.clock, policy, 2, by="ana", reason="right after all") == 2
    assert promote(world, 2, "retried")
    assert world.champion == 2


@pytest.mark.parametrize("state", ["requested", "waiting", "held by a person", "not seen by the sensor"])
def test_what_is_not_committed_is_refused(state: str) -> None:
    """Nothing is committed; the act in Git says who and why; a retry leads back to the first attempt."""
    world = challenged()
    version = world.registry.versions["iris", 2]
    written = {"waiting": "waiting", "held by a person": "held", "requested": "requested"}.get(state, "")
    world.registry.write_tags(version, {tag_key(POLICY_NAME, "state"): written})
    if state == "held by a person":
        world.registry.write_tags(version, {tag_key(POLICY_NAME, "held_by"): "person"})
    assert abort(world) == "version 2 of iris was aborted before its commit."
    assert world.state(2) is State.REFUSED
    assert WHO in world.reason(2)
    assert at_a_glance(world, 2).endswith(f" UTC: Aborted by {WHO}. Nothing was committed.")
    assert aborted_acts(world) == [2]
    assert len(world.subjects) == 1
    assert is_quiet(world, 2)
    assert promote(world, 2, "materialized by hand")
    assert world.champion == 1
    world.clock.sleep(1)
    policy = world.policy(POLICY_NAME)
    assert retry_promotion(world.registry, world.git, world.clock, policy, 2, by="ana", reason="go on") == 1
    assert promote(world, 2, "retried")
    assert world.champion == 2


def test_nothing_under_way_is_nothing_to_abort() -> None:
    """An empty platform, and one whose challenger is champion: the answer says so and nothing is written."""
    world = World()
    assert abort(world).startswith("nothing to abort")
    world = challenged()
    assert promote(world, 2, "run")
    assert abort(world).startswith("nothing to abort")
    assert world.champion == 2
    assert aborted_acts(world) == []


def test_what_is_verified_already_is_left_by_a_rollback() -> None:
    """Its run died before the alias: the refusal names the command for champions."""
    world = challenged()
    assert promote(world, 2, "run")
    world.registry.write_tags(world.registry.versions["iris", 2], {tag_key(POLICY_NAME, "state"): "committed"})
    with pytest.raises(InvalidInputError, match=r"verified already.*incumbent rollback iris-edge"):
        abort(world)
    assert world.live_image == world.image(2)


@pytest.mark.parametrize("seconds", [5.0, 25.0, 55.0])
def test_a_run_in_mid_soak_ends_with_who_and_why(seconds: float) -> None:
    """The run's lease is taken over: it writes nothing more, and its end names the person and the reason."""
    world = challenged()
    commit_only(world)
    world.clock.after(seconds, lambda: abort(world))
    host = Host("a run", False, world.said.append)
    ends = [run_stage(stage, WorldPlatform(world), partition_key(POLICY_NAME, 2), host) for stage in STAGES[2:]]
    ended = ends[-1]
    assert isinstance(ended, StageFailed)
    assert ended.outcome == "rolled back"
    assert WHO in str(ended.problem)
    assert world.champion == 1
    assert world.live_image == world.image(1)
    assert world.state(2) is State.ROLLED_BACK
    assert sorted(world.git.tags) == ["incumbent/iris-edge/1-1"]


def test_a_run_that_loses_its_lease_to_an_abort_is_told_from_one_that_waits() -> None:
    """While the image is still being taken back, the run's outcome is neither an end of the version nor a wait."""
    world = challenged()
    commit_only(world)
    application = world.policy(POLICY_NAME).argocd.application
    world.clock.after(
        5.0, lambda: world.git.acquire_lease(application, abort_holder(ANA), LEASE_SECONDS, take_over=True)
    )
    ended = run_stage(
        STAGES[2], WorldPlatform(world), partition_key(POLICY_NAME, 2), Host("a run", False, world.said.append)
    )
    if not isinstance(ended, StageFailed):  # rolled out before; the gate notices
        ended = run_stage(
            STAGES[3], WorldPlatform(world), partition_key(POLICY_NAME, 2), Host("a run", False, world.said.append)
        )
    assert isinstance(ended, StageFailed)
    assert (ended.outcome, ended.is_judgement) == ("aborted", True)
    assert WHO in str(ended.problem)


def test_a_run_that_meets_the_abort_at_work_says_who_and_why() -> None:
    """While the abort still waits, another run finds the lease taken, with the reason."""
    world = challenged()
    commit_only(world)
    ends: list[object] = []

    def meet() -> None:
        host = Host("another run", False, world.said.append)
        ends.append(run_stage(STAGES[2], WorldPlatform(world), partition_key(POLICY_NAME, 2), host))

    take_over = world.git.acquire_lease

    def taken(*arguments: object, **named: object) -> object:
        result = take_over(*arguments, **named)  # type: ignore[arg-type]
        if named.get("take_over"):
            meet()
        return result

    world.git.acquire_lease = taken  # type: ignore[method-assign, assignment]
    abort(world)
    (ended,) = ends
    assert isinstance(ended, StageFailed)
    assert "an abort by ana@team" in str(ended.problem)
    assert ANA.reason in str(ended.problem)
    assert ended.outcome == "waiting"  # it may be another version's abort


def test_an_abort_that_meets_another_one_leaves_it_to_that() -> None:
    """It takes no lease from it, and says who ends the promotion."""
    world = challenged()
    commit_only(world)
    met: list[str] = []

    def meet() -> None:
        with pytest.raises(InvalidInputError) as refused:
            abort(world, TWO)
        met.append(str(refused.value))

    world.git.before_push = [lambda: None, meet]
    abort(world)
    assert met == [
        f"this abort of iris-edge: expected to be the only one, found an abort by {WHO}. "
        "No action needed: that ends it, and incumbent status iris-edge shows when."
    ]
    assert ANA.by in world.reason(2)


@pytest.mark.parametrize("committed", [True, False])
def test_the_slower_of_two_aborts_says_who_ended_the_promotion(committed: bool) -> None:
    """Both looked before either had the lease; what it wanted is done, so it is no failure."""
    world = challenged()
    if committed:
        commit_only(world)

    def be_faster() -> None:
        world.git.leases.clear()
        abort(world, TWO)

    world.git.before_push = [lambda: None, be_faster] if committed else [be_faster]
    assert abort(world) == "the promotion of iris-edge has ended already, by two@team (I saw it, too)."
    assert world.state(2) is (State.ROLLED_BACK if committed else State.REFUSED)
    assert world.git.leases == {}


def test_an_abort_whose_lease_another_one_took_refuses_while_that_is_at_work() -> None:
    """The other one has not ended the promotion yet."""
    world = challenged()
    commit_only(world)
    take = world.git.acquire_lease
    world.git.before_push = [
        lambda: None,
        lambda: take("iris", abort_holder(TWO), LEASE_SECONDS, take_over=True),
    ]
    with pytest.raises(InvalidInputError, match=r"found an abort by two@team \(I saw it, too\)\. No action needed"):
        abort(world)


@pytest.mark.parametrize("seconds", [1.0, 3.0])
@pytest.mark.parametrize("is_over", [True, False])
def test_a_rollback_that_is_aborted_says_by_whom(seconds: float, is_over: bool) -> None:
    """Whether the abort is over or still at work; nothing of it is left to finish."""
    world = challenged()
    assert promote(world, 2, "second")
    world.argocd.on_refresh = lambda _: None

    def end() -> None:
        world.argocd.on_refresh = lambda _: world.reconcile()
        if is_over:
            abort(world, TWO)
        else:
            world.git.acquire_lease("iris", abort_holder(TWO), LEASE_SECONDS, take_over=True)

    world.clock.after(seconds, end)
    holder = command_holder("rollback", "ana", "c0ffee")
    with pytest.raises(InvalidInputError, match=r"^this rollback of iris-edge: .* found an abort by two@team \(I saw"):
        return_to_champion(WorldPlatform(world), POLICY_NAME, None, ANA, holder, world.said.append)
    assert world.champion == 2


def test_a_run_that_waits_for_its_image_stops() -> None:
    """It holds no lease; it notices the refusal, does not overwrite the reason, and commits nothing later."""
    world = World()
    world.register(publish=False)
    world.clock.after(7, lambda: abort(world))
    world.clock.after(15, lambda: world.images.publish(REPOSITORY, "v1", {"MODEL_URI": "models:/iris/1"}))
    promote(world, 1, "run")
    assert world.clock.scheduled, "it stops at once, and not only when the image is there"
    assert world.subjects == []
    assert world.state(1) is State.REFUSED
    assert WHO in world.reason(1)


def test_an_abort_that_a_waiting_run_overwrote_still_counts() -> None:
    """The act in Git stops the commit, also when a run wrote `waiting` over the refusal."""
    world = challenged()
    abort(world)
    world.registry.write_tags(world.registry.versions["iris", 2], {tag_key(POLICY_NAME, "state"): "waiting"})
    promote(world, 2, "run")
    assert len(world.subjects) == 1
    assert world.state(2) is State.REFUSED
    assert WHO in world.reason(2)


def test_a_held_promotion_is_taken_back() -> None:
    """Held by the platform, or by a person who cancelled the run: both are ended."""
    world = challenged()
    world.unmeasured_images.add(world.image(2))
    run_stages(world, 2)
    assert world.state(2) is State.HELD
    abort(world)
    assert world.state(2) is State.ROLLED_BACK
    assert world.live_image == world.image(1)


def test_a_promotion_that_a_person_undid_is_ended_without_a_commit() -> None:
    """The person's image stays, and the version is not promoted again by itself."""
    world = challenged()
    commit_only(world)
    world.git.commit("Undo it by hand", world.git.log[1].files)
    commits = len(world.subjects)
    abort(world)
    assert len(world.subjects) == commits
    assert world.state(2) is State.ROLLED_BACK


def test_a_return_is_aborted_like_a_promotion() -> None:
    """A return that is held goes back to what it left."""
    world = challenged()
    assert promote(world, 2, "run")
    world.cluster.respond = lambda *_: Answer(200, b'{"prediction": 99}', 0.01)
    with pytest.raises(UnfinishedError):
        return_to_champion(WorldPlatform(world), POLICY_NAME, None, ANA, "rollback by ana", world.said.append)
    abort(world)
    assert world.live_image == world.image(2)
    assert world.champion == 2
    assert world.state(1) is State.ROLLED_BACK


def test_a_registry_that_is_down_keeps_no_aborted_model_serving() -> None:
    """The image is taken back; the version's state follows with the next run."""
    world = challenged()
    commit_only(world)
    world.registry.down = True
    with pytest.raises(DependencyError):
        abort(world)
    world.registry.down = False
    assert world.live_image == world.image(1)
    assert not is_quiet(world, 2)
    promote(world, 2, "the sensor's")
    assert world.state(2) is State.ROLLED_BACK
    assert WHO in world.reason(2)
    assert len(world.subjects) == 3


def test_removing_the_alias_before_the_commit_ends_as_refused() -> None:
    """What a person can do without the command keeps its meaning."""
    world = challenged()
    del world.registry.aliases["iris", "challenger"]
    promote(world, 2, "run")
    assert world.state(2) is State.REFUSED
    assert abort(world).startswith("nothing to abort")


def begin(kind: str) -> World:
    world = challenged()
    if kind == "committed":
        commit_only(world)
        world.git.leases.clear()
    return world


def points(kind: str) -> list[tuple[str, int, bool]]:
    """Every write of an abort when nothing kills it: before the write, and after it."""
    world = begin(kind)
    counting = Saboteur(world, 0, after=False)
    abort(world)
    return [(kind, at, after) for at in range(1, counting.count + 1) for after in (False, True)]


@pytest.mark.parametrize(("kind", "at", "after"), [*points("committed"), *points("requested")])
def test_killed_at_any_write_of_an_abort(kind: str, at: int, after: bool) -> None:
    """It has happened as a whole once its first write is in Git, and otherwise not at all; again it ends the same."""
    world = begin(kind)
    saboteur = Saboteur(world, at, after=after)
    with pytest.raises(Killed):
        abort(world)
    saboteur.revive()
    world.clock.sleep(LEASE_SECONDS + 1)
    happened = bool(aborted_acts(world)) or "Aborted" in world.git.log[0].trailers.values()
    if happened:
        promote(world, 2, "the sensor's")
    else:
        abort(world)
    assert world.champion == 1
    assert world.live_image == world.image(1)
    assert world.state(2) is (State.ROLLED_BACK if kind == "committed" else State.REFUSED)
    assert WHO in world.reason(2)
    assert len(world.subjects) == (3 if kind == "committed" else 1)
    assert is_quiet(world, 2)

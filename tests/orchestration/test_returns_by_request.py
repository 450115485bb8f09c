"""`incumbent rollback` where the branch is protected: proposed, merged in each way, refused, ended, cut off."""

from collections.abc import Callable

import pytest

from orchestration.commands.serving import UnfinishedError, abort_promotion, return_to_champion
from orchestration.commands.status import read_status
from orchestration.promotion.acts import ActKind
from orchestration.promotion.branch_view import acts
from orchestration.promotion.decided import Decided
from orchestration.promotion.problems import DependencyError, InvalidInputError
from orchestration.promotion.pull_requests import MERGE_TAG, MergeMethod
from orchestration.promotion.sensor_rules import Memory
from orchestration.promotion.state import State
from orchestration.stages.lease import LEASE_SECONDS
from orchestration.stages.plan import Outlook, plan_promotion
from tests.fakes.runs import Killed, Saboteur, promote
from tests.fakes.ticks import Runs, go_on
from tests.fakes.world import POLICY_NAME, POLICY_TEXT, REPOSITORY, World, WorldPlatform

BY_REQUEST = POLICY_TEXT + "delivery: {pull_request: {host: github, rollbacks: pull_request}}\n"
MANIFEST = "apps/iris.yaml"
ANA = Decided("ana@team", "complaints since noon")
WAYS: list[tuple[MergeMethod, str | None]] = [
    ("merge", None),
    ("squash", None),
    ("squash", "Return iris-edge to version 1 (#3)"),
    ("rebase", None),
]


def champions(count: int, policy: str = BY_REQUEST) -> World:
    """A protected branch to which that many versions came by a request each, one after the other."""
    world = World(policy)
    world.git.is_protected = True
    for number in range(1, count + 1):
        world.register()
        promote(world, number, f"first {number}")
        world.requests.merge(number)
        promote(world, number, f"second {number}")
        assert world.champion == number
    return world


def go_back(world: World, number: int | None = None, decided: Decided = ANA) -> str:
    return return_to_champion(WorldPlatform(world), POLICY_NAME, number, decided, "rollback", world.said.append)


def asked(count: int = 2, number: int | None = None) -> World:
    """The same, and ana has asked for a return, whose request is open."""
    world = champions(count)
    with pytest.raises(UnfinishedError, match=rf"the merge of its return, found request #{count + 1} \(https"):
        go_back(world, number)
    return world


def abort(world: World) -> str:
    return abort_promotion(WorldPlatform(world), POLICY_NAME, Decided("ben", "not now"), world.said.append)


def tag(world: World, number: int) -> str:
    return world.registry.versions["iris", number].tag(POLICY_NAME, MERGE_TAG) or ""


def test_a_return_is_proposed() -> None:
    """Nothing reaches the branch; the request says who, why and what comes back, and nobody holds the lease."""
    world = asked()
    (request,) = world.requests.requests[2:]
    assert request.branch == "incumbent/iris-edge/return-1-2"
    assert request.text.title == "Return iris-edge to version 1"
    for told in (world.image(1), "ana@team", "complaints since noon", "Close it to keep what serves"):
        assert told in request.text.body
    assert world.live_image == world.image(2)
    assert world.champion == 2
    assert world.state(1) is State.FORMER_CHAMPION
    assert "ana@team (complaints since noon) with the merge of request #3" in world.reason(1)
    assert tag(world, 1) == "merge_of_return https://git.example/acme/gitops/pull/3"
    assert world.git.leases == {}
    assert go_on(world, Runs(), {}) == []


@pytest.mark.parametrize(("how", "message"), WAYS)
def test_a_merged_return_is_finished_by_the_sensor(how: MergeMethod, message: str | None) -> None:
    """However it was merged, the version is asked its requests and becomes champion, and the other one was left."""
    world = asked()
    world.requests.merge(3, how, message=message)
    assert go_on(world, Runs(), {}) == [1]
    assert world.champion == 1
    assert world.state(1) is State.CHAMPION
    assert world.state(2) is State.ROLLED_BACK
    assert "ana@team (complaints since noon)" in world.reason(2)
    assert world.live_image == world.image(1)
    assert tag(world, 1) == ""
    assert (world.git.proposed, world.git.branches) == ({}, {})
    told = world.git.history(world.git.head, POLICY_NAME)[0]
    assert (told.trailers["Returns-From"], told.trailers["By"]) == ("2", "ana@team")
    assert world.git.tags["incumbent/iris-edge/1-2"].commit == told.commit


def test_status_and_plan_show_what_waits() -> None:
    """Status names the request, or while the registry is down its branch; a challenger's plan says whose turn it is."""
    world = asked()
    (status,) = read_status(WorldPlatform(world), [POLICY_NAME])
    (waits,) = status.under_way
    assert (waits.version, waits.state) == (1, "waiting")
    assert "by ana@team (complaints since noon) with the merge of request #3" in waits.reason
    world.register()
    plan = plan_promotion(world.clients(world.policy(POLICY_NAME)), world.policy(POLICY_NAME), 3, world.said.append)
    assert plan.outlook is Outlook.WAITING
    assert "a return to version 1 by ana@team (complaints since noon), which waits for its merge" in plan.under_way
    world.registry.down = True
    (status,) = read_status(WorldPlatform(world), [POLICY_NAME])
    assert "incumbent/iris-edge/return-1-2" in next(each for each in status.under_way if each.version == 1).reason


def test_the_command_again_goes_on_after_the_merge() -> None:
    """Where no sensor runs; before the merge it names the same request again, whoever gives it."""
    world = asked()
    with pytest.raises(UnfinishedError, match="request #3"):
        go_back(world, 1, Decided("ben", "me too"))
    world.requests.merge(3, "squash", message="Back")
    assert go_back(world) == "version 1 serves again, and is the champion of iris-edge."
    assert len(world.requests.requests) == 3


def test_a_return_is_pushed_where_the_policy_says_so() -> None:
    """With `rollbacks: push`, the default, it does not wait for anyone."""
    world = champions(2, BY_REQUEST.replace("rollbacks: pull_request", "rollbacks: push"))
    world.git.is_protected = False
    go_back(world)
    assert world.champion == 1
    assert len(world.requests.requests) == 2


def test_a_policy_that_pushes_again_waits_no_longer() -> None:
    """The request from before is closed, and the same command pushes."""
    world = asked()
    world.policies[POLICY_NAME] = BY_REQUEST.replace("rollbacks: pull_request", "rollbacks: push")
    world.git.is_protected = False
    go_back(world)
    assert world.champion == 1
    assert world.requests.open_ones == []
    assert world.git.proposed == {}


def test_a_person_who_closes_the_request_keeps_what_serves() -> None:
    """It is that person's act in Git; nothing opens another request by itself, and the command does."""
    world = asked()
    world.requests.close_by_hand(3, "ben")
    memories: dict[str, Memory] = {}
    runs = Runs()
    assert go_on(world, runs, memories) == [1]
    (act,) = acts(world.git, POLICY_NAME)
    assert (act.kind, act.by, act.version) == (ActKind.ABORT, "ben", 1)
    assert world.state(1) is State.FORMER_CHAMPION
    assert "ben closed request #3" in world.reason(1)
    assert (tag(world, 1), world.git.proposed) == ("", {})
    assert world.champion == 2
    assert go_on(world, runs, memories) == []
    with pytest.raises(UnfinishedError, match="request #4"):
        go_back(world)
    world.requests.merge(4)
    go_on(world, runs, memories)
    assert world.champion == 1


def test_the_command_tells_who_closed_the_request() -> None:
    """Given again, it is refused with that person's name, and changes nothing."""
    world = asked()
    world.requests.close_by_hand(3, "ben")
    with pytest.raises(InvalidInputError, match=r"ben closed request #3.*incumbent rollback iris-edge 1"):
        go_back(world)
    assert world.git.proposed == {}


def test_another_image_that_was_merged_is_that_persons_choice() -> None:
    """Who changes the image in the request has not merged the return: the image stays, and nothing is crowned."""
    world = asked()
    world.images.publish(REPOSITORY, "theirs")
    text = world.git.commits[world.git.branches["incumbent/iris-edge/return-1-2"]].files[MANIFEST].decode()
    world.requests.edit(3, MANIFEST, text.replace(world.image(1), f"{REPOSITORY}:theirs").encode())
    world.requests.merge(3, "squash", message="Theirs", by="ben")
    go_on(world, Runs(), {})
    assert world.live_image == f"{REPOSITORY}:theirs"
    assert "ben merged request #3" in world.reason(1)
    assert world.champion == 2
    assert world.git.proposed == {}


def test_a_return_that_nobody_merges_in_time_is_over() -> None:
    """What serves stays, the challenger that waited for it is promoted, and the command opens another request."""
    world = asked()
    world.register()
    memories: dict[str, Memory] = {}
    runs = Runs()
    assert go_on(world, runs, memories) == [3]
    assert world.requests.open_ones == [3]
    world.clock.sleep(7 * 24 * 3600.0)
    assert go_on(world, runs, memories, ticks=3) == [1, 3]
    assert "request #3" in world.reason(1)
    assert "which nobody merged until" in world.reason(1)
    assert "merge_deadline" in world.requests.requests[2].comments[0]
    assert world.state(1) is State.FORMER_CHAMPION
    assert world.champion == 2
    assert world.requests.open_ones == [4]
    assert world.requests.requests[3].branch == "incumbent/iris-edge/promote-3-1"


def test_the_command_is_told_that_the_time_was_over() -> None:
    """Where no sensor runs, given again it ends the first request; given once more it opens another one."""
    world = asked()
    world.clock.sleep(7 * 24 * 3600.0)
    with pytest.raises(InvalidInputError, match=r"nobody merged until .*incumbent rollback iris-edge 1"):
        go_back(world)
    with pytest.raises(UnfinishedError, match="request #4"):
        go_back(world)


def test_an_abort_closes_the_request() -> None:
    """With a comment that says who and why; what serves stays the champion."""
    world = asked()
    assert abort(world) == "the return to version 1 of iris was aborted before its merge."
    assert world.requests.open_ones == []
    assert "an abort by ben (not now)" in world.requests.requests[2].comments[0]
    assert "an abort by ben (not now)" in world.reason(1)
    assert go_on(world, Runs(), {}) == []
    assert world.champion == 2
    assert abort(world) == "nothing to abort: no promotion of iris-edge is under way."


def test_an_abort_while_the_host_is_down_is_finished_later() -> None:
    """The act in Git counts, and the next run closes the request."""
    world = asked()
    world.requests.down = "HTTP 503"
    with pytest.raises(DependencyError):
        abort(world)
    world.requests.down = None
    assert go_on(world, Runs(), {}) == [1]
    assert world.requests.open_ones == []
    assert world.git.proposed == {}


def test_a_return_that_is_merged_while_it_is_aborted_is_on_the_branch() -> None:
    """A person is faster than our closing: the abort says so, and the return is finished."""
    world = asked()
    world.requests.before_close = lambda: world.requests.merge(3, "squash", message="Just in time")
    with pytest.raises(UnfinishedError, match="merged in the meantime"):
        abort(world)
    go_on(world, Runs(), {})
    assert world.champion == 1


def test_a_merged_return_that_is_aborted_goes_back_by_a_request() -> None:
    """What is on the branch is taken back as the policy says."""
    world = asked()
    world.requests.merge(3, "squash", message="Back")
    with pytest.raises(UnfinishedError, match="request #4"):
        abort(world)
    world.requests.merge(4)
    go_on(world, Runs(), {})
    assert world.live_image == world.image(2)
    assert world.champion == 2
    assert world.state(1) is State.ROLLED_BACK
    assert "Aborted by ben (not now)" in world.reason(1)


def test_a_challenger_waits_for_the_end_of_the_return() -> None:
    """Its own request is closed, and opened again when it is decided; meanwhile no run says the same again."""
    world = champions(2)
    world.register()
    promote(world, 3, "first 3")
    assert world.requests.open_ones == [3]
    with pytest.raises(UnfinishedError, match="request #4"):
        go_back(world)
    assert world.requests.open_ones == [4]
    assert "a return to version 1" in world.requests.requests[2].comments[0]
    memories: dict[str, Memory] = {}
    runs = Runs()
    assert go_on(world, runs, memories) == [3]
    assert world.state(3) is State.WAITING
    assert "a return to version 1 by ana@team (complaints since noon)" in world.reason(3)
    assert world.requests.open_ones == [4]
    world.requests.merge(4)
    assert go_on(world, runs, memories, ticks=3) == [1, 3]
    assert world.champion == 1
    assert world.requests.open_ones == [5]


def test_a_return_to_another_version_takes_its_place() -> None:
    """The first request is closed with who wants what instead; what nobody named goes on with the one that is open."""
    world = asked(3, 1)
    with pytest.raises(UnfinishedError, match="request #4"):
        go_back(world)
    with pytest.raises(UnfinishedError, match="request #5"):
        go_back(world, 2, Decided("ben", "rather this"))
    assert world.requests.open_ones == [5]
    assert "a later return to version 2 by ben (rather this)" in world.requests.requests[3].comments[0]
    assert (tag(world, 1), list(world.git.proposed)) == ("", ["iris-edge/return-2-2"])
    world.requests.merge(5)
    go_on(world, Runs(), {})
    assert world.champion == 2


def test_a_return_ends_when_the_image_that_it_was_to_leave_is_gone() -> None:
    """A person's image is not overwritten by a request from before."""
    world = asked()
    world.images.publish(REPOSITORY, "hotfix")
    text = world.git.commits[world.git.head].files[MANIFEST].decode()
    world.git.commit("Hotfix", {MANIFEST: text.replace(world.image(2), f"{REPOSITORY}:hotfix").encode()})
    go_on(world, Runs(), {})
    assert world.requests.open_ones == []
    assert f"{REPOSITORY}:hotfix in apps/iris.yaml, which is not what it was to leave (2)" in world.reason(1)
    assert world.live_image == f"{REPOSITORY}:hotfix"


def test_a_conflict_is_solved_by_a_new_commit_in_the_same_request() -> None:
    """Another line of the manifest changed: what ana decided is kept, and stays one request."""
    world = asked()
    text = world.git.commits[world.git.head].files[MANIFEST]
    world.git.commit("Scale", {MANIFEST: text + b"# scaled\n"})
    assert go_on(world, Runs(), {}) == [1]
    assert world.requests.open_ones == [3]
    world.requests.merge(3)
    go_on(world, Runs(), {})
    assert world.champion == 1
    assert b"# scaled" in world.git.commits[world.git.head].files[MANIFEST]
    assert "ana@team (complaints since noon)" in world.reason(2)


def test_a_version_that_is_deleted_is_not_brought_back() -> None:
    """Its request is closed, because nobody could prove it any more."""
    world = asked()
    del world.registry.versions["iris", 1]
    go_on(world, Runs(), {})
    assert world.requests.open_ones == []
    assert world.git.proposed == {}


def test_a_registry_that_is_down_keeps_no_bad_model_serving() -> None:
    """The request is opened without it, and what it says on the version is made up for."""
    world = champions(2)
    world.registry.down = True
    with pytest.raises(UnfinishedError, match="request #3"):
        go_back(world)
    world.registry.down = False
    assert go_on(world, Runs(), {}) == [1]
    assert tag(world, 1).startswith("merge_of_return ")
    world.requests.merge(3)
    go_on(world, Runs(), {})
    assert world.champion == 1


def test_a_host_that_is_down_is_asked_again_by_the_sensor() -> None:
    """What ana decided is in Git before the host is asked, so nothing is lost."""
    world = champions(2)
    world.requests.down = "HTTP 503"
    with pytest.raises(DependencyError, match="HTTP 503"):
        go_back(world)
    world.requests.down = None
    assert go_on(world, Runs(), {}) == [1]
    assert world.requests.open_ones == [3]


def points(world: World, act: Callable[[World], None]) -> list[tuple[int, bool]]:
    counting = Saboteur(world, 0, after=False)
    act(world)
    return [(at, after) for at in range(1, counting.count + 1) for after in (False, True)]


def _ask(world: World) -> None:
    with pytest.raises(UnfinishedError):
        go_back(world)


def _stop(world: World) -> None:
    abort(world)


@pytest.mark.parametrize("again", ["sensor", "command"])
@pytest.mark.parametrize(("at", "after"), points(champions(2), _ask))
def test_killed_at_any_write_of_asking(at: int, after: bool, again: str) -> None:
    """Whoever goes on, there is one request, and its merge brings the version back."""
    world = champions(2)
    saboteur = Saboteur(world, at, after=after)
    with pytest.raises(Killed):
        go_back(world)
    saboteur.revive()
    world.clock.sleep(LEASE_SECONDS + 1)
    if again == "sensor" and world.git.proposed:
        go_on(world, Runs(), {})
    else:
        _ask(world)
    assert world.requests.open_ones == [3]
    assert len(world.requests.requests) == 3
    world.requests.merge(3, "squash", message="Back")
    go_on(world, Runs(), {})
    assert world.champion == 1
    assert world.state(2) is State.ROLLED_BACK
    assert world.subjects.count("Back") == 1


@pytest.mark.parametrize(("at", "after"), points(asked(), _stop))
def test_killed_at_any_write_of_an_abort(at: int, after: bool) -> None:
    """Once the act is in Git, the sensor closes the request; before that, nothing was changed."""
    world = asked()
    saboteur = Saboteur(world, at, after=after)
    with pytest.raises(Killed):
        abort(world)
    saboteur.revive()
    is_decided = bool(acts(world.git, POLICY_NAME))
    world.clock.sleep(LEASE_SECONDS + 1)
    go_on(world, Runs(), {})
    assert world.requests.open_ones == ([] if is_decided else [3])
    assert bool(world.git.proposed) is not is_decided
    assert world.champion == 2

"""Promotions that reach a protected branch by a pull request: merged in each way, refused, superseded, cut off."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestration.commands.holding import hold_policy, resume_policy
from orchestration.commands.serving import UnfinishedError, abort_promotion
from orchestration.promotion.acts import ActKind
from orchestration.promotion.branch_view import acts
from orchestration.promotion.decided import Decided
from orchestration.promotion.policy import parse_policy
from orchestration.promotion.ports import FileEdit, LeaseRecord
from orchestration.promotion.problems import DependencyError, InvalidInputError
from orchestration.promotion.pull_requests import MergeMethod, RequestState
from orchestration.promotion.recorded_requests import RECORDING_PATH
from orchestration.promotion.sensor_rules import Memory
from orchestration.promotion.state import State
from tests.fakes.runs import Saboteur, promote, resume
from tests.fakes.ticks import Runs, go_on
from tests.fakes.world import POLICY_NAME, POLICY_TEXT, REPOSITORY, World, WorldPlatform

BY_REQUEST = POLICY_TEXT + "delivery: {pull_request: {host: github}}\n"
BRANCH = "incumbent/iris-edge/promote-1-1"
WAYS: list[tuple[MergeMethod, str | None]] = [
    ("merge", None),
    ("squash", None),
    ("squash", "Promote iris-edge to version 1 (#1)"),
    ("rebase", None),
]
"""How people merge, and the message that the host gives a squashed commit in place of ours."""


@pytest.fixture
def world() -> World:
    """A protected branch, and version 1 whose request is open."""
    return proposed(World(BY_REQUEST))


def proposed(world: World) -> World:
    world.git.is_protected = True
    world.register()
    assert promote(world, 1, "first")
    return world


def test_a_request_is_opened_and_waited_for(world: World) -> None:
    """Nothing reaches the branch; the version says what it waits for, and the request shows the evidence so far."""
    (request,) = world.requests.requests
    assert world.subjects == []
    assert world.state(1) is State.WAITING
    assert "request #1 (https://git.example/acme/gitops/pull/1)" in world.reason(1)
    assert "Merge it, or close it to refuse the version" in world.reason(1)
    assert request.branch == BRANCH
    assert request.text.title == "Promote iris-edge to version 1"
    for told in (world.image(1), "`quality`", "`dependencies_ready`", "run1", "iris-edge/1/"):
        assert told in request.text.body
    assert world.git.leases == {}


@pytest.mark.parametrize(("how", "message"), WAYS)
def test_a_merged_request_is_promoted(world: World, how: MergeMethod, message: str | None) -> None:
    """However it was merged, with the trailers or without: Git alone tells the promotion, and it becomes champion."""
    memories: dict[str, Memory] = {}
    runs = Runs()
    world.requests.merge(1, how, message=message)
    assert go_on(world, runs, memories) == [1]
    assert world.champion == 1
    assert world.live_image == world.image(1)
    assert (world.git.proposed, world.git.branches) == ({}, {})
    (told,) = world.git.history(world.git.head, POLICY_NAME)
    assert told.trailers["Promotion-Id"].startswith("iris-edge/1/")
    assert world.git.tags["incumbent/iris-edge/1-1"].commit == told.commit


@pytest.mark.parametrize(("how", "message"), WAYS)
def test_a_bad_version_is_taken_back(how: MergeMethod, message: str | None) -> None:
    """Its rollback is pushed, where the rules of the branch let the pipeline push."""
    world = World(BY_REQUEST)
    world.register()
    promote(world, 1, "first")
    world.bad_images.add(world.image(1))
    world.requests.merge(1, how, message=message)
    go_on(world, Runs(), {})
    assert world.state(1) is State.ROLLED_BACK
    assert world.live_image == f"{REPOSITORY}:before"


def test_the_sensor_starts_no_run_while_nothing_changes(world: World) -> None:
    """An open request is looked at, and no run says again what the version says already."""
    assert go_on(world, Runs(), {}) == []
    assert [request.seen.state for request in world.requests.requests] == [RequestState.OPEN]


def test_a_request_that_a_person_closes_is_a_refusal(world: World) -> None:
    """It is an act of that person in Git, and nothing opens another one by itself; a retry does."""
    world.requests.close_by_hand(1, "ben")
    memories: dict[str, Memory] = {}
    runs = Runs()
    assert go_on(world, runs, memories) == [1]
    assert world.state(1) is State.REFUSED
    assert "ben closed request #1" in world.reason(1)
    (act,) = acts(world.git, POLICY_NAME)
    assert (act.kind, act.by, act.version) == (ActKind.ABORT, "ben", 1)
    assert world.git.proposed == {}
    assert go_on(world, runs, memories) == []
    retry(world, 1)
    go_on(world, runs, memories)
    assert world.requests.open_ones == [2]
    world.requests.merge(2)
    go_on(world, runs, memories)
    assert world.champion == 1


def retry(world: World, number: int) -> None:
    from orchestration.commands.requesting import retry_promotion

    policy = world.policy(POLICY_NAME)
    retry_promotion(world.registry, world.git, world.clock, policy, number, by="ana", reason="again")


@pytest.mark.parametrize(("how", "message"), WAYS)
def test_what_a_person_changed_before_the_merge_is_not_the_promotion(
    world: World, how: MergeMethod, message: str | None
) -> None:
    """Another image in the request is that person's choice: it stays, and the version does not become champion."""
    world.images.publish(REPOSITORY, "theirs")
    text = world.git.commits[world.git.branches[BRANCH]].files["apps/iris.yaml"].decode()
    world.requests.edit(1, "apps/iris.yaml", text.replace(world.image(1), f"{REPOSITORY}:theirs").encode())
    world.requests.merge(1, how, message=message, by="ben")
    go_on(world, Runs(), {})
    assert world.champion is None
    assert world.state(1) in (State.REFUSED, State.ROLLED_BACK)
    assert world.live_image == f"{REPOSITORY}:theirs"
    assert (f"ben merged {REQUEST} with another image" if message else f"{REPOSITORY}:theirs") in world.reason(1)
    assert world.git.proposed == {}


REQUEST = "request #1 (https://git.example/acme/gitops/pull/1)"


def test_other_lines_that_a_person_changed_come_with_it(world: World) -> None:
    """A request with our image and a person's further change is the promotion all the same."""
    world.requests.edit(1, "README", b"more\n")
    world.requests.merge(1, "squash", message="Both")
    go_on(world, Runs(), {})
    assert world.champion == 1


def test_a_newer_challenger_closes_the_request_of_the_older_one(world: World) -> None:
    """The older version is superseded, its request says so, and only the newer one's is open."""
    world.register()
    assert go_on(world, Runs(), {})[0] == 1
    assert world.state(1) is State.SUPERSEDED
    assert world.requests.requests[0].seen.was_withdrawn
    assert "alias challenger naming version 2" in world.requests.requests[0].comments[0]
    assert world.requests.open_ones == [2]
    assert sorted(world.git.branches) == ["incumbent/iris-edge/promote-2-1"]


def test_a_run_of_the_newer_challenger_closes_it_as_well(world: World) -> None:
    """Where no sensor runs, as in CI."""
    world.register()
    promote(world, 2, "ci")
    assert world.state(1) is State.SUPERSEDED
    assert world.requests.open_ones == [2]


def test_an_older_version_that_was_merged_is_finished_first(world: World) -> None:
    """A newer challenger does not undo what people merged in the meantime."""
    world.register()
    world.requests.merge(1, "squash", message="Merged by hand")
    go_on(world, Runs(), {}, ticks=3)
    assert world.state(1) is State.CHAMPION
    assert world.requests.open_ones == [2]


def test_a_request_merged_while_it_is_closed_counts_as_merged(world: World) -> None:
    """A person is faster than our closing: the version is on the branch, so it is finished and not superseded."""
    world.register()
    world.requests.before_close = lambda: world.requests.merge(1, "squash", message="Just in time")
    go_on(world, Runs(), {})
    assert world.state(1) is State.CHAMPION
    assert world.requests.open_ones == [2]


def test_removing_the_alias_closes_the_request(world: World) -> None:
    """Nobody asks for the version any more."""
    del world.registry.aliases["iris", "challenger"]
    go_on(world, Runs(), {})
    assert world.state(1) is State.REFUSED
    assert world.requests.open_ones == []
    assert world.git.proposed == {}


def test_deleting_the_version_closes_the_request(world: World) -> None:
    """A version that is gone can never be judged."""
    del world.registry.versions["iris", 1]
    del world.registry.aliases["iris", "challenger"]
    go_on(world, Runs(), {})
    assert world.requests.open_ones == []
    assert world.git.proposed == {}


def abort(world: World) -> str:
    return abort_promotion(WorldPlatform(world), POLICY_NAME, Decided("ana", "not now"), world.said.append)


def test_an_abort_closes_the_request(world: World) -> None:
    """With a comment that says who and why; nothing is opened again."""
    assert "was aborted before its commit" in abort(world)
    assert world.state(1) is State.REFUSED
    assert world.requests.open_ones == []
    assert "aborted by ana (not now)" in world.requests.requests[0].comments[0]
    assert go_on(world, Runs(), {}) == []


def test_an_abort_of_a_request_that_was_just_merged_takes_it_back() -> None:
    """What people merged is on the branch, so the abort rolls it back."""
    world = World(BY_REQUEST)
    world.register()
    promote(world, 1, "first")
    world.requests.merge(1, "squash", message="Merged")
    assert "was aborted" in abort(world)
    assert world.state(1) is State.ROLLED_BACK
    assert world.live_image == f"{REPOSITORY}:before"


def test_an_abort_while_the_host_is_down_is_finished_later(world: World) -> None:
    """It says that the request is still open, and the next run closes it."""
    world.requests.down = "HTTP 503"
    with pytest.raises(DependencyError):
        abort(world)
    world.requests.down = None
    go_on(world, Runs(), {})
    assert world.requests.open_ones == []
    assert world.state(1) is State.REFUSED


def test_a_hold_closes_the_request_until_it_is_resumed(world: World) -> None:
    """What may not be committed may not be merged either; then another request is opened."""
    memories: dict[str, Memory] = {}
    runs = Runs()
    hold_policy(world.git, world.clock, world.policy(POLICY_NAME), "ana", "the cluster moves")
    assert go_on(world, runs, memories) == [1]
    assert world.requests.open_ones == []
    assert "a hold by ana" in world.reason(1)
    assert "a hold by ana" in world.requests.requests[0].comments[0]
    resume_policy(world.git, world.clock, world.policy(POLICY_NAME), "ana", "it has moved")
    assert go_on(world, runs, memories) == [1]
    assert world.requests.open_ones == [2]
    assert world.state(1) is State.WAITING


def test_a_conflict_is_solved_by_a_new_commit_in_the_same_request(world: World) -> None:
    """Someone else changed the manifest: the request is made anew on the newest head, and stays one request."""
    text = world.git.commits[world.git.head].files["apps/iris.yaml"]
    world.git.commit("Scale", {"apps/iris.yaml": text + b"# scaled\n"})
    before = world.git.branches[BRANCH]
    assert go_on(world, Runs(), {}) == [1]
    assert world.requests.open_ones == [1]
    assert world.git.branches[BRANCH] != before
    world.requests.merge(1)
    go_on(world, Runs(), {})
    assert world.champion == 1
    assert b"# scaled" in world.git.commits[world.git.head].files["apps/iris.yaml"]


def test_a_conflict_on_a_branch_that_a_person_works_on_is_theirs(world: World) -> None:
    """Nobody's commit is overwritten; the version says what to do."""
    world.requests.edit(1, "README", b"more\n")
    text = world.git.commits[world.git.head].files["apps/iris.yaml"]
    world.git.commit("Scale", {"apps/iris.yaml": text + b"# scaled\n"})
    theirs = world.git.branches[BRANCH]
    go_on(world, Runs(), {})
    assert world.git.branches[BRANCH] == theirs
    assert "Solve the conflict" in world.reason(1)


def test_an_image_that_is_pushed_again_replaces_what_the_request_has() -> None:
    """What people reviewed was another image, so its request is closed, and another one is opened."""
    world = proposed(World(BY_REQUEST))
    before = world.git.branches[BRANCH]
    world.images.publish(REPOSITORY, "v1", {"MODEL_URI": "models:/iris/1", "BUILD": "2"})
    promote(world, 1, "again")
    assert world.git.branches[BRANCH] != before
    assert world.requests.open_ones == [2]
    assert "has another image now" in world.requests.requests[0].comments[0]


def test_a_request_that_nobody_merges_is_refused_at_last() -> None:
    """After the policy's deadline the request is closed, with the setting that gives it more time."""
    world = proposed(World(POLICY_TEXT + "delivery: {pull_request: {host: github, merge_deadline: 1h}}\n"))
    world.clock.sleep(3600)
    go_on(world, Runs(), {})
    assert world.state(1) is State.REFUSED
    assert "delivery.pull_request.merge_deadline" in world.reason(1)
    assert world.requests.open_ones == []


def test_the_host_merges_by_itself_where_the_policy_says_so() -> None:
    """The host is asked to merge as soon as its rules allow it, in the way that the policy names."""
    world = proposed(World(POLICY_TEXT + "delivery: {pull_request: {host: github, auto_merge: squash}}\n"))
    assert world.requests.requests[0].auto_merge == "squash"


def test_a_host_that_is_down_makes_the_version_wait() -> None:
    """Nothing is decided about it until the host answers again, and then there is one request."""
    world = World(BY_REQUEST)
    world.requests.down = "HTTP 503"
    world.register()
    promote(world, 1, "first")
    assert world.state(1) is State.WAITING
    assert "Git host" in world.reason(1)
    world.requests.down = None
    go_on(world, Runs(), {})
    assert world.requests.open_ones == [1]


def points(begin: Callable[[World], object]) -> list[tuple[int, bool]]:
    world = World(BY_REQUEST)
    begin(world)
    counting = Saboteur(world, 0, after=False)
    promote(world, 1, "run")
    return [(at, after) for at in range(1, counting.count + 1) for after in (False, True)]


def requested(world: World) -> None:
    world.register()


def merged_without_trailers(world: World) -> None:
    proposed(world)
    world.requests.merge(1, "squash", message="Merged")


def closed(world: World) -> None:
    proposed(world)
    world.requests.close_by_hand(1)


@pytest.mark.parametrize(("at", "after"), points(requested))
def test_killed_at_any_write_of_opening_a_request(at: int, after: bool) -> None:
    """There is one request all the same, and it is promoted when it is merged."""
    world = World(BY_REQUEST)
    requested(world)
    saboteur = Saboteur(world, at, after=after)
    promote(world, 1, "killed")
    saboteur.revive()
    resume(world, 1)
    assert world.requests.open_ones == [1]
    assert world.subjects == []
    world.requests.merge(1, "squash", message="Merged")
    resume(world, 1)
    assert world.champion == 1
    assert len(world.requests.requests) == 1


@pytest.mark.parametrize(("at", "after"), points(merged_without_trailers))
def test_killed_at_any_write_after_the_merge(at: int, after: bool) -> None:
    """It becomes champion by the one commit that was merged."""
    world = World(BY_REQUEST)
    merged_without_trailers(world)
    saboteur = Saboteur(world, at, after=after)
    promote(world, 1, "killed")
    saboteur.revive()
    resume(world, 1)
    assert world.champion == 1
    assert world.subjects == ["Merged"]
    assert sorted(world.git.tags) == ["incumbent/iris-edge/1-1"]


@pytest.mark.parametrize(("at", "after"), points(closed))
def test_killed_at_any_write_of_a_persons_refusal(at: int, after: bool) -> None:
    """It stays a refusal, and no other request is opened."""
    world = World(BY_REQUEST)
    closed(world)
    saboteur = Saboteur(world, at, after=after)
    promote(world, 1, "killed")
    saboteur.revive()
    resume(world, 1)
    assert world.state(1) is State.REFUSED
    assert len(world.requests.requests) == 1
    assert world.git.proposed == {}


ROLLS_BACK = POLICY_TEXT + "delivery: {pull_request: {host: github, rollbacks: pull_request}}\n"


def failed(world: World) -> World:
    """Version 1 was merged and is bad, and the request of its rollback is open."""
    proposed(world)
    world.bad_images.add(world.image(1))
    world.requests.merge(1)
    promote(world, 1, "judged")
    return world


@pytest.mark.parametrize("message", [None, "Merged"])
def test_a_rollback_waits_for_its_merge_where_the_policy_says_so(message: str | None) -> None:
    """The version says which request takes it back; after the merge, however it was done, it is rolled back."""
    world = failed(World(ROLLS_BACK))
    assert world.state(1) is State.REJECTED
    assert world.requests.open_ones == [2]
    assert world.requests.requests[1].text.title == "Roll back iris-edge from version 1 to the image before, unverified"
    assert "Its rollback is request #2" in world.reason(1)
    memories: dict[str, Memory] = {}
    runs = Runs()
    assert go_on(world, runs, memories, ticks=3) == []
    world.requests.merge(2, "squash", message=message)
    go_on(world, runs, memories)
    assert world.state(1) is State.ROLLED_BACK
    assert world.live_image == f"{REPOSITORY}:before"
    assert world.git.proposed == {}
    rollback = world.git.history(world.git.head, POLICY_NAME)[0]
    assert rollback.trailers["Verdict"] == "Failed"


def test_a_person_who_closes_the_request_of_a_rollback_keeps_the_version() -> None:
    """It serves on, held by that person, and no other request is opened by itself; an abort opens one."""
    world = failed(World(ROLLS_BACK))
    world.requests.close_by_hand(2, "ben")
    memories: dict[str, Memory] = {}
    runs = Runs()
    go_on(world, runs, memories)
    assert world.state(1) is State.HELD
    assert "ben closed request #2" in world.reason(1)
    assert world.live_image == world.image(1)
    assert world.requests.open_ones == []
    with pytest.raises(UnfinishedError, match="request #3"):
        abort(world)
    assert world.requests.open_ones == [3]
    world.requests.merge(3, "rebase")
    go_on(world, runs, memories)
    assert world.state(1) is State.ROLLED_BACK
    assert "Aborted by ana (not now)" in world.reason(1)


def test_a_person_who_replaces_the_image_makes_its_rollback_unnecessary() -> None:
    """The request is closed, and that person's image stays."""
    world = failed(World(ROLLS_BACK))
    world.images.publish(REPOSITORY, "theirs")
    text = world.git.commits[world.git.head].files["apps/iris.yaml"].decode()
    theirs = f"{REPOSITORY}:theirs"
    world.git.commit("Hotfix", {"apps/iris.yaml": text.replace(world.image(1), theirs).encode()})
    go_on(world, Runs(), {})
    assert world.state(1) is State.ROLLED_BACK
    assert world.live_image == theirs
    assert world.requests.open_ones == []


def points_of_rollback() -> list[tuple[int, bool]]:
    world = proposed(World(ROLLS_BACK))
    world.bad_images.add(world.image(1))
    world.requests.merge(1)
    counting = Saboteur(world, 0, after=False)
    promote(world, 1, "run")
    return [(at, after) for at in range(1, counting.count + 1) for after in (False, True)]


@pytest.mark.parametrize(("at", "after"), points_of_rollback())
def test_killed_at_any_write_before_a_rollback_is_merged(at: int, after: bool) -> None:
    """There is one request that takes the version back, and its merge ends it."""
    world = proposed(World(ROLLS_BACK))
    world.bad_images.add(world.image(1))
    world.requests.merge(1)
    saboteur = Saboteur(world, at, after=after)
    promote(world, 1, "killed")
    saboteur.revive()
    resume(world, 1)
    assert world.requests.open_ones == [2]
    world.requests.merge(2)
    resume(world, 1)
    assert world.state(1) is State.ROLLED_BACK
    assert world.live_image == f"{REPOSITORY}:before"
    assert len(world.requests.requests) == 2


def test_a_rollback_that_may_not_be_pushed_names_the_setting(world: World) -> None:
    """One line, and the version stays rejected until a person has decided."""
    world.bad_images.add(world.image(1))
    world.requests.merge(1)
    go_on(world, Runs(), {})
    assert world.state(1) is State.REJECTED
    assert world.live_image == world.image(1)


def test_a_refusal_is_of_the_request_that_was_closed(world: World) -> None:
    """A run that dies between the commit and the second request does not take the first one's closing for its own."""
    world.requests.close_by_hand(1)
    go_on(world, Runs(), {})
    world.clock.sleep(60)
    retry(world, 1)
    world.requests.down = "HTTP 503"
    lease = world.git.acquire_lease("iris", "killed", 1.0)
    assert isinstance(lease, LeaseRecord)
    first = next(commit for commit in world.git.commits.values() if "Promotion-Id" in commit.trailers)
    edit = FileEdit("apps/iris.yaml", first.files["apps/iris.yaml"], first.subject, first.trailers)
    world.git.propose("iris-edge/promote-1-1", lambda _: edit, lease, 1.0)
    world.requests.down = None
    world.clock.sleep(60)
    go_on(world, Runs(), {})
    assert world.state(1) is State.WAITING
    assert world.requests.open_ones == [2]


def test_the_text_of_a_request_mentions_nobody() -> None:
    """What the registry says is shown as code, and cannot call anyone or break out of its row."""
    world = World(BY_REQUEST)
    world.register()
    version = world.registry.versions["iris", 1]
    tags = {**version.tags, "image_tag": "v1"}
    world.registry.versions["iris", 1] = replace(version, tags=tags, run_id="run1 | @everyone `x`\n/merge")
    world.registry.runs["run1 | @everyone `x`\n/merge"] = replace(
        world.registry.runs["run1"], run_id="run1 | @everyone `x`\n/merge"
    )
    world.registry.artifacts["run1 | @everyone `x`\n/merge", RECORDING_PATH] = world.registry.artifacts[
        "run1", RECORDING_PATH
    ]
    promote(world, 1, "first")
    (request,) = world.requests.requests
    assert "@everyone" not in request.text.body
    assert "\n/merge" not in request.text.body


def test_an_abort_that_waits_for_its_merge_keeps_the_version_from_being_judged() -> None:
    """The request is the only record of the abort until it is merged, and it counts for every run."""
    world = proposed(World(ROLLS_BACK))
    world.requests.merge(1)
    with pytest.raises(UnfinishedError, match="request #2"):
        abort(world)
    promote(world, 1, "next")
    assert world.champion is None
    world.requests.merge(2, "squash", message="Merged")
    promote(world, 1, "last")
    assert world.champion is None
    assert world.state(1) is State.ROLLED_BACK
    assert "Aborted by ana (not now)" in world.reason(1)


@pytest.mark.parametrize(
    "delivery", ["pr", "{}", "{pull_request: {host: bitbucket}}", "{pull_request: {}}", "{pull_request: }"]
)
def test_a_delivery_that_is_neither_is_refused(delivery: str) -> None:
    """The policy's error names the field."""
    with pytest.raises(InvalidInputError, match="delivery"):
        parse_policy(POLICY_NAME, f"{POLICY_TEXT}delivery: {delivery}\n")
    assert parse_policy(POLICY_NAME, f"{POLICY_TEXT}delivery: push\n").delivery.pull_request is None

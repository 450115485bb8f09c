"""Holds, approvals and freezes on a platform of fakes: what waits, what goes on, and how the sensor looks for it."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from orchestration.commands.approving import approve_version
from orchestration.commands.holding import hold_policy, resume_policy
from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.branch_view import acts
from orchestration.promotion.permission import BLOCKED_TAG
from orchestration.promotion.ports import Sign
from orchestration.promotion.problems import DependencyError, InvalidInputError
from orchestration.promotion.sensor_rules import FIRST_LOOK_SECONDS
from orchestration.promotion.state import State
from orchestration.stages.pipeline import STAGES
from orchestration.stages.runner import run_stage
from tests.fakes.git import signing_as
from tests.fakes.runs import Host, promote, resume, run_stages
from tests.fakes.world import POLICY_NAME, POLICY_TEXT, REPOSITORY, World, WorldPlatform
from tests.orchestration.test_sensor import kill_runs, tick

KEYS = {name: f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA{number:040}" for number, name in enumerate(("ana", "ben"))}
ASKS = "approval: {by: [ana, ben]}"
ASKS_BOTH = "approval: {by: [ana, ben], count: 2}"
_BY = ", ".join(f"{{name: {name}, key: {key}}}" for name, key in KEYS.items())
ASKS_SIGNED = f"approval: {{signed: true, by: [{_BY}]}}"


def asking(more: str) -> World:
    return World(POLICY_TEXT + more)


def hold(world: World, reason: str = "the cluster moves") -> str:
    return hold_policy(world.git, world.clock, world.policy(POLICY_NAME), "ana", reason)


def let_go(world: World) -> str:
    return resume_policy(world.git, world.clock, world.policy(POLICY_NAME), "ben", "it has moved")


def approve(world: World, number: int, by: str = "ana", sign: Sign | None = None) -> str:
    ports = world.registry, world.images, world.git, world.clock
    return approve_version(*ports, world.policy(POLICY_NAME), number, by, "looks good", sign)


def push_again(world: World, number: int) -> None:
    """Push another image under the version's tag."""
    world.images.publish(REPOSITORY, f"v{number}", {"MODEL_URI": f"models:/iris/{number}", "BUILD": "2"})


def test_a_held_policy_commits_nothing_until_it_is_resumed(world: World) -> None:
    """The version waits with the reason, and is promoted when the policy is resumed."""
    world.register()
    assert hold(world).startswith("iris-edge is held: nothing new is committed until")
    promote(world, 1, "held")
    assert world.subjects == []
    assert world.state(1) is State.WAITING
    assert "a hold by ana since" in world.reason(1)
    assert "incumbent resume iris-edge --reason" in world.reason(1)
    assert world.git.leases == {}
    assert "it was held by ana since" in let_go(world)
    promote(world, 1, "resumed")
    assert world.champion == 1
    assert not world.registry.versions["iris", 1].tag(POLICY_NAME, BLOCKED_TAG)


def test_holding_or_resuming_twice_changes_nothing(world: World) -> None:
    """The second says that it is so already, and by whom."""
    assert let_go(world) == "iris-edge is not held."
    hold(world)
    world.clock.sleep(60)
    assert "is held already by ana since" in hold(world)
    let_go(world)
    assert let_go(world) == "iris-edge is not held."
    assert [act.kind for act in acts(world.git, POLICY_NAME)] == [ActKind.RESUME, ActKind.HOLD]


def test_a_hold_names_what_is_under_way_and_what_stops_it(world: World) -> None:
    """By Git alone, so that a registry that is down keeps nobody from holding; what has ended is not named."""
    world.register()
    for stage in STAGES[:2]:
        run_stage(stage, WorldPlatform(world), f"{POLICY_NAME}@1", Host("run", True, world.said.append))
    world.registry.down = True
    assert "Version 1 is committed and is finished first; to stop it: incumbent abort iris-edge" in hold(world)
    world.registry.down = False
    promote(world, 1, "run")
    assert world.champion == 1
    assert "abort" not in hold(world)


def test_a_hold_that_arrives_while_the_branch_is_contended_counts(world: World) -> None:
    """Someone else's push comes first, and a hold with it: the second try sees it, and nothing is committed."""
    world.register()

    def act() -> None:
        world.git.commit("Someone else's work", {"README": b"x\n"})
        hold(world)

    world.git.before_push = [act]
    promote(world, 1, "run")
    assert world.subjects == ["Someone else's work"]
    assert world.state(1) is State.WAITING
    assert "a hold by ana" in world.reason(1)


def test_a_hold_that_arrives_after_the_first_look_counts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What people decided is read once for all checks of the stage, and read anew before the push."""
    world.register()
    push = world.git.push_edit

    def hold_and_push(*arguments: Any) -> Any:
        hold(world)
        return push(*arguments)

    monkeypatch.setattr(world.git, "push_edit", hold_and_push)
    promote(world, 1, "run")
    assert world.subjects == []
    assert world.state(1) is State.WAITING
    assert "a hold by ana" in world.reason(1)


def test_a_rollback_is_allowed_while_held_and_frozen() -> None:
    """A hold and a freeze that begin just before the commit arrives do not keep a bad version in service."""
    world = asking("freeze: [{cron: '20 14 12 1 *', for: 24h, reason: audit}]")
    world.clock.time = 12 * 86400 - 86400 + 14 * 3600 + 19 * 60 + 50.0
    world.register()
    world.bad_images.add(world.image(1))

    def act() -> None:
        hold(world)
        world.clock.sleep(20)

    world.git.before_push = [act]
    promote(world, 1, "run")
    assert world.state(1) is State.ROLLED_BACK
    assert world.live_image == f"{REPOSITORY}:before"
    again = world.register()
    promote(world, again.version, "run")
    assert "a hold by ana" in world.reason(2)
    assert "a freeze until 1970-01-13 14:20 UTC (audit)" in world.reason(2)


def test_a_soak_goes_on_while_held_and_frozen(world: World) -> None:
    """What is committed is finished, also by another run."""
    world.register()
    world.git.before_push = [lambda: hold(world)]
    promote(world, 1, "run")
    assert world.champion == 1
    promote(world, 1, "again")
    assert world.subjects == ["Promote iris-edge to version 1"]


def test_a_frozen_version_is_promoted_after_the_window() -> None:
    """The reason names the end; the first run after it commits."""
    world = asking("freeze: [{cron: '0 * * * *', for: 50m, timezone: Europe/Zurich, reason: rush hour}]")
    world.register()
    promote(world, 1, "frozen")
    assert world.state(1) is State.WAITING
    assert "a freeze until 1970-01-12 13:50 UTC (Mon 1970-01-12 14:50 Europe/Zurich) (rush hour)" in world.reason(1)
    world.clock.sleep(600)
    promote(world, 1, "after")
    assert world.champion == 1


def test_a_version_waits_for_its_approval() -> None:
    """The reason names whose is missing and the command; with it, the version is promoted."""
    world = asking(ASKS_BOTH)
    world.register()
    promote(world, 1, "first")
    assert world.state(1) is State.WAITING
    assert "expected approval by 2 of ana, ben, found no approval yet" in world.reason(1)
    assert "incumbent approve iris-edge 1 --reason '...'" in world.reason(1)
    assert "1 of 2 approvals; still to approve: 1 of ben." in approve(world, 1)
    assert "has already approved the image" in approve(world, 1, "Ana")
    promote(world, 1, "second")
    assert "approval by ana alone" in world.reason(1)
    assert "2 of 2 approvals, so that it may be committed." in approve(world, 1, "ben")
    promote(world, 1, "third")
    assert world.champion == 1


@pytest.mark.parametrize("signed", [False, True])
def test_two_approvals_of_one_person_at_the_same_time_are_one(signed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both looked before either was recorded; the second says that it is approved, and is no failure."""
    world = asking(ASKS_SIGNED if signed else ASKS)
    world.register()
    sign = signing_as(KEYS["ana"]) if signed else None
    record = world.git.record_act

    def record_twice(act: Act, sign: Sign | None = None) -> Act:
        monkeypatch.undo()
        assert approve(world, 1, sign=sign).startswith("ana approved the image sha256:")
        return record(replace(act, at=act.at + 1), sign)

    monkeypatch.setattr(world.git, "record_act", record_twice)
    assert approve(world, 1, sign=sign).startswith("ana has already approved the image sha256:")


def test_an_approval_is_of_the_image_that_was_approved() -> None:
    """When the tag is pushed again, the approval counts no more, and the reason says so."""
    world = asking(ASKS)
    world.register()
    approve(world, 1)
    push_again(world, 1)
    promote(world, 1, "run")
    assert world.subjects == []
    assert "ana approved the image sha256:" in world.reason(1)
    approve(world, 1)
    promote(world, 1, "run again")
    assert world.live_image == world.image(1)
    assert world.champion == 1


def test_an_image_that_changes_while_the_branch_is_contended_needs_its_own_approval() -> None:
    """What is committed is the digest that was approved, whatever the tag names by then."""
    world = asking(ASKS)
    world.register()
    approve(world, 1)
    approved = world.image(1)

    def act() -> None:
        world.git.commit("Someone else's work", {"README": b"x\n"})
        push_again(world, 1)

    world.git.before_push = [act]
    promote(world, 1, "run")
    assert world.live_image == approved


def test_a_forged_approval_does_not_count_where_it_must_be_signed() -> None:
    """Whoever can push a tag can write a name on it; only the key of that person makes it count."""
    world = asking(ASKS_SIGNED)
    world.register()
    digest = world.images.tags[REPOSITORY, "v1"]
    forged = Act(POLICY_NAME, ActKind.APPROVE, world.clock.now(), "ana", "I am ana", 1, digest)
    world.git.record_act(forged)
    promote(world, 1, "run")
    assert "ana is named by an approval that the key in the policy did not sign" in world.reason(1)
    assert "--sign KEY" in world.reason(1)
    with pytest.raises(InvalidInputError, match="Give --sign"):
        approve(world, 1)
    with pytest.raises(InvalidInputError, match="It is kept and does not count"):
        approve(world, 1, "eve", signing_as("ssh-ed25519 of eve"))
    assert approve(world, 1, "whoever", signing_as(KEYS["ben"])).startswith("ben approved the image sha256:")
    promote(world, 1, "run again")
    assert world.champion == 1


@pytest.mark.parametrize(
    ("more", "prepare", "by", "refusal"),
    [
        (
            "",
            lambda world: world.register(),
            "ana",
            "expected the field approval, found no such field",
        ),
        (ASKS, lambda world: world.register(), "eve", "expected one of ana, ben, found eve"),
        (ASKS, lambda world: None, "ana", "version 1 of iris: expected a registered model version"),
        (ASKS, lambda world: world.register(publish=False), "ana", "expected a published image, found no such image"),
    ],
)
def test_an_approval_that_would_not_count_is_refused(
    more: str, prepare: Callable[[World], object], by: str, refusal: str
) -> None:
    """No field, no such person, no such version, no image: nothing is recorded, and the next step is named."""
    world = asking(more)
    prepare(world)
    with pytest.raises(InvalidInputError, match=refusal):
        approve(world, 1, by)
    assert world.git.tags == {}


def test_the_check_shows_each_item(world: World) -> None:
    """Hold, freeze and approval each have a row with what was found, whether they block or not."""
    world.policies[POLICY_NAME] += ASKS
    world.register()
    hold(world)
    check = run_stages(world, 1).check("allowed")
    assert not check.passed
    rows = {str(row["what"]): str(row["finding"]) for row in check.rows}
    assert rows["hold"].startswith("a hold by ana since")
    assert rows["freeze"] == "none in the policy"
    assert rows["approval"] == "no approval yet"


# The sensor


@pytest.fixture
def present() -> World:
    """A world that asks for two approvals, whose clock agrees with Dagster's."""
    world = asking(ASKS_BOTH)
    world.clock.time = time.time()
    return world


def waiting(world: World, instance: dg.DagsterInstance) -> str | None:
    """Register a version, let the sensor's first run say why it waits, and return the cursor."""
    world.register()
    first = tick(world, instance)
    assert first.run_requests
    promote(world, 1, "first")
    assert world.state(1) is State.WAITING
    kill_runs(world, instance)
    return first.cursor


def test_the_sensor_looks_without_a_run_until_nothing_blocks(present: World, instance: dg.DagsterInstance) -> None:
    """One run says why; then it is looked at every few seconds, at the cost of one question to Git and no run."""
    cursor = waiting(present, instance)
    for _ in range(10):
        result = tick(present, instance, cursor)
        assert not result.run_requests
        cursor = result.cursor
        present.clock.sleep(10)
    approve(present, 1)
    approve(present, 1, "ben")
    (request,) = tick(present, instance, cursor).run_requests or ()
    assert request.partition_key == f"{POLICY_NAME}@1"
    promote(present, 1, "second")
    assert present.champion == 1


def test_a_new_reason_gets_one_run_that_says_it(present: World, instance: dg.DagsterInstance) -> None:
    """After one of two approvals a run tells of it, and then it is quiet again; the next look comes soon."""
    cursor = waiting(present, instance)
    approve(present, 1)
    result = tick(present, instance, cursor)
    assert result.run_requests
    promote(present, 1, "second")
    assert "approval by ana alone" in present.reason(1)
    kill_runs(present, instance)
    present.clock.sleep(FIRST_LOOK_SECONDS)
    result = tick(present, instance, result.cursor)
    assert not result.run_requests
    approve(present, 1, "ben")
    present.clock.sleep(10)
    assert tick(present, instance, result.cursor).run_requests


def test_an_approval_of_another_image_is_looked_into(present: World, instance: dg.DagsterInstance) -> None:
    """The sensor knows the image that the last run found; approvals of a newer one make a run that finds it, too."""
    cursor = waiting(present, instance)
    push_again(present, 1)
    approve(present, 1)
    approve(present, 1, "ben")
    assert tick(present, instance, cursor).run_requests
    promote(present, 1, "second")
    assert present.champion == 1


def test_a_run_that_ended_as_waiting_delays_no_other(present: World, instance: dg.DagsterInstance) -> None:
    """Its sign of life is taken back with its end, so that an approval a second later need not wait a minute."""
    present.register()
    first = tick(present, instance)
    promote(present, 1, "first")
    for run in instance.get_runs():
        instance.report_run_failed(run)  # it is over for Dagster, whatever its name for that
    approve(present, 1)
    approve(present, 1, "ben")
    present.clock.sleep(20)
    assert tick(present, instance, first.cursor).run_requests


def test_a_lost_registry_state_or_cursor_costs_one_run(present: World, instance: dg.DagsterInstance) -> None:
    """Without the cursor the look goes on without a run; a version that waits for something else is resumed as ever."""
    waiting(present, instance)
    assert not tick(present, instance, None).run_requests
    present.registry.write_tags(present.registry.versions["iris", 1], {f"incumbent.{POLICY_NAME}.{BLOCKED_TAG}": ""})
    assert tick(present, instance, None).run_requests


def test_a_git_server_that_is_down_starts_no_run(present: World, instance: dg.DagsterInstance) -> None:
    """Whether anything blocks is not known then, so nothing is started."""
    cursor = waiting(present, instance)
    present.git.down = "no answer"
    assert not tick(present, instance, cursor).run_requests
    with pytest.raises(DependencyError):
        hold(present)


def test_a_promotion_that_was_killed_on_its_way_is_resumed_into_waiting(world: World) -> None:
    """A lease that a dead run left behind, and a hold: the resumed run waits with the hold's reason."""
    world.register()
    world.git.acquire_lease("iris", "a dead run", 30.0)
    hold(world)
    resume(world, 1)
    assert world.state(1) is State.WAITING
    assert "a hold by ana" in world.reason(1)
    assert world.subjects == []

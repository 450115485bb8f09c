"""The registry sensor, on a platform of fakes and an ephemeral Dagster instance."""

import time
import uuid

import dagster as dg
import pytest

from orchestration.commands.approving import approve_version
from orchestration.commands.requesting import retry_promotion
from orchestration.commands.serving import UnfinishedError, return_to_champion
from orchestration.promotion.decided import Decided
from orchestration.promotion.model_version import tag_key
from orchestration.promotion.problems import DependencyError
from orchestration.promotion.sensor_rules import (
    FIRST_SIGN_SECONDS,
    IDLE_LOOK_SECONDS,
    IMAGE_LOOK_SECONDS,
    read_cursor,
)
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time, parse_time
from orchestration.sensors import REQUEST_TAG, challenger_sensor
from tests.fakes.cluster import DOWN
from tests.fakes.runs import run_stages
from tests.fakes.world import POLICY_NAME, POLICY_TEXT, REPOSITORY, World, WorldPlatform, materialize


@pytest.fixture
def world() -> World:
    """A world whose clock agrees with the one by which Dagster dates its runs."""
    return at_present(World())


def at_present(world: World) -> World:
    world.clock.time = time.time()
    return world


def tick(world: World, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    """One tick; the runs that it requests are recorded as Dagster's daemon would, but not executed."""
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    result = challenger_sensor(context, platform=WorldPlatform(world))
    assert isinstance(result, dg.SensorResult)
    for request in result.run_requests or ():
        instance.add_run(dg.DagsterRun(job_name="promote", run_id=str(uuid.uuid4()), tags=request.tags))
    return result


def kill_runs(world: World, instance: dg.DagsterInstance) -> None:
    """Leave the runs so far as a killed host does: started long ago, and STARTED for ever (dagster#26753)."""
    for run in instance.get_runs():
        instance.handle_run_event(
            run.run_id,
            dg.DagsterEvent(dg.DagsterEventType.PIPELINE_START.value, "promote", message="started"),
        )
    at_present(world).clock.sleep(FIRST_SIGN_SECONDS + 1)  # counted from when Dagster recorded them, however slowly


def tags(world: World, number: int, **written: str) -> None:
    version = world.registry.versions["iris", number]
    world.registry.write_tags(version, {tag_key(POLICY_NAME, name): value for name, value in written.items()})


def test_a_new_challenger_is_requested(world: World, instance: dg.DagsterInstance) -> None:
    """It gets its state, the time of the request, a partition and a run with a key of its own."""
    world.register()
    result = tick(world, instance)
    (request,) = result.run_requests or ()
    assert request.partition_key == f"{POLICY_NAME}@1"
    assert world.state(1) is State.REQUESTED
    requested_at = world.registry.versions["iris", 1].tag(POLICY_NAME, "requested_at")
    assert parse_time(requested_at) == pytest.approx(world.clock.now(), abs=1)
    assert request.run_key == f"{POLICY_NAME}@1/{requested_at}/0"
    (added,) = result.dynamic_partitions_requests or ()
    assert list(added.partition_keys) == [f"{POLICY_NAME}@1"]


def test_one_registry_call_per_policy_and_tick(instance: dg.DagsterInstance) -> None:
    """However many versions there are, an idle tick asks the registry one question per policy, and Git nothing."""
    counts = []
    for versions in (1, 40):
        world = at_present(World())
        world.policies["wine-edge"] = POLICY_TEXT.replace("model: iris", "model: wine")
        for _ in range(versions):
            world.register()
        tags(world, versions, state="champion")
        cursor = tick(world, instance).cursor
        world.registry.calls.clear()
        world.git.down = "Git is asked"
        assert not tick(world, instance, cursor).run_requests
        counts.append(world.registry.calls)
    assert counts == [["version_by_alias"] * 2] * 2


def test_a_lost_cursor_causes_no_second_promotion(world: World, instance: dg.DagsterInstance) -> None:
    """A finished version stays finished, and one that is being worked on is not requested again."""
    world.register()
    tick(world, instance)
    world.git.acquire_lease("iris", "the run", 3600)
    assert not tick(world, instance, None).run_requests
    tags(world, 1, state="champion")
    assert not tick(world, instance, None).run_requests


def test_an_unfinished_promotion_is_resumed_when_nobody_holds_the_lease(
    world: World, instance: dg.DagsterInstance
) -> None:
    """A resume has a new run key, and waits until it is due."""
    world.register()
    first = tick(world, instance)
    assert not tick(world, instance, first.cursor).run_requests  # not due yet
    kill_runs(world, instance)
    (resume,) = tick(world, instance, None).run_requests or ()
    assert resume.run_key is not None
    assert resume.run_key.endswith("/1")
    assert resume.tags[REQUEST_TAG] == (first.run_requests or [])[0].tags[REQUEST_TAG]


def test_a_run_that_waits_for_an_image_is_not_doubled(world: World, instance: dg.DagsterInstance) -> None:
    """It holds no lease, but it gave a sign of life just now; once it is silent, it is resumed."""
    world.register()
    tick(world, instance)
    kill_runs(world, instance)
    tags(world, 1, state="waiting", seen_at=format_time(world.clock.now()))
    assert not tick(world, instance, None).run_requests
    tags(world, 1, seen_at=format_time(world.clock.now() - 3600))
    assert tick(world, instance, None).run_requests


def test_a_run_that_is_about_to_start_is_not_doubled(world: World, instance: dg.DagsterInstance) -> None:
    """On a busy machine a run may be queued for long; another one would only make it slower."""
    world.register()
    tick(world, instance)
    assert not tick(world, instance, None).run_requests
    kill_runs(world, instance)
    assert tick(world, instance, None).run_requests


def test_a_run_that_started_late_is_not_doubled(world: World, instance: dg.DagsterInstance) -> None:
    """The wait for its first sign of life begins when it has a process, however long it was queued."""
    world.register()
    tick(world, instance)
    world.clock.sleep(FIRST_SIGN_SECONDS + 1)
    (run,) = instance.get_runs()
    started = dg.DagsterEvent(dg.DagsterEventType.PIPELINE_START.value, run.job_name)
    instance.handle_new_event(dg.EventLogEntry(None, 20, "", run.run_id, world.clock.now(), dagster_event=started))  # type: ignore[no-untyped-call]
    assert not tick(world, instance, None).run_requests
    world.clock.sleep(FIRST_SIGN_SECONDS + 1)
    assert tick(world, instance, None).run_requests


def cancel_run(instance: dg.DagsterInstance, *, is_over: bool = True) -> str:
    """Terminate the newest run as Dagster does whose process has not come to any stage yet; return its id."""
    (run,) = instance.get_runs(limit=1)
    if is_over:
        instance.report_run_canceled(run)
    else:
        instance.report_run_canceling(run)
    return run.run_id


@pytest.mark.parametrize("is_over", [True, False])
def test_a_run_that_is_cancelled_before_its_first_stage_holds_its_version(
    world: World, instance: dg.DagsterInstance, is_over: bool
) -> None:
    """No stage could write the hold, so the sensor writes it, once, and starts nothing."""
    world.register()
    tick(world, instance)
    run = cancel_run(instance, is_over=is_over)
    world.clock.sleep(600)
    assert not tick(world, instance).run_requests
    version = world.registry.versions["iris", 1]
    assert (world.state(1), version.tag(POLICY_NAME, "held_by")) == (State.HELD, "person")
    assert "A person cancelled the run." in world.reason(1)
    assert version.tag(POLICY_NAME, "cancelled_run") == run
    assert not tick(world, instance).run_requests
    assert len(instance.get_runs()) == 1


def test_a_committed_version_whose_next_run_is_cancelled_is_held(world: World, instance: dg.DagsterInstance) -> None:
    """Its image stays, and the reason says how to give it up."""
    world.register()
    tick(world, instance)
    materialize(world, 1, instance, ["promotion_candidate", "manifest_commit"])
    cancel_run(instance)
    (requested,) = (run for run in instance.get_runs() if REQUEST_TAG in run.tags)
    instance.report_run_canceled(requested)
    world.clock.sleep(600)
    assert not tick(world, instance).run_requests
    assert world.state(1) is State.HELD
    assert f"incumbent abort {POLICY_NAME}" in world.reason(1)
    assert world.live_image == world.image(1)


def test_a_run_that_crashed_or_was_shut_down_is_resumed(world: World, instance: dg.DagsterInstance) -> None:
    """Dagster calls such a run failed: a hold is a person's wish and nothing else."""
    world.register()
    tick(world, instance)
    (run,) = instance.get_runs()
    instance.report_run_failed(run)
    world.clock.sleep(600)
    assert tick(world, instance).run_requests


def test_what_leads_out_of_a_hold_is_not_held_again(world: World, instance: dg.DagsterInstance) -> None:
    """A run by hand that has to wait is resumed, and a retry is a request of its own."""
    world.register()
    tick(world, instance)
    cancel_run(instance)
    world.clock.sleep(600)
    tick(world, instance)
    world.argocd.down = DOWN
    materialize(world, 1, instance)
    assert world.state(1) is State.WAITING
    world.clock.sleep(600)
    assert tick(world, instance).run_requests
    cancel_run(instance)
    world.clock.sleep(600)
    tick(world, instance)
    assert world.state(1) is State.HELD
    retry_promotion(world.registry, world.git, world.clock, world.policy(POLICY_NAME), 1, by="ana", reason="again")
    assert tick(world, instance).run_requests


def test_a_rollback_whose_run_is_cancelled_is_finished(world: World, instance: dg.DagsterInstance) -> None:
    """What was rejected must not stay in service, so a hold does not stop it."""
    world.register()
    tick(world, instance)
    tags(world, 1, state="rejected")
    cancel_run(instance)
    world.clock.sleep(600)
    assert tick(world, instance).run_requests
    assert world.state(1) is State.REJECTED


def test_a_cancelled_run_that_is_still_at_work_writes_its_hold_itself(
    world: World, instance: dg.DagsterInstance
) -> None:
    """While it has the lease nothing is written beside it."""
    world.register()
    tick(world, instance)
    run = cancel_run(instance, is_over=False)
    world.git.acquire_lease("iris", run, 3600)
    assert not tick(world, instance).run_requests
    assert world.state(1) is State.REQUESTED
    world.git.leases.clear()
    assert not tick(world, instance).run_requests
    assert world.state(1) is State.HELD


def test_a_return_whose_run_is_cancelled_is_held(world: World, instance: dg.DagsterInstance) -> None:
    """Its version has ended once, and what brings it back is held like any promotion."""
    begin_return(world, instance)
    assert tick(world, instance).run_requests
    cancel_run(instance)
    world.clock.sleep(600)
    assert not tick(world, instance).run_requests
    assert world.state(1) is State.HELD
    assert f"incumbent abort {POLICY_NAME}" in world.reason(1)


def test_what_a_person_holds_is_not_resumed(world: World, instance: dg.DagsterInstance) -> None:
    """A cancelled promotion waits for a person."""
    world.register()
    tags(world, 1, state="held", held_by="person", requested_at="2026-01-01T00:00:00.000Z")
    assert not tick(world, instance).run_requests
    tags(world, 1, held_by="")
    assert tick(world, instance).run_requests


def test_a_committed_version_goes_before_a_newer_challenger(world: World, instance: dg.DagsterInstance) -> None:
    """What is committed and was left behind by a crash is finished first."""
    world.register()
    run_stages(world, 1, ["promotion_candidate", "manifest_commit"])
    world.register()
    first = tick(world, instance)
    (request,) = first.run_requests or ()
    assert request.partition_key == f"{POLICY_NAME}@1"
    assert not tick(world, instance, first.cursor).run_requests  # its run may not have begun yet


def begin_return(world: World, instance: dg.DagsterInstance) -> dg.SensorResult:
    """Versions 1 and 2 were champion, all is quiet, and a command dies right after the commit that goes back to 1."""
    for number in (1, 2):
        world.register()
        run_stages(world, number)
    quiet = tick(world, instance)
    assert not quiet.run_requests
    world.registry.down = True
    decided = Decided("ana", "complaints")
    with pytest.raises(UnfinishedError):
        return_to_champion(WorldPlatform(world), POLICY_NAME, None, decided, "rollback by ana", world.said.append)
    world.registry.down = False
    assert world.state(1) is State.FORMER_CHAMPION
    return quiet


def test_a_return_that_a_command_left_is_finished(world: World, instance: dg.DagsterInstance) -> None:
    """Nothing in the registry shows it, so the branch is looked at once a minute; a run makes the champion."""
    quiet = begin_return(world, instance)
    assert not tick(world, instance, quiet.cursor).run_requests
    world.clock.sleep(IDLE_LOOK_SECONDS + 1)
    found = tick(world, instance, quiet.cursor)
    (request,) = found.run_requests or ()
    assert request.partition_key == f"{POLICY_NAME}@1"
    assert run_stages(world, 1).success
    assert world.champion == 1
    kill_runs(world, instance)
    assert not tick(world, instance, found.cursor).run_requests


def test_a_return_at_which_a_command_works_is_left_to_it(world: World, instance: dg.DagsterInstance) -> None:
    """While someone holds the lease no run is requested, and neither when a person holds the return."""
    begin_return(world, instance)
    world.git.acquire_lease("iris", "rollback by ana", 600)
    assert not tick(world, instance).run_requests
    world.git.leases.clear()
    tags(world, 1, state="held", held_by="person")
    assert not tick(world, instance).run_requests
    tags(world, 1, held_by="")
    assert tick(world, instance).run_requests


def test_a_registry_that_is_down_fails_the_tick(world: World, instance: dg.DagsterInstance) -> None:
    """The tick fails by name, and the cursor stays as it was."""
    world.registry.down = True
    with pytest.raises(DependencyError, match="registry"):
        tick(world, instance)


def test_a_broken_policy_stops_no_other(world: World, instance: dg.DagsterInstance) -> None:
    """It is left out and named; the other policy's challenger is requested all the same."""
    world.policies["a-broken-one"] = "model: [1, 2"
    world.register()
    assert len(tick(world, instance).run_requests or ()) == 1
    tags(world, 1, state="champion")
    skip = str(tick(world, instance).skip_reason)
    assert "Policy a-broken-one is broken: " in skip
    assert "answer" not in skip


def test_a_folder_without_policies_is_said(world: World, instance: dg.DagsterInstance) -> None:
    """A sensor that watches nothing is not quiet about it."""
    world.policies.clear()
    assert "no policies at all" in str(tick(world, instance).skip_reason)


def test_git_that_is_down_is_no_broken_policy(world: World, instance: dg.DagsterInstance) -> None:
    """The tick names what does not answer, and forgets nothing: the request goes out when it answers again."""
    world.register()
    cursor = tick(world, instance).cursor
    tags(world, 1, state="champion")
    world.register()
    world.git.down = "no answer in 10 s"
    down = tick(world, instance, cursor)
    assert "Policy iris-edge waits for an answer of Git repository: " in str(down.skip_reason)
    assert "broken" not in str(down.skip_reason)
    assert read_cursor(down.cursor).memories[POLICY_NAME].named == 1
    world.git.down = None
    (request,) = tick(world, instance, down.cursor).run_requests or ()
    assert request.partition_key == f"{POLICY_NAME}@2"


def test_a_policy_that_the_registry_cannot_answer_stops_no_other(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that fails for one model alone is reported; the tick goes on."""
    world.policies["wine-edge"] = POLICY_TEXT.replace("model: iris", "model: wine")
    world.register()
    ask = world.registry.version_by_alias

    def fail_for_wine(model: str, alias: str) -> object:
        if model == "wine":
            raise DependencyError(DOWN)
        return ask(model, alias)

    monkeypatch.setattr(world.registry, "version_by_alias", fail_for_wine)
    assert len(tick(world, instance).run_requests or ()) == 1


def test_a_poisoned_tag_stops_nothing(world: World, instance: dg.DagsterInstance) -> None:
    """Whatever someone wrote into our tags, the tick ends well (CVE-2026-40886)."""
    world.register()
    tags(world, 1, state="\0\ud800", requested_at="../../etc", attempt="-1", held_by="x" * 5000)
    tick(world, instance)


def test_a_superseded_version_that_is_named_again_is_a_new_request(world: World, instance: dg.DagsterInstance) -> None:
    """Being overtaken is not a judgement: setting the alias back is a new request."""
    world.register()
    tags(world, 1, state="superseded")
    assert tick(world, instance).run_requests
    assert world.state(1) is State.REQUESTED


def move_alias(world: World, number: int) -> None:
    world.registry.set_alias(world.registry.versions["iris", number], "challenger")


@pytest.mark.parametrize("state", [str(state) for state in State if state.is_end and state is not State.SUPERSEDED])
def test_an_alias_that_is_moved_to_an_ended_version_gets_one_answer(
    world: World, instance: dg.DagsterInstance, state: str
) -> None:
    """One run of the first stage alone says why nothing is promoted; each move gets its own, and none repeats."""
    for _ in range(2):
        world.register()
    tags(world, 1, state=state)
    tags(world, 2, state="champion")
    cursor = tick(world, instance).cursor
    keys = set()
    for _ in range(2):
        move_alias(world, 1)
        answered = tick(world, instance, cursor)
        (request,) = answered.run_requests or ()
        assert request.partition_key == f"{POLICY_NAME}@1"
        assert request.asset_selection == [dg.AssetKey("promotion_candidate")]
        repeated = tick(world, instance, cursor)  # as after a crash before the cursor was kept
        assert [again.run_key for again in repeated.run_requests or ()] == [request.run_key]
        assert not tick(world, instance, answered.cursor).run_requests
        keys.add(request.run_key)
        world.clock.sleep(5)
        move_alias(world, 2)
        cursor = tick(world, instance, answered.cursor).cursor
        world.clock.sleep(5)
    assert len(keys) == 2


def test_a_lost_cursor_answers_nothing(world: World, instance: dg.DagsterInstance) -> None:
    """Without its memory the sensor does not know that an alias moved; old ends are not told again."""
    world.register()
    tags(world, 1, state="refused")
    result = tick(world, instance)
    assert not result.run_requests
    assert not tick(world, instance, result.cursor).run_requests


def test_an_answer_does_not_hide_what_is_under_way(world: World, instance: dg.DagsterInstance) -> None:
    """A committed version is resumed in the same tick in which another, ended one is answered."""
    world.register()
    tags(world, 1, state="refused")
    world.register()
    run_stages(world, 2, ["promotion_candidate", "manifest_commit"])
    cursor = tick(world, instance).cursor
    kill_runs(world, instance)
    move_alias(world, 1)
    keys = {request.partition_key for request in tick(world, instance, cursor).run_requests or ()}
    assert keys == {f"{POLICY_NAME}@1", f"{POLICY_NAME}@2"}


def test_a_version_that_a_person_holds_goes_on_when_it_is_named_again(
    world: World, instance: dg.DagsterInstance
) -> None:
    """To move the alias away and back is a wish to go on, and gets a run of the whole promotion."""
    world.register()
    tags(world, 1, state="held", held_by="person", requested_at="2026-01-01T00:00:00.000Z")
    world.register()
    tags(world, 2, state="champion")
    cursor = tick(world, instance).cursor
    move_alias(world, 1)
    (request,) = tick(world, instance, cursor).run_requests or ()
    assert request.asset_selection is None


def test_a_request_is_never_dated_before_its_alias(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alias that is set while the sensor asks is dated after that, however long the tick has been at work."""
    ask = world.registry.version_by_alias

    def slow(model: str, alias: str) -> object:
        world.clock.sleep(7)
        if not world.registry.versions:
            world.register()
        return ask(model, alias)

    monkeypatch.setattr(world.registry, "version_by_alias", slow)
    before = world.clock.now()
    assert tick(world, instance).run_requests
    requested_at = parse_time(world.registry.versions["iris", 1].tag(POLICY_NAME, "requested_at"))
    assert requested_at is not None
    assert requested_at - before == pytest.approx(7, abs=0.01)


def test_a_tag_that_is_pushed_again_is_said_while_a_version_waits_for_approval(instance: dg.DagsterInstance) -> None:
    """The image is resolved once a minute; a run then says that the approval there is counts no more."""
    world = at_present(World(POLICY_TEXT + "approval: {by: [ana, ben], count: 2}\n"))
    world.register()
    policy = world.policy(POLICY_NAME)
    approve_version(world.registry, world.images, world.git, world.clock, policy, 1, "ana", "seen")
    cursor = tick(world, instance).cursor
    run_stages(world, 1)
    kill_runs(world, instance)
    before = world.reason(1)
    assert "approval by ana alone" in before
    cursor = tick(world, instance, cursor).cursor
    world.images.publish(REPOSITORY, "v1", {"MODEL_URI": "models:/iris/1", "REBUILT": "yes"})
    world.clock.sleep(IMAGE_LOOK_SECONDS / 2)
    assert not tick(world, instance, cursor).run_requests
    world.clock.sleep(IMAGE_LOOK_SECONDS / 2)
    world.images.down = True
    down = tick(world, instance, cursor)
    assert (down.run_requests, world.reason(1)) == ([], before)
    world.images.down = False
    world.clock.sleep(IMAGE_LOOK_SECONDS)
    found = tick(world, instance, down.cursor)
    assert found.run_requests
    run_stages(world, 1)
    kill_runs(world, instance)
    assert "no approval yet; ana approved the image sha256:" in world.reason(1)
    world.clock.sleep(2 * IMAGE_LOOK_SECONDS)
    assert not tick(world, instance, found.cursor).run_requests

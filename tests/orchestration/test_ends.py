"""How a promotion stands after whatever broke its run off: held or taken back after the commit, waiting before it."""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import pytest

from orchestration.commands.requesting import retry_promotion
from orchestration.promotion.identity import partition_key
from orchestration.promotion.model_version import ModelVersion, tag_key
from orchestration.promotion.ports import LeaseRecord
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.recorded_requests import RECORDING_PATH
from orchestration.promotion.sensor_rules import is_unfinished
from orchestration.promotion.state import State
from orchestration.sensors import challenger_sensor
from orchestration.stages.pipeline import STAGES
from orchestration.stages.results import StageDone
from orchestration.stages.runner import StageFailed, run_stage
from orchestration.stages.settle import hold_by_person
from orchestration.stages.version_record import record_without_lease
from tests.fakes.cluster import DOWN, an_application
from tests.fakes.runs import REGISTRY_WRITES, Host, Killed, run_until
from tests.fakes.world import MANIFEST, POLICY_NAME, POLICY_TEXT, REPOSITORY, World, WorldPlatform

BEFORE = f"{REPOSITORY}:before"
Repair = Callable[[], object]


def failed(result: StageDone | StageFailed) -> StageFailed:
    assert isinstance(result, StageFailed), result
    return result


# After the commit


def break_policy(world: World, _: pytest.MonkeyPatch) -> Repair:
    world.policies[POLICY_NAME] = "model: [1, 2"
    return lambda: world.policies.update({POLICY_NAME: POLICY_TEXT})


def lose_context(_: World, monkeypatch: pytest.MonkeyPatch) -> Repair:
    def refuse(policy: object) -> None:
        raise InvalidInputError(Problem("kubeconfig", "a context edge", "no such context", "Add it."))

    with_clients = WorldPlatform.__init__

    def without_clients(self: WorldPlatform, world: World) -> None:
        with_clients(self, world)
        self.clients = refuse  # type: ignore[assignment]

    monkeypatch.setattr(WorldPlatform, "__init__", without_clients)
    return monkeypatch.undo


def empty_manifest(world: World, _: pytest.MonkeyPatch) -> Repair:
    content = world.git.commits[world.git.head].files["apps/iris.yaml"]
    world.git.commit("Tidy up", {"apps/iris.yaml": b""})
    return lambda: world.git.commit("Put it back", {"apps/iris.yaml": content})


def rename_container(world: World, _: pytest.MonkeyPatch) -> Repair:
    content = world.git.commits[world.git.head].files["apps/iris.yaml"]
    world.git.commit("Rename", {"apps/iris.yaml": content.replace(b"name: model-server", b"name: server")})
    return lambda: world.git.commit("Rename back", {"apps/iris.yaml": content})


def lose_recording(world: World, _: pytest.MonkeyPatch) -> Repair:
    content = world.registry.artifacts.pop(("run1", RECORDING_PATH))
    return lambda: world.registry.artifacts.update({("run1", RECORDING_PATH): content})


def garble_recording(world: World, _: pytest.MonkeyPatch) -> Repair:
    content = world.registry.artifacts["run1", RECORDING_PATH]
    world.registry.artifacts["run1", RECORDING_PATH] = b"\0"
    return lambda: world.registry.artifacts.update({("run1", RECORDING_PATH): content})


def delete_image(world: World, _: pytest.MonkeyPatch) -> Repair:
    digest = world.images.tags[REPOSITORY, "v1"]
    kept = world.images.images[REPOSITORY, digest]
    world.images.remove(REPOSITORY, digest)
    return lambda: world.images.images.update({(REPOSITORY, digest): kept})


def delete_run(world: World, _: pytest.MonkeyPatch) -> Repair:
    run = world.registry.runs.pop("run1")
    return lambda: world.registry.runs.update({"run1": run})


def refuse_kind(world: World, monkeypatch: pytest.MonkeyPatch) -> Repair:
    def refuse(kind: str, namespace: str, name: str) -> None:
        raise InvalidInputError(Problem(f"{kind} {name}", "kind Deployment", kind, "Correct the policy."))

    monkeypatch.setattr(world.cluster, "workload", refuse)
    return monkeypatch.undo


def fight_for_alias(world: World, monkeypatch: pytest.MonkeyPatch) -> Repair:
    set_alias = world.registry.set_alias

    def undone_at_once(version: ModelVersion, alias: str) -> None:
        set_alias(version, alias)
        del world.registry.aliases[version.model, alias]

    monkeypatch.setattr(world.registry, "set_alias", undone_at_once)
    return monkeypatch.undo


def delete_prometheus(world: World, _: pytest.MonkeyPatch) -> Repair:
    world.metrics.down = DOWN
    return lambda: setattr(world.metrics, "down", None)


AFTER_THE_COMMIT = [
    break_policy,
    lose_context,
    empty_manifest,
    rename_container,
    lose_recording,
    garble_recording,
    delete_image,
    delete_run,
    refuse_kind,
    fight_for_alias,
    delete_prometheus,
]


@pytest.mark.parametrize("last_before", ["manifest_commit", "rollout"])
@pytest.mark.parametrize("trouble", AFTER_THE_COMMIT, ids=lambda trouble: trouble.__name__)
def test_whatever_happens_after_the_commit_holds_and_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, trouble: Callable[..., Repair], last_before: str
) -> None:
    """The version says what is wrong, nothing unjudged is left as committed, and the next run finishes it."""
    world.register()
    run_until(world, 1, last_before)
    repair = trouble(world, monkeypatch)
    result = failed(run_until(world, 1))
    assert (result.outcome, world.state(1)) == ("held", State.HELD)
    assert result.problem.found in world.reason(1)
    assert world.git.leases == {}
    repair()
    assert isinstance(run_until(world, 1), StageDone)
    assert (world.champion, world.state(1)) == (1, State.CHAMPION)


@pytest.mark.parametrize("trouble", [lose_recording, delete_image], ids=lambda trouble: trouble.__name__)
def test_a_policy_that_rolls_back_what_cannot_be_judged_does_so_for_every_cause(
    monkeypatch: pytest.MonkeyPatch, trouble: Callable[..., Repair]
) -> None:
    """The image before serves again, and the version may be retried."""
    world = World(POLICY_TEXT.replace("judge_within: 120s", "judge_within: 120s\n  when_unjudged: roll_back"))
    world.register()
    run_until(world, 1, "rollout")
    trouble(world, monkeypatch)
    assert failed(run_until(world, 1)).outcome == "rolled back"
    assert world.live_image == BEFORE


def test_a_committed_version_is_held_by_the_branch_and_not_by_its_tag(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that died between its push and the tag `committed` left `requested`; what follows is held all the same."""
    version = world.register()
    run_until(world, 1, "manifest_commit")
    world.registry.write_tags(version, {tag_key(POLICY_NAME, "state"): "requested"})
    empty_manifest(world, monkeypatch)
    assert failed(run_until(world, 1)).outcome == "held"
    assert world.state(1) is State.HELD


def test_a_champion_keeps_its_state_when_it_cannot_be_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has ended stays ended; the run alone fails."""
    world.register()
    run_until(world, 1)
    empty_manifest(world, monkeypatch)
    assert failed(run_until(world, 1)).outcome == "error"
    assert world.state(1) is State.CHAMPION


def test_a_rollback_that_cannot_be_committed_stays_begun(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version stays rejected, so the next run finishes the rollback and judges nothing anew."""
    version = world.register()
    run_until(world, 1, "rollout")
    world.registry.write_tags(version, {tag_key(POLICY_NAME, "state"): "rejected"})
    repair = rename_container(world, monkeypatch)
    assert failed(run_until(world, 1)).outcome == "rejected"
    assert world.state(1) is State.REJECTED
    repair()
    run_until(world, 1)
    assert (world.state(1), world.live_image) == (State.ROLLED_BACK, BEFORE)


# Deleted versions


def deletable_points() -> list[int]:
    """The writes to the registry that a promotion makes."""
    world = World()
    world.register()
    count = delete_at(world, 0)
    run_until(world, 1)
    return list(range(1, count[0] + 1))


def delete_at(world: World, at: int) -> list[int]:
    """Delete version 1 just before one of the writes to the registry."""
    count = [0]

    def deleting(write: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            count[0] += 1
            if count[0] == at:
                del world.registry.versions["iris", 1]
            return write(*arguments)

        return counted

    for name in REGISTRY_WRITES:
        setattr(world.registry, name, deleting(getattr(world.registry, name)))
    return count


@pytest.mark.parametrize("at", deletable_points())
def test_a_version_that_is_deleted_at_any_write_does_not_stay_in_service(world: World, at: int) -> None:
    """Before the commit nothing is committed; after it the image before serves again, by a commit that says why."""
    world.register()
    delete_at(world, at)
    result = failed(run_until(world, 1))
    assert world.live_image == BEFORE
    assert world.git.leases == {}
    if world.subjects:
        assert result.outcome == "rolled back"
        assert "no such version in the registry" in world.git.log[0].trailers["Reason"]
    else:
        assert result.outcome != "held"


@pytest.mark.parametrize("last_before", ["manifest_commit", "rollout"])
def test_the_promotion_of_a_deleted_version_is_taken_back_by_the_sensors_run(
    world: World, instance: dg.DagsterInstance, last_before: str
) -> None:
    """Nobody names it any more, so the sensor finds it on the branch, and nothing after that."""
    world.register()
    run_until(world, 1, last_before)
    world.git.leases.clear()
    del world.registry.versions["iris", 1]
    (request,) = tick(world, instance).run_requests or ()
    assert request.partition_key == f"{POLICY_NAME}@1"
    assert failed(run_until(world, 1)).outcome == "rolled back"
    assert world.live_image == BEFORE
    assert not tick(world, instance).run_requests


def test_a_newer_challenger_waits_until_a_deleted_version_is_taken_back(world: World) -> None:
    """It would otherwise be committed over an image that nobody judged."""
    world.register()
    run_until(world, 1, "rollout")
    world.git.leases.clear()
    world.register()
    del world.registry.versions["iris", 1]
    assert "deleted from the registry" in failed(run_until(world, 2)).problem.found
    assert world.state(2) is State.WAITING
    run_until(world, 1)
    run_until(world, 2)
    assert world.champion == 2
    assert world.subjects[1].startswith("Roll back iris-edge from version 1")


@pytest.mark.parametrize("state", ["", "requested", "waiting"])
def test_a_version_that_lost_its_tags_is_finished_before_the_next(
    world: World, instance: dg.DagsterInstance, state: str
) -> None:
    """The branch has its commit and no evidence, so it is judged first, whatever its state says."""
    version = world.register()
    run_until(world, 1, "rollout")
    world.git.leases.clear()
    world.registry.write_tags(version, {tag_key(POLICY_NAME, "state"): state})
    world.register()
    assert failed(run_until(world, 2)).outcome == "waiting"
    requests = tick(world, instance).run_requests or ()
    assert [request.partition_key for request in requests] == [f"{POLICY_NAME}@1"]
    run_until(world, 1)
    run_until(world, 2)
    assert world.champion == 2


def test_a_deleted_champion_stays_in_service(world: World, instance: dg.DagsterInstance) -> None:
    """It was proved, so nothing is taken back; its partition is refused by name, and nothing waits for it."""
    world.register()
    run_until(world, 1)
    serves = world.live_image
    del world.registry.versions["iris", 1]
    assert failed(run_until(world, 1)).outcome == "refused"
    assert world.live_image == serves
    assert not tick(world, instance).run_requests


def test_a_copy_of_a_version_whose_rollback_was_begun_ends(world: World) -> None:
    """MLflow copies a version's tags; the copy has no commit that could be taken back."""
    copy = world.register()
    world.registry.write_tags(copy, {tag_key(POLICY_NAME, "state"): "rejected"})
    run_until(world, 1)
    assert world.state(1) is State.ROLLED_BACK
    assert world.subjects == []


@pytest.mark.parametrize("state", ["champion", "committed", "held", "superseded"])
def test_copied_tags_do_not_hide_that_a_version_was_never_judged(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """A copy of a committed version or a champion is held like any other, and judged when the cause is gone."""
    copy = world.register()
    copied = {"state": state, "attempt": "2", "commit": "f" * 40}
    world.registry.write_tags(copy, {tag_key(POLICY_NAME, name): value for name, value in copied.items()})
    push = world.git.push_edit

    def kill(*arguments: Any) -> None:
        push(*arguments)
        raise Killed

    monkeypatch.setattr(world.git, "push_edit", kill)
    with pytest.raises(Killed):
        run_until(world, 1)
    monkeypatch.undo()
    assert is_unfinished(world.registry.versions["iris", 1], POLICY_NAME)
    repair = lose_recording(world, monkeypatch)
    assert failed(run_until(world, 1)).outcome == "held"
    assert world.state(1) is State.HELD
    repair()
    run_until(world, 1)
    assert world.champion == 1
    assert world.subjects == ["Promote iris-edge to version 1"]


def tick(world: World, instance: dg.DagsterInstance) -> dg.SensorResult:
    result = challenger_sensor(dg.build_sensor_context(instance=instance), platform=WorldPlatform(world))
    assert isinstance(result, dg.SensorResult)
    return result


# Before the commit


def stop_git(world: World, _: pytest.MonkeyPatch) -> Repair:
    world.git.down = "connection refused"
    return lambda: setattr(world.git, "down", None)


def stop_image_registry(world: World, _: pytest.MonkeyPatch) -> Repair:
    world.images.down = True
    return lambda: setattr(world.images, "down", False)


def stop_cluster(world: World, _: pytest.MonkeyPatch) -> Repair:
    world.cluster.down = DOWN
    return lambda: setattr(world.cluster, "down", None)


def hook_on(name: str) -> Callable[[World, pytest.MonkeyPatch], Repair]:
    def install(world: World, monkeypatch: pytest.MonkeyPatch) -> Repair:
        def refuse(*_: object, **__: object) -> None:
            found = "a refusal although nobody else pushed (pre-receive hook declined: no changes on Fridays)"
            raise DependencyError(Problem("Git repository", "the server to let us push", found, "Allow it."))

        monkeypatch.setattr(world.git, name, refuse)
        return monkeypatch.undo

    install.__name__ = f"hook_on_{name}"
    return install


def stop_git_in_the_push(world: World, monkeypatch: pytest.MonkeyPatch) -> Repair:
    def vanish(*_: object) -> None:
        world.git.down = "connection refused"
        world.git.fetch()

    def repair() -> None:
        monkeypatch.undo()
        world.git.down = None

    monkeypatch.setattr(world.git, "push_edit", vanish)
    return repair


BEFORE_THE_COMMIT = [
    (stop_git, "connection refused"),
    (stop_git_in_the_push, "connection refused"),
    (hook_on("push_edit"), "no changes on Fridays"),
    (hook_on("acquire_lease"), "no changes on Fridays"),
    (stop_image_registry, "no answer"),
    (stop_cluster, DOWN.found),
    (break_policy, "policy"),
    (lose_context, "no such context"),
]


@pytest.mark.parametrize(
    ("trouble", "told"), BEFORE_THE_COMMIT, ids=[trouble.__name__ for trouble, _ in BEFORE_THE_COMMIT]
)
def test_a_dependency_that_fails_before_the_commit_is_told_on_the_version(
    world: World, monkeypatch: pytest.MonkeyPatch, trouble: Callable[..., Repair], told: str
) -> None:
    """It waits and says for what, and goes on when that is over; nothing was committed."""
    version = world.register()
    world.registry.write_tags(version, {tag_key(POLICY_NAME, "state"): "requested"})
    repair = trouble(world, monkeypatch)
    result = failed(run_until(world, 1))
    assert result.outcome in ("error", "waiting")
    assert world.state(1) is State.WAITING
    assert told in world.reason(1)
    assert world.subjects == []
    repair()
    world.clock.sleep(61)  # a lease that could not be given back expires
    assert isinstance(run_until(world, 1), StageDone)
    assert world.champion == 1


@pytest.mark.parametrize("trouble", [empty_manifest, rename_container], ids=lambda trouble: trouble.__name__)
def test_what_a_person_must_correct_before_the_commit_refuses(
    world: World, monkeypatch: pytest.MonkeyPatch, trouble: Callable[..., Repair]
) -> None:
    """It does not go on by itself, says what to correct, and the command that it names leads on."""
    world.register()
    repair = trouble(world, monkeypatch)
    run_until(world, 1)
    assert world.state(1) is State.REFUSED
    assert "incumbent retry iris-edge 1" in world.reason(1)
    repair()
    retry(world, 1)
    run_until(world, 1)
    assert world.champion == 1


def test_a_state_of_another_run_is_not_overwritten_while_git_is_down(world: World) -> None:
    """Without Git no lease can be confirmed, so only a version that still says that it waits is written."""
    version = world.register()
    for state in ("committed", "held", "champion", "rolled_back"):
        world.registry.write_tags(version, {tag_key(POLICY_NAME, "state"): state})
        world.git.down = "connection refused"
        run_until(world, 1)
        assert world.registry.versions["iris", 1].tag(POLICY_NAME, "state") == state


# Cancelled by a person


class CancelledError(BaseException):
    """What interrupts a run that a person cancels."""


def cancel() -> None:
    raise CancelledError


def cancel_before_the_commit(world: World) -> None:
    """Version 1's run is cancelled while it waits for its image."""
    world.register(publish=False)
    world.clock.after(5, cancel)
    with pytest.raises(CancelledError):
        run_until(world, 1)
    assert world.state(1) is State.HELD
    assert "Nothing was committed" in world.reason(1)
    assert "revert" not in world.reason(1)
    world.images.publish(REPOSITORY, "v1", {"MODEL_URI": "models:/iris/1"})


def cancel_after_the_commit(world: World) -> None:
    """Version 1's run is cancelled in mid-soak."""
    world.register()
    run_until(world, 1, "rollout")
    world.clock.after(25, cancel)
    with pytest.raises(CancelledError):
        run_until(world, 1)
    assert world.state(1) is State.HELD
    assert f"incumbent abort iris-edge --reason '...', which takes commit {world.git.head[:12]} back" in world.reason(1)


def retry(world: World, number: int) -> int:
    policy = world.policy(POLICY_NAME)
    return retry_promotion(world.registry, world.git, world.clock, policy, number, by="ana", reason="go on")


@pytest.mark.parametrize("state", [State.REQUESTED, State.ROLLED_BACK])
def test_a_cancelled_run_is_held_by_one_look_at_the_branch(
    world: World, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its promotion or a return to it is committed is told by the same commits, fetched once."""
    world.register()
    policy = world.policy(POLICY_NAME)
    world.registry.write_tags(world.registry.versions["iris", 1], {tag_key(POLICY_NAME, "state"): str(state)})
    version = world.registry.versions["iris", 1]
    record = record_without_lease(world.registry, world.git, world.clock, policy, version, "run")
    fetch, heads = world.git.fetch, list[str]()

    def fetched() -> str:
        heads.append(fetch())
        return heads[-1]

    monkeypatch.setattr(world.git, "fetch", fetched)
    assert hold_by_person(record, world.git, "run") is (state is State.REQUESTED)
    assert len(heads) == 1


@pytest.mark.parametrize("cancelled", [cancel_before_the_commit, cancel_after_the_commit])
@pytest.mark.parametrize("again", [lambda world: None, lambda world: retry(world, 1)], ids=["materialize", "retry"])
def test_both_ways_on_from_a_cancelled_run_work(
    world: World,
    instance: dg.DagsterInstance,
    cancelled: Callable[[World], None],
    again: Callable[[World], object],
) -> None:
    """The sensor leaves it alone until then; materializing it or retrying it makes it champion by one commit."""
    cancelled(world)
    assert world.git.leases == {}
    assert not tick(world, instance).run_requests
    again(world)
    assert isinstance(run_until(world, 1), StageDone)
    assert world.champion == 1
    assert world.subjects == ["Promote iris-edge to version 1"]


def test_reverting_the_commit_gives_a_cancelled_promotion_up(world: World) -> None:
    """As its reason says: revert, and materialize once more."""
    cancel_after_the_commit(world)
    world.git.commit("Revert that", {"apps/iris.yaml": MANIFEST.format(image=BEFORE).encode()})
    world.reconcile()
    run_until(world, 1, "promotion_candidate")
    assert (world.state(1), world.live_image) == (State.ROLLED_BACK, BEFORE)


def test_a_cancelled_promotion_that_was_reverted_holds_up_nobody(world: World, instance: dg.DagsterInstance) -> None:
    """When the next version is named, the sensor has the reverted one ended first."""
    cancel_after_the_commit(world)
    world.git.commit("Revert that", {"apps/iris.yaml": MANIFEST.format(image=BEFORE).encode()})
    world.reconcile()
    world.register()
    (request,) = tick(world, instance).run_requests or ()
    assert request.partition_key == f"{POLICY_NAME}@1"
    run_until(world, 1)
    run_until(world, 2)
    assert world.champion == 2


def test_a_second_attempt_that_is_cancelled_before_its_commit_can_be_retried(world: World) -> None:
    """The first attempt's commit, which a person undid, is not taken for the second's."""
    world.register()
    run_until(world, 1, "rollout")
    world.git.commit("Revert that", {"apps/iris.yaml": MANIFEST.format(image=BEFORE).encode()})
    world.reconcile()
    run_until(world, 1)
    assert retry(world, 1) == 2
    world.git.before_push = [cancel]
    with pytest.raises(CancelledError):
        run_until(world, 1)
    assert "Nothing was committed" in world.reason(1)
    assert retry(world, 1) == 2
    run_until(world, 1)
    assert world.champion == 1


def test_whether_a_cancelled_run_had_committed_is_told_by_the_branch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The push had landed, and the tag was not written yet."""
    world.register()
    push = world.git.push_edit

    def cancelled_after(*arguments: Any) -> Any:
        push(*arguments)
        cancel()

    monkeypatch.setattr(world.git, "push_edit", cancelled_after)
    with pytest.raises(CancelledError):
        run_until(world, 1)
    assert world.subjects
    assert "Nothing was committed" not in world.reason(1)


def test_a_run_that_is_cancelled_while_it_takes_the_lease_is_held(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person's wish counts from the first moment, also before the run has read anything."""
    world.register()
    run_until(world, 1, "promotion_candidate")

    def cancelled(application: str, holder: str, ttl: float, *, take_over: bool) -> LeaseRecord:
        raise CancelledError

    monkeypatch.setattr(world.git, "acquire_lease", cancelled)
    with pytest.raises(CancelledError):
        run_until(world, 1)
    assert world.state(1) is State.HELD
    assert world.registry.versions["iris", 1].tag(POLICY_NAME, "held_by") == "person"


@pytest.mark.parametrize("began", ["policy", "clients"])
def test_a_run_that_is_cancelled_before_it_has_its_clients_is_held(
    world: World, monkeypatch: pytest.MonkeyPatch, began: str
) -> None:
    """Reading the policy and importing the clients' libraries takes seconds, in which a person may cancel."""
    world.register()
    platform = WorldPlatform(world)
    interrupted: list[str] = []

    def once(*arguments: Any) -> Any:
        if interrupted:
            return getattr(world, began)(*arguments)
        interrupted.append(began)
        raise CancelledError

    monkeypatch.setattr(platform, began, once)
    host = Host("run", True, world.said.append, cancelled=True)
    with pytest.raises(CancelledError):
        run_stage(STAGES[0], platform, partition_key(POLICY_NAME, 1), host)
    version = world.registry.versions["iris", 1]
    assert (version.state(POLICY_NAME), version.tag(POLICY_NAME, "held_by")) == (State.HELD, "person")
    assert version.tag(POLICY_NAME, "cancelled_run") == "run"


def test_a_run_that_is_cancelled_while_it_writes_why_it_waits_is_held(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage is over, and its run is not."""
    world.register()
    world.argocd.down = DOWN
    run_until(world, 1, "promotion_candidate")
    write = world.registry.write_tags

    def cancelled_once(version: ModelVersion, tags: Mapping[str, str]) -> None:
        if tags.get(tag_key(POLICY_NAME, "state")) == "waiting":
            raise CancelledError
        write(version, tags)

    monkeypatch.setattr(world.registry, "write_tags", cancelled_once)
    with pytest.raises(CancelledError):
        run_until(world, 1)
    assert world.state(1) is State.HELD


def test_cancelling_a_look_at_a_champion_does_not_end_it(world: World) -> None:
    """A champion whose partition is materialized again stays champion when that run is cancelled."""
    world.register()
    run_until(world, 1)
    world.argocd.on_refresh = lambda _: None
    world.git.commit("Docs", {"README": b"more\n"})
    world.argocd.status = an_application("f" * 40, name="iris")
    world.clock.after(5, cancel)
    with pytest.raises(CancelledError):
        run_until(world, 1)
    assert world.state(1) is State.CHAMPION


@pytest.mark.parametrize("when_unjudged", ["hold", "roll_back"])
def test_a_champion_that_cannot_be_judged_again_stays_champion(when_unjudged: str) -> None:
    """It was proved before; that Argo CD does not have the application now says nothing about it."""
    world = World(POLICY_TEXT.replace("judge_within: 120s", f"judge_within: 120s\n  when_unjudged: {when_unjudged}"))
    world.register()
    run_until(world, 1)
    world.argocd.on_refresh = lambda _: None
    world.argocd.status = None
    failed(run_until(world, 1))
    assert (world.state(1), world.champion, world.live_image) == (State.CHAMPION, 1, world.image(1))


def test_cancelling_a_rollback_does_not_end_it(world: World) -> None:
    """A rejected version stays rejected, and the next run finishes its rollback."""
    version = world.register()
    run_until(world, 1, "rollout")
    world.registry.write_tags(version, {tag_key(POLICY_NAME, "state"): "rejected"})
    world.git.before_push = [cancel]
    with pytest.raises(CancelledError):
        run_until(world, 1)
    assert world.state(1) is State.REJECTED
    run_until(world, 1)
    assert world.state(1) is State.ROLLED_BACK

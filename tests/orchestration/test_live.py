"""The asset that says what is live, and its sensor, on a platform of fakes."""

from collections.abc import Callable, Sequence
from concurrent.futures import wait
from threading import Event

import dagster as dg
import pytest

from orchestration.live import AT_LEAST_EVERY_SECONDS, BOUND_SECONDS, LiveLook, live_models, live_sensor
from orchestration.partitions import policies
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.policy_status import REGISTRY
from orchestration.promotion.problems import InvalidInputError, Problem
from tests.fakes.cluster import DOWN
from tests.fakes.runs import promote
from tests.fakes.world import MANIFEST, POLICY_NAME, REPOSITORY, World, WorldPlatform

KEY = live_models.key


class Daemon:
    """Ticks as Dagster's daemon does: what a tick returns goes into the instance."""

    def __init__(self, world: World, instance: dg.DagsterInstance) -> None:
        self.world, self.instance = world, instance
        self.cursor: str | None = None
        self.live_look = LiveLook()
        self.skipped = ""

    def look(self) -> Sequence[object]:
        """Do two ticks, of which the second records what the first one asked, and return what both recorded."""
        events = [*self.tick()]
        self.settle()
        events += self.tick()
        self.settle()
        return events

    def settle(self) -> None:
        """Wait until everything that was asked is answered."""
        if self.live_look.begun is not None and self.live_look.begun.look is not None:
            wait(self.live_look.begun.look.answers)

    def settle_all_but(self, silent: str) -> None:
        """Wait until everything that was asked is answered, except by the one that hangs."""
        assert self.live_look.begun is not None
        assert self.live_look.begun.look is not None
        for policy in self.live_look.begun.look.begun:
            wait([answer for service, answer in policy.answers.items() if service != silent])

    def tick(self) -> Sequence[object]:
        """Do one tick, which waits for no answer, and return the events that it recorded."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = live_sensor(context, platform=WorldPlatform(self.world), live_look=self.live_look)
        assert isinstance(result, dg.SensorResult)
        assert not result.run_requests
        events = list(result.asset_events or ())
        for event in events:
            self.instance.report_runless_asset_event(event)
        for request in result.dynamic_partitions_requests or ():
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                self.instance.add_dynamic_partitions(policies.name or "", list(request.partition_keys))
            else:
                for key in request.partition_keys:
                    self.instance.delete_dynamic_partition(policies.name or "", key)
        self.cursor = result.cursor
        self.skipped = (result.skip_reason.skip_message or "") if result.skip_reason is not None else ""
        return events

    def red(self) -> dict[str, str]:
        """Return the checks that failed at the last time, with what they say."""
        keys = [spec.key for spec in live_models.check_specs]
        records = self.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        evaluations = [record.evaluation for record in records.values() if record.evaluation is not None]
        assert len(evaluations) == len(keys)
        return {one.check_name: one.description or "" for one in evaluations if not one.passed}

    def facts(self, policy: str = POLICY_NAME) -> dict[str, object]:
        """Return the metadata of the policy's last row."""
        where = dg.AssetRecordsFilter(asset_key=KEY, asset_partitions=[policy])
        (record,) = self.instance.fetch_materializations(where, limit=1).records
        assert record.asset_materialization is not None
        return {name: value.value for name, value in record.asset_materialization.metadata.items()}


@pytest.fixture
def daemon(world: World, instance: dg.DagsterInstance) -> Daemon:
    world.register()
    promote(world, 1, "run")
    return Daemon(world, instance)


def test_the_first_look_says_what_is_live(daemon: Daemon) -> None:
    """A row for the policy with version, since when and why, and three checks that pass; no run is started."""
    daemon.look()
    facts = daemon.facts()
    assert (facts["version"], facts["why"], facts["git_cluster_and_registry_agree"]) == (1, "promoted", True)
    assert facts["since_at"] == daemon.world.git.log[0].committed_at
    assert daemon.red() == {}
    assert daemon.instance.get_dynamic_partitions(policies.name or "") == [POLICY_NAME]
    assert daemon.instance.get_runs() == []


def test_only_changes_are_recorded_and_everything_once_an_hour(daemon: Daemon) -> None:
    """A quiet policy costs no event, other people's commits none either; after an hour there is a new row."""
    daemon.look()
    assert daemon.look() == []
    daemon.world.git.commit("Edit the README", {"README": b"more\n"})
    assert daemon.look() == []
    daemon.world.clock.sleep(AT_LEAST_EVERY_SECONDS)
    assert len(daemon.look()) == 4
    assert daemon.look() == []


def test_a_change_does_not_put_the_hourly_row_off(daemon: Daemon) -> None:
    """Although one policy changes all the time, the other ones are recorded each hour."""
    daemon.world.policies["wine-edge"] = "model: ["
    daemon.look()
    daemon.world.clock.sleep(AT_LEAST_EVERY_SECONDS / 2)
    daemon.world.policies["wine-edge"] = "model: {"
    assert len(daemon.look()) == 4
    daemon.world.clock.sleep(AT_LEAST_EVERY_SECONDS / 2)
    assert len(daemon.look()) == 5


def test_broken_policies_are_red_by_name(daemon: Daemon) -> None:
    """All of them stand in one check, and the policies that can be used keep their rows; it is green when mended."""
    daemon.world.policies |= {"wine-edge": "model: [", "beer-edge": "{}"}
    daemon.look()
    said = daemon.red()["policy_usable"]
    assert "wine-edge: YAML that cannot be read" in said
    assert "beer-edge: " in said
    assert daemon.facts()["version"] == 1
    assert "found" in daemon.facts("wine-edge")
    for name in ("wine-edge", "beer-edge"):
        del daemon.world.policies[name]
    daemon.look()
    assert daemon.red() == {}
    assert daemon.instance.get_dynamic_partitions(policies.name or "") == [POLICY_NAME]


def test_unreachable_services_are_red_by_name(daemon: Daemon) -> None:
    """Each with what to do; that it is not known whether all agree is a warning. It is green when they answer again."""
    daemon.look()
    daemon.world.registry.down, daemon.world.metrics.down = True, DOWN
    daemon.look()
    red = daemon.red()
    assert set(red) == {"agrees", "services_answer"}
    assert red["services_answer"] == f"the model registry: no answer; {DOWN.subject}: {DOWN.found}"
    assert red["agrees"] == f"{POLICY_NAME}: not known"
    daemon.world.registry.down, daemon.world.metrics.down = False, None
    daemon.look()
    assert daemon.red() == {}


def hang_registry(world: World, wait: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    known = world.registry.version_by_alias

    def hang(model: str, alias: str) -> ModelVersion | None:
        wait()
        return known(model, alias)

    monkeypatch.setattr(world.registry, "version_by_alias", hang)


def test_no_tick_waits_for_a_service(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a service hangs, ticks go on and ask nothing more; when it answers, the next tick records what it said."""
    answer = Event()
    hang_registry(daemon.world, answer.wait, monkeypatch)
    assert daemon.tick() == []
    begun = daemon.live_look.begun
    for _ in range(3):
        assert daemon.tick() == []
        assert daemon.skipped == "a look is under way"
    assert daemon.live_look.begun is begun
    answer.set()
    daemon.settle()
    daemon.tick()
    assert daemon.facts()["version"] == 1
    assert daemon.red() == {}


def test_a_service_that_hangs_is_red_once_its_time_is_up(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, while the others' answers count; it is green again when it answers."""
    daemon.look()
    answer = Event()
    hang_registry(daemon.world, answer.wait, monkeypatch)
    daemon.tick()  # takes what was asked before, and asks again
    daemon.settle_all_but(REGISTRY)
    daemon.world.clock.sleep(BOUND_SECONDS)
    daemon.tick()
    assert daemon.red() == {
        "agrees": f"{POLICY_NAME}: not known",
        "services_answer": "the registry: no answer within 10 s",
    }
    assert daemon.facts()["image"] == daemon.world.image(1)
    answer.set()
    daemon.look()
    assert daemon.red() == {}


def test_after_a_restart_a_look_begins_anew(daemon: Daemon) -> None:
    """What was under way in a process that ended is lost, and nothing that is recorded goes."""
    daemon.look()
    daemon.live_look = LiveLook()
    assert daemon.tick() == []
    assert daemon.skipped == "the first look has begun"
    daemon.settle()
    assert daemon.tick() == []
    assert daemon.red() == {}


def test_what_does_not_agree_is_red_in_words(daemon: Daemon) -> None:
    """An image that a person put there is named, with what the alias names instead."""
    daemon.world.git.commit("By hand", {"apps/iris.yaml": MANIFEST.format(image=f"{REPOSITORY}:before").encode()})
    daemon.world.reconcile()
    daemon.look()
    assert set(daemon.red()) == {"agrees"}
    assert "which no promotion committed" in daemon.red()["agrees"]
    assert daemon.facts()["git_cluster_and_registry_agree"] is False


def test_a_missing_policies_folder_is_red_and_removes_nothing(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows stay, because nobody knows that the policies are gone."""
    daemon.look()

    def refuse(self: World) -> tuple[str, ...]:
        raise InvalidInputError(Problem("policies folder x", "a folder", "no such folder", "Set INCUMBENT_POLICIES."))

    monkeypatch.setattr(World, "policy_names", refuse)
    daemon.look()
    assert daemon.red()["policy_usable"] == "all policies: no such folder"
    assert daemon.instance.get_dynamic_partitions(policies.name or "") == [POLICY_NAME]


def test_an_empty_policies_folder_is_red(daemon: Daemon) -> None:
    """Nothing is watched then, which nobody wants without knowing it; the rows go with their policies."""
    daemon.look()
    daemon.world.policies.clear()
    daemon.look()
    assert daemon.red() == {"policy_usable": "all policies: no policies at all"}
    assert daemon.instance.get_dynamic_partitions(policies.name or "") == []


def test_an_unreadable_cursor_counts_as_none(daemon: Daemon) -> None:
    """What the sensor remembers may be lost or garbled."""
    for cursor in ("garbage", "[]", '{"at": "x"}', '{"at": 1, "marks": []}'):
        daemon.cursor = cursor
        assert len(daemon.look()) == 4


def test_a_person_may_look_at_once(daemon: Daemon) -> None:
    """Materializing a policy's row does what a tick does."""
    daemon.world.policies["wine-edge"] = "model: ["
    daemon.instance.add_dynamic_partitions(policies.name or "", [POLICY_NAME])
    result = dg.materialize(
        [live_models],
        partition_key=POLICY_NAME,
        instance=daemon.instance,
        resources={"platform": WorldPlatform(daemon.world)},
    )
    assert result.success
    assert set(daemon.red()) == {"agrees", "policy_usable"}
    assert daemon.facts()["version"] == 1

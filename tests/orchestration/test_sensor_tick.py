"""What a tick of the sensor costs, in requests to the registry and fetches of Git, and that it ends in time."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from orchestration.commands.sensor_tick import Seen, watch
from orchestration.promotion.model_version import tag_key
from orchestration.promotion.policy import Policy
from orchestration.promotion.problems import DependencyError
from orchestration.promotion.sensor_rules import IDLE_LOOK_SECONDS, Cursor
from orchestration.promotion.state import State
from tests.fakes.world import POLICY_NAME, World, WorldPlatform

LONGEST_TICK = 30.0
WATCHING = 24.5


@dataclass
class NoRuns:
    """Implements `Runs`: each request had as many runs as the test says, and none of them is young or cancelled."""

    counted: int = 0

    def cancelled(self, request: str) -> str | None:
        return None

    def count(self, request: str) -> int:
        return self.counted

    def is_young(self, request: str, *, created_after: float, started_after: float) -> bool:
        return False


@dataclass
class Fleet:
    """Many policies, each for a model of its own, whose champion serves and is still the challenger."""

    size: int
    world: World = field(default_factory=World)
    runs: NoRuns = field(default_factory=NoRuns)
    cursor: Cursor = field(default_factory=Cursor)

    def __post_init__(self) -> None:
        self.world.clock.time = time.time()
        policy = self.world.policy(POLICY_NAME)
        self.policies = {
            name: policy.model_copy(update={"name": name, "model": f"model-{name}"})
            for name in (f"p{number:04}" for number in range(self.size))
        }
        for policy in self.policies.values():
            self.registered(policy, "champion")
        self.platform = WorldPlatform(self.world)
        self.platform.policy_names = lambda: tuple(self.policies)
        self.platform.policy = lambda name: self.policies[name]
        self.fetches = 0
        fetch = self.world.git.fetch

        def counted() -> str:
            self.fetches += 1
            return fetch()

        self.world.git.fetch = counted  # type: ignore[method-assign]

    def registered(self, policy: Policy, state: str | None) -> None:
        tags = {tag_key(policy.name, "state"): state} if state is not None else {}
        version = self.world.registry.add_version(policy.model, "run", tags)
        self.world.registry.set_alias(version, policy.challenger_alias)

    def tick(self, seconds: float = 0.0) -> tuple[Seen, Mapping[str, int], int]:
        """One tick 5 s later: what it found, the calls of the registry by name, and the fetches."""
        self.world.clock.sleep(5.0)
        self.world.registry.calls.clear()
        self.fetches = 0
        seen = watch(self.platform, self.runs, self.cursor, seconds)
        self.cursor = seen.cursor
        return seen, Counter(self.world.registry.calls), self.fetches


def costing(fleet: Fleet, name: str, seconds: float) -> None:
    """Let a call of the Git repository take its time, by the world's clock."""
    call: Callable[..., object] = getattr(fleet.world.git, name)

    def slow(*asked: object) -> object:
        fleet.world.clock.sleep(seconds)
        return call(*asked)

    setattr(fleet.world.git, name, slow)


@pytest.mark.parametrize("size", [3, 100, 1000])
def test_what_a_tick_costs_does_not_grow_with_the_policies(size: int) -> None:
    """An idle tick asks once for all; one policy in need costs what it costs alone, however many there are."""
    fleet = Fleet(size)
    first, asked, fetches = fleet.tick()
    assert (first.requests, first.unwatched) == ((), ())
    assert (asked, fetches) == ({"named_by": 1, "version_by_alias": size}, 1)
    assert fleet.tick()[1:] == ({"named_by": 1}, 0)
    due = list(fleet.policies.values())[-1]
    fleet.registered(due, None)
    seen, asked, fetches = fleet.tick()
    assert [name for name, _ in seen.requests] == [due.name]
    assert (asked["named_by"], asked["version_by_alias"], asked["write_tags"], fetches) == (1, 1, 1, 1)


@pytest.mark.parametrize("size", [1, 100, 1000])
def test_a_policy_is_asked_at_most_once_in_ten_seconds_without_a_search(size: int) -> None:
    """On a registry that cannot be searched, which is also so for one policy, there is one fetch for all of them."""
    fleet = Fleet(size)
    fleet.world.registry.searches = False
    _, asked, fetches = fleet.tick()
    assert (asked["version_by_alias"], fetches) == (size, 1)
    questions = 0
    for _ in range(10):
        _, asked, fetches = fleet.tick()
        questions += asked["version_by_alias"]
        assert fetches == 0
    assert questions <= max(10, 5 * size)  # in 50 s


def test_policies_that_share_an_alias_share_the_question() -> None:
    """Two targets of one model are asked for once."""
    fleet = Fleet(20)
    shared = {"model": next(iter(fleet.policies.values())).model}
    fleet.policies = {name: policy.model_copy(update=shared) for name, policy in fleet.policies.items()}
    _, asked, _ = fleet.tick()
    assert asked["version_by_alias"] == 2  # 16 at a time


@pytest.mark.parametrize("seconds", [0.0, WATCHING])
def test_each_tick_ends_in_time_and_the_next_goes_on_where_it_ended(seconds: float) -> None:
    """Each of 500 promotions costs a slow question to Git, and the cursor is lost: all are looked at all the same."""
    fleet = Fleet(500)
    for policy in fleet.policies.values():
        fleet.registered(policy, "waiting")
    fleet.runs.counted = 1
    costing(fleet, "fetch", 0.6)
    costing(fleet, "lease", 0.6)
    resumed: list[str] = []
    for _ in range(400):
        began = fleet.world.clock.now()
        seen, _, fetches = fleet.tick(seconds)
        assert fleet.world.clock.now() - began <= LONGEST_TICK
        assert fetches >= 1
        resumed += (name for name, _ in seen.requests)
        if set(resumed) == set(fleet.policies):
            break
    assert set(resumed) == set(fleet.policies)
    assert len(resumed) < 2 * len(fleet.policies)


def test_policies_that_take_long_to_read_are_read_in_parts() -> None:
    """As by a new code server on a busy machine: a tick ends in time, and the next begins with those that were not."""
    fleet = Fleet(500)
    read: set[str] = set()

    def slowly(name: str) -> Policy:
        if name not in read:
            fleet.world.clock.sleep(0.3)
            read.add(name)
        return fleet.policies[name]

    fleet.platform.policy = slowly
    for _ in range(9):  # 500 files of 0.3 s, and 20 s of work in each tick
        read.clear()  # a new code server each time
        began = fleet.world.clock.now() + 5.0
        fleet.tick()
        assert fleet.world.clock.now() - began <= LONGEST_TICK
        if len(fleet.cursor.memories) == fleet.size:
            break
    assert len(fleet.cursor.memories) == fleet.size


def test_what_was_just_made_challenger_goes_before_what_waits() -> None:
    """While 500 others have to be looked at, the new challenger's run is requested by the first tick."""
    fleet = Fleet(500)
    for policy in fleet.policies.values():
        fleet.registered(policy, "held")
    fleet.runs.counted = 1
    assert len(fleet.tick()[0].requests) == 500
    fleet.world.clock.sleep(600.0)
    costing(fleet, "lease", 0.6)
    due = list(fleet.policies.values())[-1]
    fleet.registered(due, None)
    assert fleet.tick()[0].requests[0][0] == due.name


def test_a_tick_keeps_watching_and_ends_with_the_first_find() -> None:
    """An alias that is set meanwhile is seen within about a second; without one, the tick lasts as long as it may."""
    fleet = Fleet(1)
    fleet.tick()
    began = fleet.world.clock.now() + 5.0
    fleet.tick(WATCHING)
    assert fleet.world.clock.now() - began == pytest.approx(WATCHING)
    (policy,) = fleet.policies.values()
    sleep = fleet.world.clock.sleep
    began = fleet.world.clock.now() + 5.0

    def sleep_and_set_the_alias(seconds: float) -> None:
        sleep(seconds)
        if fleet.world.clock.now() >= began + 10.0 and (policy.model, 2) not in fleet.world.registry.versions:
            fleet.registered(policy, None)

    fleet.world.clock.sleep = sleep_and_set_the_alias  # type: ignore[method-assign]
    seen, _, _ = fleet.tick(WATCHING)
    assert [name for name, _ in seen.requests] == [policy.name]
    assert fleet.world.clock.now() == pytest.approx(began + 10.0, abs=1.0)


@pytest.mark.parametrize("size", [1, 40])
def test_the_bell_shortens_the_wait_for_the_next_question(size: int) -> None:
    """An alias that MLflow tells of is seen a tenth of a second later, in place of a second."""
    fleet = Fleet(size)
    fleet.tick()
    policy = list(fleet.policies.values())[-1]
    clock, bell = fleet.world.clock, fleet.world.bell
    set_at = clock.now() + 5.0 + 10.05

    def set_the_alias() -> None:
        fleet.registered(policy, None)
        bell.ring(policy.model)

    clock.after(set_at - clock.now(), set_the_alias)
    seen, _, _ = fleet.tick(WATCHING)
    assert [name for name, _ in seen.requests] == [policy.name]
    assert clock.now() - set_at <= 0.1


def test_however_often_the_bell_rings_the_registry_is_asked_ten_times_a_second_at_most() -> None:
    """Whoever can ring it costs the registry no more, because each pause lasts a tenth of its time."""
    fleet = Fleet(1)
    fleet.tick()
    (policy,) = fleet.policies.values()
    wait = fleet.world.bell.wait

    def ring_and_wait(seconds: float) -> frozenset[str]:
        fleet.world.bell.ring(policy.model)
        return wait(seconds)

    fleet.world.bell.wait = ring_and_wait  # type: ignore[method-assign]
    fleet.tick(5.0)
    assert 20 < len(fleet.world.registry.calls) <= 10 * 5.0 + 2


def test_a_version_that_is_tried_again_need_not_wait_for_the_next_idle_look() -> None:
    """What a person asks for by `incumbent retry` is seen by the next tick, like a new challenger."""
    fleet = Fleet(1)
    fleet.tick()
    (policy,) = fleet.policies.values()
    version = fleet.world.registry.versions[policy.model, 1]
    fleet.world.registry.write_tags(version, {tag_key(policy.name, "state"): str(State.REQUESTED)})
    assert [name for name, _ in fleet.tick()[0].requests] == [policy.name]


def test_a_hint_that_is_wrong_is_not_believed() -> None:
    """Where a search leaves all aliases out, each policy is asked; where one was overlooked, within a minute."""
    fleet = Fleet(5)
    fleet.tick()
    fleet.world.registry.named_by = lambda alias, models: {}  # type: ignore[method-assign]
    due = list(fleet.policies.values())[-1]
    fleet.registered(due, None)
    assert [name for name, _ in fleet.tick()[0].requests] == [due.name]
    fleet = Fleet(5)
    due = list(fleet.policies.values())[-1]
    del fleet.world.registry.aliases[due.model, due.challenger_alias]
    fleet.tick()
    hints = fleet.world.registry.named_by
    fleet.world.registry.named_by = lambda alias, models: {  # type: ignore[method-assign]
        model: number for model, number in (hints(alias, models) or {}).items() if model != due.model
    }
    fleet.registered(due, None)
    fleet.world.clock.sleep(IDLE_LOOK_SECONDS)
    assert [name for name, _ in fleet.tick()[0].requests] == [due.name]


def test_git_that_is_down_is_asked_once_for_all_policies() -> None:
    """Its answer counts for all policies of the repository, and the tick ends; the registry is known to be well."""
    fleet = Fleet(100)
    fleet.world.git.down = "no answer in 10 s"
    seen, _, fetches = fleet.tick(WATCHING)
    assert fetches == 1
    assert len(seen.unwatched) == 100
    fleet.world.git.down = None
    assert fleet.tick()[0].unwatched == ()


def test_a_policy_that_is_never_answered_does_not_keep_others_waiting() -> None:
    """It is asked again after the others, and said in each tick."""
    fleet = Fleet(5)
    broken = next(iter(fleet.policies.values()))
    ask = fleet.world.registry.version_by_alias

    def fail(model: str, alias: str) -> object:
        if model == broken.model:
            fleet.world.registry.down = True
            try:
                ask(model, alias)
            finally:
                fleet.world.registry.down = False
        return ask(model, alias)

    fleet.world.registry.version_by_alias = fail  # type: ignore[method-assign,assignment]
    for _ in range(3):
        seen, _, _ = fleet.tick()
        assert len(seen.unwatched) == 1
        assert seen.unwatched[0].startswith(f"Policy {broken.name} waits for an answer of the model registry")
    assert fleet.cursor.memories[broken.name].named is None
    fleet.world.registry.down = True
    with pytest.raises(DependencyError):
        fleet.tick()


def test_what_is_ignored_is_said_once() -> None:
    """And again when it has changed."""
    fleet = Fleet(1)
    fleet.world.ignored = ("README.md", "old/iris.yaml.orig")
    assert fleet.tick()[0].ignored.startswith(
        "Ignored in the folder of policies: README.md, old/iris.yaml.orig. Only files named"
    )
    assert fleet.tick()[0].ignored == ""
    fleet.world.ignored = tuple(f"{number}.txt" for number in range(12))
    assert "9.txt and 2 more. Only" in fleet.tick()[0].ignored
    fleet.world.ignored = ()
    assert fleet.tick()[0].ignored == ""

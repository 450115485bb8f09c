"""How promotions ended, read from the branch and the registry of a platform in memory."""

from collections import Counter

import pytest

from orchestration.commands.requesting import request_promotion, retry_promotion
from orchestration.exporter.durations import BUCKETS, Durations, seconds_between
from orchestration.exporter.ledger import BranchRewrittenError, Ledger, Record, ask_registry, read_on
from orchestration.promotion.problems import DependencyError
from orchestration.promotion.state import State
from tests.fakes.cluster import DOWN
from tests.fakes.runs import Saboteur, promote, resume
from tests.fakes.world import POLICY_NAME, World


@pytest.fixture
def world() -> World:
    return World()


def ask(world: World, *, good: bool = True, accuracy: float = 0.9) -> int:
    """Register the next version and request its promotion, 7 s before its run begins."""
    number = world.register(accuracy).version
    if not good:
        world.bad_images.add(world.image(number))
    request_promotion(world.registry, world.clock, world.policy(POLICY_NAME), number)
    world.clock.sleep(7)
    return number


def retry(world: World, number: int) -> None:
    world.clock.sleep(1)
    policy = world.policy(POLICY_NAME)
    retry_promotion(world.registry, world.git, world.clock, policy, number, by="Jane", reason="we know why")


def read(world: World, ledger: Ledger | None = None) -> Record:
    ledger = ledger or Ledger(world.policy(POLICY_NAME))
    asked = ask_registry(ledger, world.registry, world.clock)
    return read_on(ledger, asked, world.registry, world.git, world.git.fetch())


def ends(record: Record) -> dict[str, int]:
    return {str(end): count for end, count in record.ends.items() if count}


def seconds(record: Record) -> dict[str, float]:
    """Return the sum of each kind of duration, rounded to whole seconds."""
    return {name: round(durations.total) for name, durations in record.durations.items()}


def times(record: Record) -> dict[str, int]:
    return {name: sum(durations.counts) for name, durations in record.durations.items()}


def test_a_good_version_is_timed_from_request_to_champion(world: World) -> None:
    """Each stage has its duration, and together they are the lead time."""
    assert promote(world, ask(world), "run")
    record = read(world)
    assert ends(record) == {"champion": 1}
    assert times(record) == {"commit": 1, "rollout": 1, "gate": 1, "lead": 1}
    took = seconds(record)
    assert took["commit"] == 7
    assert took["gate"] == 60
    assert abs(took["lead"] - (took["commit"] + took["rollout"] + took["gate"])) <= 1
    assert record.champion is not None
    assert record.champion.version == 1


def test_a_bad_version_is_timed_until_its_target_serves_again(world: World) -> None:
    """It is timed from its commit through its gate and rollback; it was never champion, so it has no lead time."""
    assert promote(world, ask(world), "run")
    ledger = Ledger(world.policy(POLICY_NAME))
    before = read(world, ledger)
    assert promote(world, ask(world, good=False), "run")
    record = read(world, ledger)
    assert ends(record) == {"champion": 1, "rolled_back": 1}
    assert times(record) == {"commit": 2, "rollout": 2, "gate": 2, "lead": 1, "rollback": 1, "restore": 1}
    gate = seconds(record)["gate"] - seconds(before)["gate"]
    assert seconds(record)["restore"] >= gate + seconds(record)["rollback"]


def test_a_crash_before_the_gate_has_no_gate(world: World) -> None:
    """Nothing was measured, so there is no duration of a gate, nor of a rollout that never completed."""
    number = ask(world)
    world.crashing_images.add(world.image(number))
    assert promote(world, number, "run")
    assert times(read(world)) == {"commit": 1, "rollback": 1, "restore": 1}


def test_refused_and_superseded_are_counted_without_times(world: World) -> None:
    """Such versions were never committed."""
    assert promote(world, ask(world, accuracy=0.1), "run")
    older = ask(world)
    ask(world)
    assert promote(world, older, "run")
    record = read(world)
    assert ends(record) == {"refused": 1, "superseded": 1}
    assert times(record) == {}


def test_a_champion_that_is_succeeded_was_counted_before(world: World) -> None:
    """Its request ended when it became champion; that another version took over is no second end."""
    for number in (ask(world), ask(world)):
        world.registry.set_alias(world.registry.versions["iris", number], "challenger")
        assert promote(world, number, "run")
    assert world.state(1) is State.FORMER_CHAMPION
    assert ends(read(world)) == {"champion": 2}


def test_a_version_tried_again_counts_again(world: World) -> None:
    """Each request has its own end, even though a retry overwrites the tags of the version."""
    number = ask(world, accuracy=0.1)
    for _ in range(3):
        assert promote(world, number, "run")
        retry(world, number)
    assert ends(read(world)) == {"refused": 3}


def test_each_attempt_keeps_its_times(world: World) -> None:
    """A version that was rolled back and then became champion counts as both: the second attempt hides nothing."""
    number = ask(world, good=False)
    assert promote(world, number, "run")
    before = read(world)
    retry(world, number)
    world.bad_images.clear()
    assert promote(world, number, "again")
    record = read(world)
    assert ends(record) == {"rolled_back": 1, "champion": 1}
    assert record.durations["restore"] == before.durations["restore"]
    assert times(record) == {"commit": 2, "rollout": 2, "gate": 2, "lead": 1, "rollback": 1, "restore": 1}


def test_a_foreign_revert_restores_nothing(world: World) -> None:
    """When a person put another image there before the rollback, the promotion ended, but restored nothing."""
    number = ask(world, good=False)
    manifest = world.git.commits[world.git.head].files["apps/iris.yaml"]

    def person() -> None:
        world.git.commit("Fix", {"apps/iris.yaml": manifest.replace(b":before", b":hotfix")})

    world.clock.after(3, person)
    assert promote(world, number, "run")
    record = read(world)
    assert ends(record) == {"rolled_back": 1}
    assert times(record) == {"commit": 1, "rollout": 1, "gate": 1}


@pytest.mark.parametrize("good", [True, False])
def test_a_new_ledger_comes_to_the_same(world: World, good: bool) -> None:
    """A process that starts again neither invents nor loses anything; one that keeps running counts nothing twice."""
    ledger = Ledger(world.policy(POLICY_NAME))
    for turn in range(3):
        assert promote(world, ask(world, good=good or turn == 0), "run")
        known = read(world, ledger)
        assert read(world, ledger) == known == read(world)


@pytest.mark.parametrize("bad", [False, True])
def test_a_run_killed_at_any_write_ends_once(bad: bool) -> None:
    """However often a run starts again, one request has one end, at the first moment."""
    at = 0
    while True:
        at += 1
        world = World()
        number = ask(world, good=not bad)
        ledger = Ledger(world.policy(POLICY_NAME))
        saboteur = Saboteur(world, at, after=True)
        if promote(world, number, "killed"):
            break
        saboteur.revive()
        read(world, ledger)
        resume(world, number)
        record = read(world, ledger)
        assert ends(record) == {"rolled_back" if bad else "champion": 1}
        assert times(record) == times(read(world))
    assert at > 5


def test_a_half_written_end_is_one_end(world: World) -> None:
    """Tags are written one by one: a run killed between an end's moment and its state ends once, at that moment."""
    number = ask(world)
    write, interrupted = world.registry.write_tags, list[str]()

    def half(version: object, tags: dict[str, str]) -> None:
        moment_key = next((key for key in tags if ".champion_at." in key), None)
        if moment_key is None or interrupted:
            write(version, tags)  # type: ignore[arg-type]
            return
        interrupted.append(tags[moment_key])
        write(version, {moment_key: tags[moment_key]})  # type: ignore[arg-type]
        raise DependencyError(DOWN)

    world.registry.write_tags = half  # type: ignore[method-assign,assignment]
    assert promote(world, number, "run")
    assert interrupted
    resume(world, number)
    version = world.registry.versions["iris", number]
    assert [value for key, value in version.tags.items() if ".champion_at." in key] == interrupted
    assert ends(read(world)) == {"champion": 1}


def test_a_held_promotion_is_reported_with_its_time(world: World) -> None:
    """It is reported until it ends."""
    ledger = Ledger(world.policy(POLICY_NAME))
    read(world, ledger)
    number = ask(world)
    world.argocd.on_refresh = lambda _: None
    assert promote(world, number, "run")
    held_at = world.clock.now()
    assert world.state(number) is State.HELD
    world.clock.sleep(5000)
    assert read(world, ledger).held == read(world).held == {number: pytest.approx(held_at, abs=2)}
    world.argocd.on_refresh = lambda _: world.reconcile()
    assert promote(world, number, "again")
    assert read(world, ledger).held == read(world).held == {}


def test_an_end_between_two_readings_is_found(world: World) -> None:
    """It is found even when another version has become the challenger, so that no alias leads to it."""
    ledger = Ledger(world.policy(POLICY_NAME))
    read(world, ledger)
    for _ in range(3):
        assert promote(world, ask(world, accuracy=0.1), "run")
    assert promote(world, ask(world), "run")
    assert ends(read(world, ledger)) == {"refused": 3, "champion": 1}


def test_a_reading_costs_the_same_after_many_promotions(world: World) -> None:
    """With nothing new, the registry is asked for two aliases and the last minutes, and the history is not read."""

    def cost(ledger: Ledger) -> Counter[str]:
        world.clock.sleep(15)
        world.registry.calls.clear()
        read(world, ledger)
        return Counter(world.registry.calls)

    ledgers = []
    for count in (1, 12):
        for _ in range(count):
            assert promote(world, ask(world, good=world.champion is None), "run")
        world.clock.sleep(3000)
        ledger = Ledger(world.policy(POLICY_NAME))
        read(world, ledger)
        ledgers.append(ledger)
        world.git.history = None  # type: ignore[method-assign,assignment]
        assert cost(ledger)["tagged"] <= 2
        assert cost(ledger)["version_by_alias"] == 2
        assert set(world.registry.calls) == {"tagged", "version_by_alias"}
        del world.git.history


def test_a_failed_reading_is_made_up_for(world: World) -> None:
    """What could not be read is read the next time: nothing is lost, and nothing is counted twice."""
    ledger = Ledger(world.policy(POLICY_NAME))
    assert promote(world, ask(world), "run")
    assert promote(world, ask(world, good=False), "run")
    whole = read(world)
    artifact, asked = world.registry.artifact, []

    def sometimes(run_id: str, path: str) -> bytes | None:
        asked.append(path)
        if len(asked) == 2:
            raise DependencyError(DOWN)
        return artifact(run_id, path)

    world.registry.artifact = sometimes  # type: ignore[method-assign]
    with pytest.raises(DependencyError):
        read(world, ledger)
    assert read(world, ledger) == whole


def test_a_rewritten_branch_is_reported(world: World) -> None:
    """What was read of it is void, and a new ledger reads what is left."""
    assert promote(world, ask(world), "run")
    ledger = Ledger(world.policy(POLICY_NAME))
    read(world, ledger)
    world.git.head = world.git.log[-1].id
    world.git.commit("Begin anew", {"README": b"anew\n"})
    with pytest.raises(BranchRewrittenError):
        read(world, ledger)
    record = read(world)
    assert ends(record) == {"champion": 1}
    assert times(record) == {}


def test_another_policys_promotions_are_its_own(world: World) -> None:
    """Two policies for one model share versions, but no counts."""
    assert promote(world, ask(world), "run")
    other = world.policy(POLICY_NAME).model_copy(update={"name": "iris-other"})
    record = read(world, Ledger(other))
    assert ends(record) == {}
    assert times(record) == {}


def test_foreign_and_malformed_trailers_are_ignored(world: World) -> None:
    """Another policy's promotion, a malformed id and the rollback of a promotion that never was are ignored."""
    for trailers in (
        {"Promotion-Id": "iris-other/1/0123456789ab/1", "Rollback-Of": "iris-edge/9/0123456789ab/1"},
        {"Promotion-Id": "iris-edge/0/x/1", "Requested-At": "yesterday"},
    ):
        world.git.commit("By hand", {}, trailers)
    ledger = Ledger(world.policy(POLICY_NAME))
    read(world, ledger)
    assert (ledger.committed, ledger.watched) == ({}, set())


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"promotion_id": 1, "gate_started": []}', b"[" * 100_000])
def test_malformed_evidence_has_no_times(world: World, content: bytes) -> None:
    """People who may write artifacts may write anything; the end is counted all the same."""
    assert promote(world, ask(world), "run")
    path = "incumbent/iris-edge/1-1.json"
    world.registry.artifacts["run1", path] = content
    record = read(world)
    assert ends(record) == {"champion": 1}
    assert times(record) == {"commit": 1, "lead": 1}


def test_durations_fall_into_their_buckets() -> None:
    """A duration equal to a bound is inside its bucket, and one longer than all bounds is counted last."""
    durations = Durations()
    for duration in (0.0, 1.0, 1.5, 5000.0):
        durations = durations.with_one(duration)
    assert durations.counts[:2] == (2, 1)
    assert durations.counts[-1] == 1
    assert len(durations.counts) == len(BUCKETS) + 1
    assert durations.total == 5002.5


def test_whole_seconds_make_no_negative_time() -> None:
    """Git cuts its times to whole seconds; a larger difference between clocks gives no duration."""
    assert seconds_between(10.9, 10.0) == 0.0
    assert seconds_between(11.0, 10.0) is None
    assert seconds_between(None, 10.0) is None
    assert seconds_between(10.0, 12.5) == 2.5


def test_the_last_ends_are_told_with_their_reasons(world: World) -> None:
    """The newest comes first; a champion needs no reason, and a version that is tried again has lost its own."""
    assert promote(world, ask(world), "run")
    bad = ask(world, accuracy=0.1)
    assert promote(world, bad, "run")
    ledger = Ledger(world.policy(POLICY_NAME))
    refused, champion = read(world, ledger).latest
    assert (refused.version, refused.state, champion.version, champion.state) == (
        bad,
        State.REFUSED,
        1,
        State.CHAMPION,
    )
    assert "accuracy" in refused.reason
    assert champion.reason == ""
    assert refused.at > champion.at
    retry(world, bad)
    assert promote(world, bad, "again")
    record = read(world, ledger)
    assert [(end.state, bool(end.reason)) for end in record.latest] == [
        (State.REFUSED, True),
        (State.REFUSED, False),
        (State.CHAMPION, False),
    ]
    assert record == read(world)


def test_only_ten_ends_are_told(world: World) -> None:
    """However many versions there were, the newest ten are told, by an old ledger and a new one alike."""
    ledger = Ledger(world.policy(POLICY_NAME))
    for _ in range(12):
        assert promote(world, ask(world, accuracy=0.1), "run")
        known = read(world, ledger).latest
    assert [end.version for end in known] == list(range(12, 2, -1))
    assert read(world).latest == known


def test_what_has_not_ended_is_under_way(world: World) -> None:
    """A requested challenger is under way until it ends; a version that is no challenger any more is not."""
    first, second = ask(world), ask(world)
    ledger = Ledger(world.policy(POLICY_NAME))
    (waiting,) = read(world, ledger).under_way
    assert (waiting.version, waiting.state) == (second, State.REQUESTED)
    assert world.clock.now() - waiting.since >= 7
    assert first != second
    assert promote(world, second, "run")
    assert read(world, ledger).under_way == ()

"""How kept alerts become runs: limits, pauses, dead letters, full disks and clocks that jump."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestration.adapters.outbox import SqliteOutbox, open_outbox
from orchestration.dispatcher.outbox import Entry, OutboxDamagedError, OutboxUnusableError, State
from orchestration.dispatcher.sending import HOUR, IDLE_SECONDS, Sender
from orchestration.promotion.github import NotPermittedError, RateLimitedError, RefusedError
from orchestration.promotion.problems import DependencyError, Problem
from tests.fakes.clock import FakeClock
from tests.fakes.dispatching import Counted, ScriptedGitHub, alert, configuration, drift

PROBLEM = Problem("GitHub", "a dispatch", "HTTP 500", "Wait.")


class Dispatching:
    """A sender with its outbox, clock and GitHub."""

    def __init__(self, folder: Path, **fields: Any) -> None:
        self.outbox: SqliteOutbox = open_outbox(folder)
        self.github, self.clock, self.counted, self.said = ScriptedGitHub(), FakeClock(), Counted(), list[str]()
        settings = configuration(folder, **fields)
        self.sender = Sender(
            self.outbox, self.github, settings, self.clock, self.counted, self.said.append, chance=lambda: 1.0
        )

    def arrive(self, *names: str) -> None:
        alerts = [drift() if name == "drift" else alert(name, pod=f"iris-{at}") for at, name in enumerate(names)]
        self.outbox.accept([(each, State.WAITING) for each in alerts], self.clock.now())

    def run(self, seconds: float = 0.0) -> None:
        """Step until nothing is to be done, or that much time has passed."""
        until = self.clock.now() + seconds
        while True:
            wait = self.sender.step()
            if self.clock.now() + wait > until:
                self.clock.sleep(until - self.clock.now())
                return
            self.clock.sleep(wait)

    @property
    def states(self) -> dict[State, int]:
        return {state: number for state, number in self.outbox.totals().by_state.items() if number}


@pytest.fixture
def dispatching(tmp_path: Path) -> Iterator[Dispatching]:
    made = Dispatching(tmp_path)
    yield made
    made.outbox.close()


def test_each_alert_starts_one_run(dispatching: Dispatching) -> None:
    """Several pods of one group start one each, with their own inputs, in the order of arrival."""
    dispatching.arrive("ModelPodOOMKilled", "ModelPodOOMKilled", "drift")
    dispatching.run()
    assert [inputs.get("pod_name", inputs.get("model_name")) for _, inputs in dispatching.github.asked] == [
        "iris-0", "iris-1", "iris",
    ]  # fmt: skip
    assert dispatching.states == {State.DISPATCHED: 3}
    assert dispatching.counted.by == {"ai-log-analysis.yml": 2, "ai-drift-detection.yml": 1}
    assert dispatching.sender.step() == IDLE_SECONDS


def test_a_storm_is_bounded_and_loses_nothing(dispatching: Dispatching) -> None:
    """A thousand alerts of one name start six runs in an hour; the others are kept, and other names pass."""
    dispatching.arrive(*["ModelPodNotRunning"] * 1000)
    dispatching.arrive("ModelPodOOMKilled")
    dispatching.run(HOUR - 1)
    assert len(dispatching.github.asked) == 7
    assert dispatching.states == {State.DISPATCHED: 7, State.LIMITED: 994}
    assert dispatching.counted.by["limited"] == 994
    kept = list(dispatching.outbox.entries([State.LIMITED], 1000))
    assert {entry.answer for entry in kept} == {"6 runs of this alert in an hour (limits.per_alert)"}
    assert len({entry.alert.labels["pod"] for entry in kept}) == 994


def test_the_next_run_can_say_how_many_were_kept_back(tmp_path: Path) -> None:
    """An input that asks for it gets the number of alerts since the last run of that name."""
    routes = {"*": {"workflow": "w.yml", "inputs": {"more": "not_dispatched"}}}
    dispatching = Dispatching(tmp_path, routes=routes, limits={"per_alert": 1})
    for _ in range(2):
        dispatching.arrive("A", "A", "A")
        dispatching.run(HOUR + 1)
    assert [inputs["more"] for _, inputs in dispatching.github.asked] == ["0", "2"]
    dispatching.outbox.close()


def test_all_alerts_together_are_bounded_too(tmp_path: Path) -> None:
    """However many names there are, no more runs than the limit of all start in an hour."""
    dispatching = Dispatching(tmp_path, limits={"per_hour": 10})
    dispatching.arrive(*(f"Model{number}" for number in range(100)))
    dispatching.run(HOUR - 1)
    assert len(dispatching.github.asked) == 10
    assert dispatching.states == {State.DISPATCHED: 10, State.LIMITED: 90}
    dispatching.outbox.close()


def test_refused_alerts_are_dead_letters(dispatching: Dispatching) -> None:
    """What GitHub always refuses is kept with its reason, asked for once, and in the way of no other alert."""
    dispatching.github.script += [RefusedError(PROBLEM), None]
    dispatching.arrive("ModelA", "ModelB")
    dispatching.run()
    assert dispatching.states == {State.DEAD: 1, State.DISPATCHED: 1}
    (dead,) = dispatching.outbox.entries([State.DEAD], 9)
    assert dead.answer == str(PROBLEM)
    assert dispatching.counted.by["refused"] == 1


def test_a_storm_of_refusals_is_bounded(dispatching: Dispatching) -> None:
    """A wrong workflow name is asked for six times an hour and alert name, not once per alert."""
    dispatching.github.script += [RefusedError(PROBLEM)] * 1000
    dispatching.arrive(*["ModelA"] * 1000)
    dispatching.run(HOUR - 1)
    assert len(dispatching.github.asked) == 6


@pytest.mark.parametrize(
    ("error", "reason", "pauses"),
    [
        (RateLimitedError(PROBLEM, 600.0), "rate_limited", [601.0, 601.0, 601.0]),
        (RateLimitedError(PROBLEM, 3600.0), "rate_limited", [3600.0, 3600.0, 3600.0]),
        (RateLimitedError(PROBLEM, 0.0), "rate_limited", [3.0, 5.0, 9.0, 17.0, 33.0, 65.0, 129.0, 257.0, 301.0, 301.0]),
        (NotPermittedError(PROBLEM), "not_permitted", [300.0, 300.0, 300.0]),
        (DependencyError(PROBLEM), "unavailable", [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0]),
    ],
)
def test_troubles_of_the_whole_pause_everything(
    dispatching: Dispatching, error: DependencyError, reason: str, pauses: list[float]
) -> None:
    """A limit, a wrong token or an outage stops all sending for its time; all is sent afterwards."""
    dispatching.github.script += [error] * len(pauses)
    dispatching.arrive("ModelA", "ModelB")
    moments = []
    while len(dispatching.github.asked) <= len(pauses):
        asked = len(dispatching.github.asked)
        wait = dispatching.sender.step()
        if len(dispatching.github.asked) > asked:
            moments.append(dispatching.clock.now())
        dispatching.clock.sleep(wait)
    assert [later - earlier for earlier, later in pairwise(moments)] == pauses
    dispatching.run()
    assert dispatching.states == {State.DISPATCHED: 2}
    assert dispatching.counted.by[reason] == len(pauses)
    assert dispatching.said == [str(PROBLEM)]


def test_backing_off_is_jittered(tmp_path: Path) -> None:
    """Chance shortens a wait to half of it at most."""
    dispatching = Dispatching(tmp_path)
    dispatching.sender._chance = lambda: 0.0
    dispatching.github.script.append(DependencyError(PROBLEM))
    dispatching.arrive("ModelA")
    dispatching.sender.step()
    assert dispatching.sender.step() == 1.0
    dispatching.outbox.close()


def test_an_alert_that_always_fails_is_not_in_the_way(dispatching: Dispatching) -> None:
    """After a server error, the next attempt is another alert's."""
    dispatching.github.script += [DependencyError(PROBLEM), None, DependencyError(PROBLEM), None]
    dispatching.arrive("ModelA", "ModelB")
    dispatching.run(60)
    names = [inputs["alert_name"] for _, inputs in dispatching.github.asked]
    assert names == ["ModelA", "ModelB", "ModelA", "ModelA"]


def test_what_waited_too_long_is_a_dead_letter(dispatching: Dispatching) -> None:
    """After `keep`, an alert is not analysed any more: a person finds it among the dead letters."""
    dispatching.github.script += [NotPermittedError(PROBLEM)] * 2
    dispatching.arrive("ModelA")
    dispatching.run()
    dispatching.clock.time += 15 * 24 * HOUR
    dispatching.run()
    assert dispatching.states == {State.DEAD: 1}


def test_a_route_that_was_removed_starts_nothing(tmp_path: Path) -> None:
    """An alert that waited while the configuration was changed is recorded."""
    dispatching = Dispatching(tmp_path, routes={"Else": {"workflow": "w.yml", "inputs": {}}})
    dispatching.arrive("ModelA")
    dispatching.run()
    assert dispatching.states == {State.RECORDED: 1}
    assert dispatching.github.asked == []
    dispatching.outbox.close()


@pytest.mark.parametrize("jump", [-365 * 24 * HOUR, -2 * HOUR, 2 * HOUR, 365 * 24 * HOUR])
def test_a_clock_that_jumps_stops_nothing(dispatching: Dispatching, jump: float) -> None:
    """During a pause the clock is set, back or forth; what arrives afterwards is sent within an hour."""
    dispatching.github.script.append(RateLimitedError(PROBLEM, 600.0))
    dispatching.arrive("ModelA")
    dispatching.run()
    dispatching.clock.time += jump
    dispatching.arrive("ModelB")
    dispatching.run(HOUR)
    assert State.WAITING not in dispatching.states
    assert "ModelB" in {inputs["alert_name"] for _, inputs in dispatching.github.asked}


def test_nothing_is_sent_that_cannot_be_noted(dispatching: Dispatching, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a full disk no attempt begins, since its outcome could not be kept; with room it goes on."""
    dispatching.arrive("ModelA")

    def full(_entry: Entry) -> None:
        raise OutboxUnusableError("outbox: database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(dispatching.outbox, "begin_attempt", full)
        for _ in range(3):
            assert dispatching.sender.step() > 0
    assert dispatching.github.asked == []
    assert dispatching.said == ["outbox: database or disk is full"]
    dispatching.run()
    assert dispatching.states == {State.DISPATCHED: 1}


def test_an_acknowledged_run_is_not_repeated_when_the_disk_fills_up(
    dispatching: Dispatching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the acknowledgement cannot be written, nothing else is sent until it is."""
    dispatching.arrive("ModelA", "ModelB")

    def full(*_: object) -> None:
        raise OutboxUnusableError("outbox: database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(dispatching.outbox, "end", full)
        for _ in range(5):
            dispatching.sender.step()
    assert len(dispatching.github.asked) == 1
    dispatching.run()
    assert [inputs["alert_name"] for _, inputs in dispatching.github.asked] == ["ModelA", "ModelB"]


def test_damage_ends_the_sending(dispatching: Dispatching, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not tried again and again: the process has to open the outbox anew."""

    def damaged(*_: object) -> None:
        raise OutboxDamagedError("outbox: database disk image is malformed")

    monkeypatch.setattr(dispatching.outbox, "next_due", damaged)
    with pytest.raises(OutboxDamagedError):
        dispatching.sender.step()

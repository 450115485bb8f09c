"""Counters that do not tell recorded requests from real ones: what a gate makes of any traffic, run as a whole."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from orchestration.promotion.ports import Answer, Headers
from tests.fakes.counting import CountingMetrics
from tests.fakes.runs import run_until
from tests.fakes.world import POLICY_TEXT, World

MINIMUM, BOUND, SOAK = 20, 0.8, 60
GATE = f"""
gate:
  soak: {SOAK}s
  every: 10s
  judge_within: 300s
  traffic: TRAFFIC
  requests: 'requests{{pod=~"$pods"}}[$window]'
  slos:
    - {{name: ratio, query: 'ratio{{pod=~"$pods"}}[$window]', at_least: {BOUND}, min_requests: {MINIMUM}}}
"""


@dataclass(frozen=True)
class Trace:
    """One soak's traffic, and how Prometheus sees it."""

    real: tuple[tuple[float, int, bool], ...]
    """Real requests: seconds after the rollout, the pod, and whether they are answered well."""
    every: float
    lag: float
    skew: float
    seconds_per_replay: float
    failing: frozenset[int]
    silent: frozenset[int]
    """Which recorded requests get no answer, by their number."""
    traffic: str = "replayed_ok"


@dataclass(frozen=True)
class Soak:
    """How a soak ended: its evidence, and the counters behind it."""

    evidence: Mapping[str, Any]
    metrics: CountingMetrics

    @property
    def passed(self) -> bool:
        return bool(self.evidence["verdict"] == "Passed")

    @property
    def readings(self) -> list[Mapping[str, Any]]:
        return [evaluation["slos"][0] for evaluation in self.evidence["evaluations"]]


def soak(trace: Trace, *, counts_replays: bool = True) -> Soak:
    """Promote a version whose pods get this traffic, and return what its gate measured."""
    text = POLICY_TEXT[: POLICY_TEXT.index("\ngate:")] + GATE.replace("TRAFFIC", trace.traffic)
    world = World(text)
    metrics = CountingMetrics(world.clock, trace.skew, trace.every, trace.lag, trace.failing, counts_replays)
    metrics.born = world.clock.now() - trace.every
    world.metrics = metrics
    world.register()
    run_until(world, 1, "rollout")
    assert world.cluster.status is not None
    pods = [pod.name for pod in world.cluster.status.new_pods]
    metrics.requests = {pod: [] for pod in pods}
    start = world.clock.now()
    for after, pod, well in trace.real:
        metrics.requests[pods[pod]].append((start + after, well, True))
    asked = 0

    def answer(target: str, path: str, body: bytes, headers: Headers) -> Answer:
        nonlocal asked
        asked += 1
        world.clock.sleep(trace.seconds_per_replay)
        if asked in trace.silent:
            return Answer(0, b"", 0.01, from_api=target in pods)
        metrics.answered(target if target in pods else pods[0], headers, well=True)
        (number,) = json.loads(body)["features"]
        return Answer(200, json.dumps({"prediction": number}).encode(), 0.01)

    world.cluster.respond = world.service.respond = answer
    run_until(world, 1, "serving_model")
    return Soak(json.loads(world.registry.artifacts["run1", "incumbent/iris-edge/1-1.json"]), metrics)


def real_requests(found: Soak, evaluation: Mapping[str, Any], *, from_before: bool) -> tuple[int, int]:
    """How many real requests the scrapes of an evaluation's window of real traffic saw, and how many went wrong.

    Args:
        found: the soak.
        evaluation: one of its evaluations.
        from_before: whether to count from the last scrape before the window, and not from the first one in it.
    """
    well = wrong = 0
    for pod in found.metrics.requests:
        seen = [scrape for scrape in found.metrics.scrapes(pod, real_only=True) if not scrape.failed]
        before = [scrape for scrape in seen if scrape.at <= evaluation["real_since"]]
        within = [scrape for scrape in seen if evaluation["real_since"] < scrape.at <= evaluation["at"]]
        if within:
            first = before[-1] if from_before else within[0]
            well, wrong = well + within[-1].well - first.well, wrong + within[-1].wrong - first.wrong
    return well + wrong, wrong


_NO_SHRINKING = [phase for phase in Phase if phase is not Phase.shrink]  # a whole promotion takes a tenth of a second
QUIET = Trace((), every=5, lag=0.1, skew=0, seconds_per_replay=0.1, failing=frozenset(), silent=frozenset())


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Anything from no traffic to a busy model, which may begin after the recorded requests and get worse later."""
    chance = Random(draw(st.integers(0, 2**32)))
    times = sorted(chance.uniform(chance.uniform(-20, 30), 320) for _ in range(draw(st.integers(0, 400))))
    share, worse_from = draw(st.sampled_from([0.0, 0.1, 0.25, 0.4])), chance.choice([-20, 40, 80])
    real = tuple((at, chance.randrange(2), at < worse_from or chance.random() >= share) for at in times)
    return Trace(
        real,
        every=draw(st.floats(1, 19)),
        lag=draw(st.floats(0, 1)),
        skew=draw(st.floats(-15, 15)),
        seconds_per_replay=draw(st.floats(0.01, 2)),
        failing=draw(st.frozensets(st.integers(0, 60), max_size=2)),
        silent=draw(st.frozensets(st.integers(1, 60), max_size=1)),
        traffic=draw(st.sampled_from(["replayed_ok", "real_only"])),
    )


def steady(count: int, *, wrong: int = 0, begin: float = 0.0) -> tuple[tuple[float, int, bool], ...]:
    """One real request per second to each pod in turn; the first ones are answered wrongly."""
    return tuple((begin + number, number % 2, number >= wrong) for number in range(count))


def test_real_traffic_is_judged_without_the_recorded_requests() -> None:
    """One round comes before the window and one after it; in between, the counters have real requests alone."""
    found = soak(replace(QUIET, real=steady(300)))
    assert found.passed
    assert found.readings[-1]["source"] == "real"
    rounds = [evaluation["recorded"] is not None for evaluation in found.evidence["evaluations"]]
    assert rounds == [True, *[False] * (len(rounds) - 2), True]
    last = found.evidence["evaluations"][-1]
    assert real_requests(found, last, from_before=False)[0] == found.readings[-1]["requests"]


@pytest.mark.parametrize("real", [(), steady(300)])
def test_a_slow_model_passes(real: tuple[tuple[float, int, bool], ...]) -> None:
    """Even when the last round takes longer than the time after which other evidence counts as old."""
    assert soak(replace(QUIET, real=real, seconds_per_replay=9)).passed


@pytest.mark.parametrize(("traffic", "verdict"), [("replayed_ok", "Passed"), ("real_only", "Inconclusive")])
def test_without_real_traffic_recorded_requests_stand_in_after_a_whole_soak(traffic: str, verdict: str) -> None:
    """One round has as many as the minimum needs, because rounds are rare; `real_only` waits for real requests."""
    found = soak(replace(QUIET, traffic=traffic))
    assert found.evidence["verdict"] == verdict
    if verdict == "Passed":
        assert [reading["source"] for reading in found.readings[:-1]] == ["real"] * (len(found.readings) - 1)
        assert found.readings[-1]["source"] == "real|replayed"
        assert found.readings[-1]["requests"] >= MINIMUM


@settings(max_examples=60, phases=_NO_SHRINKING)
@given(traces())
@example(
    replace(QUIET, real=steady(200, begin=12), every=10.9, skew=15)
)  # the last scrape before the replay, dated after
def test_no_version_passes_whose_real_errors_are_above_the_bound(trace: Trace) -> None:
    """With enough real requests in the window that the verdict rests on, however many recorded ones were sent.

    What counts as real never has more requests than the scrapes saw real ones since the last scrape before the window.
    """
    found = soak(trace)
    for evaluation in found.evidence["evaluations"]:
        (reading,) = evaluation["slos"]
        if evaluation["real_since"] is not None and reading["source"] == "real":
            assert reading["requests"] <= real_requests(found, evaluation, from_before=True)[0]
        if reading["source"] == "real|replayed":
            assert trace.traffic == "replayed_ok"
            assert evaluation["at"] - evaluation["real_since"] >= SOAK
    if found.passed:
        last = found.evidence["evaluations"][-1]
        assert last["at"] - last["real_since"] >= SOAK
        count, wrong = real_requests(found, last, from_before=False)
        assert count < MINIMUM or 1 - wrong / count >= BOUND
        assert count < MINIMUM or found.readings[-1]["source"] == "real"
        assert last["recorded"]["asked"] == last["recorded"]["due"] > 0


@settings(max_examples=60, phases=_NO_SHRINKING)
@given(traces())
def test_recorded_requests_change_no_verdict_where_real_traffic_suffices(trace: Trace) -> None:
    """Counters that count them give the same numbers, at each evaluation, as counters that do not.

    Each pod has answered a request before, because `increase()` begins later in a counter that begins later.
    """
    trace = replace(trace, real=((-30.0, 0, True), (-30.0, 1, True), *trace.real))
    found, without = soak(trace), soak(trace, counts_replays=False)
    both = list(zip(found.readings, without.readings, strict=False))
    # From the first evaluation in which recorded requests stand in, the two soaks need not go on alike.
    real = list(takewhile(lambda pair: {reading["source"] for reading in pair} == {"real"}, both))
    assert all(one == other for one, other in real)
    if len(real) == len(both) == max(len(found.readings), len(without.readings)):
        assert found.evidence["verdict"] == without.evidence["verdict"]

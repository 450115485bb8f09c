"""The gate: each guard has a test that fails without it."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.evaluation import (
    ANY_TRAFFIC,
    AnswerFault,
    Evaluation,
    PodFreshness,
    RecordedRound,
    SloReading,
    as_record,
    real_window_start,
)
from orchestration.promotion.gate import (
    Continue,
    ReplayDue,
    SoakAgain,
    Verdict,
    VerdictKind,
    judge,
    stale_after,
)
from orchestration.promotion.policy import GatePolicy, Slo
from orchestration.promotion.problems import Problem
from orchestration.promotion.promql import Unusable

START = 1000.0
GATE = GatePolicy.model_validate(
    {
        "soak": "60s",
        "every": "10s",
        "judge_within": "300s",
        "requests": 'sum(x{source=~"$source"})',
        "slos": [
            {"name": "success_ratio", "query": 'a{source=~"$source"}', "at_least": 0.99, "min_requests": 20},
            {"name": "memory", "query": "b", "at_most": 0.9},
            {"name": "restarts", "from": "pods", "at_most": 0},
        ],
    }
)
RATIO, MEMORY, RESTARTS = GATE.slos
DOWN = Problem("Prometheus", "an answer", "none", "Start it.")


def readings(ratio: float | Unusable = 1.0, *, requests: float = 50, memory: float = 0.5, restarts: float = 0) -> Any:
    return (
        SloReading(RATIO, ratio, requests, "real"),
        SloReading(MEMORY, memory, 0, "real"),
        SloReading(RESTARTS, restarts, 0, "pods"),
    )


def evaluation(after: float, **changes: Any) -> Evaluation:
    """A complete and good evaluation, that many seconds after the soak began."""
    at = START + after
    good = Evaluation(
        at=at,
        window=after,
        template_hash="new",
        wanted=2,
        freshness=(PodFreshness("p1", 4, at - 5), PodFreshness("p2", 4, at - 5)),
        readings=readings(),
        recorded=RecordedRound(6, 6),
        real_requests=50,
        replayed_requests=6,
    )
    return replace(good, **changes)


def decide(*evaluations: Evaluation, now: float | None = None) -> Continue | ReplayDue | SoakAgain | Verdict:
    last = evaluations[-1].at if evaluations else START
    return judge(evaluations, soak_started=START, now=last + 1 if now is None else now, gate=GATE)


def kind(*evaluations: Evaluation, now: float | None = None) -> VerdictKind | None:
    """The verdict's kind; None while there is no verdict."""
    decision = decide(*evaluations, now=now)
    return decision.kind if isinstance(decision, Verdict) else None


BAD = readings(0.5)
LATE = START + 300


def test_a_complete_good_last_evaluation_after_the_soak_passes() -> None:
    """Earlier evaluations may have gaps: the last one's window covers the whole soak."""
    assert (
        kind(evaluation(10, readings=readings(Unusable("no data", platform_fault=False))), evaluation(60))
        is VerdictKind.PASSED
    )


def test_nothing_passes_before_the_soak_is_over() -> None:
    """Both the clock and the queries' window must have covered it."""
    assert isinstance(decide(evaluation(59)), Continue)
    assert isinstance(decide(evaluation(60, window=59.0)), Continue)


def test_old_evidence_never_passes() -> None:
    """An evaluation from long ago says nothing about now (kargo#6372)."""
    assert kind(evaluation(60), now=START + 60 + 29) is VerdictKind.PASSED
    assert decide(evaluation(60), now=START + 60 + 31) == Continue("the newest evidence is 31 s old")


GAPS: dict[str, dict[str, Any]] = {
    "empty": {"readings": readings(Unusable("no data", platform_fault=False, empty=True))},
    "warnings": {"readings": readings(Unusable("an answer with warnings", platform_fault=True))},
    "too little traffic": {"readings": readings(requests=19.9)},
    "an SLO left out": {"readings": readings()[1:]},
    "no reading at all": {"readings": ()},
    "too few scrapes": {"freshness": (PodFreshness("p1", 4, START + 55), PodFreshness("p2", 2, START + 55))},
    "never scraped": {"freshness": (PodFreshness("p1", 4, START + 55), PodFreshness("p2", 4, None))},
    "stale": {"freshness": (PodFreshness("p1", 4, START + 55), PodFreshness("p2", 4, START + 39))},
    "a clock ahead": {"freshness": (PodFreshness("p1", 4, START + 55), PodFreshness("p2", 4, START + 90))},
    "a pod left out": {"freshness": (PodFreshness("p1", 4, START + 55),)},
    "no pods": {"freshness": (), "wanted": 0},
    "a dependency down": {"problems": (DOWN,)},
    "no recorded request": {"recorded": RecordedRound(0, 0)},
    "not all recorded requests": {"recorded": RecordedRound(6, 5)},
    "unanswered": {"recorded": RecordedRound(6, 6, unanswered=(AnswerFault("pod p1", "503"),))},
    "one violation": {"readings": BAD},
    "NaN that slipped through": {"readings": readings(math.nan)},
    "infinity that slipped through": {"readings": readings(math.inf)},
}


@pytest.mark.parametrize("gap", GAPS)
def test_no_guard_lets_incomplete_evidence_pass(gap: str) -> None:
    """Each of these gaps alone keeps an otherwise good evaluation from passing, and never fails the model by itself."""
    assert isinstance(decide(evaluation(60, **GAPS[gap])), Continue)
    assert kind(evaluation(60, **GAPS[gap]), now=LATE) in (VerdictKind.INCONCLUSIVE, VerdictKind.ERROR)


@pytest.mark.parametrize("gap", [gap for gap in GAPS if gap != "one violation"])
def test_incomplete_evidence_never_fails_the_model_however_often_it_comes(gap: str) -> None:
    """What could not be measured is not a violation."""
    assert kind(evaluation(50, **GAPS[gap]), evaluation(60, **GAPS[gap])) is None


def test_a_violation_is_confirmed_by_two_evaluations_in_a_row() -> None:
    """The second one stops the gate at once, before the soak is over."""
    assert kind(evaluation(20, readings=BAD)) is None
    assert kind(evaluation(20, readings=BAD), evaluation(30, readings=BAD)) is VerdictKind.FAILED
    assert kind(evaluation(20, readings=BAD), evaluation(25), evaluation(30, readings=BAD)) is None


def test_two_different_violations_in_a_row_confirm_neither() -> None:
    """A violation is confirmed only by one of the same SLO."""
    other = readings(memory=0.95)
    assert kind(evaluation(20, readings=BAD), evaluation(30, readings=other)) is None


@pytest.mark.parametrize(
    "unmet",
    [
        {"readings": readings(0.5, requests=5)},
        {"freshness": (PodFreshness("p1", 2, START + 28), PodFreshness("p2", 4, START + 28))},
        {"freshness": (PodFreshness("p1", 4, START + 28), PodFreshness("p2", 4, START + 2))},
    ],
    ids=["traffic", "samples", "stale"],
)
def test_a_violation_counts_only_with_its_minima_met(unmet: dict[str, Any]) -> None:
    """One bad request out of five proves nothing; the first increment of a new series is missed (prometheus#1673)."""
    assert kind(evaluation(20, readings=BAD), evaluation(30, **{"readings": BAD, **unmet})) is None


def test_the_same_scrape_read_twice_confirms_nothing() -> None:
    """When `every` is shorter than the scrape interval, two evaluations can see the same data."""
    first = evaluation(20, readings=BAD)
    assert kind(first, evaluation(22, readings=BAD, freshness=first.freshness)) is None


def test_restarts_need_no_scrapes() -> None:
    """They are read from the pods' status, which is not scraped."""
    crashed = readings(restarts=1)
    assert kind(evaluation(1, readings=crashed, freshness=()), evaluation(2, readings=crashed, freshness=())) is (
        VerdictKind.FAILED
    )


def test_a_wrong_recorded_answer_fails_at_once() -> None:
    """One is enough; the reason says which request it was and what was answered."""
    wrong = RecordedRound(6, 6, wrong=(AnswerFault("pod p1, recorded request 2 of 3", "expected 0, found 1"),))
    verdict = decide(evaluation(1, recorded=wrong))
    assert isinstance(verdict, Verdict)
    assert verdict.kind is VerdictKind.FAILED
    assert "recorded request 2 of 3: expected 0, found 1" in verdict.problem.found


ASKED = RecordedRound(6, 6)
WITHOUT = {"recorded": None}
"""An evaluation in which no recorded request was sent, so that the counters have real ones alone."""


def test_recorded_requests_that_were_kept_back_are_due_when_all_else_passes() -> None:
    """The round decides: it passes when it is complete, is waited for when it is not, and fails when it is wrong."""
    assert isinstance(decide(evaluation(50), evaluation(60, **WITHOUT)), ReplayDue)
    assert kind(evaluation(50, **WITHOUT), evaluation(60, recorded=ASKED)) is VerdictKind.PASSED
    assert isinstance(decide(evaluation(60, recorded=RecordedRound(6, 5))), Continue)
    wrong = RecordedRound(6, 6, wrong=(AnswerFault("pod p1", "wrong"),))
    assert kind(evaluation(60, recorded=wrong)) is VerdictKind.FAILED


def test_a_round_that_takes_long_does_not_make_its_evaluation_old() -> None:
    """A slow model could never pass, however well it answers; what counts is how long ago the round ended."""
    slow = evaluation(60, replayed_until=START + 60 + 100)
    assert kind(slow, now=START + 60 + 101) is VerdictKind.PASSED
    assert kind(slow, now=START + 60 + 100 + 31) is None


@pytest.mark.parametrize("gap", [gap for gap in GAPS if "recorded" not in GAPS[gap]])
def test_recorded_requests_are_not_due_while_anything_else_is_missing(gap: str) -> None:
    """Each of them ends the window of real traffic, which would have to begin again."""
    assert isinstance(decide(evaluation(60, **{**GAPS[gap], **WITHOUT})), Continue)
    assert isinstance(decide(evaluation(50, **WITHOUT)), Continue)


def test_recorded_requests_are_due_where_they_stand_in_and_are_too_few() -> None:
    """More of them are the only cure; when the time is over, they are none, because no window would follow."""
    few = (SloReading(RATIO, 1.0, 5, ANY_TRAFFIC), *readings()[1:])
    assert isinstance(decide(evaluation(60, readings=few, **WITHOUT)), ReplayDue)
    assert isinstance(decide(evaluation(60, readings=few, **WITHOUT, problems=(DOWN,))), Continue)
    assert kind(evaluation(299, readings=few, **WITHOUT), now=LATE) is VerdictKind.INCONCLUSIVE


def test_the_window_of_real_traffic_begins_when_each_pod_was_scraped_after_the_last_recorded_request() -> None:
    """Two seconds after it, because a counter may lag; one pod that was not scraped yet keeps the window shut."""
    ended, at = START + 10, START + 15
    assert real_window_start([], ended, [START + 13, START + 12.1], at) == at
    for newest in ([START + 13, START + 11.9], [START + 13, None], []):
        assert real_window_start([], ended, newest, at) is None
    assert real_window_start([], None, [START + 13], at) is None


def test_the_window_of_real_traffic_goes_on_until_a_recorded_request_is_sent() -> None:
    """A later scrape that fails does not end it; the next round does."""
    silent = [None]
    begun = evaluation(20, real_since=START + 15, replayed_until=START + 10)
    assert real_window_start([begun], START + 10, silent, START + 30) == START + 15
    assert real_window_start([begun], START + 21, silent, START + 30) is None


def test_a_changed_template_means_soaking_again() -> None:
    """Measurements of other pods neither pass nor fail this soak; a failure before the change stands."""
    wrong = RecordedRound(6, 6, wrong=(AnswerFault("pod x", "wrong"),))
    changed = evaluation(60, template_hash="other", recorded=wrong)
    assert decide(evaluation(50), changed) == SoakAgain("the pod template changed from new to other")
    assert decide(evaluation(50, template_hash=None)) == SoakAgain("no ReplicaSet has the current pod template")
    failed = evaluation(20, readings=BAD), evaluation(30, readings=BAD)
    assert kind(*failed, changed) is VerdictKind.FAILED
    assert kind(evaluation(50), changed, now=LATE) is VerdictKind.ERROR


def fresh(after: float, *pods: str, young: str = "") -> tuple[PodFreshness, ...]:
    """Pods with enough recent scrapes, and a young one without any if it is named."""
    complete = tuple(PodFreshness(pod, 4, START + after - 5) for pod in pods)
    return (*complete, PodFreshness(young, 0, None)) if young else complete


def test_the_gate_does_not_wait_for_a_pod_that_scaling_adds_during_the_soak() -> None:
    """The pods that the soak began with prove the version; the new pod's evidence may come after the verdict."""
    added = evaluation(60, wanted=3, freshness=fresh(60, "p1", "p2", young="p3"))
    assert kind(evaluation(50), added) is VerdictKind.PASSED
    assert kind(evaluation(50), evaluation(60, wanted=4)) is VerdictKind.PASSED


def test_the_gate_does_not_miss_pods_that_scaling_removes_during_the_soak() -> None:
    """Whether the replica count falls before the pods are gone or afterwards, and also when it rises again."""
    four = evaluation(40, wanted=4, freshness=fresh(40, "p1", "p2", "p3", "p4"))
    assert kind(four, evaluation(60)) is VerdictKind.PASSED
    assert kind(four, evaluation(60, freshness=fresh(60, "p1", "p2", "p3"))) is VerdictKind.PASSED
    again = evaluation(60, wanted=4, freshness=fresh(60, "p1", "p2", young="p5"))
    assert kind(four, evaluation(50), again) is VerdictKind.PASSED


def test_a_pod_that_replaces_another_owes_its_evidence() -> None:
    """As many pods as were wanted throughout must have complete evidence, whichever pods they are."""
    replaced = evaluation(60, freshness=fresh(60, "p1", young="p3"))
    assert isinstance(decide(evaluation(50), replaced), Continue)
    assert isinstance(decide(evaluation(50), evaluation(60, freshness=fresh(60, "p1"))), Continue)
    assert kind(evaluation(50), evaluation(60, freshness=fresh(60, "p1", "p3"))) is VerdictKind.PASSED


@pytest.mark.parametrize("silent", [PodFreshness("p2", 1, START + 12), PodFreshness("p2", 4, START + 30)])
def test_no_added_pod_stands_in_for_one_that_is_no_longer_scraped(silent: PodFreshness) -> None:
    """A pod that the soak began with owes complete evidence while it exists, and so does a pod that once gave it."""
    complete = fresh(60, "p1", "p3")
    assert isinstance(decide(evaluation(50), evaluation(60, wanted=3, freshness=(*complete, silent))), Continue)
    added = replace(silent, pod="p4", scrapes=4.0)
    more = evaluation(60, wanted=4, freshness=(*fresh(60, "p1", "p2", "p3"), replace(added, newest_at=START + 30)))
    assert isinstance(decide(evaluation(50), more), Continue)


def test_scaling_to_nothing_and_back_excuses_no_pod() -> None:
    """A replica count of zero does not lower the number of pods that must have evidence."""
    nothing = evaluation(50, wanted=0, freshness=())
    assert isinstance(decide(evaluation(40), nothing, evaluation(60, freshness=fresh(60, "p3"))), Continue)
    assert kind(evaluation(40), nothing, evaluation(60, freshness=fresh(60, "p3", "p4"))) is VerdictKind.PASSED


def test_a_violation_is_believed_while_scaling_adds_a_pod() -> None:
    """A pod that has not been scraped yet does not protect a bad version."""
    worse = [
        evaluation(after, readings=BAD, wanted=3, freshness=fresh(after, "p1", "p2", young="p3")) for after in (30, 40)
    ]
    assert kind(evaluation(20), *worse) is VerdictKind.FAILED


def test_when_time_is_over_too_little_data_is_inconclusive_and_a_dependency_down_is_an_error() -> None:
    """No data is not a pass (argo-rollouts#4479), and a metric backend that is down is not a bad release (#2866)."""
    assert kind(evaluation(290, readings=readings(requests=3)), now=LATE) is VerdictKind.INCONCLUSIVE
    assert kind(evaluation(290, readings=BAD), now=LATE) is VerdictKind.INCONCLUSIVE
    assert kind(now=LATE) is VerdictKind.ERROR
    verdict = decide(evaluation(290, problems=(DOWN,)), now=LATE)
    assert isinstance(verdict, Verdict)
    assert (verdict.kind, verdict.problem) == (VerdictKind.ERROR, DOWN)


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        ("warnings", VerdictKind.ERROR),
        ("an SLO left out", VerdictKind.ERROR),
        ("stale", VerdictKind.ERROR),
        ("a pod left out", VerdictKind.ERROR),
        ("not all recorded requests", VerdictKind.ERROR),
        ("unanswered", VerdictKind.ERROR),
        ("empty", VerdictKind.INCONCLUSIVE),
        ("too few scrapes", VerdictKind.INCONCLUSIVE),
        ("too little traffic", VerdictKind.INCONCLUSIVE),
    ],
)
def test_when_time_is_over_the_platforms_fault_is_told_from_too_little_data(gap: str, expected: VerdictKind) -> None:
    """A person is sent to the platform only where it kept the model from being judged."""
    assert kind(evaluation(60, **GAPS[gap]), now=LATE) is expected


def test_a_query_that_prometheus_refuses_is_an_error_at_once() -> None:
    """Prometheus will not accept it later either; the verdict repeats the problem, which names the SLO."""
    refused = Problem("SLO memory", "a query that Prometheus accepts", "parse error", "Correct it.")
    verdict = decide(evaluation(1, rejected=(refused,)))
    assert isinstance(verdict, Verdict)
    assert (verdict.kind, verdict.problem) == (VerdictKind.ERROR, refused)


def test_the_bound_itself_is_kept() -> None:
    """`at_least` and `at_most` include their values."""
    assert SloReading(RATIO, 0.99, 20, "real").kept
    assert SloReading(MEMORY, 0.9, 0, "real").kept
    assert not SloReading(MEMORY, 0.9000001, 0, "real").kept
    assert not SloReading(RATIO, 0.9899999, 20, "real").kept


def test_a_record_is_json_without_nan() -> None:
    """The evidence holds every number, or the reason why there is none."""
    record = as_record(evaluation(60, readings=readings(Unusable("no data", platform_fault=False)), problems=(DOWN,)))
    text = json.dumps(record, allow_nan=False)
    assert '"finding": "no data"' in text
    assert record["slos"][1] == {
        "name": "memory",
        "value": 0.5,
        "bound": "<= 0.9",
        "live_before": None,
        "requests": 0,
        "min_requests": 0,
        "source": "real",
        "finding": "kept",
    }


def relative(**fields: Any) -> Slo:
    return Slo.model_validate({"name": "latency_p95_seconds", "query": "a", "no_worse_than_live": "10%", **fields})


@pytest.mark.parametrize(
    ("fields", "live", "limit"),
    [
        ({}, 0.2, 0.22),
        ({"no_worse_than_live": 0.05}, 0.2, 0.25),
        ({"at_most": 0.21}, 0.2, 0.21),
        ({"at_most": 0.5}, 0.2, 0.22),
        ({"at_most": 0.5}, None, 0.5),
        ({}, None, None),
        ({"name": "success_ratio"}, 0.9, 0.81),
        ({"name": "success_ratio", "at_least": 0.85}, 0.9, 0.85),
        ({"name": "gain", "at_least": -5}, -2.0, -2.2),
        ({"no_worse_than_live": "0%"}, 0.2, 0.2),
    ],
)
def test_the_stricter_of_an_absolute_and_a_relative_bound_counts(
    fields: dict[str, Any], live: float | None, limit: float | None
) -> None:
    """Without a value before, the absolute bound alone; a percentage is one of the value's size, whatever its sign."""
    found = relative(**fields).limit(live)
    assert found == (pytest.approx(limit) if limit is not None else None)


def test_an_slo_with_nothing_to_compare_with_is_inconclusive() -> None:
    """It neither passes nor fails the version, however often it is measured; the finding says why."""
    gate = GATE.model_copy(update={"slos": (relative(),)})
    reading = SloReading(relative(), 9.9, 50, "real")
    both = [evaluation(after, readings=(reading,)) for after in (50, 60)]
    assert isinstance(judge(both, soak_started=START, now=START + 61, gate=gate), Continue)
    verdict = judge(both, soak_started=START, now=LATE, gate=gate)
    assert isinstance(verdict, Verdict)
    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert "the pods that served before have no value to compare with" in verdict.reason


def test_worse_than_before_is_a_violation_like_any_other() -> None:
    """Two evaluations in a row confirm it, and the reason says what it was compared with."""
    gate = GATE.model_copy(update={"slos": (relative(),)})
    worse, kept = (SloReading(relative(), value, 50, "real", live=0.2) for value in (0.23, 0.219))
    both = [evaluation(after, readings=(worse,)) for after in (50, 60)]
    verdict = judge(both, soak_started=START, now=START + 61, gate=gate)
    assert isinstance(verdict, Verdict)
    assert verdict.kind is VerdictKind.FAILED
    assert "0.23 is not <= 0.22 (0.2 before)" in verdict.reason
    good = judge([evaluation(60, readings=(kept,))], soak_started=START, now=START + 61, gate=gate)
    assert isinstance(good, Verdict)
    assert good.kind is VerdictKind.PASSED


CHANGES: Any = st.sampled_from([{}, *GAPS.values(), {"readings": readings(restarts=1)}])


def row(changes: Sequence[dict[str, Any]]) -> list[Evaluation]:
    """Evaluations every 10 s; the scrapes of a change, which are told for 60 s, are as old at each of them."""
    return [evaluation(10.0 * number, **moved(change, 10.0 * number - 60)) for number, change in enumerate(changes, 1)]


def moved(change: dict[str, Any], seconds: float) -> dict[str, Any]:
    if "freshness" not in change:
        return change
    scraped = [
        replace(pod, newest_at=None if pod.newest_at is None else pod.newest_at + seconds)
        for pod in change["freshness"]
    ]
    return {**change, "freshness": tuple(scraped)}


@given(st.lists(CHANGES, min_size=1, max_size=10), st.floats(0, 400))
def test_a_pass_always_has_a_complete_good_last_evaluation(changes: list[dict[str, Any]], wait: float) -> None:
    """Whatever came before it, and whenever the gate judges it."""
    evaluations = row(changes)
    if kind(*evaluations, now=evaluations[-1].at + wait) is VerdictKind.PASSED:
        assert changes[-1] == {}
        assert evaluations[-1].window >= GATE.soak
        assert wait <= GATE.every + stale_after(GATE)


@given(st.lists(CHANGES, min_size=1, max_size=10), st.integers(0, 9), st.floats(0, 400))
def test_making_one_evaluation_worse_never_revokes_a_failure(
    changes: list[dict[str, Any]], which: int, wait: float
) -> None:
    """The verdict is monotone: adding something bad to a failed promotion leaves it failed."""
    evaluations = row(changes)
    now = evaluations[-1].at + wait
    if kind(*evaluations, now=now) is VerdictKind.FAILED:
        worse = list(evaluations)
        worse[which % len(worse)] = replace(worse[which % len(worse)], readings=readings(0.1, restarts=3, memory=1))
        assert kind(*worse, now=now) is VerdictKind.FAILED
        assert kind(*evaluations, evaluation(200), now=START + 201) is VerdictKind.FAILED

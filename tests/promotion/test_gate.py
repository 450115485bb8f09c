"""The gate: each of its guards has a test that fails without it."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.gate import (
    AnswerFault,
    Continue,
    Evaluation,
    PodFreshness,
    RecordedRound,
    SloReading,
    SoakAgain,
    Verdict,
    VerdictKind,
    as_record,
    judge,
    stale_after,
)
from orchestration.promotion.policy import GatePolicy
from orchestration.promotion.ports import QueryRejected, QueryResult, Sample
from orchestration.promotion.problems import Problem
from orchestration.promotion.promql import Unusable, expand, read_by_pod, read_scalar

START = 1000.0
GATE = GatePolicy.model_validate(
    {
        "soak": "60s",
        "every": "10s",
        "judge_within": "300s",
        "requests": 'sum(x{source=~"$source"})',
        "slos": [
            {"name": "success_ratio", "query": "a", "at_least": 0.99, "min_requests": 20},
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
    """A whole and good evaluation, so many seconds after the soak began."""
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


def decide(*evaluations: Evaluation, now: float | None = None) -> Continue | SoakAgain | Verdict:
    last = evaluations[-1].at if evaluations else START
    return judge(evaluations, soak_started=START, now=last + 1 if now is None else now, gate=GATE)


def kind(*evaluations: Evaluation, now: float | None = None) -> VerdictKind | None:
    """The verdict's kind, None while there is none."""
    decision = decide(*evaluations, now=now)
    return decision.kind if isinstance(decision, Verdict) else None


BAD = readings(0.5)
LATE = START + 300


def test_a_whole_good_last_evaluation_after_the_soak_passes() -> None:
    """The earlier ones may have been poor: what counts is the window over the whole soak."""
    assert (
        kind(evaluation(10, readings=readings(Unusable("no data", platform_fault=False))), evaluation(60))
        is VerdictKind.PASSED
    )


def test_nothing_passes_before_the_soak_is_over() -> None:
    """Both the clock and the window must have covered it."""
    assert isinstance(decide(evaluation(59)), Continue)
    assert isinstance(decide(evaluation(60, window=59.0)), Continue)


def test_old_evidence_never_passes() -> None:
    """An evaluation of long ago is no evidence of now (kargo#6372)."""
    assert kind(evaluation(60), now=START + 60 + 29) is VerdictKind.PASSED
    assert kind(evaluation(60), now=START + 60 + 31) is None


GAPS: dict[str, dict[str, Any]] = {
    "empty": {"readings": readings(Unusable("no data", platform_fault=False, empty=True))},
    "warnings": {"readings": readings(Unusable("an answer with warnings", platform_fault=True))},
    "too little traffic": {"readings": readings(requests=19.9)},
    "an SLO left out": {"readings": readings()[1:]},
    "no reading at all": {"readings": ()},
    "too few scrapes": {"freshness": (PodFreshness("p1", 4, START + 55), PodFreshness("p2", 2, START + 55))},
    "never scraped": {"freshness": (PodFreshness("p1", 4, START + 55), PodFreshness("p2", 4, None))},
    "stale": {"freshness": (PodFreshness("p1", 4, START + 55), PodFreshness("p2", 4, START + 39))},
    "a clock ahead": {"freshness": (PodFreshness("p1", 4, START + 55), PodFreshness("p2", 4, START + 200))},
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
    """Each of these alone keeps an otherwise good evaluation from passing, and alone never fails the model."""
    assert isinstance(decide(evaluation(60, **GAPS[gap])), Continue)
    assert kind(evaluation(60, **GAPS[gap]), now=LATE) in (VerdictKind.INCONCLUSIVE, VerdictKind.ERROR)


@pytest.mark.parametrize("gap", [gap for gap in GAPS if gap != "one violation"])
def test_incomplete_evidence_never_fails_the_model_however_often_it_comes(gap: str) -> None:
    """Only a violation is one, not what could not be measured."""
    assert kind(evaluation(50, **GAPS[gap]), evaluation(60, **GAPS[gap])) is None


def test_a_violation_is_confirmed_by_two_evaluations_in_a_row() -> None:
    """At the second one the gate stops; it does not wait for the soak."""
    assert kind(evaluation(20, readings=BAD)) is None
    assert kind(evaluation(20, readings=BAD), evaluation(30, readings=BAD)) is VerdictKind.FAILED
    assert kind(evaluation(20, readings=BAD), evaluation(25), evaluation(30, readings=BAD)) is None


def test_two_different_violations_in_a_row_confirm_neither() -> None:
    """Each SLO has its own row."""
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
    """One bad request of five is no measurement; first increments of new series are missed (prometheus#1673)."""
    assert kind(evaluation(20, readings=BAD), evaluation(30, **{"readings": BAD, **unmet})) is None


def test_the_same_scrape_looked_at_twice_confirms_nothing() -> None:
    """When `every` is shorter than the scrape interval, two evaluations can see the same data."""
    first = evaluation(20, readings=BAD)
    assert kind(first, evaluation(22, readings=BAD, freshness=first.freshness)) is None


def test_restarts_need_no_scrapes() -> None:
    """They are read from the pods' status, which has no interval."""
    crashed = readings(restarts=1)
    assert kind(evaluation(1, readings=crashed, freshness=()), evaluation(2, readings=crashed, freshness=())) is (
        VerdictKind.FAILED
    )


def test_a_wrong_recorded_answer_fails_at_once() -> None:
    """It is no statistic; the reason says which request and what came."""
    wrong = RecordedRound(6, 6, wrong=(AnswerFault("pod p1, recorded request 2 of 3", "expected 0, found 1"),))
    verdict = decide(evaluation(1, recorded=wrong))
    assert isinstance(verdict, Verdict)
    assert verdict.kind is VerdictKind.FAILED
    assert "recorded request 2 of 3: expected 0, found 1" in verdict.problem.found


def test_a_changed_template_means_soaking_again() -> None:
    """What is measured of other pods neither passes nor fails this soak; what failed before it stays failed."""
    wrong = RecordedRound(6, 6, wrong=(AnswerFault("pod x", "wrong"),))
    changed = evaluation(60, template_hash="other", recorded=wrong)
    assert isinstance(decide(evaluation(50), changed), SoakAgain)
    assert isinstance(decide(evaluation(50, template_hash=None)), SoakAgain)
    failed = evaluation(20, readings=BAD), evaluation(30, readings=BAD)
    assert kind(*failed, changed) is VerdictKind.FAILED
    assert kind(evaluation(50), changed, now=LATE) is VerdictKind.ERROR


def fresh(after: float, *pods: str, young: str = "") -> tuple[PodFreshness, ...]:
    """Pods that were scraped enough and just now, and perhaps one that nobody has scraped yet."""
    whole = tuple(PodFreshness(pod, 4, START + after - 5) for pod in pods)
    return (*whole, PodFreshness(young, 0, None)) if young else whole


def test_a_pod_that_scaling_adds_in_mid_soak_is_not_waited_for() -> None:
    """Those that the soak began with prove the version; the new one's evidence may begin after the verdict."""
    added = evaluation(60, wanted=3, freshness=fresh(60, "p1", "p2", young="p3"))
    assert kind(evaluation(50), added) is VerdictKind.PASSED
    assert kind(evaluation(50), evaluation(60, wanted=4)) is VerdictKind.PASSED


def test_pods_that_scaling_takes_in_mid_soak_are_not_missed() -> None:
    """Whether the Deployment says so before its pods have gone or afterwards; and nor are those that come back."""
    four = evaluation(40, wanted=4, freshness=fresh(40, "p1", "p2", "p3", "p4"))
    assert kind(four, evaluation(60)) is VerdictKind.PASSED
    assert kind(four, evaluation(60, freshness=fresh(60, "p1", "p2", "p3"))) is VerdictKind.PASSED
    again = evaluation(60, wanted=4, freshness=fresh(60, "p1", "p2", young="p5"))
    assert kind(four, evaluation(50), again) is VerdictKind.PASSED


def test_a_pod_that_replaces_another_owes_its_evidence() -> None:
    """As many pods as were wanted throughout must be whole, whichever they are."""
    replaced = evaluation(60, freshness=fresh(60, "p1", young="p3"))
    assert isinstance(decide(evaluation(50), replaced), Continue)
    assert isinstance(decide(evaluation(50), evaluation(60, freshness=fresh(60, "p1"))), Continue)
    assert kind(evaluation(50), evaluation(60, freshness=fresh(60, "p1", "p3"))) is VerdictKind.PASSED


@pytest.mark.parametrize("silent", [PodFreshness("p2", 1, START + 12), PodFreshness("p2", 4, START + 30)])
def test_no_added_pod_stands_in_for_one_that_has_fallen_silent(silent: PodFreshness) -> None:
    """A pod that the soak began with, and is still there, must be whole itself; and an added one goes on being so."""
    whole = fresh(60, "p1", "p3")
    assert isinstance(decide(evaluation(50), evaluation(60, wanted=3, freshness=(*whole, silent))), Continue)
    added = replace(silent, pod="p4", scrapes=4.0)
    more = evaluation(60, wanted=4, freshness=(*fresh(60, "p1", "p2", "p3"), replace(added, newest_at=START + 30)))
    assert isinstance(decide(evaluation(50), more), Continue)


def test_scaling_to_nothing_and_back_excuses_no_pod() -> None:
    """No pods wanted is no measure of how many are enough."""
    nothing = evaluation(50, wanted=0, freshness=())
    assert isinstance(decide(evaluation(40), nothing, evaluation(60, freshness=fresh(60, "p3"))), Continue)
    assert kind(evaluation(40), nothing, evaluation(60, freshness=fresh(60, "p3", "p4"))) is VerdictKind.PASSED


def test_a_violation_is_believed_while_scaling_adds_a_pod() -> None:
    """A pod that nobody has scraped yet protects no bad version."""
    worse = [
        evaluation(after, readings=BAD, wanted=3, freshness=fresh(after, "p1", "p2", young="p3")) for after in (30, 40)
    ]
    assert kind(evaluation(20), *worse) is VerdictKind.FAILED


def test_when_time_is_over_too_little_data_is_inconclusive_and_a_dependency_down_is_an_error() -> None:
    """Nobody looked at, no pass (argo-rollouts#4479); a metric backend that is down is no bad release (#2866)."""
    assert kind(evaluation(290, readings=readings(requests=3)), now=LATE) is VerdictKind.INCONCLUSIVE
    assert kind(evaluation(290, readings=BAD), now=LATE) is VerdictKind.INCONCLUSIVE
    assert kind(now=LATE) is VerdictKind.ERROR
    verdict = decide(evaluation(290, problems=(DOWN,)), now=LATE)
    assert isinstance(verdict, Verdict)
    assert (verdict.kind, verdict.problem) == (VerdictKind.ERROR, DOWN)


def test_a_query_that_prometheus_refuses_is_an_error_at_once() -> None:
    """It will not be accepted later either; the problem names the policy's line."""
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
    """The evidence keeps every number and the reason where there is none."""
    record = as_record(evaluation(60, readings=readings(Unusable("no data", platform_fault=False)), problems=(DOWN,)))
    text = json.dumps(record, allow_nan=False)
    assert '"finding": "no data"' in text
    assert record["slos"][1] == {
        "name": "memory",
        "value": 0.5,
        "bound": "<= 0.9",
        "requests": 0,
        "min_requests": 0,
        "source": "real",
        "finding": "kept",
    }


CHANGES: Any = st.sampled_from([{}, *GAPS.values(), {"readings": readings(restarts=1)}])


def row(changes: Sequence[dict[str, Any]]) -> list[Evaluation]:
    return [evaluation(10.0 * number, **change) for number, change in enumerate(changes, start=1)]


@given(st.lists(CHANGES, min_size=1, max_size=10), st.floats(0, 400))
def test_a_pass_always_has_a_whole_good_last_evaluation(changes: list[dict[str, Any]], wait: float) -> None:
    """Whatever came before it, and whenever it is judged."""
    evaluations = row(changes)
    if kind(*evaluations, now=evaluations[-1].at + wait) is VerdictKind.PASSED:
        assert changes[-1] == {}
        assert evaluations[-1].window >= GATE.soak
        assert wait <= GATE.every + stale_after(GATE)


@given(st.lists(CHANGES, min_size=1, max_size=10), st.integers(0, 9), st.floats(0, 400))
def test_making_one_evaluation_worse_never_takes_a_failure_back(
    changes: list[dict[str, Any]], which: int, wait: float
) -> None:
    """The verdict is monotone: nothing bad that is added to a failed promotion makes it anything else."""
    evaluations = row(changes)
    now = evaluations[-1].at + wait
    if kind(*evaluations, now=now) is VerdictKind.FAILED:
        worse = list(evaluations)
        worse[which % len(worse)] = replace(worse[which % len(worse)], readings=readings(0.1, restarts=3, memory=1))
        assert kind(*worse, now=now) is VerdictKind.FAILED
        assert kind(*evaluations, evaluation(200), now=START + 201) is VerdictKind.FAILED


def answer(*values: float, at: float = START, **more: Any) -> QueryResult:
    return QueryResult(tuple(Sample({"pod": f"p{n}"}, value, at) for n, value in enumerate(values)), **more)


@pytest.mark.parametrize(
    ("found", "platform_fault"),
    [
        (answer(), False),
        (answer(math.nan), False),
        (answer(math.inf), False),
        (answer(-math.inf), False),
        (answer(1.0, 1.0), True),
        (answer(1.0, warnings=("partial response",)), True),
        (answer(1.0, at=START - 31), True),
        (answer(1.0, at=START + 31), True),
        (QueryRejected("parse error"), True),
    ],
    ids=["empty", "nan", "inf", "-inf", "several", "warnings", "cached", "clock-ahead", "rejected"],
)
def test_only_one_fresh_finite_number_is_an_answer(found: QueryResult | QueryRejected, platform_fault: bool) -> None:
    """Everything else is unusable, and says whose side it is on."""
    read = read_scalar(found, now=START, tolerance=30)
    assert isinstance(read, Unusable)
    assert read.platform_fault is platform_fault


def test_one_fresh_finite_number_is_read() -> None:
    """Zero is a number, too."""
    assert read_scalar(answer(0.0, at=START - 30), now=START, tolerance=30) == 0.0


def test_by_pod_each_pod_has_one_series() -> None:
    """Two scrape jobs of one pod would let one cover for the other."""
    assert read_by_pod(answer(1.0, 2.0), now=START, tolerance=30) == {"p0": 1.0, "p1": 2.0}
    twice = QueryResult((Sample({"pod": "p"}, 1.0, START), Sample({"pod": "p", "job": "b"}, 1.0, START)))
    for bad in (twice, answer(), answer(1.0, math.nan), answer(1.0, at=0)):
        assert isinstance(read_by_pod(bad, now=START, tolerance=30), Unusable)


def test_a_query_is_expanded_for_exactly_these_pods() -> None:
    """A dot of a pod's name is no wildcard, in each kind of PromQL's quotes; the window is never shorter than asked."""
    query = """x{pod=~"$pods",namespace="$namespace",source=~`$source`}[$window] $other"""
    found = expand(query, pods=["b.1-x", "a"], window=44.2, namespace="ml-apps", source="real|replayed")
    assert found == """x{pod=~"a|b[.]1-x",namespace="ml-apps",source=~`real|replayed`}[45s] $other"""
    assert expand("[$window]", pods=["a"], window=0.0, namespace="n", source="real") == "[1s]"


@pytest.mark.parametrize("pods", [[], ["a|.*"], ['a"}'], [""], ["a\n"]])
def test_no_pods_and_no_odd_name_ever_reach_a_query(pods: list[str]) -> None:
    """An empty expression would match every series that lacks the label."""
    with pytest.raises(ValueError, match="expected"):
        expand("$pods", pods=pods, window=1, namespace="n", source="real")

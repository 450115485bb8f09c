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
    AnswerFault,
    Evaluation,
    PodFreshness,
    RecordedRound,
    SloReading,
    as_record,
)
from orchestration.promotion.gate import (
    Continue,
    SoakAgain,
    Verdict,
    VerdictKind,
    judge,
    stale_after,
)
from orchestration.promotion.policy import GatePolicy
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


def decide(*evaluations: Evaluation, now: float | None = None) -> Continue | SoakAgain | Verdict:
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
        "requests": 0,
        "min_requests": 0,
        "source": "real",
        "finding": "kept",
    }


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

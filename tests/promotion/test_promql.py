"""Queries about exactly the new pods, and which of Prometheus' answers are believed."""

import math
from typing import Any

import pytest

from orchestration.promotion.ports import QueryRejected, QueryResult, Sample
from orchestration.promotion.promql import Unusable, expand, read_by_pod, read_scalar

NOW = 1000.0


def answer(*values: float, at: float = NOW, **more: Any) -> QueryResult:
    return QueryResult(tuple(Sample({"pod": f"p{n}"}, value, at) for n, value in enumerate(values)), **more)


@pytest.mark.parametrize(
    ("result", "platform_fault"),
    [
        (answer(), False),
        (answer(math.nan), False),
        (answer(math.inf), False),
        (answer(-math.inf), False),
        (answer(1.0, 1.0), True),
        (answer(1.0, warnings=("partial response",)), True),
        (answer(1.0, at=NOW - 31), True),
        (answer(1.0, at=NOW + 31), True),
        (QueryRejected("parse error"), True),
    ],
    ids=["empty", "nan", "inf", "-inf", "several", "warnings", "cached", "clock-ahead", "rejected"],
)
def test_only_one_fresh_finite_number_is_an_answer(result: QueryResult | QueryRejected, platform_fault: bool) -> None:
    """Everything else is unusable, and says whether that is the platform's fault."""
    number = read_scalar(result, now=NOW, tolerance=30)
    assert isinstance(number, Unusable)
    assert number.platform_fault is platform_fault


def test_one_fresh_finite_number_is_read() -> None:
    """Zero is a number, too, and an answer as old as the tolerance is fresh enough."""
    assert read_scalar(answer(0.0, at=NOW - 30), now=NOW, tolerance=30) == 0.0


def test_by_pod_each_pod_has_one_series() -> None:
    """Two jobs that scrape one pod have two; one answer in doubt makes all of them unusable."""
    found = read_by_pod(answer(1.0, 2.0), now=NOW, tolerance=30)
    assert not isinstance(found, Unusable)
    assert {pod: [sample.value for sample in samples] for pod, samples in found.items()} == {"p0": [1.0], "p1": [2.0]}
    twice = QueryResult((Sample({"pod": "p"}, 1.0, NOW), Sample({"pod": "p", "job": "b"}, 1.0, NOW)))
    both = read_by_pod(twice, now=NOW, tolerance=30)
    assert not isinstance(both, Unusable)
    assert len(both["p"]) == 2
    for bad in (answer(), answer(1.0, math.nan), answer(1.0, at=0)):
        assert isinstance(read_by_pod(bad, now=NOW, tolerance=30), Unusable)


def test_a_query_is_expanded_for_exactly_these_pods() -> None:
    """A dot in a pod's name is not a wildcard in any of PromQL's quotes, and the window is rounded down."""
    query = """x{pod=~"$pods",namespace="$namespace",source=~`$source`}[$window] $other"""
    expression = expand(query, pods=["b.1-x", "a"], window=44.9, namespace="ml-apps", source="real|replayed")
    assert expression == """x{pod=~"a|b[.]1-x",namespace="ml-apps",source=~`real|replayed`}[44s] $other"""
    assert expand("[$window]", pods=["a"], window=0.0, namespace="n", source="real") == "[1s]"


@pytest.mark.parametrize("pods", [[], ["a|.*"], ['a"}'], [""], ["a\n"]])
def test_neither_an_empty_list_of_pods_nor_an_odd_name_reaches_a_query(pods: list[str]) -> None:
    """An empty regular expression would match every series without the label."""
    with pytest.raises(ValueError, match="expected"):
        expand("$pods", pods=pods, window=1, namespace="n", source="real")

"""What the gate's queries say about the pods that serve now, and what of it stands in a promotion's way."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from orchestration.promotion.gate_queries import SCRAPES, ask_gate, look_at_gate
from orchestration.promotion.looks import Bearing, Look
from orchestration.promotion.policy import parse_policy
from orchestration.promotion.ports import QueryRejected, QueryResult, Sample
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import a_deployment, a_pod
from tests.fakes.metrics import FakeMetrics, Reply
from tests.fakes.world import POLICY_TEXT

POLICY = parse_policy("iris-edge", POLICY_TEXT)
IMAGE = f"ghcr.io/acme/iris@sha256:{'a' * 64}"
COUNT, UP = "max_over_time(count_over_time(up", "up{"
REAL, REPLAYED, RATIO = 'source=~"real"}[', 'source=~"replayed"}[', "ratio_of"
SEVERAL = QueryResult((Sample({"a": "1"}, 1.0, 0.0), Sample({"a": "2"}, 1.0, 0.0)))
NOTHING = QueryResult(())


def looks(
    script: Mapping[str, Reply], *, is_proved: bool = True, age: float = 3600.0
) -> tuple[Mapping[str, Look], FakeMetrics]:
    """What is found of two pods of that age, of which Prometheus says what the script changes."""
    clock = FakeClock()
    pods = tuple(replace(a_pod(name, IMAGE), created_at=clock.now() - age) for name in ("p1", "p2"))
    metrics = FakeMetrics(clock)
    usual: dict[str, Reply] = {COUNT: {"p1": 9.0, "p2": 9.0}, REAL: 40.0, REPLAYED: NOTHING, RATIO: 1.0}
    metrics.script = {**usual, **script}
    now_serving = ask_gate(POLICY, a_deployment(IMAGE, pods, namespace="ml-apps", name="iris"), metrics)
    found = look_at_gate(POLICY, now_serving, is_proved=is_proved, now=clock.now())
    return {look.what: look for look in found}, metrics


def test_what_the_champion_shows_fits() -> None:
    """Each query is asked once, and one more counts the scrapes; recorded requests need not have been sent lately."""
    found, metrics = looks({})
    others = {what for what, look in found.items() if look.bearing is not Bearing.FITS}
    assert others == {"query requests (replayed)"}
    assert found["query requests (replayed)"].bearing is Bearing.NOTED
    assert len(metrics.queries) == 4


@pytest.mark.parametrize("is_proved", [True, False])
@pytest.mark.parametrize("part", [REAL, RATIO])
@pytest.mark.parametrize("reply", [QueryRejected("parse error"), SEVERAL])
def test_a_query_that_can_never_be_read_is_refused(reply: Reply, part: str, is_proved: bool) -> None:
    """What Prometheus refuses, and what is not aggregated, is wrong for whatever serves."""
    found, _ = looks({part: reply}, is_proved=is_proved, age=1.0)
    name = "query success_ratio" if part is RATIO else "query requests (real)"
    assert found[name].bearing is Bearing.REFUSED


def test_a_doubtful_answer_is_waited_for() -> None:
    """A partial answer may be whole a moment later."""
    found, _ = looks({RATIO: QueryResult((Sample({}, 1.0, 0.0),), warnings=("a store is down",))})
    assert found["query success_ratio"].bearing is Bearing.WAITS


@pytest.mark.parametrize(
    ("is_proved", "age", "bearing"),
    [(True, 3600.0, Bearing.REFUSED), (True, 60.0, Bearing.NOTED), (False, 3600.0, Bearing.NOTED)],
)
def test_no_data_is_refused_where_there_must_be_some(is_proved: bool, age: float, bearing: Bearing) -> None:
    """A champion of more than a soak has what it was judged by; a young one or a baseline may lack it."""
    found, _ = looks({RATIO: NOTHING}, is_proved=is_proved, age=age)
    assert found["query success_ratio"].bearing is bearing


def test_a_champion_that_nobody_has_asked_yet_is_waited_for() -> None:
    """Its pods have counted nothing since they started, which no query can tell from a wrong name."""
    found, _ = looks({REAL: NOTHING, RATIO: NOTHING})
    assert found["query requests (real)"].bearing is Bearing.WAITS
    assert found["query success_ratio"].bearing is Bearing.NOTED


def test_a_ratio_of_nothing_fits() -> None:
    """Its series exist, so the query is right."""
    found, _ = looks({RATIO: float("nan")})
    assert found["query success_ratio"].bearing is Bearing.FITS


@pytest.mark.parametrize(
    ("script", "is_proved", "age", "bearing", "said"),
    [
        ({COUNT: {"p1": 9.0, "p2": 2.0}}, True, 3600.0, Bearing.REFUSED, "one each 30 s"),
        ({COUNT: {"p1": 9.0, "p2": 2.0}}, False, 3600.0, Bearing.REFUSED, "set gate.soak to 90s"),
        ({COUNT: {"p1": 9.0, "p2": 2.0}}, True, 60.0, Bearing.FITS, "at least 2x within a soak of 60 s"),
        ({COUNT: {"p1": 9.0}, UP: {"p1": 1.0}}, True, 3600.0, Bearing.REFUSED, "no such series"),
        ({COUNT: {"p1": 9.0}, UP: {"p1": 1.0}}, True, 60.0, Bearing.NOTED, "no such series"),
        ({COUNT: {"p1": 9.0}, UP: {"p1": 1.0, "p2": 0.0}}, True, 3600.0, Bearing.WAITS, "failed"),
        ({COUNT: NOTHING, UP: NOTHING}, False, 3600.0, Bearing.NOTED, "no such series"),
        ({COUNT: QueryRejected("no subqueries here")}, True, 3600.0, Bearing.NOTED, "refuses"),
    ],
)
def test_scrapes_are_counted(
    script: Mapping[str, Reply], is_proved: bool, age: float, bearing: Bearing, said: str
) -> None:
    """Scrapes too rare for a soak are refused with the numbers; a pod without any only where it must have them."""
    found, _ = looks(script, is_proved=is_proved, age=age)
    assert found[SCRAPES].bearing is bearing
    assert said in f"{found[SCRAPES].finding} {found[SCRAPES].problem}"


def test_without_ready_pods_nothing_is_asked() -> None:
    """There is nobody to ask about, and the first promotion may be the cure."""
    metrics = FakeMetrics(FakeClock())
    pods = (a_pod("p1", IMAGE, ready=False),)
    now_serving = ask_gate(POLICY, a_deployment(IMAGE, pods, namespace="ml-apps", name="iris"), metrics)
    (look,) = look_at_gate(POLICY, now_serving, is_proved=True, now=0.0)
    assert (look.bearing, metrics.queries) == (Bearing.NOTED, [])

"""The tags that keep when a request came to an end, after the state tag has gone on."""

from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.model_version import ModelVersion, policy_tags
from orchestration.promotion.moments import Moment, held_since, moment_tags, moments
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time

NOON = 1_769_860_800.0
REQUEST = "2026-01-31T12:00:00.000Z"


def version(**tags: str) -> ModelVersion:
    return ModelVersion("iris", 7, "r7", None, policy_tags("edge", tags))


def after(before: ModelVersion, state: State, now: float) -> ModelVersion:
    """The version once a session has written that state."""
    tags = {"state": str(state), **moment_tags(before, "edge", state, now)}
    return ModelVersion("iris", 7, "r7", None, {**before.tags, **policy_tags("edge", tags)})


def test_an_end_is_kept_with_its_request_and_attempt() -> None:
    """What is written is read back, under this policy alone."""
    ended = after(version(requested_at=REQUEST, attempt="2"), State.CHAMPION, NOON + 90.5)
    assert ended.tag("edge", f"champion_at.{REQUEST}") == "2026-01-31T12:01:30.500Z, attempt 2"
    assert moments(ended, "edge") == (Moment(State.CHAMPION, REQUEST, 2, NOON + 90.5),)
    assert moments(ended, "edg") == moments(ended, "edge-2") == ()


def test_the_first_time_stays() -> None:
    """A write that was cut off and is repeated, or an end that is looked at again, moves no moment."""
    first = after(version(requested_at=REQUEST), State.ROLLED_BACK, NOON)
    assert after(first, State.ROLLED_BACK, NOON + 60).tags == first.tags


def test_another_request_has_moments_of_its_own() -> None:
    """A refused version that is tried again and refused again was refused twice."""
    once = after(version(requested_at=REQUEST), State.REFUSED, NOON)
    again = {**once.tags, **policy_tags("edge", {"requested_at": format_time(NOON + 60)})}
    twice = after(ModelVersion("iris", 7, "r7", None, again), State.REFUSED, NOON + 61)
    assert [one.at for one in moments(twice, "edge")] == [NOON, NOON + 61]


def test_what_nobody_asked_for_is_kept_too() -> None:
    """A partition that was materialized by hand has no request, and neither has one whose time is no time."""
    for odd in (version(), version(requested_at="x_at.\n`'%")):
        (kept,) = moments(after(odd, State.CHAMPION, NOON), "edge")
        assert (kept.request, kept.attempt) == ("by-hand", 1)


def test_states_on_the_way_keep_nothing() -> None:
    """Only ends and held are looked back on."""
    kept = {state for state in State if moment_tags(version(), "edge", state, NOON)}
    assert kept == {State.HELD, *(state for state in State if state.is_end)}


def test_held_goes_on_while_it_is_tried_again() -> None:
    """It is `committed` whenever a run tries it again; it counts as held until its end, or a new request."""
    held = after(version(requested_at=REQUEST), State.HELD, NOON)
    assert held_since(held, "edge") == NOON
    resumed = after(held, State.COMMITTED, NOON + 30)
    assert held_since(resumed, "edge") == NOON
    assert held_since(after(resumed, State.HELD, NOON + 60), "edge") == NOON
    assert held_since(after(resumed, State.CHAMPION, NOON + 60), "edge") is None
    retried = policy_tags("edge", {"requested_at": format_time(NOON + 90), "state": "committed"})
    assert held_since(ModelVersion("iris", 7, "r7", None, {**held.tags, **retried}), "edge") is None


@given(st.dictionaries(st.text(), st.text()), st.text(), st.text())
def test_hostile_tags_are_ignored(tags: dict[str, str], state: str, value: str) -> None:
    """Anybody may write tags: what is no moment is none, and never a crash."""
    hostile = {**tags, f"incumbent.edge.{state}_at.x": value, "incumbent.edge.champion_at.": value}
    assert moments(ModelVersion("iris", 7, None, None, hostile), "edge") == ()

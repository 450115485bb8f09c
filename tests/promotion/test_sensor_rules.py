"""What the sensor remembers, and when it looks again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.model_version import ModelVersion, policy_tags, tag_key
from orchestration.promotion.sensor_rules import (
    LONGEST_PAUSE_SECONDS,
    LOOK_AGAIN_SECONDS,
    Cursor,
    Memory,
    Request,
    in_order,
    is_new,
    is_unfinished,
    may_look,
    pause_after,
    pause_between,
    read_cursor,
    unanswered,
    write_cursor,
)
from orchestration.promotion.state import State

POLICY = "iris-classifier-edge"


def version(state: str | None, **tags: str) -> ModelVersion:
    known = {"state": state, **tags} if state else tags
    return ModelVersion("iris", 7, "run", None, {tag_key(POLICY, name): value for name, value in known.items()})


@pytest.mark.parametrize("state", [None, "superseded", "nonsense"])
def test_new_challengers(state: str | None) -> None:
    """A version without a state of ours, or one that was overtaken and is named again, is a new request."""
    assert is_new(version(state), POLICY)


@pytest.mark.parametrize("state", [state for state in State if state is not State.SUPERSEDED])
def test_what_was_requested_is_no_new_challenger(state: State) -> None:
    """A version with any other state keeps the time of its request, and what has ended is not begun again."""
    assert not is_new(version(state), POLICY)


@pytest.mark.parametrize("state", ["requested", "waiting", "committed", "held", "rejected"])
def test_unfinished(state: str) -> None:
    """What goes on by itself is resumed, a rejection without its rollback included."""
    assert is_unfinished(version(state), POLICY)


@pytest.mark.parametrize("state", [str(state) for state in State if state.is_end])
def test_ends(state: str) -> None:
    """An end is never resumed."""
    assert not is_unfinished(version(state), POLICY)


def test_held_by_a_person() -> None:
    """A promotion that a person cancelled is not resumed by itself."""
    assert not is_unfinished(version("held", held_by="person"), POLICY)


TIMES = st.integers(0, 2 * 10**12).map(lambda milliseconds: milliseconds / 1000)
NUMBERS = st.integers(0, 10**6)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True),
        st.builds(Memory, st.none() | NUMBERS, TIMES, NUMBERS, TIMES, TIMES, TIMES),
    ),
    st.text(),
)
def test_cursor_round_trip(memories: dict[str, Memory], said: str) -> None:
    """What was remembered is read back, to the millisecond."""
    cursor = Cursor(memories, said)
    assert read_cursor(write_cursor(cursor)) == cursor


LOST = ["[]", "1", '{"a": 1}', '{"policies": 1}', '{"policies": {"a": [1]}}', '{"a": {"named": 1, "named_at": 1}}']


@given(st.one_of(st.none(), st.text(), st.sampled_from(LOST)))
def test_a_lost_cursor_is_an_empty_one(text: str | None) -> None:
    """No cursor, however broken or old, stops the sensor."""
    assert read_cursor(text).memories == {}


def test_who_comes_first() -> None:
    """Policies whose alias has moved, then those that are due, the longest first; what is not due is not looked at."""
    memories = {
        "moved": Memory(1, 0.0, look_at=200.0, asked_at=99.0),
        "due": Memory(1, 0.0, look_at=90.0, asked_at=50.0),
        "due-longest": Memory(1, 0.0, look_at=95.0, asked_at=40.0),
        "quiet": Memory(1, 0.0, look_at=200.0, asked_at=40.0),
        "unanswered": Memory(None, 0.0, look_at=200.0, asked_at=40.0),
    }
    hints = dict.fromkeys(memories, 1) | {"moved": 2}
    assert in_order(["new", *memories], memories, hints, 100.0, 10.0) == ["moved", "new", "due-longest", "due"]


def test_without_hints_each_policy_is_asked_when_its_time_has_come() -> None:
    """The one that was asked longest ago goes first, so that none is forgotten however many there are."""
    memories = {
        name: Memory(1, 0.0, look_at=900.0, asked_at=at) for name, at in (("a", 91.0), ("b", 85.0), ("c", 80.0))
    }
    assert in_order(memories, memories, None, 100.0, 10.0) == ["c", "b"]


def test_what_cannot_be_looked_at_is_not_the_first_again_and_again() -> None:
    """It keeps what is known of it, and waits for its turn."""
    assert unanswered(None, 100.0) == Memory(None, 100.0, look_at=100.0 + LOOK_AGAIN_SECONDS, asked_at=100.0)
    known = Memory(7, 1.0, 7, 2.0, 3.0, 4.0)
    assert unanswered(known, 100.0) == Memory(7, 1.0, 7, 100.0 + LOOK_AGAIN_SECONDS, 3.0, 100.0)


@pytest.mark.parametrize(
    ("questions", "took", "together", "pause"),
    [
        (1, 0.0, False, 1.0),
        (50, 0.0, False, 5.0),
        (1000, 0.0, False, 10.0),
        (1000, 0.1, True, 1.0),
        (1000, 0.5, True, 4.5),
    ],
)
def test_how_often_the_registry_is_asked(questions: int, took: float, together: bool, pause: float) -> None:
    """Ten questions a second, but each policy's every 10 s; a slow registry is left alone nine times as long."""
    assert pause_between(questions, took, together=together) == pause


def test_pauses_grow_and_end() -> None:
    """Each resume waits at least as long as the one before, and never longer than the longest pause."""
    pauses = [pause_after(number) for number in range(50)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


def test_when_to_look() -> None:
    """Not before the time that was remembered, but at once for another version or without a memory."""
    memory = Memory(7, 0.0, 7, 100.0)
    assert not may_look(memory, 7, 99.0)
    assert may_look(memory, 7, 100.0)
    assert may_look(memory, 8, 0.0)
    assert may_look(None, 7, 0.0)


def test_each_resume_has_its_own_run_key() -> None:
    """Dagster never starts a run key twice, so a resume must not reuse one."""
    keys = {Request(7, "2026-01-01T00:00:00.000Z", number).run_key(POLICY) for number in range(3)}
    assert len(keys) == 3


def test_the_state_is_written_last() -> None:
    """Tags are written one by one: a reader who sees a state must find its attempt and time (a retry, a request)."""
    tags = policy_tags(POLICY, {"state": "requested", "requested_at": "now", "attempt": "2"})
    assert list(tags) == [tag_key(POLICY, name) for name in ("requested_at", "attempt", "state")]

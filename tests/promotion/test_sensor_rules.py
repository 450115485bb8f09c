"""What the sensor remembers, and when it looks again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.model_version import ModelVersion, policy_tags, tag_key
from orchestration.promotion.sensor_rules import (
    LONGEST_PAUSE_SECONDS,
    Memory,
    Request,
    is_new,
    is_unfinished,
    may_look,
    pause_after,
    read_cursor,
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


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True),
        st.builds(Memory, st.integers(0, 10**6), st.floats(0, 2e9), st.integers(0, 10**6), st.floats(0, 2e9)),
    )
)
def test_cursor_round_trip(memories: dict[str, Memory]) -> None:
    """What was remembered is read back."""
    assert read_cursor(write_cursor(memories)) == memories


@given(st.one_of(st.none(), st.text(), st.sampled_from(["[]", "1", '{"a": 1}', '{"a": {"version": "x"}}'])))
def test_a_lost_cursor_is_an_empty_one(text: str | None) -> None:
    """No cursor, however broken, stops the sensor."""
    assert isinstance(read_cursor(text), dict)


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

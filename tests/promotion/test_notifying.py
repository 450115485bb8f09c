"""What people are told, and what the notification sensor remembers."""

import pytest

from orchestration.promotion.model_version import ModelVersion, policy_tags
from orchestration.promotion.notification_watch import Memory, Watched, add_untold, read_cursor, write_cursor
from orchestration.promotion.notifying import (
    Event,
    Tone,
    event_of,
    key_of,
    message_of,
    request_url,
    waits_for_approval,
)
from orchestration.promotion.state import State

POLICY = "iris-edge"


def version(**tags: str) -> ModelVersion:
    return ModelVersion("iris", 7, "run7", None, policy_tags(POLICY, tags))


def event(number: int) -> Event:
    return Event(POLICY, "iris", number, f"refused by-hand {number}", "title", "text", Tone.WARNING, 1.5)


@pytest.mark.parametrize("state", sorted(State))
def test_each_state_is_told_or_left_out(state: State) -> None:
    """Ends and holds are told; what goes on by itself, and a champion that is no longer needed, is not."""
    told = event_of(version(state=state), POLICY, seen="", since=0.0, now=1.0)
    silent = {"requested", "waiting", "committed", "rejected", "former_champion"}
    assert (told is None) is (state in silent)


@pytest.mark.parametrize(
    ("state", "reason", "waits"),
    [
        ("waiting", "version 7: expected 2 approvals, found 1. Approve it.", True),
        ("waiting", "It needs to be approved by someone else.", True),
        ("waiting", "image v7 is not published yet", False),
        ("waiting", "", False),
        ("refused", "no approval came in time", False),
    ],
)
def test_a_wait_for_approval_is_known_by_its_reason(state: str, reason: str, waits: bool) -> None:
    """Only the state `waiting` counts."""
    assert waits_for_approval(version(state=state, reason=reason), POLICY) is waits


def test_the_next_attempt_is_another_event() -> None:
    """So is the next request; the same one always has the same key, whatever else was written."""
    first = version(state="refused", requested_at="2026-01-01T00:00:00.000Z", reason="one")
    key = key_of(first, POLICY)
    assert key == key_of(ModelVersion("iris", 7, None, None, {**first.tags, "other": "tag"}), POLICY)
    assert key != key_of(version(state="refused", requested_at="2026-01-01T00:00:00.000Z", attempt="2"), POLICY)
    assert key != key_of(version(state="refused", requested_at="2026-01-02T00:00:00.000Z"), POLICY)


def test_a_text_from_the_registry_stays_a_text() -> None:
    """It is one line of bounded length, without secrets or control characters (design rule 9)."""
    reason = "first\r\nSubject: forged\0\ud800 \x1b[31m https://me:s3cr3t@host/ " + "x" * 9000
    told = event_of(version(state="held", reason=reason), POLICY, seen="", since=0.0, now=1.0)
    assert told is not None
    body = message_of(told, {}).body
    assert "s3cr3t" not in body
    assert body.splitlines()[0].startswith("first Subject: forged")
    assert len(body) < 2000
    assert all(line.isprintable() for line in body.splitlines())


def test_a_message_names_its_pages_and_its_time() -> None:
    """One line each, and no line for a page that is not known."""
    assert message_of(event(7), {"Version": "http://registry/7"}).body.splitlines() == [
        "text",
        "Version: http://registry/7",
        "Time: 1970-01-01T00:00:01.500Z",
    ]


def test_a_cursor_is_read_as_it_was_written() -> None:
    """With everything that it remembers."""
    watched = Watched("iris", {7: "refused by-hand 1"}, 3, 2, 8.5, "abc")
    memory = Memory(5.0, {POLICY: watched}, (event(7),))
    assert read_cursor(write_cursor(memory), 99.0) == memory


@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", '{"since": 1}', '{"since":1,"policies":[],"untold":[]}'])
def test_a_cursor_of_another_form_counts_as_none(text: str | None) -> None:
    """The watch then begins now."""
    assert read_cursor(text, 99.0) == Memory(99.0)


def test_what_waits_to_be_told_is_bounded() -> None:
    """Each event waits once; beyond the bound, the oldest are given up."""
    untold = add_untold((), tuple(event(number) for number in range(1, 301)))
    assert len(untold) == len(add_untold(untold, untold)) == 200
    assert untold[-1] == event(300)


URL = "https://git.example/acme/gitops/pull/3"


@pytest.mark.parametrize(
    ("asked", "state", "title"),
    [
        ("merge_of_promotion", "waiting", "version 7 waits for the merge of its pull request"),
        ("merge_of_rollback", "rejected", "version 7 serves until its rollback is merged"),
        ("merge_of_rollback", "held", "version 7 serves until its rollback is merged"),
        ("merge_of_return", "former_champion", "the return to version 7 waits for its merge"),
        ("merge_of_promotion", "requested", None),
        ("merge_of_rollback", "rolled_back", "version 7 was rolled back"),
        ("merge_of_something", "waiting", None),
    ],
)
def test_a_wait_for_a_merge_is_told(asked: str, state: str, title: str | None) -> None:
    """In the states in which a version can wait for it; a tag that is left over from before says nothing."""
    told = event_of(version(state=state, waits_for_merge=f"{asked} {URL}"), POLICY, seen=None, since=0.0, now=9.0)
    if state == "rolled_back":
        told = event_of(version(state=state, waits_for_merge=f"{asked} {URL}"), POLICY, seen="", since=0.0, now=9.0)
    assert (told.title if told is not None else None) == (f"{POLICY}: {title}" if title else None)


def test_a_return_is_told_although_its_version_ended_long_ago() -> None:
    """What is asked now is new, whenever the version became champion."""
    asked = version(state="former_champion", waits_for_merge=f"merge_of_return {URL}")
    told = event_of(asked, POLICY, seen=None, since=100.0, now=200.0)
    assert told is not None
    assert told.at == 200.0
    assert request_url(asked, POLICY) == URL


def test_a_merge_is_told_again_only_when_something_new_is_asked() -> None:
    """Another request, or a conflict that a person must solve; not another reason for the same request."""

    def key(asked: str, reason: str = "") -> str:
        return key_of(version(state="waiting", waits_for_merge=f"merge_of_promotion {asked}", reason=reason), POLICY)

    assert key(URL) == key(URL, "open until tomorrow")
    assert len({key(URL), key(f"{URL} conflict"), key(URL.replace("3", "4"))}) == 3
    assert "merge_of" not in key(f"{URL} forged; key"), "it would be taken for two keys"

"""Which issue is an alert's own: by a hidden first line, in texts of our own account."""

from dataclasses import replace

import pytest

from orchestration.analysis.issues import LABEL, is_ours, key_of, last_state, marker, read_marker
from orchestration.promotion.github import Comment, Issue

KEY = key_of("alert", "Down", "k3d", "ml-apps", "iris")
ISSUE = Issue(7, "Down", f"{marker(KEY, {'Phase': 'Running'})}\n\ntext", True, (LABEL,), "url", "incumbent[bot]")


def test_our_open_issue_is_found() -> None:
    """By account, label, state and key together."""
    assert is_ours(ISSUE, KEY, "incumbent[bot]")


@pytest.mark.parametrize(
    "other",
    [
        replace(ISSUE, author="mallory"),
        replace(ISSUE, author=""),
        replace(ISSUE, labels=()),
        replace(ISSUE, is_open=False),
        replace(ISSUE, body=f"as they say:\n{ISSUE.body}"),
        replace(ISSUE, body=f" {ISSUE.body}"),
        replace(ISSUE, body=ISSUE.body.replace(KEY, key_of("alert", "Down", "k3d", "ml-apps", "wine"))),
        replace(ISSUE, body=""),
    ],
)
def test_any_other_issue_is_not(other: Issue) -> None:
    """An issue is not ours if somebody else made it, or if the marker is not its first line."""
    assert not is_ours(other, KEY, "incumbent[bot]")


def test_keys_of_distinct_alerts_differ() -> None:
    """No choice of names makes two alerts share an issue."""
    assert key_of("alert", "a", "b") != key_of("alert", "a b") != key_of("alert", "a", "b", "")


def test_the_newest_of_our_comments_has_the_state() -> None:
    """A comment by somebody else with a marker says nothing."""
    comments = [
        Comment(1, marker(KEY, {"Phase": "Pending"}), "incumbent[bot]", ""),
        Comment(2, marker(KEY, {"Phase": "Forged"}), "mallory", ""),
        Comment(3, marker(key_of("other"), {"Phase": "Other"}), "incumbent[bot]", ""),
        Comment(4, "no marker", "incumbent[bot]", ""),
    ]
    assert last_state(ISSUE, comments, "incumbent[bot]") == {"Phase": "Pending"}
    assert last_state(ISSUE, [], "incumbent[bot]") == {"Phase": "Running"}


def test_a_state_of_any_text_stays_within_its_line() -> None:
    """Hostile values end neither the comment nor the line, and are cut."""
    state = {f"{number} --> @octocat": "-->\n<img>" * 1000 for number in range(100)}
    line = marker(KEY, state)
    assert "\n" not in line
    assert line.count("-->") == 1
    assert len(line) < 4200
    read = read_marker(line + "\n\nbody")
    assert read is not None
    assert read.key == KEY


def test_no_secret_is_hidden_in_a_marker() -> None:
    """What is not shown is not kept either."""
    read = read_marker(marker(KEY, {"Image": "https://bot:hunter2@registry/iris"}))
    assert read is not None
    assert read.state == {"Image": "https://registry/iris"}


@pytest.mark.parametrize("state", ["!!!!", "AAAA", "bnVsbA==", "WzFd", "eyJhIjogMX0="])
def test_an_unreadable_state_is_an_empty_one(state: str) -> None:
    """The issue is still found."""
    read = read_marker(f"<!-- incumbent {KEY} {state} -->")
    assert read is None or (read.key, dict(read.state)) == (KEY, {})

"""How the issue of an alert is found again: a hidden first line with the alert's key, in texts of our own account.

Only the first line counts, and only in what the same account wrote under our label: the body of such an issue begins
with it, so a text from outside can never stand there.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestration.promotion.github import Comment, Issue
from orchestration.promotion.redact import redact
from orchestration.promotion.texts import read_json_object

LABEL = "incumbent-alert"
"""The label of every issue; GitHub creates it with the first one."""
_MARKER = re.compile(r"<!-- incumbent (?P<key>[0-9a-f]{32}) (?P<state>[A-Za-z0-9+/]{2,4000}={0,2}) -->")
_VALUE_CHARACTERS = 120
_VALUES = 20


@dataclass(frozen=True)
class Marked:
    """What a marker says."""

    key: str
    state: Mapping[str, str]


def key_of(*parts: str) -> str:
    """Return the key of what an issue is about; distinct parts never share one."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def marker(key: str, state: Mapping[str, str]) -> str:
    """Write the hidden line, without secrets; the state is cut to what fits."""
    values = ((name, redact(value)) for name, value in list(state.items())[:_VALUES])
    kept = {name[:_VALUE_CHARACTERS]: value[:_VALUE_CHARACTERS] for name, value in values}
    encoded = base64.b64encode(json.dumps(kept).encode()).decode()
    return f"<!-- incumbent {key} {encoded if len(encoded) <= 4000 else base64.b64encode(b'{}').decode()} -->"


def read_marker(text: str) -> Marked | None:
    """Read the marker of an issue or a comment; None when its first line is none."""
    match = _MARKER.fullmatch(text.partition("\n")[0].rstrip("\r"))
    if match is None:
        return None
    try:
        document = read_json_object(base64.b64decode(match["state"], validate=True))
    except ValueError:
        document = {}
    return Marked(match["key"], {name: value for name, value in document.items() if isinstance(value, str)})


def is_ours(issue: Issue, key: str, author: str) -> bool:
    """Whether an issue is the open one of that key, made by our account and with our label."""
    marked = read_marker(issue.body)
    mine = issue.is_open and issue.author == author and LABEL in issue.labels
    return mine and marked is not None and marked.key == key


def last_state(issue: Issue, comments: Iterable[Comment], author: str) -> Mapping[str, str]:
    """Return what the newest of our texts on an issue says was the state then."""
    first = read_marker(issue.body)
    state = first.state if first is not None else {}
    for comment in comments:
        marked = read_marker(comment.body) if comment.author == author else None
        if marked is not None and first is not None and marked.key == first.key:
            state = marked.state
    return state

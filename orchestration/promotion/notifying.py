"""What people are told about promotions and policies, and in which words."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from orchestration.promotion.identity import partition_key
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.moments import moments, request_of
from orchestration.promotion.problems import Problem
from orchestration.promotion.pull_requests import MERGE_TAG, UNMERGED_RETURN, MergeOf
from orchestration.promotion.redact import redact
from orchestration.promotion.sensor_rules import is_held_by_person
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time

APPROVAL = "approval"
"""In a key: a wait for a person's approval, which is told, unlike other waits."""
_MERGES: Mapping[str, Callable[[State], bool]] = {
    MergeOf.PROMOTION: lambda state: state is State.WAITING,
    MergeOf.ROLLBACK: lambda state: state.is_under_way_on_branch,
    MergeOf.RETURN: lambda state: state.is_end,
    UNMERGED_RETURN: lambda state: state.is_end,
}
"""In which states a version may wait for the merge of a request, or have waited: in others the tag is an old one."""
_ASKED = re.compile(rf"(?P<what>{'|'.join(_MERGES)}) (?P<url>\S{{1,500}})(?: conflict)?")
WAITS = (APPROVAL, *MergeOf)
"""In a key: a wait for what a person must do."""
_APPROVAL_WORDS = re.compile(r"(?i)\bapprov(?:e|ed|al|als)\b")
_LONGEST_REASON = 1500
_SEPARATOR = "; "
_MOST_TOLD = 10


class Tone(StrEnum):
    """How urgent a message is; many destinations show it as a colour or an icon."""

    SUCCESS = "success"
    INFO = "info"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True)
class Message:
    """A notification as it is sent: plain text, the title on one line."""

    title: str
    body: str
    tone: Tone


@dataclass(frozen=True)
class Event:
    """Something that people are told once; plain values, because the sensor's cursor keeps it until it was told."""

    policy: str
    model: str
    """The version's model; empty for an event of the policy itself."""
    version: int
    """The version that it is about; 0 for an event of the policy itself."""
    key: str
    """State, time of the request and attempt; the same event always has the same key."""
    title: str
    text: str
    tone: Tone
    at: float
    """When it happened or was noticed, in seconds since the epoch."""
    run_url: str = ""
    """The page of the run in Dagster; empty when it is not known."""

    @property
    def id(self) -> str:
        """The key with what it is about, which no other event has."""
        return f"{partition_key(self.policy, self.version)} {self.key}"


_TITLES: Mapping[str, tuple[str, Tone]] = {
    State.CHAMPION: ("version {version} is the champion", Tone.SUCCESS),
    State.REFUSED: ("version {version} was refused", Tone.WARNING),
    State.SUPERSEDED: ("version {version} was superseded", Tone.INFO),
    State.ROLLED_BACK: ("version {version} was rolled back", Tone.FAILURE),
    State.HELD: ("version {version} is held", Tone.FAILURE),
    APPROVAL: ("version {version} waits for approval", Tone.WARNING),
    MergeOf.PROMOTION: ("version {version} waits for the merge of its pull request", Tone.WARNING),
    MergeOf.ROLLBACK: ("version {version} serves until its rollback is merged", Tone.FAILURE),
    MergeOf.RETURN: ("the return to version {version} waits for its merge", Tone.WARNING),
    UNMERGED_RETURN: ("the return to version {version} was not merged in time", Tone.WARNING),
}
"""What is told of a version, by the first word of its key."""


def waits_for_approval(version: ModelVersion, policy: str) -> bool:
    """Return whether a version waits for a person's approval: of the waits without a request, only this needs one."""
    reason = version.tag(policy, "reason") or ""
    return version.state(policy) is State.WAITING and _APPROVAL_WORDS.search(reason) is not None


def merge_asked(version: ModelVersion, policy: str) -> str:
    """Return what people are, or were, asked to merge, as the version's tag says it; empty without such a request."""
    state, asked = version.state(policy), _ASKED.fullmatch(version.tag(policy, MERGE_TAG) or "")
    return asked[0] if state is not None and asked is not None and _MERGES[asked["what"]](state) else ""


def request_url(version: ModelVersion, policy: str) -> str:
    """Return the address of the request whose merge a version waits for, or did; empty when there is none."""
    asked = _ASKED.fullmatch(merge_asked(version, policy))
    return asked["url"] if asked is not None and asked["url"].startswith(("https://", "http://")) else ""


def key_of(version: ModelVersion, policy: str) -> str:
    """Return the key of what a version's tags say now; empty when it has no state under the policy."""
    state = version.state(policy)
    if state is None:
        return ""
    asked = merge_asked(version, policy)  # a new request, or a conflict that people must solve, is told anew
    word = asked or (APPROVAL if waits_for_approval(version, policy) else state)
    return f"{word} {request_of(version, policy)} {version.attempt(policy)}"


def is_told(version: ModelVersion, policy: str, key: str) -> bool:
    """Return whether the version tag `notified` says that this was told, by whichever process."""
    return key in _told(version, policy)


def told_tags(version: ModelVersion, policy: str, key: str) -> dict[str, str]:
    """Return the tag that says what was told last, newest first, with this before what it said already."""
    return {"notified": _SEPARATOR.join([key, *_told(version, policy)][:_MOST_TOLD])}


def _told(version: ModelVersion, policy: str) -> list[str]:
    return (version.tag(policy, "notified") or "").split(_SEPARATOR)[:_MOST_TOLD]


def event_of(version: ModelVersion, policy: str, *, seen: str | None, since: float, now: float) -> Event | None:
    """Return what is to be told of a version; None when there is nothing, or nothing new.

    An end that was not seen to come counts as new only when it came after the sensor first looked.

    Args:
        version: The version, as just read.
        policy: The policy's name.
        seen: The version's key at an earlier look; None when this is the first.
        since: When the sensor first looked, in seconds since the epoch.
        now: The present.
    """
    key = key_of(version, policy)
    told_as = _TITLES.get(key.partition(" ")[0])
    if told_as is None or key == seen or is_told(version, policy, key):
        return None
    state, waits = version.state(policy), key.partition(" ")[0] in (*WAITS, UNMERGED_RETURN)
    ended_at = None if waits else _ended_at(version, policy)
    if state is not None and state.is_end and not waits and seen is None and (ended_at or 0.0) < since:
        return None
    title, tone = told_as
    by_person = " by a person" if is_held_by_person(version, policy) else ""
    title = f"{policy}: {title.format(version=version.version)}{by_person}"
    return Event(policy, version.model, version.version, key, title, _text(version, policy), tone, ended_at or now)


def broken_policy(policy: str, problem: Problem, now: float) -> Event:
    """Return the event of a policy that cannot be used as it stands."""
    text = f"No version is promoted under it until it is corrected. {_shown(str(problem))}\n"
    title = f"{policy}: the policy cannot be used"
    return Event(policy, "", 0, f"broken {problem.fingerprint}", title, text, Tone.FAILURE, now)


def mended_policy(policy: str, problem_fingerprint: str, now: float) -> Event:
    """Return the event of a policy that can be used again."""
    title, text = f"{policy}: the policy can be used again", "Its versions are promoted as before.\n"
    return Event(policy, "", 0, f"mended {problem_fingerprint} {format_time(now)}", title, text, Tone.SUCCESS, now)


def message_of(event: Event, links: Mapping[str, str]) -> Message:
    """Return the message that tells of an event.

    Args:
        event: What happened.
        links: Addresses of pages about it, by what they show.
    """
    pages = {**links, **({"Run": event.run_url} if event.run_url else {})}
    lines = (f"{name}: {address}" for name, address in pages.items())
    return Message(event.title, "\n".join((event.text, *lines, f"Time: {format_time(event.at)}")), event.tone)


def _text(version: ModelVersion, policy: str) -> str:
    reason = _shown(version.tag(policy, "reason") or "")
    if not reason and version.state(policy) is State.CHAMPION:
        reason = "It has proved healthy and serves."
    return f"{reason}\n\nModel: {_shown(version.model)}, version {version.version}".lstrip()


def _ended_at(version: ModelVersion, policy: str) -> float | None:
    """Return when the present request reached its present state; None when no tag keeps that."""
    for moment in moments(version, policy):
        same_request = moment.request == request_of(version, policy) and moment.attempt == version.attempt(policy)
        if moment.state is version.state(policy) and same_request:
            return moment.at
    return None


def _shown(text: str) -> str:
    """Return a text from the registry as one line without secrets, cut off where it is no longer readable."""
    line = redact(" ".join("".join(mark if mark.isprintable() else " " for mark in text).split()))
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} ..."

"""What the notification sensor remembers between ticks, and how it finds what people have not been told yet."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from orchestration.promotion.model_version import ModelVersion, tag_key
from orchestration.promotion.notifying import (
    WAITS,
    Event,
    Tone,
    broken_policy,
    event_of,
    key_of,
    mended_policy,
)
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Registry
from orchestration.promotion.problems import Problem
from orchestration.promotion.pull_requests import MERGE_TAG, UNMERGED_RETURN, MergeOf
from orchestration.promotion.state import State

LOOK_AROUND_SECONDS = 30.0
"""How often versions other than the challenger are looked at, so that a quiet tick asks one question per policy."""
_MOST_UNTOLD = 200
"""How many events wait for a destination that is down; the oldest are given up first."""


@dataclass(frozen=True)
class Watched:
    """What is remembered of one policy."""

    model: str = ""
    seen: Mapping[int, str] = field(default_factory=dict)
    """The key that a version had when it was last looked at, for those that are looked at again."""
    champion: int = 0
    former: int = 0
    """The champion before: a person who returns to another version leaves it as rolled back."""
    look_around_at: float = 0.0
    broken: str = ""
    """The fingerprint of the policy's problem; empty while it can be used."""


@dataclass(frozen=True)
class Memory:
    """The sensor's cursor. When it is lost, nothing is told twice, and ends from before are not told any more."""

    since: float
    """When the sensor first looked; what ended before is not told."""
    policies: Mapping[str, Watched] = field(default_factory=dict)
    untold: tuple[Event, ...] = ()
    """What was noticed and is not delivered yet, oldest first."""


def watch(
    registry: Registry, policy: Policy, before: Watched, since: float, now: float
) -> tuple[tuple[Event, ...], Watched]:
    """Look at the versions of a policy that something may have happened to.

    The challenger is looked at each time. The champion, the one before, what is held and what has not ended yet are
    looked at now and then, because only a person's acts or a promotion in CI go on without being the challenger.

    Returns:
        What is to be told, and what to remember.
    """
    if before.model != policy.model:
        before = Watched(policy.model, broken=before.broken)
    challenger = registry.version_by_alias(policy.model, policy.challenger_alias)
    versions = {} if challenger is None else {challenger.version: challenger}
    seen, champion, former, look_around_at = dict(before.seen), before.champion, before.former, before.look_around_at
    if now >= before.look_around_at:
        look_around_at = now + LOOK_AROUND_SECONDS
        crowned = registry.version_by_alias(policy.model, policy.champion_alias)
        if crowned is not None and crowned.version != champion:
            if champion:
                seen.setdefault(crowned.version, "")  # the alias was seen to move
            champion, former = crowned.version, champion
        others = {*(number for number, key in seen.items() if not _is_over(key)), former} - {0}
        versions |= _around(registry, policy, crowned, others - versions.keys())
        seen = {number: key for number, key in seen.items() if number in versions or _is_over(key)}
    found = (
        event_of(version, policy.name, seen=seen.get(number), since=since, now=now)
        for number, version in versions.items()
    )
    events = tuple(event for event in found if event is not None)
    seen |= {number: key_of(version, policy.name) for number, version in versions.items()}
    lasting = {champion, former, challenger.version if challenger else 0}
    kept = {number: key for number, key in seen.items() if number in lasting or not _is_over(key)}
    return events, Watched(policy.model, kept, champion, former, look_around_at, before.broken)


def _around(
    registry: Registry, policy: Policy, champion: ModelVersion | None, others: set[int]
) -> dict[int, ModelVersion]:
    held = registry.tagged(tag_key(policy.name, "state"), State.HELD)
    asked: tuple[ModelVersion, ...] = ()
    if policy.delivery.pull_request is not None:  # what people are to take back or bring back need not have an alias
        merges = (MergeOf.ROLLBACK, MergeOf.RETURN, UNMERGED_RETURN)
        asked = tuple(each for what in merges for each in registry.tagged(tag_key(policy.name, MERGE_TAG), what))
    every = (*held, *asked, champion)
    named = (version for version in every if version is not None and version.model == policy.model)
    around = {version.version: version for version in named}
    for number in sorted(others - around.keys()):
        version = registry.version(policy.model, number)
        if version is not None:
            around[number] = version
    return around


def _is_over(key: str) -> bool:
    """Return whether a version with that key is left alone from now on; one without a state is not waited for."""
    word = key.partition(" ")[0]
    return word not in WAITS and (word not in set(State) or State(word).is_end)


def found_broken(policy: str, before: Watched, problem: Problem, now: float) -> tuple[tuple[Event, ...], Watched]:
    """Return what is to be told of a policy that cannot be used: each distinct problem once."""
    events = () if problem.fingerprint == before.broken else (broken_policy(policy, problem, now),)
    return events, replace(before, broken=problem.fingerprint)


def found_usable(policy: str, before: Watched, now: float) -> tuple[tuple[Event, ...], Watched]:
    """Return what is to be told of a policy that can be used: that it was broken, if it was."""
    events = (mended_policy(policy, before.broken, now),) if before.broken else ()
    return events, replace(before, broken="")


def add_untold(untold: tuple[Event, ...], new: tuple[Event, ...]) -> tuple[Event, ...]:
    """Add events that were noticed, each once."""
    known = {event.id for event in untold}
    return (*untold, *(event for event in new if event.id not in known))[-_MOST_UNTOLD:]


def read_cursor(text: str | None, now: float) -> Memory:
    """Parse a cursor; an unreadable one counts as none, and then the watch begins now."""
    try:
        raw: Any = json.loads(text or "")
        policies = {
            str(name): Watched(
                str(watched["model"]),
                {int(number): str(key) for number, key in watched["seen"].items()},
                int(watched["champion"]),
                int(watched["former"]),
                float(watched["look_around_at"]),
                str(watched["broken"]),
            )
            for name, watched in raw["policies"].items()
        }
        untold = tuple(Event(**{**event, "tone": Tone(event["tone"])}) for event in raw["untold"])
        return Memory(float(raw["since"]), policies, untold)
    except (ValueError, TypeError, KeyError, AttributeError):
        return Memory(now)


def write_cursor(memory: Memory) -> str:
    """Return the cursor of a memory: the same for the same memory."""
    return json.dumps(asdict(memory), separators=(",", ":"), sort_keys=True)

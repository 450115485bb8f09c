"""What the sensor decides at a tick; pure, so that the whole table of cases can be tested."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time, parse_time

FIRST_LOOK_SECONDS = 20.0
"""How long a requested run may take to write its first sign of life (7 s were measured from request to start)."""
LOOK_AGAIN_SECONDS = 5.0
ASK_SECONDS = 1.0
"""How often the registry is asked, at the most, while a tick keeps watching."""
RAREST_SECONDS = 10.0
QUESTIONS_A_SECOND = 10.0
"""How many questions a second the registry is asked on average, as long as each policy has one every 10 s."""
WAITING_SHARE = 9.0
"""How many times as long as the questions took the next ones wait, so that a slow registry is not kept busy by us."""
REQUEST_LOOK_SECONDS = 30.0
"""How often a pull request is looked at that is waited for: 120 of the 5000 requests that GitHub allows in an hour."""
IDLE_LOOK_SECONDS = 60.0
"""How often the branch is looked at while nothing is under way: a return that a command began may be unfinished."""
IMAGE_LOOK_SECONDS = 60.0
"""How often the image of a version that waits for approval is resolved anew: its tag may be pushed again."""
LONGEST_PAUSE_SECONDS = 120.0
LONGEST_START_SECONDS = 300.0
"""How long a run may take from its request to its process, on a machine that is very busy."""
FIRST_SIGN_SECONDS = 60.0
"""How long a run may take to its first sign of life, from when it has a process."""
SIGN_OF_LIFE_SECONDS = 20.0
"""How often a run that waits without a lease writes a sign of life on the version."""
CANCELLED_TAG = "cancelled_run"
"""Version tag: the run by whose cancelling a person held the version."""


@dataclass(frozen=True)
class Memory:
    """What the sensor remembers of one policy between ticks; may be lost without harm."""

    named: int | None
    """The version that the challenger alias names; 0 for none, None while no answer came yet."""
    named_at: float
    """When the sensor first saw that the alias names it, in seconds since the epoch."""
    version: int = 0
    """The version whose promotion is under way; 0 for none."""
    look_at: float = 0.0
    """When that promotion is looked at again, at the earliest, in seconds since the epoch."""
    resolved_at: float = 0.0
    """When the image of a version that waits for approval was last resolved, in seconds since the epoch."""
    asked_at: float = 0.0
    """When the policy was last looked at, whether that ended well or not, in seconds since the epoch."""


@dataclass(frozen=True)
class Cursor:
    """What the sensor remembers between ticks."""

    memories: Mapping[str, Memory] = field(default_factory=dict)
    """By the policy's name."""
    said: str = ""
    """What was last said of files that are no policies."""


@dataclass(frozen=True)
class Request:
    """A request to run the promotion of a version; `number` counts the resumes, and is 0 for the first run."""

    version: int
    requested_at: str
    number: int
    is_answer: bool = False
    """Whether the run only says why nothing is promoted; `requested_at` is then what makes the alias's move unique."""

    def tag(self, policy: str) -> str:
        """Return the run tag that all runs of one request have in common."""
        return f"{policy}@{self.version}/{'answer-' if self.is_answer else ''}{self.requested_at}"

    def run_key(self, policy: str) -> str:
        """Return the run's key; Dagster never starts two runs with the same key, so each resume has its own."""
        return f"{self.tag(policy)}/{self.number}"


def is_new(version: ModelVersion, policy: str) -> bool:
    """Return whether a challenger is a new request: never seen under this policy, or overtaken and named again."""
    return version.state(policy) in (None, State.SUPERSEDED)


def request_tags(now: float) -> dict[str, str]:
    """Return what is written on a new challenger, because an alias has no time of its own."""
    return {"state": str(State.REQUESTED), "requested_at": format_time(now)}


def is_unfinished(version: ModelVersion, policy: str) -> bool:
    """Return whether a promotion goes on by itself: it has not ended, and no person holds it."""
    state = version.state(policy)
    return state is not None and not state.is_end and not is_held_by_person(version, policy)


def is_held_by_person(version: ModelVersion, policy: str) -> bool:
    """Return whether a person holds a version, so that nothing goes on by itself."""
    return version.state(policy) is State.HELD and version.tag(policy, "held_by") == "person"


def is_cancelled(version: ModelVersion, policy: str, cancelled: str | None) -> bool:
    """Return whether a person cancelled the last run of a version's request and nobody has written that down yet.

    Args:
        version: The version.
        policy: The policy's name.
        cancelled: That run, if a person cancelled it.
    """
    return cancelled is not None and version.tag(policy, CANCELLED_TAG) != cancelled


def is_to_go_on(memory: Memory | None, version: ModelVersion, policy: str) -> bool:
    """Return whether a challenger's promotion goes on: by itself, or because a person named a held version again."""
    taken_up = version.state(policy) is State.HELD and _has_moved(memory, version.version)
    return is_unfinished(version, policy) or taken_up


def answer_to_move(memory: Memory | None, version: ModelVersion, policy: str) -> Request | None:
    """Return the request for the run that answers an alias which was moved to a version that has ended.

    Without a memory nobody knows whether the alias has moved, so a lost cursor answers nothing. The same memory always
    gives the same run key, so a tick that is repeated answers once.
    """
    state = version.state(policy)
    if memory is None or not _has_moved(memory, version.version) or state is None or not state.is_end:
        return None
    return Request(version.version, f"{memory.named}-{format_time(memory.named_at)}", 0, is_answer=True)


def looked_at(memory: Memory | None, named: int, now: float) -> Memory:
    """Return the memory with the version that the alias names now."""
    if memory is None or memory.named is None:
        return Memory(named, now)
    return replace(memory, named=named, named_at=now) if _has_moved(memory, named) else memory


def _has_moved(memory: Memory | None, named: int) -> bool:
    return memory is not None and memory.named is not None and memory.named != named


def unanswered(memory: Memory | None, now: float) -> Memory:
    """Return the memory of a policy that could not be looked at; it is not the first in the row again and again."""
    return replace(memory or Memory(None, now), look_at=now + LOOK_AGAIN_SECONDS, asked_at=now)


def in_order(
    names: Iterable[str],
    memories: Mapping[str, Memory],
    hints: Mapping[str, int] | None,
    now: float,
    every: float,
    told: Collection[str] = (),
) -> list[str]:
    """Return the policies to look at now: those whose alias has moved, then those that are due, the longest first.

    Args:
        names: The policies.
        memories: What is remembered of them.
        hints: The version that each policy's alias names, as far as the registry told for many at once; without hints
            each policy has to be asked.
        now: Seconds since the epoch.
        every: How often a policy is asked without hints, in seconds.
        told: The policies whose alias has moved as somebody says.
    """

    def rank(name: str) -> tuple[bool, float] | None:
        memory = memories.get(name)
        if memory is None:
            return True, 0.0
        if name in told:
            return False, memory.asked_at
        if hints is not None and memory.named is not None and _has_moved(memory, hints.get(name, 0)):
            return False, memory.asked_at
        is_due = now >= memory.look_at or (hints is None and now >= memory.asked_at + every)
        return (True, memory.asked_at) if is_due else None

    ranks = {name: found for name in names if (found := rank(name)) is not None}
    return sorted(ranks, key=ranks.__getitem__)


def pause_between(questions: int, took: float, *, together: bool) -> float:
    """Return the seconds until the registry is asked again.

    Args:
        questions: How many policies there are.
        took: How many seconds the questions took.
        together: Whether they were asked for many policies at once.
    """
    often = ASK_SECONDS if together else min(max(ASK_SECONDS, questions / QUESTIONS_A_SECOND), RAREST_SECONDS)
    return max(often, min(WAITING_SHARE * took, RAREST_SECONDS))


def is_alive(version: ModelVersion, policy: str, now: float) -> bool:
    """Return whether a run that waits without a lease gave a sign of life lately; a dead one has missed three."""
    seen_at = parse_time(version.tag(policy, "seen_at"))
    return seen_at is not None and abs(now - seen_at) < 3 * SIGN_OF_LIFE_SECONDS


def may_look(memory: Memory | None, version: int, now: float) -> bool:
    """Return whether an unfinished promotion is due to be looked at."""
    return memory is None or memory.version != version or now >= memory.look_at


def pause_after(resumes: int) -> float:
    """Return the seconds until the next look, doubling with each resume, so that a long outage costs few runs."""
    return min(FIRST_LOOK_SECONDS * 2.0 ** min(resumes, 8), LONGEST_PAUSE_SECONDS)


def read_cursor(text: str | None) -> Cursor:
    """Parse a cursor. An unreadable cursor counts as empty, because nothing depends on it."""
    try:
        raw: Any = json.loads(text or "{}")
        memories = {str(policy): _memory(*fields) for policy, fields in raw.get("policies", {}).items()}
        return Cursor(memories, str(raw.get("said", "")))
    except (ValueError, TypeError, AttributeError):
        return Cursor()


def _memory(named: Any, named_at: float, version: int, look_at: float, resolved_at: float, asked_at: float) -> Memory:
    return Memory(
        None if named is None else int(named),
        float(named_at),
        int(version),
        float(look_at),
        float(resolved_at),
        float(asked_at),
    )


def write_cursor(cursor: Cursor) -> str:
    """Return the text of a cursor: small, because Dagster keeps it with each tick, and the same for the same cursor."""
    policies = {policy: [_rounded(value) for value in astuple(memory)] for policy, memory in cursor.memories.items()}
    return json.dumps({"policies": policies, "said": cursor.said}, sort_keys=True, separators=(",", ":"))


def _rounded(value: float | None) -> float | None:
    """Cut a time to milliseconds; never up, or what is due would not be due yet."""
    if value is None or isinstance(value, int):
        return value
    nearest = round(value, 3)
    return nearest if nearest <= value else round(nearest - 0.001, 3)

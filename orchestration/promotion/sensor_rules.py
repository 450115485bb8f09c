"""What the sensor decides at a tick for one policy; pure, so that the whole table of cases can be tested."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time, parse_time

FIRST_LOOK_SECONDS = 20.0
"""How long a requested run may take to write its first sign of life (7 s were measured from request to start)."""
LOOK_AGAIN_SECONDS = 5.0
IDLE_LOOK_SECONDS = 60.0
"""How often the branch is looked at while nothing is under way: a return that a command began may be unfinished."""
LONGEST_PAUSE_SECONDS = 120.0
LONGEST_START_SECONDS = 300.0
"""How long a run may take from its request to its process, on a machine that is very busy."""
FIRST_SIGN_SECONDS = 60.0
"""How long a run may take to its first sign of life, from when it has a process."""
SIGN_OF_LIFE_SECONDS = 20.0
"""How often a run that waits without a lease writes a sign of life on the version."""


@dataclass(frozen=True)
class Memory:
    """What the sensor remembers of one policy between ticks; may be lost without harm."""

    named: int
    """The version that the challenger alias names; 0 for none."""
    named_at: float
    """When the sensor first saw that the alias names it, in seconds since the epoch."""
    version: int = 0
    """The version whose promotion is under way; 0 for none."""
    look_at: float = 0.0
    """When that promotion is looked at again, at the earliest, in seconds since the epoch."""


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
    held_by_person = state is State.HELD and version.tag(policy, "held_by") == "person"
    return state is not None and not state.is_end and not held_by_person


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
    if memory is None:
        return Memory(named, now)
    return replace(memory, named=named, named_at=now) if _has_moved(memory, named) else memory


def _has_moved(memory: Memory | None, named: int) -> bool:
    return memory is not None and memory.named != named


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


def read_cursor(text: str | None) -> dict[str, Memory]:
    """Parse a cursor. An unreadable cursor counts as empty, because nothing depends on it."""
    try:
        raw: Any = json.loads(text or "{}")
        return {
            str(policy): Memory(
                int(memory["named"]), float(memory["named_at"]), int(memory["version"]), float(memory["look_at"])
            )
            for policy, memory in raw.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def write_cursor(memories: Mapping[str, Memory]) -> str:
    """Return the cursor of some memories: small, and the same for the same memories."""
    return json.dumps({policy: asdict(memory) for policy, memory in sorted(memories.items())}, separators=(",", ":"))

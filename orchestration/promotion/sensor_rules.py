"""What the sensor decides at a tick for one policy: pure, so that its whole table can be tested."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time, parse_time

FIRST_LOOK_SECONDS = 20.0
"""How long a requested run may take to write its first sign of life (from request to start took 7 s)."""
LOOK_AGAIN_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 120.0
LONGEST_START_SECONDS = 300.0
"""How long a run may take from its request to its process, on a machine that is very busy."""
FIRST_SIGN_SECONDS = 60.0
"""How long a run may take from its request to its first sign of life, once it has a process."""
SIGN_OF_LIFE_SECONDS = 20.0
"""How often a run that waits without a lease says on the version that it is there."""


@dataclass(frozen=True)
class Memory:
    """What the sensor keeps of one policy between ticks; may be lost without harm."""

    version: int
    """The version that the promotion under way is of."""
    resumes: int
    look_at: float
    """Not before this time is an unfinished promotion looked at again, in seconds since the epoch."""


@dataclass(frozen=True)
class Request:
    """Run the promotion of a version; `number` is the resume, 0 for the first run of a request."""

    version: int
    requested_at: str
    number: int

    def tag(self, policy: str) -> str:
        """What all runs of one request have in common."""
        return f"{policy}@{self.version}/{self.requested_at}"

    def run_key(self, policy: str) -> str:
        """Dagster never starts two runs of one key, so each resume has its own."""
        return f"{self.tag(policy)}/{self.number}"


def is_new(version: ModelVersion, policy: str) -> bool:
    """A challenger that was never seen under this policy, or was overtaken and is named again: a new request."""
    return version.state(policy) in (None, State.SUPERSEDED)


def request_tags(now: float) -> dict[str, str]:
    """What is written on a new challenger, because an alias has no time of its own."""
    return {"state": str(State.REQUESTED), "requested_at": format_time(now)}


def is_unfinished(version: ModelVersion, policy: str) -> bool:
    """A promotion that goes on by itself: not at its end, and not held by a person."""
    state = version.state(policy)
    held_by_person = state is State.HELD and version.tag(policy, "held_by") == "person"
    return state is not None and not state.is_end and not held_by_person


def is_alive(version: ModelVersion, policy: str, now: float) -> bool:
    """Whether a run that waits without a lease has given a sign of life lately (three are missed by a dead one)."""
    seen_at = parse_time(version.tag(policy, "seen_at"))
    return seen_at is not None and abs(now - seen_at) < 3 * SIGN_OF_LIFE_SECONDS


def may_look(memory: Memory | None, version: int, now: float) -> bool:
    """Whether an unfinished promotion is due to be looked at."""
    return memory is None or memory.version != version or now >= memory.look_at


def pause_after(resumes: int) -> float:
    """Seconds until the next look after that many resumes: doubling, so that a long outage costs few runs."""
    return min(FIRST_LOOK_SECONDS * 2.0 ** min(resumes, 8), LONGEST_PAUSE_SECONDS)


def read_cursor(text: str | None) -> dict[str, Memory]:
    """The memories of a cursor; an unreadable cursor is an empty one, because nothing depends on it."""
    try:
        raw: Any = json.loads(text or "{}")
        return {
            str(policy): Memory(int(one["version"]), int(one["resumes"]), float(one["look_at"]))
            for policy, one in raw.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def write_cursor(memories: Mapping[str, Memory]) -> str:
    """The cursor of some memories: small, and the same for the same memories."""
    return json.dumps({policy: asdict(memory) for policy, memory in sorted(memories.items())}, separators=(",", ":"))

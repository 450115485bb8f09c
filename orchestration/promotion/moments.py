"""When each request for a version was first held and when it ended, kept as version tags that nobody overwrites."""

import re
from dataclasses import dataclass

from orchestration.promotion.model_version import ModelVersion, tag_key
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time, parse_time


@dataclass(frozen=True)
class Moment:
    """When a request for a version first reached a state that people ask about later: held, or an end.

    The next request overwrites the state tag; the moments of the earlier ones stay.
    """

    state: State
    request: str
    """When the promotion was requested, as `format_time` writes it; `by-hand` for a run without a request."""
    attempt: int
    at: float


_MOMENT = re.compile(r"(?P<at>\S{24}), attempt (?P<attempt>[1-9][0-9]{0,4})")


def moment_tags(version: ModelVersion, policy: str, state: State, now: float) -> dict[str, str]:
    """Return the tag that keeps when this request reached a state; empty when there is nothing to keep.

    Only `held` and the ends are kept, each once: because the tag is never overwritten, a write that was cut off can be
    repeated, and a version that has ended can be examined again.
    """
    name = f"{state}_at.{request_of(version, policy)}"
    if not (state.is_end or state is State.HELD) or version.tag(policy, name) is not None:
        return {}
    return {name: f"{format_time(now)}, attempt {version.attempt(policy)}"}


def moments(version: ModelVersion, policy: str) -> tuple[Moment, ...]:
    """Return all moments that a version's tags keep under one policy; tags of another form are ignored."""
    start, kept = tag_key(policy, ""), []
    for key, value in version.tags.items():
        state, separator, request = key.removeprefix(start).partition("_at.")
        written = _MOMENT.fullmatch(value)
        at = parse_time(written["at"]) if written else None
        if key.startswith(start) and separator and state in set(State) and written is not None and at is not None:
            kept.append(Moment(State(state), request, int(written["attempt"]), at))
    return tuple(kept)


def held_since(version: ModelVersion, policy: str) -> float | None:
    """Return since when the present request is held (seconds since the epoch); None when it is not held.

    A held promotion that is tried again is `committed` in between; it counts as held until it ends.
    """
    if version.state(policy) not in (State.HELD, State.COMMITTED):
        return None
    request = request_of(version, policy)
    kept = moments(version, policy)
    times = (moment.at for moment in kept if moment.state is State.HELD and moment.request == request)
    return next(times, None)


def request_of(version: ModelVersion, policy: str) -> str:
    """Return when a version was requested, as `format_time` writes it; `by-hand` for a run without a request."""
    at = parse_time(version.tag(policy, "requested_at"))
    return "by-hand" if at is None else format_time(at)

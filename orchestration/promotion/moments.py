"""When each request for a version was first held and when it ended, kept as version tags that nobody overwrites."""

import re
from dataclasses import dataclass

from orchestration.promotion.model_version import ModelVersion, tag_key
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time, parse_time


@dataclass(frozen=True)
class Moment:
    """When one request for a version first came to a state that is looked back on: held, or an end.

    The state tag says where a version stands now and is overwritten by the next request; its moments stay.
    """

    state: State
    request: str
    """When it was asked for, as `format_time` writes it; `by-hand` for a run that nobody had asked for."""
    attempt: int
    at: float


_MOMENT = re.compile(r"(?P<at>\S{24}), attempt (?P<attempt>[1-9][0-9]{0,4})")


def moment_tags(version: ModelVersion, policy: str, state: State, now: float) -> dict[str, str]:
    """The tag that keeps when this request came to a state; none for other states, and for one that is kept already.

    That it is never overwritten is what lets a cut off write be repeated, and an ended version be looked at again.
    """
    name = f"{state}_at.{_request(version, policy)}"
    if not (state.is_end or state is State.HELD) or version.tag(policy, name) is not None:
        return {}
    return {name: f"{format_time(now)}, attempt {version.attempt(policy)}"}


def moments(version: ModelVersion, policy: str) -> tuple[Moment, ...]:
    """All that is kept of a version under one policy; tags of another form are ignored."""
    start, found = tag_key(policy, ""), []
    for key, value in version.tags.items():
        state, separator, request = key.removeprefix(start).partition("_at.")
        written = _MOMENT.fullmatch(value)
        at = parse_time(written["at"]) if written else None
        if key.startswith(start) and separator and state in set(State) and written is not None and at is not None:
            found.append(Moment(State(state), request, int(written["attempt"]), at))
    return tuple(found)


def held_since(version: ModelVersion, policy: str) -> float | None:
    """Since when the present request is held; None when it is not.

    A held promotion that is tried again is `committed` in between, and counts as held until it comes to its end.
    """
    if version.state(policy) not in (State.HELD, State.COMMITTED):
        return None
    request = _request(version, policy)
    times = (one.at for one in moments(version, policy) if one.state is State.HELD and one.request == request)
    return next(times, None)


def _request(version: ModelVersion, policy: str) -> str:
    at = parse_time(version.tag(policy, "requested_at"))
    return "by-hand" if at is None else format_time(at)

"""What the model registry says of a version, a training run and a promotion's state, as plain values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum


class State(StrEnum):
    """Where a version stands under one policy: the version tag `incumbent.<policy>.state`."""

    REQUESTED = "requested"
    WAITING = "waiting"
    """Before the commit, for an image or for the lease; goes on by itself."""
    COMMITTED = "committed"
    HELD = "held"
    """Committed and unjudged, until a person or the end of the cause releases it."""
    CHAMPION = "champion"
    REFUSED = "refused"
    """Ended before any commit."""
    SUPERSEDED = "superseded"
    """Overtaken by a newer challenger before its commit."""
    REJECTED = "rejected"
    """Failed; its rollback may still be under way."""
    ROLLED_BACK = "rolled_back"

    @property
    def is_end(self) -> bool:
        """Nothing more happens by itself; `rejected` is no end, because its rollback must still be finished."""
        return self in (State.CHAMPION, State.REFUSED, State.SUPERSEDED, State.ROLLED_BACK)

    @property
    def is_under_way_on_branch(self) -> bool:
        """Committed, and neither champion nor taken back yet."""
        return self in (State.COMMITTED, State.HELD, State.REJECTED)


@dataclass(frozen=True)
class ModelVersion:
    """A registered model version. Everything in it is hostile input (design rule 9)."""

    model: str
    version: int
    run_id: str | None
    model_id: str | None
    tags: Mapping[str, str] = field(default_factory=dict)

    def state(self, policy: str) -> State | None:
        """The state that incumbent wrote for that policy; None when none or an unknown one stands there."""
        text = self.tags.get(tag_key(policy, "state"))
        return State(text) if text in set(State) else None

    def tag(self, policy: str, name: str) -> str | None:
        return self.tags.get(tag_key(policy, name))

    def attempt(self, policy: str) -> int:
        """The attempt that was asked for last; 1 when no or no usable number is written."""
        text = self.tag(policy, "attempt") or ""
        return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 1

    def __str__(self) -> str:
        return f"version {self.version} of {self.model}"


def tag_key(policy: str, name: str) -> str:
    """The key of a version tag that incumbent writes, such as `incumbent.iris-classifier-edge.state`."""
    return f"incumbent.{policy}.{name}"


def policy_tags(policy: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Version tags under their full keys, the state last.

    The registry writes tags one by one: who sees a state must find what belongs to it.
    """
    return {tag_key(policy, name): tags[name] for name in sorted(tags, key="state".__eq__)}


def format_time(at: float) -> str:
    """Seconds since the epoch as people read them in a tag: `2026-01-31T12:00:00.000Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str | None) -> float | None:
    """Seconds since the epoch of a time with its zone; None when the text is none."""
    try:
        parsed = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return parsed.timestamp() if parsed.tzinfo else None


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


@dataclass(frozen=True)
class Dataset:
    """A dataset input of a run: MLflow's own name and content digest, and the `mlflow.data.context` tag."""

    name: str
    digest: str
    context: str | None


@dataclass(frozen=True)
class TrainingRun:
    run_id: str
    status: str
    """MLflow's own word: FINISHED, FAILED, RUNNING, KILLED, SCHEDULED."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    datasets: tuple[Dataset, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TensorInput:
    """One unnamed or named input of a signature: element type and shape, -1 for a free dimension."""

    name: str | None
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ColumnInput:
    name: str
    type: str
    required: bool


@dataclass(frozen=True)
class Signature:
    """The inputs that a model accepts, as its MLflow signature has them."""

    inputs: tuple[TensorInput, ...] | tuple[ColumnInput, ...]

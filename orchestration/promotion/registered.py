"""What the model registry says of a version, a training run and a promotion's state, as plain values."""

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

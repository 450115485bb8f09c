"""What the model registry says about a version and its training run, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestration.promotion.problems import Problem
from orchestration.promotion.state import State


@dataclass(frozen=True)
class ModelVersion:
    """A registered model version. Everything in it is hostile input (design rule 9)."""

    model: str
    version: int
    run_id: str | None
    model_id: str | None
    tags: Mapping[str, str] = field(default_factory=dict)

    def state(self, policy: str) -> State | None:
        """Return the state that incumbent wrote for a policy; None when there is none, or an unknown one."""
        text = self.tags.get(tag_key(policy, "state"))
        return State(text) if text in set(State) else None

    def tag(self, policy: str, name: str) -> str | None:
        """Return the tag that incumbent wrote under a name for a policy."""
        return self.tags.get(tag_key(policy, name))

    def attempt(self, policy: str) -> int:
        """Return the attempt that was asked for last; 1 when the tag has no usable number."""
        text = self.tag(policy, "attempt") or ""
        return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 1

    def __str__(self) -> str:
        return f"version {self.version} of {self.model}"


def not_registered(model: str, number: int) -> Problem:
    """The problem of a version that the registry does not have."""
    return Problem(
        f"version {number} of {model}",
        "a registered model version",
        "no such version in the registry",
        "Register the model, or correct the name or the number.",
    )


def tag_key(policy: str, name: str) -> str:
    """Return the key of a version tag that incumbent writes, such as `incumbent.iris-classifier-edge.state`."""
    return f"incumbent.{policy}.{name}"


def policy_tags(policy: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Put version tags under their full keys, the state last.

    The registry writes tags one by one, and a reader that sees a state must find what belongs to it.
    """
    return {tag_key(policy, name): tags[name] for name in sorted(tags, key="state".__eq__)}


@dataclass(frozen=True)
class Dataset:
    """A dataset input of a run: MLflow's own name and content digest, and the `mlflow.data.context` tag."""

    name: str
    digest: str
    context: str | None


@dataclass(frozen=True)
class TrainingRun:
    """A finished or unfinished run of the tracking server."""

    run_id: str
    status: str
    """In MLflow's words: FINISHED, FAILED, RUNNING, KILLED or SCHEDULED."""
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
    """One column of a signature."""

    name: str
    type: str
    required: bool


@dataclass(frozen=True)
class Signature:
    """The inputs that a model accepts, as its MLflow signature has them."""

    inputs: tuple[TensorInput, ...] | tuple[ColumnInput, ...]

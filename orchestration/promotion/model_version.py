"""What the model registry says about a version and its training run, as plain values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestration.promotion.problems import Problem
from orchestration.promotion.state import State

PROXIED = "mlflow-artifacts:"
"""The scheme of artifacts that the registry's own server keeps, and gives to whoever asks it."""
_VERSION_NAME = re.compile(r"models:/(?P<model>[^/:\n\r\t]{1,250})/(?P<version>[0-9]{1,9})")


@dataclass(frozen=True)
class ModelVersion:
    """A registered model version. Everything in it is hostile input (design rule 9)."""

    model: str
    version: int
    run_id: str | None
    """Where its metrics, recordings and evidence are: its training run; its logged model (`m-...`) if that has none."""
    model_id: str | None
    tags: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    """What it was made of: where its artifacts are, its logged model, or the version that it was copied from."""
    originals: tuple["ModelVersion", ...] = ()
    """The versions that it is a copy of, the nearest first, as far as somebody looked them up."""

    @property
    def copied_from(self) -> tuple[str, int] | None:
        """Model and number of the version that it was copied from (`copy_model_version`); None when it is no copy."""
        return named_version(self.source)

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


def named_version(uri: str) -> tuple[str, int] | None:
    """Return the model and the number that an address such as `models:/iris/7` names; None for any other text."""
    match = _VERSION_NAME.fullmatch(uri)
    return (match["model"], int(match["version"])) if match is not None else None


def unread_version(model: str, number: int, run_id: str | None = None) -> ModelVersion:
    """Return a version as Git alone knows it, without its tags: the registry does not have it, or does not answer."""
    return ModelVersion(model, number, run_id, None)


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
    profile: str = ""
    """What MLflow measured of it, as JSON, such as `{"num_rows": 150}`; empty when it measured nothing."""
    schema: str = ""
    """Its columns or tensors as MLflow describes them, as JSON."""


@dataclass(frozen=True)
class TrainingRun:
    """A finished or unfinished run of the tracking server; or a logged model that was logged without one."""

    run_id: str
    status: str
    """In MLflow's words: FINISHED, FAILED, RUNNING, KILLED or SCHEDULED."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The numbers that count: the logged model's before the run's."""
    datasets: tuple[Dataset, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    model_id: str | None = None
    """The logged model whose metrics are among these; None for a version without one."""
    measured_on: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The metrics that the logged model has, with the digests of the data on which they were measured.

    None when that is unknown. One that is not among `metrics` has several values, and nothing says which counts.
    """

    def __str__(self) -> str:
        return f"logged model {self.run_id}" if self.run_id == self.model_id else f"run {self.run_id}"

    def place_of(self, metric: str) -> str:
        """Say where a metric was logged that counts; where both have it, that is the logged model."""
        return f"logged model {self.model_id}" if metric in self.measured_on else str(self)


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

"""A model registry in memory, held to the same contract tests as the one that asks MLflow."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestration.promotion.input_drift import FeatureDrift
from orchestration.promotion.model_version import ModelVersion, Signature, TrainingRun
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.served_quality import ServedQuality
from orchestration.promotion.serving_protocols import Example


@dataclass
class FakeRegistry:
    """Implements the `Registry` port. Tests fill it, read it, and take it down with `down = True`."""

    versions: dict[tuple[str, int], ModelVersion] = field(default_factory=dict)
    aliases: dict[tuple[str, str], int] = field(default_factory=dict)
    runs: dict[str, TrainingRun] = field(default_factory=dict)
    signatures: dict[tuple[str, int], Signature] = field(default_factory=dict)
    examples: dict[tuple[str, int], Example] = field(default_factory=dict)
    artifacts: dict[tuple[str, str], bytes] = field(default_factory=dict)
    down: bool = False
    searches: bool = True
    """Whether it can be asked for the aliases of many models at once."""
    version_of_server: str | None = "3.17.2"
    time: float | None = None
    """What time the server says it is; None when it does not tell."""
    editable: bool | None = None
    """What `may_edit` says; None as a server without logins does."""
    roots: dict[str, str] = field(default_factory=dict)
    """Where a run's artifacts are, by the run's id; behind the server's proxy unless a test says otherwise."""
    evaluations: list[ServedQuality] = field(default_factory=list)
    """What evaluations found, in the order in which they were made."""
    locations: dict[tuple[str, int], str | None] = field(default_factory=dict)
    """Where a version's model is, when that is not the usual place; None when its files are gone."""
    calls: list[str] = field(default_factory=list)
    """The names of the calls that were made, in order."""

    def __str__(self) -> str:
        return "the registry"

    def add_run(self, run: TrainingRun) -> TrainingRun:
        self.runs[run.run_id] = run
        return run

    def add_version(
        self,
        model: str,
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        *,
        model_id: str | None = None,
        source: str = "",
        signature: Signature | None = None,
    ) -> ModelVersion:
        """Register the next version of a model."""
        number = 1 + max((version for name, version in self.versions if name == model), default=0)
        version = ModelVersion(model, number, run_id, model_id, dict(tags or {}), source)
        self.versions[model, number] = version
        if signature is not None:
            self.signatures[model, number] = signature
        return version

    def ping(self) -> None:
        self._called("ping")

    def server_version(self) -> str | None:
        self._called("server_version")
        return self.version_of_server

    def server_time(self) -> float | None:
        self._called("server_time")
        return self.time

    def may_edit(self, model: str) -> bool | None:
        self._called("may_edit")
        return self.editable

    def artifact_root(self, run_id: str) -> str | None:
        self._called("artifact_root")
        return self.roots.get(run_id, f"mlflow-artifacts:/0/{run_id}/artifacts") if run_id in self.runs else None

    def latest_version(self, model: str) -> ModelVersion | None:
        self._called("latest_version")
        return max(
            (known for (name, _), known in self.versions.items() if name == model),
            key=lambda known: known.version,
            default=None,
        )

    def version_by_alias(self, model: str, alias: str) -> ModelVersion | None:
        self._called("version_by_alias")
        number = self.aliases.get((model, alias))
        return None if number is None else self.versions.get((model, number))

    def named_by(self, alias: str, models: Collection[str]) -> Mapping[str, int] | None:
        self._called("named_by")
        if not self.searches:
            return None
        return {model: self.aliases[model, alias] for model in models if (model, alias) in self.aliases}

    def version(self, model: str, version: int) -> ModelVersion | None:
        self._called("version")
        return self.versions.get((model, version))

    def tagged(self, key: str, start: str) -> tuple[ModelVersion, ...]:
        self._called("tagged")
        return tuple(
            version for version in self.versions.values() if key in version.tags and version.tags[key].startswith(start)
        )

    def training(self, version: ModelVersion) -> TrainingRun | None:
        self._called("training")
        return self.runs.get(version.run_id or "")

    def model_location(self, version: ModelVersion) -> str | None:
        self._called("model_location")
        usual = f"mlflow-artifacts:/0/models/{version.model}-{version.version}/artifacts"
        return self.locations.get((version.model, version.version), usual)

    def signature(self, version: ModelVersion) -> Signature | None:
        self._called("signature")
        return self.signatures.get((version.model, version.version))

    def input_example(self, version: ModelVersion) -> Example | None:
        self._called("input_example")
        return self.examples.get((version.model, version.version))

    def artifact(self, run_id: str, path: str) -> bytes | None:
        self._called("artifact")
        if not self.roots.get(run_id, "mlflow-artifacts:/").startswith("mlflow-artifacts:/"):
            step = "Start the MLflow server with --serve-artifacts, or set INCUMBENT_ARTIFACT_ROOTS."
            raise InvalidInputError(Problem(f"run {run_id}", "another place", self.roots[run_id], step))
        return self.artifacts.get((run_id, path))

    def put_artifact(self, run_id: str, path: str, content: bytes) -> None:
        self._called("put_artifact")
        if run_id not in self.runs:
            raise _error(f"run {run_id}", "no such run")
        self.artifacts[run_id, path] = content

    def last_evaluation(self, policy: str) -> ServedQuality | None:
        self._called("last_evaluation")
        return next((found for found in reversed(self.evaluations) if found.policy == policy), None)

    def record_evaluation(self, found: ServedQuality, drift: Sequence[FeatureDrift]) -> str:
        self._called("record_evaluation")
        self.evaluations.append(found)
        return f"http://mlflow/evaluations/{len(self.evaluations)}"

    def write_tags(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        self._called("write_tags")
        known = self._known(version)
        self.versions[version.model, version.version] = replace(known, tags={**known.tags, **tags})

    def set_alias(self, version: ModelVersion, alias: str) -> None:
        self._called("set_alias")
        self._known(version)
        self.aliases[version.model, alias] = version.version

    def version_url(self, version: ModelVersion) -> str:
        return f"http://registry.test/#/models/{version.model}/versions/{version.version}"

    def _known(self, version: ModelVersion) -> ModelVersion:
        known = self.versions.get((version.model, version.version))
        if known is None:
            raise _error(str(version), "no such version")
        return known

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.down:
            raise _error("the model registry", "no answer")


def _error(subject: str, found: str) -> DependencyError:
    return DependencyError(Problem(subject, "an answer", found, "Start it again."))

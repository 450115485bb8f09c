"""Translates MLflow's entities and files into the core's plain values; all of it is hostile input (design rule 9)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from orchestration.promotion.input_drift import FeatureDrift
from orchestration.promotion.logged_model import ModelMetric
from orchestration.promotion.model_version import (
    ColumnInput,
    Dataset,
    ModelVersion,
    Signature,
    TensorInput,
    TrainingRun,
)
from orchestration.promotion.served_quality import ServedQuality
from orchestration.promotion.serving_protocols import Example

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.entities import LoggedModel, Metric, Run, RunTag
    from mlflow.entities.model_registry import ModelVersion as Entity

_CONTEXT_TAG = "mlflow.data.context"
EVALUATED, _EVALUATION = "incumbent.policy", "incumbent.evaluation"
"""Tags of a run that keeps an evaluation: the policy's name, and all that was found as JSON."""
_NOT_IN_NAMES = re.compile(r"[^\w./ -]", re.ASCII)
_LONGEST_NAME = 200
_DRIFT_KEPT = 400
"""Inputs whose drift is kept, the most significant ones: MLflow takes 1,000 metrics in one request."""
_EVALUATION_TAG = TypeAdapter(ServedQuality)


def version_of(entity: Entity) -> ModelVersion:
    """Translate a model version.

    Raises:
        ValueError: it has no name, or its version is not a number.
    """
    version = str(entity.version)
    if not entity.name or not (version.isascii() and version.isdigit()):
        raise ValueError(f"a version without name or number ({entity.name!r}, {version!r})")
    return ModelVersion(
        model=entity.name,
        version=int(version),
        run_id=entity.run_id or None,
        model_id=_model_id_of(entity.source or ""),
        tags=dict(entity.tags),
        source=entity.source or "",
    )


def evaluation_entities(found: ServedQuality, drift: Sequence[FeatureDrift]) -> tuple[list[Metric], list[RunTag]]:
    """Return the metrics and tags of the run that keeps what an evaluation found."""
    from mlflow.entities import Metric, RunTag

    values = {found.metric: found.value, "baseline": found.baseline, "rows": float(found.rows)}
    for each in drift[:_DRIFT_KEPT]:
        name = _NOT_IN_NAMES.sub("_", each.name)[:_LONGEST_NAME]
        values |= {f"drift/{name}/statistic": each.statistic, f"drift/{name}/p_value": each.p_value}
    metrics = [Metric(key, value, int(found.at * 1000), 0) for key, value in values.items()]
    return metrics, [
        RunTag(EVALUATED, found.policy),
        RunTag(_EVALUATION, json.dumps(asdict(found), sort_keys=True)),
    ]


def evaluation_of(entity: Run) -> ServedQuality:
    """Read back what `evaluation_entities` made.

    Raises:
        ValueError: the tag is missing, or was changed into something else.
    """
    try:
        return _EVALUATION_TAG.validate_json(entity.data.tags[_EVALUATION])
    except (ValueError, KeyError) as error:
        raise ValueError(f"run {entity.info.run_id} of an evaluation cannot be read ({error})") from error


def run_of_model(entity: LoggedModel) -> TrainingRun:
    """Translate a logged model that was logged without a run, as if it were one; READY is FINISHED."""
    return TrainingRun(
        run_id=entity.model_id,
        status="FINISHED" if str(entity.status) == "READY" else str(entity.status),
        tags=dict(entity.tags),
        parameters=dict(entity.params),
    )


def metrics_of(entity: LoggedModel) -> list[ModelMetric]:
    """Translate the metrics of a logged model."""
    return [
        ModelMetric(
            each.key, each.value, each.dataset_digest or "", each.run_id or "", int(each.timestamp or 0), each.step or 0
        )
        for each in entity.metrics or []
    ]


def run_of(entity: Run) -> TrainingRun:
    """Translate a run; its metrics may be NaN or infinite, as MLflow keeps them."""
    inputs = entity.inputs.dataset_inputs if entity.inputs else []
    return TrainingRun(
        run_id=entity.info.run_id,
        status=entity.info.status,
        metrics=dict(entity.data.metrics),
        datasets=tuple(
            Dataset(
                logged.dataset.name,
                logged.dataset.digest,
                next((tag.value for tag in logged.tags if tag.key == _CONTEXT_TAG), None),
                logged.dataset.profile or "",
                logged.dataset.schema or "",
            )
            for logged in inputs
        ),
        tags=dict(entity.data.tags),
        parameters=dict(entity.data.params),
    )


def read_signature(mlmodel: Path) -> Signature | None:
    """Read the inputs in an MLmodel file's signature; None without a signature, or without inputs in it.

    Raises:
        ValueError: the file is not in the form that MLflow writes.
    """
    import yaml  # type: ignore[import-untyped] # no stubs in the lock
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    try:
        signature = Model.load(str(mlmodel)).signature
        if signature is None or signature.inputs is None:
            return None
        inputs = signature.inputs.to_dict()
        if all(spec["type"] == "tensor" for spec in inputs):
            return Signature(tuple(_tensor(spec) for spec in inputs))
        return Signature(tuple(_column(spec) for spec in inputs))
    # MLflow takes the form of the file for granted, so a hostile file can cause any of these errors.
    except (
        MlflowException,
        yaml.YAMLError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ValueError(f"a file that cannot be read ({type(error).__name__})") from error


def read_example(example: bytes) -> Example | None:
    """Read a `serving_input_example.json`; None for anything but an object."""
    try:
        document = json.loads(example)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and document else None


def _tensor(raw: dict[str, Any]) -> TensorInput:
    spec = raw["tensor-spec"]
    return TensorInput(raw.get("name"), str(spec["dtype"]), tuple(spec["shape"]))


def _column(raw: dict[str, Any]) -> ColumnInput:
    # A nested column has a type too (array, object, map); what is inside is not compared.
    return ColumnInput(str(raw.get("name", "")), str(raw["type"]), bool(raw.get("required", True)))


def _model_id_of(source: str) -> str | None:
    """`m-...` of a source such as `models:/m-...`, by which MLflow 3 refers to a version's logged model."""
    model_id = source.removeprefix("models:/")
    return model_id if model_id.startswith("m-") and "/" not in model_id and model_id != source else None

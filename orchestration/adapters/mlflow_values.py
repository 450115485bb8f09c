"""Translates MLflow's entities and files into the core's plain values; all of it is hostile input (design rule 9)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestration.promotion.model_version import (
    ColumnInput,
    Dataset,
    ModelVersion,
    Signature,
    TensorInput,
    TrainingRun,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion as Entity

_CONTEXT_TAG = "mlflow.data.context"


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
    )


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
            )
            for logged in inputs
        ),
        tags=dict(entity.data.tags),
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


def rows_of(example: bytes) -> tuple[tuple[object, ...], ...] | None:
    """Read the rows of a `serving_input_example.json`, an array or a data frame; None for anything without rows."""
    try:
        document = json.loads(example)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    frame = document.get("dataframe_split")
    rows = frame.get("data") if isinstance(frame, dict) else document.get("inputs")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        return None
    return tuple(tuple(row) for row in rows)


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

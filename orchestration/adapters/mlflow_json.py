"""What MLflow's answers and MLmodel files mean, as plain values; all of it is hostile input (design rule 9)."""

import json
from typing import Any

from orchestration.promotion.registered import ColumnInput, Dataset, ModelVersion, Signature, TensorInput, TrainingRun

_CONTEXT_TAG = "mlflow.data.context"


def parse_version(raw: dict[str, Any]) -> ModelVersion | None:
    """A model version; None when what must be there is not."""
    name, version = raw.get("name"), str(raw.get("version"))
    if not isinstance(name, str) or not (version.isascii() and version.isdigit()):
        return None
    return ModelVersion(
        model=name,
        version=int(version),
        run_id=str(raw["run_id"]) if raw.get("run_id") else None,
        model_id=str(raw["model_id"]) if raw.get("model_id") else _model_id_of(str(raw.get("source", ""))),
        tags=_pairs(raw.get("tags")),
    )


def parse_run(raw: dict[str, Any]) -> TrainingRun:
    """A run; its metrics may be NaN or infinite, as MLflow keeps them."""
    info, data, inputs = raw["info"], raw.get("data") or {}, raw.get("inputs") or {}
    metrics = {}
    for metric in data.get("metrics") or ():
        value = _number(metric.get("value"))
        if value is not None:
            metrics[str(metric.get("key"))] = value
    datasets = []
    for one in inputs.get("dataset_inputs") or ():
        dataset = one.get("dataset") or {}
        context = _pairs(one.get("tags")).get(_CONTEXT_TAG)
        datasets.append(Dataset(str(dataset.get("name", "")), str(dataset.get("digest", "")), context))
    return TrainingRun(
        run_id=str(info.get("run_id")),
        status=str(info.get("status")),
        metrics=metrics,
        datasets=tuple(datasets),
        tags=_pairs(data.get("tags")),
    )


def parse_signature(mlmodel: bytes) -> Signature | None:
    """The inputs that an MLmodel file's signature names; None when it has no signature, or one without inputs.

    Raises:
        ValueError: the file is not what MLflow writes.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document = YAML(typ="safe", pure=True).load(mlmodel.decode())
    except (YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"YAML that cannot be read ({type(error).__name__})") from error
    if not isinstance(document, dict):
        raise ValueError("a file that is not a YAML mapping")
    signature = document.get("signature")
    written = signature.get("inputs") if isinstance(signature, dict) else None
    if written is None:
        return None
    try:
        columns = json.loads(written)
        if all(column["type"] == "tensor" for column in columns):
            return Signature(tuple(_tensor(column) for column in columns))
        return Signature(tuple(_column(column) for column in columns))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"signature inputs that cannot be read ({type(error).__name__})") from error


def parse_input_example(content: bytes) -> tuple[tuple[object, ...], ...] | None:
    """The rows of a `serving_input_example.json`: an array of rows, or a data frame; None for what has no rows."""
    try:
        document = json.loads(content)
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
    name = raw.get("name")
    return TensorInput(None if name is None else str(name), str(spec["dtype"]), tuple(int(n) for n in spec["shape"]))


def _column(raw: dict[str, Any]) -> ColumnInput:
    # The type of a nested column is a word too: array, object, map; what it holds is not compared.
    return ColumnInput(str(raw.get("name", "")), str(raw["type"]), bool(raw.get("required", True)))


def _number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def _pairs(raw: object) -> dict[str, str]:
    if not isinstance(raw, list):
        return {}
    return {str(pair.get("key")): str(pair.get("value", "")) for pair in raw if isinstance(pair, dict)}


def _model_id_of(source: str) -> str | None:
    """`m-...` of a source such as `models:/m-...`: how MLflow 3 names the logged model of a version."""
    model_id = source.removeprefix("models:/")
    return model_id if model_id.startswith("m-") and "/" not in model_id and model_id != source else None

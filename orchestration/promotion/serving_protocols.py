"""How model servers are asked: for each protocol its path, the form of its requests, and where predictions are.

Sources: MLflow's scoring server (`mlflow.pyfunc.scoring_server`); TensorFlow Serving's REST API and KServe's V1; the
Open Inference Protocol, which is KServe's V2, with MLServer's `pd` content type for data frames.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from orchestration.promotion.json_paths import PathPattern, parse_path
from orchestration.promotion.model_version import ColumnInput, Signature
from orchestration.promotion.signature import (
    Inputs,
    Judge,
    inputs_of,
    named_tensors_misfit,
    records_misfit,
    split_misfit,
    values_misfit,
)

ProtocolName = Literal["mlflow", "v1", "v2", "features", "json"]
Example = Mapping[str, Any]
"""A model's input example, as MLflow writes it for its scoring server: `dataframe_split`, `inputs` or another form."""


def _unjudged(_value: Any, _inputs: Inputs) -> str | None:
    return None


@dataclass(frozen=True)
class ServingProtocol:
    """How one kind of server is asked, and what it answers."""

    path: str
    """Where requests go, with `{model}` for the model's name; empty when only the policy knows."""
    forms: Mapping[str, Judge] = field(default_factory=dict)
    """The fields of a request that hold the inputs, of which it has one; none when any request will do."""
    requests: Callable[[Example, Signature | None], Iterator[Any]] = lambda _example, _signature: iter(())
    """Makes requests of an input example; none when it cannot be sent in this form."""
    predictions: tuple[PathPattern, ...] = ()
    """Where an answer has its predictions; empty when that is not fixed."""
    presence: str = ""
    """A path that only such a server answers with 200 to a GET; empty when there is none."""
    live: str = ""
    """A path that is answered with 200 while the process works, with or without a model; empty when there is none."""
    ready: str = ""
    """A path that is answered with 200 only once requests are answered; empty when there is none."""

    def path_for(self, model: str) -> str:
        """The path that requests about a model go to."""
        return _about(model, self.path)

    def presence_for(self, model: str) -> str:
        """The path that shows whether such a server serves a model; empty when none does."""
        return _about(model, self.presence)

    def probes_for(self, model: str) -> Mapping[str, str]:
        """The paths of `live` and `ready` for a model."""
        return {"live": _about(model, self.live), "ready": _about(model, self.ready)}

    def misfit(self, request: Any, signature: Signature) -> str | None:
        """What in a request does not fit a signature; None when everything does."""
        inputs = inputs_of(signature)
        if not self.forms or inputs is None:
            return None
        if not isinstance(request, dict):
            return "a request that is not an object"
        form = next((name for name in self.forms if name in request), None)
        if form is None:
            return f"a request without {' or '.join(self.forms)}"
        return self.forms[form](request[form], inputs)


def _about(model: str, path: str) -> str:
    return path.format(model=quote(model, safe=""))


@dataclass(frozen=True)
class _Rows:
    """An input example row by row; `columns` are empty when they have no names."""

    columns: tuple[str, ...]
    rows: tuple[Any, ...]


def _rows(example: Example) -> _Rows | None:
    """Read an example as rows; None when it is one request that cannot be split."""
    frame = example.get("dataframe_split")
    if isinstance(frame, dict):
        names, rows = frame.get("columns") or (), frame.get("data")
        if isinstance(rows, list) and all(isinstance(row, list) for row in rows):
            return _Rows(tuple(names) if all(isinstance(name, str) for name in names) else (), tuple(rows))
    rows = example.get("inputs")
    if isinstance(rows, list) and all(isinstance(row, list | str) for row in rows):
        return _Rows((), tuple(rows))
    return None


def _for_mlflow(example: Example, _signature: Signature | None) -> Iterator[Any]:
    """One request for each row, otherwise in the form in which MLflow wrote the example."""
    split = _rows(example)
    if split is None:
        yield dict(example)
        return
    for row in split.rows:
        if "dataframe_split" in example:
            frame = {name: value for name, value in example["dataframe_split"].items() if name != "index"}
            yield {**example, "dataframe_split": {**frame, "data": [row]}}
        else:
            yield {**example, "inputs": [row]}


def _for_v1(example: Example, _signature: Signature | None) -> Iterator[Any]:
    split = _rows(example)
    if split is not None:
        yield from ({"instances": [row]} for row in split.rows)
    elif "inputs" in example:
        yield {"inputs": example["inputs"]}


def _for_v2(example: Example, signature: Signature | None) -> Iterator[Any]:
    """A tensor for each column, as MLServer reads data frames, or one tensor for each row of an array."""
    split = _rows(example)
    types = _types(signature)
    if split is None:
        named = example.get("inputs")
        if isinstance(named, dict):
            yield {"inputs": [_tensor(name, value, types.get(name)) for name, value in named.items()]}
        return
    for row in split.rows:
        if split.columns:
            cells = {name: cell for name, cell in zip(split.columns, row, strict=False) if cell is not None}
            tensors = [_tensor(name, [cell], types.get(name)) for name, cell in cells.items()]
            yield {"parameters": {"content_type": "pd"}, "inputs": tensors}
        else:
            yield {"inputs": [_tensor("input-0", [row], types.get("input-0") or types.get(""))]}


def _for_features(example: Example, _signature: Signature | None) -> Iterator[Any]:
    split = _rows(example)
    if split is not None:
        yield from ({"features": row} for row in split.rows if isinstance(row, list))


def _types(signature: Signature | None) -> dict[str, str]:
    """The types of a signature's inputs by their names; that of a tensor without a name is under ''."""
    return {
        each.name or "": each.type if isinstance(each, ColumnInput) else each.dtype
        for each in (signature.inputs if signature is not None else ())
    }


_DATATYPES = {
    "double": "FP64",
    "float": "FP32",
    "float64": "FP64",
    "float32": "FP32",
    "float16": "FP16",
    "long": "INT64",
    "integer": "INT32",
    "boolean": "BOOL",
    "bool": "BOOL",
    "string": "BYTES",
    "str": "BYTES",
    **{f"{sign}int{bits}": f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""The Open Inference Protocol's names of MLflow's column types and numpy's element types."""
_OF_JSON = {bool: "BOOL", int: "INT64", float: "FP64"}


def _tensor(name: str, array: Any, kind: str | None) -> dict[str, Any]:
    """One tensor of the Open Inference Protocol, whose data are flat."""
    shape, data = [], array if isinstance(array, list) else [array]
    flat = data
    while True:
        shape.append(len(flat))
        if not flat or not isinstance(flat[0], list):
            break
        flat = flat[0]
    while data and isinstance(data[0], list):
        data = [cell for inner in data for cell in inner]
    kinds = {_OF_JSON.get(type(cell), "BYTES") for cell in data}
    guessed = kinds.pop() if len(kinds) == 1 else "FP64" if kinds == {"INT64", "FP64"} else "BYTES"
    return {"name": name, "shape": shape, "datatype": _DATATYPES.get(kind or "", guessed), "data": data}


PROTOCOLS: Mapping[ProtocolName, ServingProtocol] = {
    "mlflow": ServingProtocol(
        "/invocations",
        {
            "dataframe_split": split_misfit,
            "dataframe_records": records_misfit,
            "instances": values_misfit,
            "inputs": values_misfit,
            **dict.fromkeys(("messages", "prompt", "input"), _unjudged),
        },
        _for_mlflow,
        (parse_path("$.predictions"),),
        "/version",
        live="/ping",
        ready="/health",
    ),
    "v1": ServingProtocol(
        "/v1/models/{model}:predict",
        {"instances": values_misfit, "inputs": values_misfit},
        _for_v1,
        (parse_path("$.predictions"), parse_path("$.outputs")),
        "/v1/models/{model}",
        ready="/v1/models/{model}",
    ),
    "v2": ServingProtocol(
        "/v2/models/{model}/infer",
        {"inputs": named_tensors_misfit},
        _for_v2,
        (parse_path("$.outputs[*].data"),),
        "/v2/health/live",
        live="/v2/health/live",
        ready="/v2/health/ready",
    ),
    "features": ServingProtocol(
        "/predict",
        {"features": values_misfit},
        _for_features,
        live="/live",
        ready="/health",
    ),
    "json": ServingProtocol(""),
}
"""The protocols that a policy's `service.protocol` may name."""

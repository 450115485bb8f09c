"""Whether values in a request fit a model's signature; `serving_protocols` says where in a request they are."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestration.promotion.model_version import ColumnInput, Signature, TensorInput

_INTEGERS = frozenset({"integer", "long"})
_FLOATS = frozenset({"float", "double"})
_NESTED = frozenset({"array", "object", "map", "any"})
"""Column types whose values have values inside, which are not compared."""


@dataclass(frozen=True)
class Inputs:
    """What a signature asks for: columns or tensors."""

    columns: tuple[ColumnInput, ...]
    tensors: tuple[TensorInput, ...]


Judge = Callable[[Any, Inputs], str | None]
"""Says what in a part of a request does not fit; None when everything does, or only the server can tell."""


def inputs_of(signature: Signature) -> Inputs | None:
    """The inputs of a signature by their sort; None when it asks for nothing."""
    inputs: tuple[TensorInput | ColumnInput, ...] = signature.inputs
    if not inputs:
        return None
    return Inputs(
        tuple(each for each in inputs if isinstance(each, ColumnInput)),
        tuple(each for each in inputs if isinstance(each, TensorInput)),
    )


def values_misfit(value: Any, inputs: Inputs) -> str | None:
    """What does not fit in values by name or in rows: values by column or tensor, objects by column, or bare rows."""
    if not inputs.columns:
        return _tensor_misfit(value, inputs.tensors)
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return next((reason for row in value if (reason := _record_misfit(row, inputs.columns))), None)
    if isinstance(value, dict):
        return _named_columns_misfit(value, inputs.columns)
    return _row_misfit(value, inputs.columns)


def records_misfit(value: Any, inputs: Inputs) -> str | None:
    """What does not fit in `dataframe_records`: a list of objects by column."""
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        return "dataframe_records that is not a list of objects"
    if not inputs.columns:
        return _tensor_misfit([list(row.values()) for row in value], inputs.tensors)
    return next((reason for row in value if (reason := _record_misfit(row, inputs.columns))), None)


def split_misfit(value: Any, inputs: Inputs) -> str | None:
    """What does not fit in `dataframe_split`: names of columns, and rows of values in their order."""
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        return "dataframe_split without data"
    rows, names = value["data"], value.get("columns")
    if names is None or not inputs.columns:
        return _row_misfit(rows, inputs.columns) if inputs.columns else _tensor_misfit(rows, inputs.tensors)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return "dataframe_split whose columns are not a list of names"
    for row in rows:
        if not isinstance(row, list) or len(row) != len(names):
            return f"a row that does not have the {len(names)} values of its columns"
        reason = _record_misfit(dict(zip(names, row, strict=True)), inputs.columns)
        if reason:
            return reason
    return None


def named_tensors_misfit(value: Any, inputs: Inputs) -> str | None:
    """What does not fit in the `inputs` of the Open Inference Protocol: tensors with name, shape and flat data.

    A model of columns takes either one tensor for each column or one with all of them; its values are compared with
    the columns only in the first form.
    """
    fields = ("name", "shape", "datatype", "data")
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        return "inputs that are not a list of objects"
    for each in value:
        missing = [field for field in fields if field not in each and not (field == "data" and "parameters" in each)]
        if missing:
            return f"an input without {missing[0]}"
        cells = len(list(_cells(each["data"]))) if isinstance(each.get("data"), list) else None
        wanted = _size(each["shape"])
        if wanted is None or (cells is not None and cells != wanted):
            return f"input {each['name']!r} with {cells} values for the shape {each['shape']}"
    by_name = {str(each["name"]): each.get("data") for each in value}
    if inputs.columns and {column.name for column in inputs.columns} & by_name.keys():
        known = {name: data for name, data in by_name.items() if isinstance(data, list)}
        return _named_columns_misfit(known, inputs.columns)
    if len(inputs.tensors) > 1:
        missing = [tensor.name or "" for tensor in inputs.tensors if tensor.name not in by_name]
        return f"no value for the input {missing[0]!r}" if missing else None
    if len(inputs.tensors) == 1 and len(value) == 1:
        shape, wanted_shape = tuple(value[0]["shape"]), inputs.tensors[0].shape
        if not any(_shape_fits(batch, wanted_shape) for batch in (shape, (1, *shape))):
            return f"an array of shape {shape} for an input of shape {wanted_shape}"
    return None


def described(signature: Signature) -> str:
    """Describe the inputs of a signature in one line."""
    inputs: tuple[TensorInput | ColumnInput, ...] = signature.inputs
    parts = (
        f"{column.name}: {column.type}"
        if isinstance(column, ColumnInput)
        else f"{column.name or 'tensor'}: {column.dtype} {column.shape}"
        for column in inputs
    )
    return ", ".join(parts)


def _size(shape: Any) -> int | None:
    if not isinstance(shape, list) or not all(isinstance(length, int) and length >= 0 for length in shape):
        return None
    return math.prod(shape)


def _row_misfit(value: Any, columns: Sequence[ColumnInput]) -> str | None:
    """What does not fit in a row without names, whose values belong to the columns by position."""
    if len(columns) == 1:  # a bare value is a row of it
        if columns[0].type in _NESTED:
            return None
        value = [row if isinstance(row, list) else [row] for row in (value if isinstance(value, list) else [value])]
    if not isinstance(value, list):
        return f"a value of type {type(value).__name__} that is not a list"
    rows = value if value and all(isinstance(row, list) for row in value) else [value]
    required = sum(column.required for column in columns)
    for row in rows:
        if not required <= len(row) <= len(columns):
            return f"a row of {len(row)} values for {len(columns)} columns"
        for cell, column in zip(row, columns, strict=False):
            if not _fits(cell, column.type, required=column.required):
                return f"{cell!r} for column {column.name!r} of type {column.type}"
    return None


def _named_columns_misfit(value: Mapping[str, Any], columns: Sequence[ColumnInput]) -> str | None:
    """What does not fit in values by the name of their column."""
    for column in columns:
        if column.name not in value:
            if column.required:
                return f"no value for the required column {column.name!r}"
            continue
        cells = value[column.name] if isinstance(value[column.name], list) else [value[column.name]]
        for cell in cells:
            if not _fits(cell, column.type, required=column.required):
                return f"{cell!r} for column {column.name!r} of type {column.type}"
    return None


def _record_misfit(row: Mapping[str, Any], columns: Sequence[ColumnInput]) -> str | None:
    for column in columns:
        if column.name not in row:
            if column.required:
                return f"no value for the required column {column.name!r}"
        elif not _fits(row[column.name], column.type, required=column.required):
            return f"{row[column.name]!r} for column {column.name!r} of type {column.type}"
    return None


def _tensor_misfit(value: Any, tensors: Sequence[TensorInput]) -> str | None:
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return next((reason for row in value if (reason := _tensor_misfit(row, tensors))), None)
    if isinstance(value, dict) and len(tensors) == 1 and tensors[0].name is None:
        return None  # only the server knows what an object stands for, such as {"b64": "..."}
    if isinstance(value, dict):
        missing = [tensor.name for tensor in tensors if tensor.name not in value]
        if missing:
            return f"no value for the input {missing[0]!r}"
        pairs = [(tensor, value[tensor.name]) for tensor in tensors if tensor.name is not None]
    elif len(tensors) == 1:
        pairs = [(tensors[0], value)]
    else:
        return f"one unnamed input instead of {len(tensors)} named inputs"
    for tensor, array in pairs:
        if any(isinstance(cell, dict) for cell in _cells(array)):
            continue
        shape = _shape(array)
        if shape is None:
            return "an array whose rows have different lengths"
        # A single row counts as a batch of one.
        if not any(_shape_fits(batch, tensor.shape) for batch in (shape, (1, *shape))):
            return f"an array of shape {shape} for an input of shape {tensor.shape}"
        for cell in _cells(array):
            if not _fits(cell, tensor.dtype, required=True):
                return f"{cell!r} for type {tensor.dtype}"
    return None


def _shape(value: Any) -> tuple[int, ...] | None:
    """The shape of nested lists; None when their lengths differ."""
    if not isinstance(value, list):
        return ()
    shapes = {_shape(element) for element in value}
    if not shapes:
        return (0,)
    inner = shapes.pop()
    return None if shapes or inner is None else (len(value), *inner)


def _shape_fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(size in (-1, length) for length, size in zip(shape, wanted, strict=True))


def _cells(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for element in value:
            yield from _cells(element)
    else:
        yield value


def _fits(value: Any, kind: str, *, required: bool) -> bool:
    """Whether a JSON value fits MLflow's column type or numpy's element type; an unknown type accepts any value."""
    if value is None:
        return not required
    if kind in _INTEGERS or kind.startswith(("int", "uint")):
        return (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, float) and value.is_integer()
        )
    if kind in _FLOATS or kind.startswith("float"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind in ("boolean", "bool"):
        return isinstance(value, bool)
    if kind in ("string", "str"):
        return isinstance(value, str)
    return True

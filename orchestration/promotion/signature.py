"""Whether a request in JSON fits a model's signature."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestration.promotion.model_version import ColumnInput, Signature, TensorInput

_INTEGERS = frozenset({"integer", "long"})
_FLOATS = frozenset({"float", "double"})


def misfit(request: Mapping[str, Any], signature: Signature) -> str | None:
    """What of a request does not fit a signature; None when all fits.

    Judged are `features` (one row, or rows) and MLflow's own `inputs`, `dataframe_split` and `dataframe_records`. A
    request of another form is the model server's own business, and is judged by replaying it.
    """
    inputs: tuple[TensorInput | ColumnInput, ...] = signature.inputs
    if not inputs:
        return None
    tensors = tuple(one for one in inputs if isinstance(one, TensorInput))
    columns = tuple(one for one in inputs if isinstance(one, ColumnInput))
    if "features" in request:
        return _row_misfit(request["features"], columns) if columns else _tensor_misfit(request["features"], tensors)
    if "inputs" in request:
        value = request["inputs"]
        return _named_columns_misfit(value, columns) if columns else _tensor_misfit(value, tensors)
    if "dataframe_split" in request:
        return _split_misfit(request["dataframe_split"], columns, tensors)
    if "dataframe_records" in request:
        rows = request["dataframe_records"]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            return "dataframe_records that is no list of objects"
        if not columns:
            return _tensor_misfit([list(row.values()) for row in rows], tensors)
        return next((reason for row in rows if (reason := _record_misfit(row, columns))), None)
    return None


def _row_misfit(value: Any, columns: Sequence[ColumnInput]) -> str | None:
    """A row without names is taken by position."""
    if not isinstance(value, list):
        return f"features that is no list but {type(value).__name__}"
    rows = value if value and all(isinstance(row, list) for row in value) else [value]
    required = sum(column.required for column in columns)
    for row in rows:
        if not required <= len(row) <= len(columns):
            return f"a row of {len(row)} values for {len(columns)} columns"
        for cell, column in zip(row, columns, strict=False):
            if not _fits(cell, column.type, required=column.required):
                return f"{cell!r} for column {column.name!r} of type {column.type}"
    return None


def _named_columns_misfit(value: Any, columns: Sequence[ColumnInput]) -> str | None:
    """`inputs` of a column signature: a column's values by its name, or rows by position."""
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return next((reason for row in value if (reason := _record_misfit(row, columns))), None)
    if not isinstance(value, dict):
        return _row_misfit(value, columns)
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


def _split_misfit(value: Any, columns: Sequence[ColumnInput], tensors: Sequence[TensorInput]) -> str | None:
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        return "dataframe_split without data"
    rows = value["data"]
    names = value.get("columns")
    if names is None or not columns:
        return _row_misfit(rows, columns) if columns else _tensor_misfit(rows, tensors)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return "dataframe_split whose columns are no list of names"
    for row in rows:
        if not isinstance(row, list) or len(row) != len(names):
            return f"a row that has not the {len(names)} values of its columns"
        reason = _record_misfit(dict(zip(names, row, strict=True)), columns)
        if reason:
            return reason
    return None


def _tensor_misfit(value: Any, tensors: Sequence[TensorInput]) -> str | None:
    if isinstance(value, dict):
        missing = [tensor.name for tensor in tensors if tensor.name not in value]
        if missing:
            return f"no value for the input {missing[0]!r}"
        pairs = [(tensor, value[tensor.name]) for tensor in tensors if tensor.name is not None]
    elif len(tensors) == 1:
        pairs = [(tensors[0], value)]
    else:
        return f"one unnamed input where there are {len(tensors)}"
    for tensor, found in pairs:
        shape = _shape(found)
        if shape is None:
            return "an array whose rows have different lengths"
        # One row stands for a batch of one.
        if not any(_shape_fits(one, tensor.shape) for one in (shape, (1, *shape))):
            return f"shape {shape} for shape {tensor.shape}"
        for cell in _cells(found):
            if not _fits(cell, tensor.dtype, required=True):
                return f"{cell!r} for type {tensor.dtype}"
    return None


def _shape(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return ()
    shapes = {_shape(one) for one in value}
    if not shapes:
        return (0,)
    inner = shapes.pop()
    return None if shapes or inner is None else (len(value), *inner)


def _shape_fits(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(found) == len(wanted) and all(size in (-1, one) for one, size in zip(found, wanted, strict=True))


def _cells(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for one in value:
            yield from _cells(one)
    else:
        yield value


def _fits(value: Any, kind: str, *, required: bool) -> bool:
    """Whether a JSON value can be of MLflow's column type or numpy's element type; unknown types accept anything."""
    if value is None:
        return not required
    if kind in _INTEGERS or kind.startswith(("int", "uint")):
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in _FLOATS or kind.startswith("float"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind in ("boolean", "bool"):
        return isinstance(value, bool)
    if kind in ("string", "str"):
        return isinstance(value, str)
    return True


def described(signature: Signature) -> str:
    """The inputs of a signature in one line."""
    inputs: tuple[TensorInput | ColumnInput, ...] = signature.inputs
    parts = (
        f"{one.name}: {one.type}"
        if isinstance(one, ColumnInput)
        else f"{one.name or 'tensor'}: {one.dtype} {one.shape}"
        for one in inputs
    )
    return ", ".join(parts)

"""Whether a request in JSON fits a model's signature."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestration.promotion.model_version import ColumnInput, Signature, TensorInput

_INTEGERS = frozenset({"integer", "long"})
_FLOATS = frozenset({"float", "double"})


def misfit(request: Mapping[str, Any], signature: Signature) -> str | None:
    """What in a request does not fit a signature; None when everything does.

    This judges `features` (one row, or a list of rows) and MLflow's own `inputs`, `dataframe_split` and
    `dataframe_records`. Only the model server knows any other form, so replaying the request judges it.
    """
    inputs: tuple[TensorInput | ColumnInput, ...] = signature.inputs
    if not inputs:
        return None
    tensors = tuple(tensor for tensor in inputs if isinstance(tensor, TensorInput))
    columns = tuple(column for column in inputs if isinstance(column, ColumnInput))
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
            return "dataframe_records that is not a list of objects"
        if not columns:
            return _tensor_misfit([list(row.values()) for row in rows], tensors)
        return next((reason for row in rows if (reason := _record_misfit(row, columns))), None)
    return None


def _row_misfit(value: Any, columns: Sequence[ColumnInput]) -> str | None:
    """What does not fit in a row without names, whose values belong to the columns by position."""
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


def _named_columns_misfit(value: Any, columns: Sequence[ColumnInput]) -> str | None:
    """What does not fit in `inputs` of a column signature: values by column name, or rows by position."""
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
        return "dataframe_split whose columns are not a list of names"
    for row in rows:
        if not isinstance(row, list) or len(row) != len(names):
            return f"a row that does not have the {len(names)} values of its columns"
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
        return f"one unnamed input instead of {len(tensors)} named inputs"
    for tensor, array in pairs:
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
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in _FLOATS or kind.startswith("float"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind in ("boolean", "bool"):
        return isinstance(value, bool)
    if kind in ("string", "str"):
        return isinstance(value, str)
    return True


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

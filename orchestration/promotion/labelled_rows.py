"""Labelled rows: what was asked of a model, and what turned out to be right, as a table that a policy names."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from orchestration.promotion.model_version import ColumnInput, Signature
from orchestration.promotion.problems import InvalidInputError, Problem

if TYPE_CHECKING:
    from pandas import DataFrame

MAX_ROWS = 1000
"""How many rows the served model is asked about at most; the newest ones, when the table has times."""
_FORMS = "CSV, JSON Lines, JSON (a list of objects, or a table of mlflow.log_table) or Parquet"


@dataclass(frozen=True)
class LabelledRows:
    """Rows that have a label, in the order of the table, or by their times when it has them."""

    columns: tuple[str, ...]
    """The names of the inputs."""
    inputs: tuple[tuple[Any, ...], ...]
    """One tuple for each row, with a value for each column as JSON has them; None where it has none."""
    labels: tuple[Any, ...]
    """What each row's prediction should have been."""
    newest: float | None
    """When the newest of them was labelled, in seconds since the epoch; None when the table has no times."""
    digest: str
    """The sha256 of the labelled rows, so that unchanged rows are recognised."""
    later: int = 0
    """How many rows were left out because their time has yet to come, as with a wrong clock or milliseconds."""

    def column(self, name: str) -> list[Any]:
        """Return a column's values."""
        at = self.columns.index(name)
        return [row[at] for row in self.inputs]


def read_rows(
    subject: str,
    content: bytes,
    *,
    label: str,
    labelled_at: str | None = None,
    since: float = 0.0,
    until: float = math.inf,
    signature: Signature | None = None,
) -> LabelledRows:
    """Read a table's rows that have a label.

    Args:
        subject: Where the table is, for errors.
        content: The table's file.
        label: The name of the column that has the labels.
        labelled_at: The name of the column that says when each row was labelled: ISO 8601, UTC unless it says
            otherwise, or seconds since the epoch.
        since: Rows that were labelled before this time, in seconds since the epoch, are left out.
        until: Rows with a later time are left out, and counted: they would be the newest ones for ever.
        signature: The model's signature. Its columns are the inputs; without one, all columns are that are left.

    Raises:
        InvalidInputError: the content is no table, or has not the columns.
    """
    table = read_table(subject, content)
    inputs = _input_columns(subject, table, signature, {label, labelled_at})
    for name in filter(None, (label, labelled_at)):
        if name not in table.columns:
            raise _refuse(subject, f"a column {name!r}", f"the columns {_listed(list(table.columns))}")
    table = table[table[label].notna()]
    newest, later = None, 0
    if labelled_at is not None:
        times = _seconds(subject, table, labelled_at)
        later = int((times > until).sum())
        within = (times >= since) & (times <= until)
        table = table.assign(**{labelled_at: times})[within].sort_values(labelled_at, kind="stable")
        newest = float(table[labelled_at].iloc[-1]) if len(table) else None
    table = table.tail(MAX_ROWS)
    digest = hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()
    values = [column_values(table, name) for name in inputs]
    return LabelledRows(
        columns=tuple(inputs),
        inputs=tuple(zip(*values, strict=True)),
        labels=tuple(column_values(table, label)),
        newest=newest,
        digest=digest,
        later=later,
    )


def read_table(subject: str, content: bytes) -> "DataFrame":
    """Read a table in any of the forms that people keep tables in, told apart by their content.

    Raises:
        InvalidInputError: it is none of them, or has no columns with names.
    """
    import pandas as pd

    start = content[:64].lstrip()
    try:
        if content.startswith(b"PAR1"):
            table = pd.read_parquet(BytesIO(content))
        elif start.startswith(b"{") and b'"columns"' in content[:65536] and b'"data"' in content:
            table = pd.read_json(BytesIO(content), orient="split", dtype=False)
        elif start.startswith(b"{"):
            table = pd.read_json(BytesIO(content), lines=True, dtype=False)
        elif start.startswith(b"["):
            table = pd.read_json(BytesIO(content), orient="records", dtype=False)
        else:
            table = pd.read_csv(BytesIO(content))
    # Each reader has exceptions of its own for what it cannot read (pyarrow's ArrowInvalid is a ValueError).
    except (ValueError, KeyError, TypeError, AttributeError, OSError, pd.errors.ParserError) as error:
        raise _refuse(subject, f"a table in {_FORMS}", f"content that cannot be read ({_first_line(error)})") from error
    if not all(isinstance(name, str) for name in table.columns) or len(set(table.columns)) < len(table.columns):
        raise _refuse(subject, "columns with a name of their own", _listed([str(name) for name in table.columns]))
    return table


def _input_columns(
    subject: str, table: "DataFrame", signature: Signature | None, others: set[str | None]
) -> Sequence[str]:
    """The columns that the model takes: those of its signature, in its order, or all but the others."""
    known = [each for each in (signature.inputs if signature is not None else ()) if isinstance(each, ColumnInput)]
    if not known:
        return [name for name in table.columns if name not in others]
    if missing := [each.name for each in known if each.required and each.name not in table.columns]:
        raise _refuse(subject, "the columns of the model's signature", f"no column {_listed(missing)}")
    return [each.name for each in known if each.name in table.columns]


def _seconds(subject: str, table: "DataFrame", name: str) -> Any:
    """A column's times in seconds since the epoch."""
    import pandas as pd

    column = table[name]
    if pd.api.types.is_numeric_dtype(column):
        return column.astype("float64")
    try:
        times = pd.to_datetime(column, utc=True, format="ISO8601")
    except (ValueError, TypeError) as error:
        expected = f"times in column {name!r}, such as 2026-03-01T12:00:00Z"
        raise _refuse(subject, expected, _first_line(error)) from error
    return (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()


def column_values(table: "DataFrame", name: str) -> list[Any]:
    """Return a column as JSON has it: Python's own numbers and texts, lists, and None for what is missing."""
    values = table[name].astype(object).where(table[name].notna(), None).tolist()
    return [value if isinstance(value, bool | int | float | str | list | None) else str(value) for value in values]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown or "none"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _refuse(subject: str, expected: str, found: str) -> InvalidInputError:
    return InvalidInputError(
        Problem(subject, expected, found, "Correct the table, or evaluation in the policy (docs/drift.md).")
    )

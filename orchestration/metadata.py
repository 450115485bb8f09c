"""How a stage's findings are shown in Dagster: tables, numbers that are charted, links, diffs and reasons."""

import math
from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten

import dagster as dg

from orchestration.promotion.problems import Problem
from orchestration.stages.results import Check

_TAG_WIDTH = 250
"""How many characters of a reason a run's tag keeps."""
_CUT = " ..."


def check_results(checks: Sequence[Check], *, judged: bool = True) -> Iterator[dg.AssetCheckResult]:
    """Yield one result per check, with its table and its numbers.

    Args:
        checks: The checks.
        judged: Whether a check that failed is a judgement, which is shown in yellow; what is broken is red.
    """
    severity = dg.AssetCheckSeverity.WARN if judged else dg.AssetCheckSeverity.ERROR
    for check in checks:
        metadata: dict[str, dg.MetadataValue] = {}
        if check.rows:
            metadata["details"] = table(check.rows)
        metadata.update({name: dg.MetadataValue.float(short(value)) for name, value in check.numbers.items()})
        yield dg.AssetCheckResult(
            check_name=check.name,
            passed=check.passed,
            severity=severity,
            description=check.summary,
            metadata=metadata,
        )


def facts_metadata(facts: Mapping[str, object]) -> dict[str, dg.MetadataValue]:
    """Show each of a stage's facts in the form that suits it; None is left out."""
    return {name: _value(name, fact) for name, fact in facts.items() if fact is not None}


def problem_metadata(problem: Problem) -> dict[str, dg.MetadataValue]:
    """Show a problem's four parts, one line each; as plain text, because a run's log hides Markdown behind a click."""
    return {
        "what": dg.MetadataValue.text(problem.subject),
        "expected": dg.MetadataValue.text(problem.expected),
        "found": dg.MetadataValue.text(problem.found),
        "next_step": dg.MetadataValue.text(problem.next_step),
    }


def sentence(text: str) -> str:
    """Put a text on one line and cut it at a word, for the tag of a run; never empty when the text is not."""
    line = " ".join(text.split())
    cut = shorten(line, _TAG_WIDTH, placeholder=_CUT)
    return line[:_TAG_WIDTH] if cut == _CUT.strip() else cut


def short(value: float) -> float:
    """Round a measured number to four significant digits for a person; the evidence keeps all of them."""
    if value == 0 or not math.isfinite(value):
        return float(value)
    return round(float(value), max(0, 3 - math.floor(math.log10(abs(value)))))


def table(rows: Sequence[Mapping[str, object]]) -> dg.TableMetadataValue:
    """Show rows with the same columns as a table."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    records = [dg.TableRecord({name: _plain(row.get(name)) for name in columns}) for row in rows]
    schema = dg.TableSchema(columns=[dg.TableColumn(name, _column_type(records, name)) for name in columns])
    return dg.MetadataValue.table(records, schema)


def _value(name: str, fact: object) -> dg.MetadataValue:
    if name == "diff":
        return dg.MetadataValue.md(f"```diff\n{fact}\n```")
    if name.endswith("_url"):
        return dg.MetadataValue.url(str(fact))
    if name.endswith("_at") and isinstance(fact, float):
        return dg.MetadataValue.timestamp(fact)
    if isinstance(fact, bool):
        return dg.MetadataValue.bool(fact)
    if isinstance(fact, int):
        return dg.MetadataValue.int(fact)
    if isinstance(fact, float):
        return dg.MetadataValue.float(short(fact))
    if isinstance(fact, Sequence) and fact and all(isinstance(row, Mapping) for row in fact):
        return table(fact)
    return dg.MetadataValue.text(str(fact))


def _plain(value: object) -> str | int | float | bool:
    """A table's cells are plain values; a dash stands for None."""
    if isinstance(value, float):
        return short(value)
    if isinstance(value, str | int):
        return value
    return "-" if value is None else str(value)


def _column_type(records: Sequence[dg.TableRecord], name: str) -> str:
    values = [record.data[name] for record in records]
    if values and all(isinstance(value, bool) for value in values):
        return "bool"
    if values and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return "float"
    return "string"

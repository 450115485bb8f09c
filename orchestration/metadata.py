"""How a stage's findings are shown in Dagster: tables, numbers that are charted, links, diffs and reasons."""

from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from orchestration.promotion.problems import Problem
from orchestration.stages.session import Check


def check_results(checks: Sequence[Check]) -> Iterator[dg.AssetCheckResult]:
    """One result a check, with its summary, its table and its numbers."""
    for check in checks:
        metadata: dict[str, dg.MetadataValue] = {"summary": dg.MetadataValue.text(check.summary)}
        if check.rows:
            metadata["details"] = table(check.rows)
        metadata.update({name: dg.MetadataValue.float(float(value)) for name, value in check.numbers.items()})
        yield dg.AssetCheckResult(
            check_name=check.name, passed=check.passed, description=check.summary, metadata=metadata
        )


def facts_metadata(facts: Mapping[str, object]) -> dict[str, dg.MetadataValue]:
    """A stage's facts, each shown as what it is; None is left out."""
    return {name: _value(name, fact) for name, fact in facts.items() if fact is not None}


def problem_metadata(problem: Problem) -> dict[str, dg.MetadataValue]:
    """The four parts of a problem, for the page of a run that ended."""
    text = (
        f"**{problem.subject}**\n\n"
        f"| | |\n|---|---|\n| expected | {_cell(problem.expected)} |\n| found | {_cell(problem.found)} |\n"
        f"| next step | {_cell(problem.next_step)} |\n"
    )
    return {"reason": dg.MetadataValue.md(text)}


def table(rows: Sequence[Mapping[str, object]]) -> dg.TableMetadataValue:
    """A table of rows that have the same columns."""
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
        return dg.MetadataValue.float(fact)
    if isinstance(fact, Sequence) and fact and all(isinstance(row, Mapping) for row in fact):
        return table(fact)
    return dg.MetadataValue.text(str(fact))


def _plain(value: object) -> str | int | float | bool:
    """A table's cells are plain: what has no number says so with a dash."""
    if isinstance(value, str | int | float | bool):
        return value
    return "-" if value is None else str(value)


def _column_type(records: Sequence[dg.TableRecord], name: str) -> str:
    values = [record.data[name] for record in records]
    if values and all(isinstance(value, bool) for value in values):
        return "bool"
    if values and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return "float"
    return "string"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

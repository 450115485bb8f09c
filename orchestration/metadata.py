"""How a stage's findings are shown in Dagster: tables, numbers that are charted, links, diffs and reasons."""

import math
from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from orchestration.promotion.problems import Problem
from orchestration.stages.session import Check

CHECKS_SAY: Mapping[str, str] = {
    "is_challenger": "The challenger alias names this version; it is newer than the champion and has not ended before.",
    "run_finished": "Its training run ended as FINISHED.",
    "quality": "Its metrics keep the policy's bounds and are no worse than the champion's, measured on the same data.",
    "recorded_requests_fit": "Its own recorded requests, and the champion's, fit its signature.",
    "image_published": "Its image is in the registry, by digest, for the nodes' architecture, and serves this version.",
    "dependencies_ready": "Before the commit: all that it needs answers, sync is automated, and there is a way back.",
    "one_commit": "The branch has exactly one commit of this promotion.",
    "rolled_out": "Five things at once: revision, operation, live image, complete replicas, digests of their pods.",
    "recorded_requests": "Each new pod and the service answer the recorded requests as they were recorded.",
    "slos": "Every SLO of the policy held for the whole soak, with enough samples and traffic.",
    "champion_alias": "The champion alias names this version: written, and read back.",
}
"""What each check proves, for its page."""


def check_results(checks: Sequence[Check]) -> Iterator[dg.AssetCheckResult]:
    """One result a check, with its table and its numbers."""
    for check in checks:
        metadata: dict[str, dg.MetadataValue] = {}
        if check.rows:
            metadata["details"] = table(check.rows)
        metadata.update({name: dg.MetadataValue.float(short(value)) for name, value in check.numbers.items()})
        yield dg.AssetCheckResult(
            check_name=check.name, passed=check.passed, description=check.summary, metadata=metadata
        )


def facts_metadata(facts: Mapping[str, object]) -> dict[str, dg.MetadataValue]:
    """A stage's facts, each shown as what it is; None is left out."""
    return {name: _value(name, fact) for name, fact in facts.items() if fact is not None}


def problem_metadata(problem: Problem) -> dict[str, dg.MetadataValue]:
    """The four parts of a problem, a line each; as plain text, because Markdown in a run's log hides behind a click."""
    return {
        "what": dg.MetadataValue.text(problem.subject),
        "expected": dg.MetadataValue.text(problem.expected),
        "found": dg.MetadataValue.text(problem.found),
        "next_step": dg.MetadataValue.text(problem.next_step),
    }


def short(value: float) -> float:
    """A measured number as a person reads it: four digits, whole numbers whole. The evidence keeps all digits."""
    if value == 0 or not math.isfinite(value):
        return float(value)
    return round(float(value), max(0, 3 - math.floor(math.log10(abs(value)))))


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
        return dg.MetadataValue.float(short(fact))
    if isinstance(fact, Sequence) and fact and all(isinstance(row, Mapping) for row in fact):
        return table(fact)
    return dg.MetadataValue.text(str(fact))


def _plain(value: object) -> str | int | float | bool:
    """A table's cells are plain: what has no number says so with a dash."""
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

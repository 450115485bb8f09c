"""Asking the served champion about rows whose labels came later, and keeping how good it still is."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestration.commands.status import read_status
from orchestration.promotion.input_drift import FEWEST, FeatureDrift, input_drift
from orchestration.promotion.json_paths import parse_path
from orchestration.promotion.labelled_rows import LabelledRows, column_values, read_rows, read_table
from orchestration.promotion.model_version import ModelVersion, Signature, TrainingRun
from orchestration.promotion.platform import Platform
from orchestration.promotion.policy import EvaluationPolicy, Policy
from orchestration.promotion.policy_status import PolicyStatus
from orchestration.promotion.ports import Clients
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.recorded_requests import REPLAY_HEADER
from orchestration.promotion.served_quality import ServedQuality, prediction_of, score
from orchestration.promotion.serving_protocols import PROTOCOLS

_DRIFTED_KEPT = 50
"""How many names of drifted inputs are kept for later; all of them are in the evaluation's metrics."""
_EVERY_ROWS = 200
"""After how many rows a line of progress is shown."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found, or found before when there are no new labels."""

    found: ServedQuality
    is_new: bool
    drift: tuple[FeatureDrift, ...] = ()
    """How each input differs from the training sample; empty when nothing is new."""
    url: str = ""
    """The page that keeps it; empty when nothing is new."""


@dataclass(frozen=True)
class NotNow:
    """Why the champion cannot be evaluated at this moment, although nothing is wrong."""

    problem: Problem
    last: ServedQuality | None
    """What was found the last time."""


def evaluate_champion(platform: Platform, name: str, say: Callable[[str], None]) -> Evaluation | NotNow:
    """Ask the served champion about labelled rows, measure its answers, and keep that in the registry.

    Nothing is asked unless the champion is what serves, and no promotion is under way: recorded or real requests of a
    gate must not be mixed with these. Rows that were evaluated already are not evaluated again.

    Args:
        platform: The platform.
        name: The policy's name.
        say: Receives lines of progress.

    Raises:
        DependencyError: something does not answer.
        InvalidInputError: the policy does not say how, or the rows or the champion's run are unusable.
    """
    policy = platform.policy(name)
    evaluation = policy.evaluation
    if evaluation is None:
        expected = "evaluation, with the rows and their label"
        raise InvalidInputError(Problem(f"policy {name}", expected, "none", "Add it (docs/drift.md)."))
    clients = platform.clients(policy)
    before, last = _settled_champion(platform, name), clients.registry.last_evaluation(name)
    if isinstance(before, Problem):
        return NotNow(before, last)
    version, run = _trained(clients, policy, before)
    signature = clients.registry.signature(version)
    rows = _labelled_rows(clients, policy, evaluation, run, signature)
    if last is not None and (last.version, last.rows_digest) == (before, rows.digest):
        return Evaluation(last, is_new=False)
    if len(rows.labels) < evaluation.min_rows:
        return NotNow(_too_few(evaluation, rows), last)
    predictions = _ask(clients, policy, evaluation, rows, signature, say)
    drift = _drift(clients, evaluation, version, run, rows)
    found = ServedQuality(
        policy=name,
        model=policy.model,
        version=before,
        metric=policy.evaluated_metric,
        value=score(policy.evaluated_metric, rows.labels, predictions),
        baseline=run.metrics[policy.evaluated_metric],
        rows=len(rows.labels),
        rows_digest=rows.digest,
        newest_label=rows.newest,
        at=clients.clock.now(),
    )
    if isinstance(drift, str):
        found, drift = replace(found, not_compared=drift), ()
    drifted = tuple(each.name for each in drift if each.drifted)
    found = replace(found, compared_inputs=len(drift), drifted_inputs=drifted[:_DRIFTED_KEPT])
    after = _settled_champion(platform, name)
    if after != before:
        return NotNow(_not_now(name, f"version {after}") if isinstance(after, int) else after, last)
    return Evaluation(found, True, drift, clients.registry.record_evaluation(found, drift))


def _settled_champion(platform: Platform, name: str) -> int | Problem:
    """The champion's number if it is what serves and nothing is under way; else what is.

    Raises:
        DependencyError: it is not known, because something does not answer.
        InvalidInputError: the policy, its manifest or a setting cannot be used.
    """
    (status,) = read_status(platform, [name])
    if status.broken is not None:
        raise InvalidInputError(status.broken)
    if status.agrees is None:
        raise DependencyError(status.unanswered[0][1])
    why = _unsettled(status)
    if why is None and status.champion is not None:
        return status.champion
    return _not_now(name, why or "no champion")


def _unsettled(status: PolicyStatus) -> str | None:
    if promotions := [act for act in status.under_way if act.version is not None]:
        return f"version {promotions[0].version} is {promotions[0].state}"
    if status.live is None or status.live.version != status.champion:
        return f"version {status.champion} is the champion, and something else serves"
    return status.differences[0] if status.differences else None


def _not_now(name: str, found: str) -> Problem:
    expected = "a champion that serves, and no promotion under way"
    next_step = f"Evaluate again later; `incumbent status {name}` shows what is under way."
    return Problem(f"policy {name}", expected, found, next_step)


def _trained(clients: Clients, policy: Policy, number: int) -> tuple[ModelVersion, TrainingRun]:
    """The champion with its training run, which has the baseline."""
    version = clients.registry.version(policy.model, number)
    run = clients.registry.training(version) if version is not None else None
    metric = policy.evaluated_metric
    if version is None or run is None or not math.isfinite(run.metrics.get(metric, math.nan)):
        expected = f"a training run with a finite metric {metric}, which is the baseline"
        logged = [f"{name} {value:g}" for name, value in sorted(run.metrics.items())] if run is not None else []
        found = "no run" if run is None else f"a run without it ({', '.join(logged) or 'no metrics'})"
        next_step = "Log the metric with the run, or choose another with evaluation.metric."
        raise InvalidInputError(Problem(f"version {number} of {policy.model}", expected, found, next_step))
    return version, run


def _labelled_rows(
    clients: Clients, policy: Policy, evaluation: EvaluationPolicy, run: TrainingRun, signature: Signature | None
) -> LabelledRows:
    subject, content = _table(clients, policy, evaluation, run)
    now = clients.clock.now()
    return read_rows(
        subject,
        content,
        label=evaluation.label,
        labelled_at=evaluation.labelled_at,
        since=now - evaluation.window,
        until=now,
        signature=signature,
    )


def _table(clients: Clients, policy: Policy, evaluation: EvaluationPolicy, run: TrainingRun) -> tuple[str, bytes]:
    """Where the labelled rows are, and what is there."""
    if not evaluation.has_address:
        subject, content = f"artifact {evaluation.rows} of {run}", None
        content = clients.registry.artifact(run.run_id, evaluation.rows)
        if content is None:
            next_step = "Log the table with the champion's run, or give its address (evaluation.rows in the policy)."
            raise InvalidInputError(Problem(subject, "a table of labelled rows", "no such artifact", next_step))
        return subject, content
    subject = f"the labelled rows at {evaluation.rows}"
    answer = clients.service.reach(evaluation.rows, evaluation.headers, policy.service.timeout)
    if answer.status != 200:
        next_step = "Check the address (evaluation.rows in the policy), and its server."
        raise DependencyError(Problem(subject, "a table", answer.described, next_step))
    return subject, answer.body


def _too_few(evaluation: EvaluationPolicy, rows: LabelledRows) -> Problem:
    within = f" within {evaluation.window / 3600:g} h" if evaluation.labelled_at is not None else ""
    later = f", and {rows.later} with a time in the future" if rows.later else ""
    return Problem(
        "the labelled rows",
        f"{evaluation.min_rows} of them{within}",
        f"{len(rows.labels)}{later}",
        "Wait for more labels, or need fewer (evaluation.min_rows in the policy).",
    )


def _ask(
    clients: Clients,
    policy: Policy,
    evaluation: EvaluationPolicy,
    rows: LabelledRows,
    signature: Signature | None,
    say: Callable[[str], None],
) -> list[Any]:
    """Ask the service about each row, one after the other, and return the predictions."""
    service = policy.service
    url, headers = service.address(policy.model), {**service.headers, REPLAY_HEADER: "evaluation"}
    places = (parse_path(evaluation.prediction),) if evaluation.prediction else PROTOCOLS[service.protocol].predictions
    predictions: list[Any] = []
    for request in _requests(policy, rows, signature):
        at = len(predictions) + 1
        if at % _EVERY_ROWS == 0:
            say(f"asked about {at} of {len(rows.labels)} rows")
        answer = clients.service.ask(url, json.dumps(request).encode(), headers, service.timeout)
        shown = answer.body[:200].decode("utf-8", "replace")
        if not answer.is_routed:
            next_step = "Check that the service is up, and try again."
            raise DependencyError(Problem(url, "an answer", answer.described, next_step))
        try:
            predictions.append(prediction_of(_read(answer.status, answer.body), places))
        except ValueError as error:
            next_step = "Correct the row, or evaluation.prediction in the policy."
            raise InvalidInputError(
                Problem(f"row {at} of the labelled rows", "an answer with a prediction", f"{error}: {shown}", next_step)
            ) from error
    return predictions


def _requests(policy: Policy, rows: LabelledRows, signature: Signature | None) -> Iterator[Any]:
    """One request for each row, in the form of the policy's protocol.

    Raises:
        InvalidInputError: the protocol's requests cannot be made of rows.
    """
    if policy.service.protocol == "json":
        yield from (dict(zip(rows.columns, row, strict=True)) for row in rows.inputs)
        return
    example = {"dataframe_split": {"columns": list(rows.columns), "data": [list(row) for row in rows.inputs]}}
    yield from PROTOCOLS[policy.service.protocol].requests(example, signature)


def _read(status: int, body: bytes) -> Any:
    if not 200 <= status <= 299:
        raise ValueError(f"status {status}")
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ValueError("content that is not JSON") from None


def _drift(
    clients: Clients, evaluation: EvaluationPolicy, version: ModelVersion, run: TrainingRun, rows: LabelledRows
) -> tuple[FeatureDrift, ...] | str:
    """Compare the rows' inputs with the training sample; or say why not."""
    sample = _sample(clients, evaluation, version, run, rows.columns)
    if isinstance(sample, str):
        return sample
    found = input_drift(rows.columns, [rows.column(name) for name in rows.columns], sample)
    return found or f"fewer than {FEWEST} values of each input in the rows or in the training sample"


def _sample(
    clients: Clients,
    evaluation: EvaluationPolicy,
    version: ModelVersion,
    run: TrainingRun,
    columns: Sequence[str],
) -> list[list[Any]] | str:
    """The training sample's values by column; why there are none."""
    if evaluation.sample is not None:
        subject = f"artifact {evaluation.sample} of {run}"
        content = clients.registry.artifact(run.run_id, evaluation.sample)
        if content is None:
            return f"there is no {subject}"
    else:
        subject = f"the input example of {version}"
        frame = (clients.registry.input_example(version) or {}).get("dataframe_split")
        if not isinstance(frame, dict):
            return "the run has no sample of its training data (evaluation.sample in the policy)"
        content = json.dumps({"columns": frame.get("columns"), "data": frame.get("data")}).encode()
    table = read_table(subject, content)
    if missing := [name for name in columns if name not in table.columns]:
        return f"{subject} has no column {missing[0]!r}"
    return [column_values(table, name) for name in columns]

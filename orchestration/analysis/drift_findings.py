"""From the facts of a drift alert to what a person reads: what differs between the champion and the one before."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestration.analysis.drift import Drift
from orchestration.analysis.markdown import code
from orchestration.analysis.report import Findings, Section, issue_title
from orchestration.promotion.model_version import Dataset, TrainingRun
from orchestration.promotion.problems import ProblemError
from orchestration.promotion.quality import EVALUATION_CONTEXTS
from orchestration.promotion.reigns import Reign
from orchestration.promotion.served_quality import is_error
from orchestration.promotion.texts import one_line, read_json_object
from orchestration.promotion.timestamps import show_time

_METRIC = "accuracy"
"""What the numbers are called where no policy says what is measured."""
_SAME = 0.005
"""Two measurements of a metric that differ by less, as a part of the baseline or of 1, are the same one, rounded."""
_CHANGED_SIZE = 0.2
"""By which part a number in a data set's profile must differ to be told as a cause."""
_DIFFERENCES_TOLD = 12
_CODE = "mlflow.source.git.commit"


@dataclass(frozen=True)
class Version:
    """A model version and its training run; None when the run is gone, or could not be read."""

    number: int
    run: TrainingRun | None


@dataclass(frozen=True)
class PolicyDrift:
    """The champion under one policy, and the champion before it."""

    policy: str
    champion: Version | None
    former: Version | None
    reign: Reign | None
    """What serves now by Git, with since when."""
    metric: str = _METRIC
    """What the policy measures of the served champion."""
    is_known: bool = True
    """Whether the registry told who the champion is."""
    outcome: str = ""
    """What the policy's `on_drift` led to, as Markdown."""


@dataclass(frozen=True)
class DriftFacts:
    """All that was collected about a drift alert."""

    drift: Drift
    at: float
    """When it was collected, in seconds since the epoch."""
    policies: tuple[PolicyDrift, ...] = ()
    gaps: tuple[str, ...] = ()
    """What could not be found out, and why, as Markdown."""
    failure: ProblemError | None = None
    """Why what a policy asks for was not done."""


def drift_findings(facts: DriftFacts) -> Findings:
    """Tell a drift alert's facts."""
    drift = facts.drift
    said = drift.said(_metric(facts))
    return Findings(
        title=issue_title(f"Drift of {drift.model}: {said}"),
        subject=f"Drift alert about {_subject(drift)}: {said}, looked at {show_time(facts.at)}.",
        happened=tuple(line for known in facts.policies for line in _happened(known, facts)),
        look_at=tuple(dict.fromkeys(line for known in facts.policies for line in _look_at(known, drift))),
        sections=tuple(section for known in facts.policies for section in _sections(known)),
        gaps=facts.gaps or (() if facts.policies else (_no_policy(drift),)),
        state=dict(_state(facts)),
    )


def _metric(facts: DriftFacts) -> str:
    return facts.policies[0].metric if facts.policies else _METRIC


def _subject(drift: Drift) -> str:
    version = f"version {drift.version} of " if drift.version is not None else ""
    policy = f" under {code(drift.policy)}" if drift.policy else ""
    return f"{version}the model {code(drift.model)}{policy}"


def _no_policy(drift: Drift) -> str:
    which = f"No policy {code(drift.policy)}" if drift.policy else "No policy"
    return f"{which} promotes the model {code(drift.model)}."


def _happened(known: PolicyDrift, facts: DriftFacts) -> Iterator[str]:
    policy = code(known.policy)
    if known.champion is None and known.is_known:
        yield f"Under {policy} there is no champion."
    elif known.champion is not None:
        serves = known.reign is not None and known.reign.version == known.champion.number
        since = f", since {show_time(known.reign.since)} by {known.reign.began}" if known.reign and serves else ""
        before = f"; before it, version {known.former.number}" if known.former is not None else ""
        yield f"Under {policy} version {known.champion.number} is the champion{since}{before}."
    yield from likely_causes(known, facts.drift)
    if known.outcome:
        yield known.outcome


def likely_causes(known: PolicyDrift, drift: Drift) -> Iterator[str]:
    """Say, as Markdown, what the registry's data points to; nothing that the data does not show."""
    now = known.champion.run if known.champion is not None else None
    before = known.former.run if known.former is not None else None
    if now is None:
        return
    trained = now.metrics.get(known.metric)
    if trained is not None and drift.is_confirmed(known.metric):
        yield from _then_or_since(trained, known.metric, drift)
    if before is None:
        return
    for context in sorted({each.context or "" for each in (*now.datasets, *before.datasets)}):
        yield from _data_causes(context, _of(now, context), _of(before, context))
    parameters = changed(before.parameters, now.parameters)
    if parameters:
        yield f"Trained with other parameters than the version before: {_changes(parameters)}."
    code_before, code_now = before.tags.get(_CODE), now.tags.get(_CODE)
    if code_before and code_now and code_before != code_now:
        yield f"Trained by other code: commit {code(code_now[:12])}, before it {code(code_before[:12])}."


def _then_or_since(trained: float, metric: str, drift: Drift) -> Iterator[str]:
    assert drift.current is not None
    assert drift.baseline is not None
    if abs(trained - drift.current) <= _same(drift.baseline):
        yield (
            f"The version had this {metric} ({trained:g}) when it was trained, so it has not become worse since: "
            "what was promoted was worse than the baseline."
        )
    elif _was_as_good(trained, metric, drift.baseline):
        yield (
            f"The version had {metric} {trained:g} when it was trained, so it has become worse since: "
            "the inputs, or what they mean, have changed."
        )
    else:
        yield (
            f"The version had {metric} {trained:g} when it was trained: worse than the baseline, and it is "
            "worse still now."
        )


def _was_as_good(trained: float, metric: str, baseline: float) -> bool:
    """Whether a version was as good in training as the baseline says."""
    worse = trained - baseline if is_error(metric) else baseline - trained
    return worse <= _same(baseline)


def _same(baseline: float) -> float:
    return _SAME * max(1.0, abs(baseline))


def _data_causes(context: str, now: Mapping[str, Dataset], before: Mapping[str, Dataset]) -> Iterator[str]:
    what = f"data set for {code(context)}" if context else "data set"
    if not now or not before:
        missing = "this version's run" if not now else "the run of the version before"
        yield f"The {what} of {missing} was not logged, so the two cannot be compared."
        return
    if {each.digest for each in now.values()} == {each.digest for each in before.values()}:
        return
    measured = ", so their metrics were not measured on the same data" if context in EVALUATION_CONTEXTS else ""
    yield f"Another {what} than the version before{measured}: {_names(now)}, before it {_names(before)}."
    for name in now.keys() & before.keys():
        sizes = changed(_profile(before[name]), _profile(now[name]))
        large = {key: values for key, values in sizes.items() if _is_large(*values)}
        if large:
            yield f"The {what} {code(name)} has other statistics: {_changes(large)}."
        if now[name].schema != before[name].schema:
            yield f"The {what} {code(name)} has other columns."


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """Return what differs between two mappings: the values before and now by name, None for one that is absent."""
    names = sorted({*before, *now})
    return {name: (before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)}


def _changes(differences: Mapping[str, tuple[str | None, str | None]]) -> str:
    told = [
        f"{code(name, 80)} {code(now if now is not None else 'not set', 80)} "
        f"(before {code(before if before is not None else 'not set', 80)})"
        for name, (before, now) in list(differences.items())[:_DIFFERENCES_TOLD]
    ]
    more = len(differences) - len(told)
    return ", ".join(told) + (f", and {more} more" if more else "")


def _of(run: TrainingRun, context: str) -> Mapping[str, Dataset]:
    return {each.name: each for each in run.datasets if (each.context or "") == context}


def _names(datasets: Mapping[str, Dataset]) -> str:
    return ", ".join(f"{code(each.name, 80)} ({code(each.digest, 20)})" for each in datasets.values())


def _profile(dataset: Dataset) -> Mapping[str, str]:
    return {str(name): one_line(json.dumps(value)) for name, value in read_json_object(dataset.profile).items()}


def _is_large(before: str | None, now: str | None) -> bool:
    try:
        was, is_now = float(before or "nan"), float(now or "nan")
    except ValueError:
        return True
    return not math.isfinite(was - is_now) or abs(is_now - was) > _CHANGED_SIZE * max(abs(was), abs(is_now))


def _look_at(known: PolicyDrift, drift: Drift) -> Iterator[str]:
    if known.champion is None:
        return
    trained = known.champion.run.metrics.get(known.metric) if known.champion.run is not None else None
    if trained is not None and drift.baseline is not None and _was_as_good(trained, known.metric, drift.baseline):
        yield "The inputs of the last days against the training data, and whether the labels are right."
    yield f"What was promoted when, and why: {code(f'incumbent history {known.policy}')}"
    if known.former is not None:
        back = code(f"incumbent rollback {known.policy} {known.former.number} --reason REASON")
        yield f"To go back to version {known.former.number}: {back}"
    yield f"To keep new versions out meanwhile: {code(f'incumbent hold {known.policy} --reason REASON')}"


def _sections(known: PolicyDrift) -> Iterator[Section]:
    for words, version in (("Champion", known.champion), ("Champion before", known.former)):
        if version is not None:
            yield Section.of(words, f"policy {known.policy}\n" + "\n".join(_version_lines(version)))


def _version_lines(version: Version) -> Iterator[str]:
    yield f"version {version.number}"
    run = version.run
    if run is None:
        yield "its training run is gone"
        return
    yield f"run {run.run_id}, {run.status}"
    for name, value in sorted(run.metrics.items()):
        yield f"metric {name}: {value:g}"
    for name, text in sorted(run.parameters.items()):
        yield f"parameter {name}: {one_line(text)}"
    for each in run.datasets:
        yield f"data set {each.name} for {each.context or 'no context'}: digest {each.digest} {each.profile}".rstrip()
    yield f"code: {run.tags.get(_CODE, 'not stated')}"


def _state(facts: DriftFacts) -> Iterator[tuple[str, str]]:
    yield "Measured", facts.drift.said(_metric(facts))
    for known in facts.policies[:5]:
        if known.champion is not None:
            yield f"Champion under {known.policy}", f"version {known.champion.number}"
        if known.outcome:
            yield f"Done under {known.policy}", known.outcome.replace("`", "")

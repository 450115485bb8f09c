"""A drift alert: collecting what the registry and Git know of the champion, and doing what the policies ask for."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import assert_never

from orchestration.analysis.drift import Drift
from orchestration.analysis.drift_findings import DriftFacts, PolicyDrift, Version
from orchestration.analysis.markdown import code
from orchestration.commands.gaps import Gaps, usable_policies
from orchestration.commands.history import PolicyHistory, read_history
from orchestration.commands.holding import hold_policy
from orchestration.commands.serving import return_to_champion
from orchestration.promotion.acts import Act, ActKind
from orchestration.promotion.decided import Decided
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.platform import Platform
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Registry
from orchestration.promotion.problems import ProblemError
from orchestration.promotion.reigns import Attempt
from orchestration.promotion.timestamps import show_time

BY = "drift alert"
"""Who holds and goes back, in acts and trailers; by this, what was done for a champion is found again."""


def collect_drift(platform: Platform, drift: Drift) -> DriftFacts:
    """Collect what the registry and Git know about a model's champions. Nothing is changed.

    Args:
        platform: The policies and the clients.
        drift: The alert.
    """
    gaps = Gaps()
    known = tuple(
        _policy_drift(platform, policy, gaps)
        for policy in usable_policies(platform, gaps)
        if policy.model == drift.model and drift.policy in ("", policy.name)
    )
    return DriftFacts(drift, platform.clock().now(), known, tuple(gaps.found))


def _policy_drift(platform: Platform, policy: Policy, gaps: Gaps) -> PolicyDrift:
    what = f"The champions under {code(policy.name)}"
    history = gaps.try_to(what, lambda: read_history(platform.git(policy), policy), None)
    reigns = history.history.reigns if history is not None else ()
    found = PolicyDrift(policy.name, None, None, reigns[-1] if reigns else None, policy.evaluated_metric)
    try:
        registry = platform.registry()
        champion = registry.version_by_alias(policy.model, policy.champion_alias)
        if champion is None:
            return found
        found = replace(found, champion=_version(registry, champion))
        former = _former(registry, policy, champion, history)
        return replace(found, former=_version(registry, former) if former is not None else None)
    except ProblemError as error:
        gaps.note(what, error)
        return replace(found, is_known=found.champion is not None)


def _version(registry: Registry, version: ModelVersion) -> Version:
    return Version(version.version, registry.training(version))


def _former(
    registry: Registry, policy: Policy, champion: ModelVersion, history: PolicyHistory | None
) -> ModelVersion | None:
    champions = history.history.champions if history is not None else ()
    number = next((each.version for each in champions if each.version != champion.version), None)
    return registry.version(policy.model, number) if number is not None else None


def act_on_drift(platform: Platform, facts: DriftFacts, run: str, say: Callable[[str], None]) -> DriftFacts:
    """Do what the policies' `on_drift` asks for, once for each champion, and return the facts with what was done.

    Nothing is done when the alert's own numbers do not say that the model is worse than its baseline, or when it
    measured another version than the champion: its run may start long after it fired. What fails is told as the
    outcome, and kept as `failure`.

    Args:
        platform: The policies and the clients.
        facts: What was collected.
        run: Names this run as the holder of a lease; no other run has the same name.
        say: Shows progress to a person.
    """
    done, failure = [], None
    for known in facts.policies:
        try:
            outcome = _act(platform, platform.policy(known.policy), known, facts.drift, run, say)
        except ProblemError as error:
            outcome, failure = f"What {code(known.policy)} asks for was not done: {code(error.problem)}", error
        done.append(replace(known, outcome=outcome))
    return replace(facts, policies=tuple(done), failure=failure)


def _act(
    platform: Platform, policy: Policy, known: PolicyDrift, drift: Drift, run: str, say: Callable[[str], None]
) -> str:
    name = code(policy.name)
    if policy.on_drift == "notify":
        return f"Nothing was done under {name}, as its `on_drift` says."
    if known.champion is None:
        return f"Nothing was done under {name}: there is no champion."
    if not drift.is_confirmed(known.metric):
        return f"Nothing was done under {name}: the alert's numbers do not say that {known.metric} is worse."
    if drift.version not in (None, known.champion.number):
        return (
            f"Nothing was done under {name}: the alert is about version {drift.version}, and version "
            f"{known.champion.number} is the champion now."
        )
    reason = f"{_about(known.champion.number)}: {drift.said(known.metric)}"
    history = read_history(platform.git(policy), policy)
    match policy.on_drift:
        case "hold":
            if (before := _held_before(history.acts, known.champion.number)) is not None:
                return f"{name} was held for this champion already, at {show_time(before.at)}; it is not held again."
            return code(hold_policy(platform.git(policy), platform.clock(), policy, BY, reason))
        case "roll_back":
            if (why_not := _left_before(history.history.attempts, known.champion.number)) is not None:
                return f"{name} did not go back: {why_not}"
            return code(return_to_champion(platform, policy.name, None, Decided(BY, reason), run, say))
    assert_never(policy.on_drift)


def _about(champion: int) -> str:
    return f"drift of version {champion}"


def _held_before(acts: Sequence[Act], champion: int) -> Act | None:
    """Find the hold for this champion: what a person resumed stays resumed."""
    holds = (act for act in acts if act.kind is ActKind.HOLD and act.by == BY)
    return next((act for act in holds if act.reason.startswith(f"{_about(champion)}:")), None)


def _left_before(attempts: Sequence[Attempt], champion: int) -> str | None:
    """Say why no drift alert goes back from this champion any more; None when one may."""
    for attempt in reversed(attempts):
        if attempt.by == BY and attempt.returns_from == str(champion):
            return f"that was done for this champion already, at {show_time(attempt.committed_at)}."
        if attempt.by == BY and attempt.identity.version == champion:
            return "an earlier drift alert went back to this champion. A second step back is a person's to take."
    return None

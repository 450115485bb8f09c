"""What is live, and is anything wrong? Dagster's answer: the asset `live_models`, kept fresh by a sensor."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from textwrap import shorten

import dagster as dg

from orchestration.commands.status import Look, begin_look, read_status
from orchestration.metadata import facts_metadata, problem_metadata, table
from orchestration.partitions import policies
from orchestration.promotion.platform import Platform
from orchestration.promotion.policy_status import NO_POLICIES, PolicyStatus, silent_services
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.texts import one_line

EVERY_SECONDS = 15
BOUND_SECONDS = 10.0
"""How long answers are waited for, between two ticks; so what broke is recorded two ticks later at most."""
AT_LEAST_EVERY_SECONDS = 3600.0
"""How often everything is recorded although nothing changed, so that a page's times tell that somebody looks."""

_WIDTH = 160
_KEY = dg.AssetKey("live_models")
_CHECKS = {
    "agrees": "Git, the cluster and the registry agree about what is live, for each policy.",
    "policy_usable": "Each policy, its manifest and the settings can be used as they stand.",
    "services_answer": "Git, the registry, the clusters, Argo CD and Prometheus answer.",
}


@dg.asset(
    key=_KEY,
    partitions_def=policies,
    group_name="live",
    description="What is live under each policy, since when and why; its checks say by name what is wrong. The sensor "
    "live_sensor keeps it fresh; to look at once, materialize it.",
    check_specs=[dg.AssetCheckSpec(name, asset=_KEY, description=description) for name, description in _CHECKS.items()],
)
def live_models(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Iterator[object]:
    """Look at all policies at once, on a person's demand."""
    found = read_status(platform, platform.policy_names())
    yield from (
        dg.AssetCheckResult(
            check_name=one.check_name,
            passed=one.passed,
            severity=one.severity,
            description=one.description,
            metadata=one.metadata,
        )
        for one in check_evaluations(found)
    )
    metadata = next((_metadata(one) for one in found if one.policy == context.partition_key), {})
    yield dg.MaterializeResult(metadata=metadata)


@dataclass(frozen=True)
class _Begun:
    """A look at all policies that began at a time, in seconds since the epoch."""

    at: float
    look: Look | None
    broken: Problem | None = None
    """Why nobody can say which policies there are."""


@dataclass
class LiveLook:
    """What outlives a tick within one process: the look that is under way."""

    begun: _Begun | None = None


@dg.sensor(
    minimum_interval_seconds=EVERY_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,  # it only reads, and starts no run
    description="Looks at what is live under each policy, and records it on live_models when something changed.",
)
def live_sensor(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform], live_look: dg.ResourceParam[LiveLook]
) -> dg.SensorResult:
    """Record what the look that an earlier tick began has found, and begin another one.

    No tick waits for a service: unless `dagster.yaml` gives it threads, the daemon evaluates sensors one after the
    other, and a challenger would wait.
    """
    now, last = platform.clock().now(), live_look.begun
    if last is None:
        live_look.begun = _begin(platform, now)
        return dg.SensorResult(skip_reason="the first look has begun", cursor=context.cursor)
    if last.look is not None and not last.look.is_answered and 0.0 <= now - last.at < BOUND_SECONDS:
        return dg.SensorResult(skip_reason="a look is under way", cursor=context.cursor)
    result = _record(context, now, last)
    live_look.begun = _begin(platform, now)
    return result


def _begin(platform: Platform, now: float) -> _Begun:
    try:
        return _Begun(now, begin_look(platform, platform.policy_names()))
    except InvalidInputError as error:
        return _Begun(now, None, error.problem)


def _record(context: dg.SensorEvaluationContext, now: float, last: _Begun) -> dg.SensorResult:
    """Record what changed since the last time, and everything at least once an hour."""
    recorded_at, before = _read_cursor(context.cursor)
    found = (
        last.look.end(BOUND_SECONDS) if last.look is not None else (PolicyStatus("all policies", broken=last.broken),)
    )
    is_due = not 0.0 <= now - recorded_at < AT_LEAST_EVERY_SECONDS
    marks = {one.policy: _mark(one) for one in found}
    changed = [one for one in found if is_due or before.get(one.policy) != marks[one.policy]]
    if not changed and marks.keys() == before.keys():
        return dg.SensorResult(skip_reason="nothing changed", cursor=context.cursor)
    known = context.instance.get_dynamic_partitions(policies.name or "")
    # The rows stay while nobody knows which policies there are.
    rows, present = (changed, [one.policy for one in found]) if last.look is not None else ([], known)
    return dg.SensorResult(
        asset_events=[*map(_materialization, rows), *check_evaluations(found)],
        dynamic_partitions_requests=_partition_requests(known, present),
        cursor=json.dumps({"at": now if is_due else recorded_at, "marks": marks}, separators=(",", ":")),
    )


def check_evaluations(found: Sequence[PolicyStatus]) -> list[dg.AssetCheckEvaluation]:
    """Judge all policies together, so that whatever is wrong stands in one place, by name.

    That it is not known whether all agree is a warning: the service that does not answer is the error.
    """
    differ = [(one.policy, difference) for one in found for difference in one.differences]
    unknown = [(one.policy, "not known") for one in found if one.agrees is None]
    broken = [(one.policy, one.broken) for one in found if one.broken is not None]
    if not found:
        broken = [("all policies", NO_POLICIES)]
    silent = [(silent.problem.subject, silent.problem) for silent in silent_services(found)]
    agreed = ", ".join(f"{one.policy} {_version(one)}" for one in found) or "there is no policy"
    return [
        _evaluation("agrees", [*differ, *unknown], f"all agree: {agreed}", warns=not differ),
        _evaluation("policy_usable", broken, "all policies can be used"),
        _evaluation("services_answer", silent, "all services answer"),
    ]


def _evaluation(
    name: str, wrong: Sequence[tuple[str, str | Problem]], good: str, *, warns: bool = False
) -> dg.AssetCheckEvaluation:
    """Say what is wrong in one line; what was expected, and what to do, stands in the table below it."""
    found = [(who, one_line(what if isinstance(what, str) else what.found)) for who, what in wrong]
    rows = [
        {"what": what.subject, "expected": what.expected, "found": what.found, "next step": what.next_step}
        for _, what in wrong
        if isinstance(what, Problem)
    ]
    return dg.AssetCheckEvaluation(
        asset_key=_KEY,
        check_name=name,
        passed=not wrong,
        severity=dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR,
        description="; ".join(f"{who}: {shorten(what, _WIDTH, placeholder=' ...')}" for who, what in found) or good,
        metadata={"details": table(rows)} if rows else {},
    )


def _version(one: PolicyStatus) -> str:
    version = one.live.version if one.live is not None else None
    return f"version {version}" if version is not None else "what a person put there"


def _materialization(one: PolicyStatus) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(_KEY, partition=one.policy, metadata=_metadata(one))


def _metadata(one: PolicyStatus) -> Mapping[str, dg.MetadataValue]:
    live = one.live
    facts = {
        "version": live.version if live is not None else None,
        "image": live.image if live is not None else None,
        "since_at": live.since if live is not None else None,
        "why": live.why if live is not None else None,
        "lead_time_seconds": live.lead_seconds if live is not None else None,
        "git_cluster_and_registry_agree": one.agrees,
        "differences": "; ".join(one.differences) or None,
        "champion": one.champion,
        "challenger": one.challenger,
        "under_way": [{"version": act.version, "state": act.state, "reason": act.reason} for act in one.under_way]
        or None,
        "no_answer": "; ".join(str(problem) for _, problem in one.unanswered) or None,
    }
    return {**facts_metadata(facts), **(problem_metadata(one.broken) if one.broken is not None else {})}


def _partition_requests(
    known: Sequence[str], wanted: Sequence[str]
) -> list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest]:
    new, gone = [name for name in wanted if name not in known], [name for name in known if name not in wanted]
    return [
        *([policies.build_add_request(new)] if new else []),
        *([policies.build_delete_request(gone)] if gone else []),
    ]


def _mark(one: PolicyStatus) -> str:
    """Return what tells whether a policy's status changed; not the branch's head, which others move, nor the words of
    a failure, which differ each time.
    """
    silent = [service for service, _ in one.unanswered]
    text = json.dumps([asdict(replace(one, head=None, unanswered=())), silent], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_cursor(text: str | None) -> tuple[float, Mapping[str, str]]:
    """When everything was recorded last, and the marks; an unreadable cursor counts as empty."""
    try:
        raw = json.loads(text or "{}")
        return float(raw["at"]), {str(name): str(mark) for name, mark in raw["marks"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return 0.0, {}

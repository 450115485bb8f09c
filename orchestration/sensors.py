"""The registry sensor: notices a new challenger within seconds, and resumes what a crash or an outage interrupted."""

from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from orchestration.jobs import promote
from orchestration.partitions import model_versions
from orchestration.promotion.branch_standing import committed_promotions
from orchestration.promotion.branch_view import other_under_way
from orchestration.promotion.identity import partition_key
from orchestration.promotion.model_version import ModelVersion, policy_tags
from orchestration.promotion.platform import Platform
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import GitOpsRepository, Registry
from orchestration.promotion.problems import DependencyError, ProblemError
from orchestration.promotion.returns import unfinished_return
from orchestration.promotion.sensor_rules import (
    FIRST_SIGN_SECONDS,
    IDLE_LOOK_SECONDS,
    LONGEST_START_SECONDS,
    LOOK_AGAIN_SECONDS,
    Memory,
    Request,
    is_alive,
    is_new,
    is_unfinished,
    may_look,
    pause_after,
    read_cursor,
    request_tags,
    write_cursor,
)
from orchestration.promotion.state import State

REQUEST_TAG = "incumbent/request"


@dataclass
class _Tick:
    instance: dg.DagsterInstance
    registry: Registry
    git: GitOpsRepository
    now: float


@dg.sensor(
    job=promote,
    minimum_interval_seconds=5,
    description="Asks the registry which version is the challenger, and requests or resumes its promotion.",
)
def challenger_sensor(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SensorResult:
    """Do one tick: a registry that is down fails it; a broken policy is reported and does not stop the others."""
    memories = read_cursor(context.cursor)
    tick = _Tick(context.instance, platform.registry(), platform.git(), platform.clock().now())
    requests: list[dg.RunRequest] = []
    kept: dict[str, Memory] = {}
    broken: list[str] = []
    for name in platform.policy_names():
        try:
            policy = platform.policy(name)
            request, memory = _watch(tick, policy, memories.get(name))
        except ProblemError as error:
            if isinstance(error, DependencyError):
                tick.registry.ping()  # down for all policies: the tick fails here, and not once for each of them
            context.log.error(f"policy {name} is left out: {error}")
            broken.append(name)
            continue
        if memory is not None:
            kept[name] = memory
        if request is not None:
            context.log.info(f"{name}: version {request.version} requested, run {request.number}")
            requests.append(_run_request(policy, request))
    keys = [str(request.partition_key) for request in requests]
    reason = f"no new challenger{'; broken: ' + ', '.join(broken) if broken else ''}"
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else reason,
        dynamic_partitions_requests=[model_versions.build_add_request(keys)] if keys else [],
        cursor=write_cursor(kept),
    )


def _watch(tick: _Tick, policy: Policy, memory: Memory | None) -> tuple[Request | None, Memory | None]:
    """Decide what to run for one policy now, and what to remember."""
    version = tick.registry.version_by_alias(policy.model, policy.challenger_alias)
    alias_changed = memory is None or memory.version != _number(version)
    if version is not None and is_new(version, policy.name):
        version = _write_request(tick, policy, version)
    unfinished = version if version is not None and is_unfinished(version, policy.name) else None
    if not alias_changed and unfinished is None and not may_look(memory, _number(version), tick.now):
        return None, memory
    if unfinished is not None and not may_look(memory, unfinished.version, tick.now):
        return None, memory
    # Git is read only here: an alias changed, a promotion is unfinished and due, or a minute has passed.
    unfinished = _committed_first(tick, policy, version) or unfinished
    if unfinished is None:
        return None, Memory(_number(version), 0, tick.now + IDLE_LOOK_SECONDS)
    if not may_look(memory, unfinished.version, tick.now):
        return None, memory
    return _request(tick, policy, unfinished)


def _number(version: ModelVersion | None) -> int:
    """Return the number of the version that an alias names; 0 for none, so that a quiet policy is remembered, too."""
    return version.version if version is not None else 0


def _write_request(tick: _Tick, policy: Policy, version: ModelVersion) -> ModelVersion:
    tags = policy_tags(policy.name, request_tags(tick.now))
    tick.registry.write_tags(version, tags)
    return ModelVersion(version.model, version.version, version.run_id, version.model_id, {**version.tags, **tags})


def _committed_first(tick: _Tick, policy: Policy, version: ModelVersion | None) -> ModelVersion | None:
    """Return another version that is committed and unfinished, which is finished before the challenger's turn."""
    promotions = committed_promotions(tick.git.history(tick.git.fetch(), policy.name), policy.name)
    returning = unfinished_return(tick.git, promotions)
    if returning is not None:
        return _returning(tick, policy, returning.identity.version)
    number = version.version if version is not None else None
    under_way = other_under_way(tick.registry, policy, promotions, number)
    return under_way[1] if under_way is not None and is_unfinished(under_way[1], policy.name) else None


def _returning(tick: _Tick, policy: Policy, number: int) -> ModelVersion | None:
    """Return the version that a command began to bring back, unless someone is at work on it or a person holds it.

    Its state may be from before, because the registry did not answer, or the command died.
    """
    version = tick.registry.version(policy.model, number)
    is_held = (
        version is not None and version.state(policy.name) is State.HELD and not is_unfinished(version, policy.name)
    )
    lease = tick.git.lease(policy.argocd.application)
    at_work = lease is not None and lease.expires_at > tick.now
    return None if is_held or at_work else version


def _request(tick: _Tick, policy: Policy, version: ModelVersion) -> tuple[Request | None, Memory]:
    """Request a run for an unfinished promotion, unless a run is at work on it.

    The instance is asked how many runs there were, because the instance never starts the same key twice.
    """
    requested_at = version.tag(policy.name, "requested_at") or "by-hand"
    request = Request(version.version, requested_at, 0)
    number = _runs_so_far(tick.instance, policy, request)
    if number > 0 and (_is_about_to_start(tick, policy, request) or _is_worked_on(tick, policy, version)):
        return None, Memory(version.version, number, tick.now + LOOK_AGAIN_SECONDS)
    return (
        Request(version.version, requested_at, number),
        Memory(version.version, number, tick.now + pause_after(number)),
    )


def _is_worked_on(tick: _Tick, policy: Policy, version: ModelVersion) -> bool:
    """Return whether a run holds the lease, or waits without one (for an image) and has just given a sign of life."""
    lease = tick.git.lease(policy.argocd.application)
    return (lease is not None and lease.expires_at > tick.now) or is_alive(version, policy.name, tick.now)


def _is_about_to_start(tick: _Tick, policy: Policy, request: Request) -> bool:
    """Return whether a run of this request is too young for a sign of life; another would only slow the machine down.

    After a while such a run is not believed, because a host that was killed leaves such runs behind.
    """
    waiting = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING]
    for statuses, seconds in ((waiting, LONGEST_START_SECONDS), ([dg.DagsterRunStatus.STARTED], FIRST_SIGN_SECONDS)):
        young = dg.RunsFilter(
            tags={REQUEST_TAG: request.tag(policy.name)},
            statuses=statuses,
            created_after=datetime.fromtimestamp(tick.now - seconds, UTC),
        )
        if tick.instance.get_runs_count(young) > 0:
            return True
    return False


def _runs_so_far(instance: dg.DagsterInstance, policy: Policy, request: Request) -> int:
    return instance.get_runs_count(dg.RunsFilter(tags={REQUEST_TAG: request.tag(policy.name)}))


def _run_request(policy: Policy, request: Request) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=request.run_key(policy.name),
        partition_key=partition_key(policy.name, request.version),
        tags={REQUEST_TAG: request.tag(policy.name)},
    )

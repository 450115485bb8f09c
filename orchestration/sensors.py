"""The registry sensor: notices a new challenger within seconds, and resumes what a crash or an outage interrupted."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import dagster as dg

from orchestration.jobs import promote
from orchestration.partitions import model_versions
from orchestration.promotion.branch_standing import committed_promotions, is_image_of
from orchestration.promotion.branch_view import image_at, other_under_way
from orchestration.promotion.identity import partition_key
from orchestration.promotion.model_version import ModelVersion, policy_tags, tag_key
from orchestration.promotion.permission import is_said, still_blocked
from orchestration.promotion.platform import Platform
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import Clock, GitOpsRepository, Registry
from orchestration.promotion.problems import DependencyError, ProblemError
from orchestration.promotion.returns import unfinished_return
from orchestration.promotion.sensor_rules import (
    FIRST_LOOK_SECONDS,
    FIRST_SIGN_SECONDS,
    IDLE_LOOK_SECONDS,
    LONGEST_START_SECONDS,
    LOOK_AGAIN_SECONDS,
    Memory,
    Request,
    answer_to_move,
    is_alive,
    is_new,
    is_to_go_on,
    is_unfinished,
    looked_at,
    may_look,
    pause_after,
    read_cursor,
    request_tags,
    write_cursor,
)
from orchestration.promotion.state import State
from orchestration.promotion.summary import summary_tag
from orchestration.stages.pipeline import STAGES

REQUEST_TAG = "incumbent/request"


@dataclass
class _Tick:
    instance: dg.DagsterInstance
    registry: Registry
    git: GitOpsRepository
    clock: Clock


@dg.sensor(
    job=promote,
    minimum_interval_seconds=5,
    description="Asks the registry which version is the challenger, and requests or resumes its promotion.",
)
def challenger_sensor(context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]) -> dg.SensorResult:
    """Do one tick: a registry that is down fails it; a policy that cannot be watched does not stop the others.

    The tick's text tells a policy that is broken from a dependency that does not answer.
    """
    memories = read_cursor(context.cursor)
    tick = _Tick(context.instance, platform.registry(), platform.git(), platform.clock())
    requests: list[dg.RunRequest] = []
    kept: dict[str, Memory] = {}
    unwatched: list[str] = []
    for name in platform.policy_names():
        try:
            policy = platform.policy(name)
            wanted, kept[name] = _watch(tick, policy, memories.get(name))
        except ProblemError as error:
            if isinstance(error, DependencyError):
                tick.registry.ping()  # down for all policies: the tick fails here, and not once for each of them
            unwatched.append(_why_unwatched(name, error))
            context.log.error(unwatched[-1])
            if name in memories:
                kept[name] = memories[name]
            continue
        for request in wanted:
            what = "has ended; a run says why" if request.is_answer else f"requested, run {request.number}"
            context.log.info(f"{name}: version {request.version} {what}")
            requests.append(_run_request(policy, request))
    keys = [str(request.partition_key) for request in requests]
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else " ".join(("No new challenger.", *unwatched)),
        dynamic_partitions_requests=[model_versions.build_add_request(keys)] if keys else [],
        cursor=write_cursor(kept),
    )


def _why_unwatched(policy: str, error: ProblemError) -> str:
    if isinstance(error, DependencyError):
        return f"Policy {policy} waits for an answer of {error}"
    return f"Policy {policy} is broken: {error}"


def _watch(tick: _Tick, policy: Policy, memory: Memory | None) -> tuple[list[Request], Memory]:
    """Decide what to run for one policy now, and what to remember."""
    version = tick.registry.version_by_alias(policy.model, policy.challenger_alias)
    named, now = _number(version), tick.clock.now()  # the time is taken after the question, so no request is too early
    if version is not None and is_new(version, policy.name):
        version = _write_request(tick, policy, version, now)
    goes_on = version if version is not None and is_to_go_on(memory, version, policy.name) else None
    if memory is not None and memory.named == named:
        if goes_on is None and memory.version == named:
            memory = replace(memory, version=0)
        if now < memory.look_at:
            return [], memory
    # Git is read only here: the alias has moved, a promotion is unfinished and due, or a minute has passed.
    seen = looked_at(memory, named, now)
    answer = answer_to_move(memory, version, policy.name) if version is not None else None
    requests = [answer] if answer is not None else []
    unfinished = _committed_first(tick, policy, version) or goes_on
    if unfinished is None:
        return requests, Memory(named, seen.named_at, look_at=now + IDLE_LOOK_SECONDS)
    if not may_look(memory, unfinished.version, now):
        return requests, seen
    blocked = still_blocked(tick.git, policy, unfinished, now)
    if blocked is not None and is_said(unfinished, policy.name, blocked):
        return requests, replace(seen, version=unfinished.version, look_at=now + LOOK_AGAIN_SECONDS)
    request, look_at = _request(tick, policy, unfinished)
    if request is not None:
        requests.append(request)
    if blocked is not None:  # the run only says what blocks it now, so the next look need not wait longer each time
        look_at = min(look_at, now + FIRST_LOOK_SECONDS)
    return requests, replace(seen, version=unfinished.version, look_at=look_at)


def _number(version: ModelVersion | None) -> int:
    """Return the number of the version that an alias names; 0 for none, so that a quiet policy is remembered, too."""
    return version.version if version is not None else 0


def _write_request(tick: _Tick, policy: Policy, version: ModelVersion, now: float) -> ModelVersion:
    summary = summary_tag(version, policy.name, State.REQUESTED, now)
    tags = {**summary, **policy_tags(policy.name, request_tags(now))}
    tick.registry.write_tags(version, tags)
    return ModelVersion(version.model, version.version, version.run_id, version.model_id, {**version.tags, **tags})


def _committed_first(tick: _Tick, policy: Policy, version: ModelVersion | None) -> ModelVersion | None:
    """Return another version that is committed and unfinished, which is finished before the challenger's turn.

    One that a person holds is left alone until its image was replaced. One that was deleted from the registry, or lost
    its tags, is known by its commit, and so is a return that a command began.
    """
    head = tick.git.fetch()
    promotions = committed_promotions(tick.git.history(head, policy.name), policy.name)
    returning = unfinished_return(tick.git, promotions)
    if returning is not None:
        return _returning(tick, policy, returning.identity.version)
    number = version.version if version is not None else None
    under_way = other_under_way(tick.registry, tick.git, policy, head, promotions, number)
    if under_way is None:
        return None
    committed, other = under_way
    if other is None or other.state(policy.name) is None:
        requested = {tag_key(policy.name, "requested_at"): committed.commit.trailers.get("Requested-At", "")}
        return ModelVersion(policy.model, committed.identity.version, None, None, requested)
    image = image_at(tick.git, policy, head)
    replaced = image is not None and not is_image_of(committed.identity, image)
    return other if is_unfinished(other, policy.name) or replaced else None


def _returning(tick: _Tick, policy: Policy, number: int) -> ModelVersion | None:
    """Return the version that a command began to bring back, unless someone is at work on it or a person holds it.

    Its state may be from before, because the registry did not answer, or the command died.
    """
    version = tick.registry.version(policy.model, number)
    is_held = (
        version is not None and version.state(policy.name) is State.HELD and not is_unfinished(version, policy.name)
    )
    lease = tick.git.lease(policy.argocd.application)
    at_work = lease is not None and lease.expires_at > tick.clock.now()
    return None if is_held or at_work else version


def _request(tick: _Tick, policy: Policy, version: ModelVersion) -> tuple[Request | None, float]:
    """Request a run for an unfinished promotion, unless a run is at work on it; and say when to look again.

    The instance is asked how many runs there were, because the instance never starts the same key twice.
    """
    requested_at = version.tag(policy.name, "requested_at") or "by-hand"
    request = Request(version.version, requested_at, 0)
    number = _runs_so_far(tick.instance, policy, request)
    if number > 0 and (_is_about_to_start(tick, policy, request) or _is_worked_on(tick, policy, version)):
        return None, tick.clock.now() + LOOK_AGAIN_SECONDS
    return Request(version.version, requested_at, number), tick.clock.now() + pause_after(number)


def _is_worked_on(tick: _Tick, policy: Policy, version: ModelVersion) -> bool:
    """Return whether a run holds the lease, or waits without one (for an image) and has just given a sign of life."""
    now = tick.clock.now()
    lease = tick.git.lease(policy.argocd.application)
    return (lease is not None and lease.expires_at > now) or is_alive(version, policy.name, now)


def _is_about_to_start(tick: _Tick, policy: Policy, request: Request) -> bool:
    """Return whether a run of this request is too young for a sign of life; another would only slow the machine down.

    After a while such a run is not believed, because a host that was killed leaves such runs behind.
    """
    now, tags = tick.clock.now(), {REQUEST_TAG: request.tag(policy.name)}
    waiting = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING]
    created_after = datetime.fromtimestamp(now - LONGEST_START_SECONDS, UTC)
    if tick.instance.get_runs_count(dg.RunsFilter(tags=tags, statuses=waiting, created_after=created_after)) > 0:
        return True
    started = tick.instance.get_run_records(dg.RunsFilter(tags=tags, statuses=[dg.DagsterRunStatus.STARTED]))
    return any(run.start_time is not None and run.start_time > now - FIRST_SIGN_SECONDS for run in started)


def _runs_so_far(instance: dg.DagsterInstance, policy: Policy, request: Request) -> int:
    return instance.get_runs_count(dg.RunsFilter(tags={REQUEST_TAG: request.tag(policy.name)}))


def _run_request(policy: Policy, request: Request) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=request.run_key(policy.name),
        asset_selection=[dg.AssetKey(STAGES[0].name)] if request.is_answer else None,
        partition_key=partition_key(policy.name, request.version),
        tags={REQUEST_TAG: request.tag(policy.name)},
    )

"""The registry sensor: notices a new challenger within seconds, and resumes what a crash or an outage interrupted."""

from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from orchestration.commands.sensor_tick import TICK_SECONDS, watch
from orchestration.jobs import promote
from orchestration.partitions import model_versions
from orchestration.promotion.identity import partition_key
from orchestration.promotion.platform import WakingPlatform
from orchestration.promotion.sensor_rules import Request, read_cursor, write_cursor
from orchestration.stages.pipeline import STAGES
from orchestration.warm_runs.launcher import keep_warm

REQUEST_TAG = "incumbent/request"
_CANCELLED = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)
WATCH_SECONDS = 24.5
"""How long a tick keeps watching. Dagster looks every 5 s for sensors that may begin a tick, so that a tick which ends
just before a multiple of that is soon followed by the next one; it gives up a tick after 60 s."""
_WITHOUT_PROCESS = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING]


@dg.sensor(
    job=promote,
    minimum_interval_seconds=int(TICK_SECONDS),
    description="Asks the registry which version is the challenger, and requests or resumes its promotion.",
)
def challenger_sensor(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[WakingPlatform]
) -> dg.SensorResult:
    """Do one tick: a registry that is down fails it; a policy that cannot be watched does not stop the others.

    The tick's text tells a policy that is broken from a dependency that does not answer. Where Dagster has threads for
    its sensors, a tick keeps watching, so that a new challenger is seen within a second; where it has not, other
    sensors would have to wait for it.
    """
    _keep_warm(context)
    has_threads = context.instance.get_sensor_settings().get("use_threads", False)
    seconds = WATCH_SECONDS if has_threads else 0.0
    seen = watch(platform, _DagsterRuns(context.instance), read_cursor(context.cursor), seconds)
    if seen.ignored:
        context.log.warning(seen.ignored)
    for why in seen.unwatched:
        context.log.error(why)
    for policy, request in seen.requests:
        what = "has ended; a run says why" if request.is_answer else f"requested, run {request.number}"
        context.log.info(f"{policy}: version {request.version} {what}")
    requests = [_run_request(policy, request) for policy, request in seen.requests]
    keys = [str(request.partition_key) for request in requests]
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else " ".join(("No new challenger.", *seen.unwatched)),
        dynamic_partitions_requests=[model_versions.build_add_request(keys)] if keys else [],
        cursor=write_cursor(seen.cursor),
    )


def _keep_warm(context: dg.SensorEvaluationContext) -> None:
    """Look after the process from which runs are forked; without it they only begin later."""
    if context.code_location_origin is None:  # the tick is a test's
        return
    try:
        keep_warm(context.instance, context.code_location_origin.location_name)
    except OSError as error:
        context.log.warning(f"The warm process for runs cannot be started: {error}. Runs start without it.")


@dataclass(frozen=True)
class _DagsterRuns:
    """Implements `Runs` with the runs of a Dagster instance, which never starts a run key twice."""

    instance: dg.DagsterInstance

    def count(self, request: str) -> int:
        """Count the runs with the tag of a request."""
        return self.instance.get_runs_count(dg.RunsFilter(tags={REQUEST_TAG: request}))

    def cancelled(self, request: str) -> str | None:
        """Look at the newest run: Dagster calls a run cancelled only when somebody terminated it, and never a crash."""
        newest = self.instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: request}), limit=1)
        return next((run.run_id for run in newest if run.status in _CANCELLED), None)

    def is_young(self, request: str, *, created_after: float, started_after: float) -> bool:
        """Look for a run that waits to be started, and for one that was started lately."""
        tags, created = {REQUEST_TAG: request}, datetime.fromtimestamp(created_after, UTC)
        waiting = dg.RunsFilter(tags=tags, statuses=_WITHOUT_PROCESS, created_after=created)
        if self.instance.get_runs_count(waiting) > 0:
            return True
        started = self.instance.get_run_records(dg.RunsFilter(tags=tags, statuses=[dg.DagsterRunStatus.STARTED]))
        return any(run.start_time is not None and run.start_time > started_after for run in started)


def _run_request(policy: str, request: Request) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=request.run_key(policy),
        asset_selection=[dg.AssetKey(STAGES[0].name)] if request.is_answer else None,
        partition_key=partition_key(policy, request.version),
        tags={REQUEST_TAG: request.tag(policy)},
    )

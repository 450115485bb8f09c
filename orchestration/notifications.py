"""The notification sensor: tells people of ends, holds, waits for approval and broken policies, each once.

Promotions never wait for it. Nor do other sensors, which the daemon evaluates one after the other: what a tick finds
untold is delivered by a thread of this process, and later ticks take note of what was delivered.
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace

import dagster as dg

from orchestration.adapters.courier import Courier
from orchestration.promotion.delivery import Deliveries, deliver
from orchestration.promotion.identity import partition_key
from orchestration.promotion.notification_watch import (
    Memory,
    Watched,
    add_untold,
    found_broken,
    found_usable,
    read_cursor,
    watch,
    write_cursor,
)
from orchestration.promotion.notifying import Event
from orchestration.promotion.platform import Notifications, Platform
from orchestration.promotion.problems import DependencyError, InvalidInputError

PARTITION_TAG = "dagster/partition"


class Background:
    """What outlives a tick within one process: the thread that delivers, and what it has delivered."""

    def __init__(self) -> None:
        self.courier = Courier()
        self.deliveries = Deliveries(uuid.uuid4().hex)


@dg.sensor(
    minimum_interval_seconds=15,  # to begin a tick takes Dagster 0.13 s of a processor, whatever the tick does
    description="Tells people of ends, holds, waits for approval and broken policies, each once.",
)
def notification_sensor(
    context: dg.SensorEvaluationContext,
    platform: dg.ResourceParam[Platform],
    notifications: dg.ResourceParam[Notifications],
    background: dg.ResourceParam[Background],
) -> dg.SensorResult:
    """Do one tick: notice what is new, take note of what was delivered, and start to deliver the rest."""
    destinations = notifications.destinations()
    if not destinations:
        return dg.SensorResult(skip_reason="no destination is set (INCUMBENT_NOTIFY_FILE or INCUMBENT_NOTIFY_URLS)")
    now = platform.clock().now()
    before = read_cursor(context.cursor, now)
    found, policies = _look(context, platform, before, now)
    noticed = [_with_run(context.instance, notifications, event) for event in found]
    untold = add_untold(before.untold, tuple(noticed))
    deliveries = background.deliveries
    if background.courier.is_idle and deliveries.is_due(untold, destinations, now):
        notifier = notifications.notifier()
        background.courier.start(lambda: deliver(deliveries, untold, platform, notifier, destinations))
    left = tuple(event for event in untold if event.id not in deliveries.told)
    return dg.SensorResult(
        skip_reason=_summary(context, left, deliveries),
        cursor=write_cursor(Memory(before.since, policies, left)),
    )


def _look(
    context: dg.SensorEvaluationContext, platform: Platform, before: Memory, now: float
) -> tuple[list[Event], dict[str, Watched]]:
    """Look at each policy; one that the registry does not answer for is looked at again in the next tick."""
    registry = platform.registry()
    events: list[Event] = []
    policies: dict[str, Watched] = {}
    for name in platform.policy_names():
        watched = before.policies.get(name, Watched())
        try:
            policy = platform.policy(name)
        except InvalidInputError as error:
            found, policies[name] = found_broken(name, watched, error.problem, now)
            events += found
            continue
        found, policies[name] = found_usable(name, watched, now)
        events += found
        try:
            found, policies[name] = watch(registry, policy, policies[name], before.since, now)
        except DependencyError as error:
            context.log.warning(f"policy {name} is looked at again in the next tick: {error}")
            continue
        events += found
    return events, policies


def _with_run(instance: dg.DagsterInstance, notifications: Notifications, event: Event) -> Event:
    """Add the page of the newest run of the event's version, if this instance has one."""
    of_version = dg.RunsFilter(tags={PARTITION_TAG: partition_key(event.policy, event.version)})
    runs = instance.get_runs(of_version, limit=1) if event.version else ()
    return replace(event, run_url=notifications.run_url(runs[0].run_id)) if runs else event


def _summary(context: dg.SensorEvaluationContext, left: Sequence[Event], deliveries: Deliveries) -> str:
    if not left:
        return "nothing to tell"
    for problem in deliveries.problems:
        context.log.warning(problem)
    return f"{len(left)} to tell: {'; '.join(event.title for event in left)}"

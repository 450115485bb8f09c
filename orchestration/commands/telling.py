"""Telling people what is new, once, where no sensor does: after a promotion in CI, or by cron."""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from orchestration.promotion.delivery import Deliveries, deliver
from orchestration.promotion.model_version import not_registered
from orchestration.promotion.notification_watch import Watched, watch
from orchestration.promotion.notifying import Event, event_of
from orchestration.promotion.platform import Platform
from orchestration.promotion.ports import Destination, Notifier
from orchestration.promotion.problems import InvalidInputError


@dataclass(frozen=True)
class Told:
    """What became of the events; what is neither told nor a problem, another process is telling."""

    told: tuple[Event, ...]
    """Every destination has these, or another process told them meanwhile."""
    problems: tuple[str, ...]
    """Why something is not told yet, in sentences; the next call tries again."""


def news_of_version(platform: Platform, policy_name: str, number: int) -> tuple[Event, ...]:
    """Find out what people have not been told of one version.

    Raises:
        InvalidInputError: there is no such policy or version, or the policy cannot be used.
        DependencyError: the registry does not answer.
    """
    policy = platform.policy(policy_name)
    version = platform.registry().version(policy.model, number)
    if version is None:
        raise InvalidInputError(not_registered(policy.model, number))
    event = event_of(version, policy.name, seen=None, since=0.0, now=platform.clock().now())
    return () if event is None else (event,)


def news(platform: Platform, policy_names: Iterable[str], seconds: float) -> Iterator[Event | InvalidInputError]:
    """Find out what people have not been told of challengers, champions and what is held, the policies in order.

    Yields:
        Each event; and the error of each policy that cannot be used, which keeps no other from being looked at.

    Args:
        platform: the platform.
        policy_names: the policies.
        seconds: how long ago an end may be.

    Raises:
        DependencyError: the registry does not answer.
    """
    now = platform.clock().now()
    for name in policy_names:
        try:
            policy = platform.policy(name)
        except InvalidInputError as error:
            yield error
            continue
        found, _ = watch(platform.registry(), policy, Watched(policy.model), now - seconds, now)
        yield from found


def tell(
    platform: Platform, notifier: Notifier, destinations: Sequence[Destination], events: Sequence[Event], run_url: str
) -> Told:
    """Send each event to all destinations, and write on the versions what was told.

    Args:
        platform: the platform.
        notifier: sends messages.
        destinations: where they go.
        events: what is to be told.
        run_url: the page of the run that they came from; empty when there is none.
    """
    deliveries = Deliveries(uuid.uuid4().hex)
    deliver(deliveries, [replace(event, run_url=run_url) for event in events], platform, notifier, destinations)
    return Told(tuple(event for event in events if event.id in deliveries.told), deliveries.problems)

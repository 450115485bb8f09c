"""Delivers what is untold to every destination: each event once, however many processes try.

A round, one call of `deliver`, takes as long as the destinations do, so it runs where nobody waits for it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestration.promotion.branch_standing import committed_promotions
from orchestration.promotion.model_version import ModelVersion, policy_tags
from orchestration.promotion.notifying import Event, is_told, message_of, request_url, told_tags
from orchestration.promotion.platform import Platform
from orchestration.promotion.ports import Destination, GitOpsRepository, Notifier, Registry
from orchestration.promotion.problems import DependencyError, ProblemError
from orchestration.promotion.pull_requests import UNMERGED_RETURN, MergeOf
from orchestration.promotion.timestamps import format_time, parse_time

FIRST_PAUSE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 300.0
CLAIM_SECONDS = 300.0
"""How long an event is left to the process that is about to tell it, unless that process says that it has ended."""


@dataclass
class _Pause:
    failures: int
    until: float


@dataclass
class Deliveries:
    """What one process knows of its deliveries; the next process knows by the versions' tags what matters."""

    process: str
    """A name that no other process has."""
    told: frozenset[str] = frozenset()
    """The ids of events that need no further delivery."""
    problems: tuple[str, ...] = ()
    """What went wrong in the last round."""
    holders: dict[str, set[Destination]] = field(default_factory=dict)
    """The destinations that have an event already, by the event's id."""
    pauses: dict[Destination, _Pause] = field(default_factory=dict)

    def is_due(self, untold: Sequence[Event], destinations: Sequence[Destination], now: float) -> bool:
        """Return whether a round has anything to do."""
        return any(self.due(event, destinations, now) is not None for event in untold)

    def due(self, event: Event, destinations: Sequence[Destination], now: float) -> list[Destination] | None:
        """Return the destinations to send an event to now; None when there is nothing to do for it."""
        if event.id in self.told:
            return None
        lacking = [destination for destination in destinations if destination not in self.holders.get(event.id, ())]
        due = [destination for destination in lacking if not self._is_paused(destination, now)]
        return due if due or not lacking else None

    def has_all(self, event: Event, destinations: Sequence[Destination]) -> bool:
        """Return whether every destination has an event."""
        return self.holders.get(event.id, set()) >= set(destinations)

    def begin_round(self, untold: Sequence[Event]) -> None:
        """Forget the last round's problems, and all events but those that the sensor's cursor still has."""
        ids = {event.id for event in untold}
        self.problems, self.told = (), self.told & ids
        self.holders = {event: has for event, has in self.holders.items() if event in ids}

    def succeeded(self, event: Event, destination: Destination) -> None:
        """Record that a destination took an event."""
        self.pauses.pop(destination, None)
        self.holders.setdefault(event.id, set()).add(destination)

    def failed(self, destination: Destination, now: float) -> None:
        """Let a destination pause, longer with each failure in a row."""
        failures = 1 + (self.pauses[destination].failures if destination in self.pauses else 0)
        seconds = min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 8), LONGEST_PAUSE_SECONDS)
        self.pauses[destination] = _Pause(failures, now + seconds)

    def _is_paused(self, destination: Destination, now: float) -> bool:
        pause = self.pauses.get(destination)
        return pause is not None and now < pause.until


def deliver(
    deliveries: Deliveries,
    untold: Sequence[Event],
    platform: Platform,
    notifier: Notifier,
    destinations: Sequence[Destination],
) -> None:
    """Do one round: send each event to the destinations that lack it, oldest first, and write down what was told.

    A destination that fails pauses, and holds up neither later events nor other destinations. Whatever keeps one event
    from being told is among `problems` afterwards, and keeps no other from it.
    """
    deliveries.begin_round(untold)
    for event in untold:
        try:
            _tell(deliveries, event, platform, notifier, destinations)
        except Exception as error:  # noqa: BLE001 - whatever one event caused, the others are told
            cause = str(error) if isinstance(error, ProblemError) else f"unexpected {type(error).__name__}"
            deliveries.problems += (f"{event.title}: not told yet. {cause}",)


def _tell(
    deliveries: Deliveries, event: Event, platform: Platform, notifier: Notifier, destinations: Sequence[Destination]
) -> None:
    clock, registry = platform.clock(), platform.registry()
    due = deliveries.due(event, destinations, clock.now())
    if due is None:
        return
    version = registry.version(event.model, event.version) if event.version else None
    if version is not None and is_told(version, event.policy, event.key):
        deliveries.told |= {event.id}
        return
    if version is not None:
        has = deliveries.holders.setdefault(event.id, set())
        has |= _holders(version, event, destinations)
        due = [destination for destination in due if destination not in has]
    if due and version is not None and not _claim(registry, version, event, deliveries.process, clock.now()):
        return
    links = _links(platform, event, version) if due else {}
    for destination in due:
        try:
            notifier.send(destination, message_of(event, links))
            deliveries.succeeded(event, destination)
        except DependencyError as error:
            deliveries.failed(destination, clock.now())
            deliveries.problems += (f"{event.title}: not told yet. {error}",)
    if deliveries.has_all(event, destinations):
        if version is not None:
            registry.write_tags(version, policy_tags(event.policy, told_tags(version, event.policy, event.key)))
        deliveries.told |= {event.id}
    elif due and version is not None:
        registry.write_tags(version, policy_tags(event.policy, _partly(event, deliveries.holders[event.id])))


def _holders(version: ModelVersion, event: Event, destinations: Sequence[Destination]) -> set[Destination]:
    """Return the destinations to which an earlier process sent the event, as it wrote down."""
    key, _, names = (version.tag(event.policy, "notified_partly") or "").rpartition(" ")
    has = names.split(",")
    return {destination for destination in destinations if key == event.key and _name(destination) in has}


def _partly(event: Event, holders: set[Destination]) -> dict[str, str]:
    """Return the tags that give the claim back, and say who has the event: this process may be replaced at any time."""
    names = ",".join(sorted(_name(destination) for destination in holders))
    return {"notifying": "", "notified_partly": f"{event.key} {names}"}


def _name(destination: Destination) -> str:
    """Name a destination for a tag, by too few digits of its address's digest to tell anything about the address."""
    return hashlib.sha256(destination.address.encode()).hexdigest()[:8]


def _claim(registry: Registry, version: ModelVersion, event: Event, process: str, now: float) -> bool:
    """Write on the version that this process is about to tell the event; False when another one is.

    The registry cannot compare and swap, so the claim is read back: of two processes, the last to write tells.
    """
    if _claimed_by_another(version, event, process, now):
        return False
    registry.write_tags(version, policy_tags(event.policy, {"notifying": f"{process} {format_time(now)} {event.key}"}))
    again = registry.version(version.model, version.version)
    return again is None or not (
        is_told(again, event.policy, event.key) or _claimed_by_another(again, event, process, now)
    )


def _claimed_by_another(version: ModelVersion, event: Event, process: str, now: float) -> bool:
    owner, _, rest = (version.tag(event.policy, "notifying") or "").partition(" ")
    time, _, key = rest.partition(" ")
    at = parse_time(time)
    return at is not None and owner != process and key == event.key and abs(now - at) < CLAIM_SECONDS


def _links(platform: Platform, event: Event, version: ModelVersion | None) -> Mapping[str, str]:
    """Return the pages of an event; one that Git cannot tell now is left out rather than waited for."""
    if version is None:
        return {}
    pages = {"Version": platform.registry().version_url(version)}
    request = request_url(version, event.policy)
    if request:
        pages["Request"] = request
    try:
        git = platform.git(platform.policy(event.policy))
        commit, is_rollback = _commit(git, event)
        url = git.commit_url(commit) if commit else None
    except ProblemError:
        return pages
    return {**pages, ("Rollback" if is_rollback else "Commit"): url} if url else pages


def _commit(git: GitOpsRepository, event: Event) -> tuple[str, bool]:
    """Return the newest commit of the event's attempt, and whether it took the promotion back; empty for none."""
    if event.key.startswith((MergeOf.RETURN, UNMERGED_RETURN)):
        return "", False  # its commit is not on the branch, and the version's attempt is the one before
    attempt = event.key.rpartition(" ")[2]
    for promotion in committed_promotions(git.history(git.fetch(), event.policy), event.policy):
        if promotion.identity.version == event.version and str(promotion.identity.attempt) == attempt:
            return (promotion.rollback or promotion.commit).commit, promotion.rollback is not None
    return "", False

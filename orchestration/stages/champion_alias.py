"""Making a version the champion in the registry: its alias, and what becomes of those that were champion before."""

from orchestration.promotion.model_version import tag_key
from orchestration.promotion.problems import Problem
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time
from orchestration.stages.stage import Promotion
from orchestration.stages.version_record import VersionRecord


def set_champion_alias(promotion: Promotion, again: str) -> Problem | None:
    """Move the champion alias to the version under the lease, and read it back: the registry cannot compare and swap.

    Args:
        promotion: The promotion of the version.
        again: What a person should do again when someone else moves the alias, too.

    Returns:
        Why the alias names another version; None when it names this one.

    Raises:
        StageEnded: the lease was lost, and nothing was written.
    """
    policy, registry, version = promotion.policy, promotion.clients.registry, promotion.version
    promotion.lease.confirm()
    registry.set_alias(version, policy.champion_alias)
    named = registry.version_by_alias(policy.model, policy.champion_alias)
    if named is not None and named.version == version.version:
        return None
    return Problem(
        f"alias {policy.champion_alias} of {policy.model}",
        f"version {version.version}, as just written",
        f"version {named.version}" if named is not None else "no version",
        f"Someone else moves the alias; {again} when that has stopped.",
    )


def end_former_champions(promotion: Promotion) -> None:
    """Write on each version that was champion until now which one took over."""
    clients, policy, number = promotion.clients, promotion.policy, promotion.version.version
    reason = f"Champion until version {number} took over at {format_time(clients.clock.now())}."
    for other in clients.registry.tagged(tag_key(policy.name, "state"), str(State.CHAMPION)):
        is_champion = other.model == policy.model and other.state(policy.name) is State.CHAMPION
        if is_champion and other.version != number:
            record = VersionRecord(clients.registry, clients.clock, policy, other, promotion.lease)
            record.write(State.FORMER_CHAMPION, reason)

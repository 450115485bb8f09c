"""What becomes of the versions that were champion before."""

from orchestration.promotion.model_version import tag_key
from orchestration.promotion.state import State
from orchestration.promotion.timestamps import format_time
from orchestration.stages.stage import Promotion
from orchestration.stages.version_record import VersionRecord


def end_former_champions(promotion: Promotion) -> None:
    """Write on each version that was champion until now which one took over."""
    clients, policy, number = promotion.clients, promotion.policy, promotion.version.version
    reason = f"Champion until version {number} took over at {format_time(clients.clock.now())}."
    for other in clients.registry.tagged(tag_key(policy.name, "state"), str(State.CHAMPION)):
        is_champion = other.model == policy.model and other.state(policy.name) is State.CHAMPION
        if is_champion and other.version != number:
            record = VersionRecord(clients.registry, clients.clock, policy, other, promotion.lease)
            record.write(State.FORMER_CHAMPION, reason)

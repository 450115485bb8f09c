"""What a person's commands work with: a promotion without a run, also while the registry does not answer."""

from orchestration.promotion.branch_standing import CommittedPromotion, is_image_of, live_promotion
from orchestration.promotion.branch_view import BranchView, is_verified
from orchestration.promotion.merge_wait import recognise_merges
from orchestration.promotion.model_version import ModelVersion, unread_version
from orchestration.promotion.problems import DependencyError
from orchestration.promotion.state import State
from orchestration.stages.stage import Promotion, promotion_of


def read_if_possible(promotion: Promotion, number: int) -> ModelVersion | DependencyError | None:
    """Read a version; None when the registry has none of that number, the error when it does not answer."""
    try:
        return promotion.clients.registry.version(promotion.policy.model, number)
    except DependencyError as error:
        promotion.say(f"going on without the registry: {error}")
        return error


def promotion_by_hand(desk: Promotion, number: int) -> Promotion:
    """Return the promotion of a version for a command; without its tags while the registry does not answer."""
    read = read_if_possible(desk, number)
    known = read if isinstance(read, ModelVersion) else unread_version(desk.policy.model, number)
    promotion = promotion_of(desk.clients, desk.policy, known, desk.lease, desk.say)
    promotion.record.is_gone = read is None
    return promotion


def recognise_if_possible(desk: Promotion) -> None:
    """Take note of what was merged, as far as the Git host tells: a person's command goes on without it."""
    try:
        recognise_merges(desk.clients.git, desk.clients.requests, desk.policy)
    except DependencyError as error:
        desk.say(f"going on without the Git host: {error}")


def under_way(promotion: Promotion, view: BranchView) -> CommittedPromotion | None:
    """Return the committed promotion, of whatever version, that is neither verified nor taken back.

    Git decides; the registry is asked only whether the promotion has ended all the same: a champion whose tag was
    deleted, or one whose image a person replaced.
    """
    live = live_promotion(view.promotions)
    if live is None or is_verified(promotion.clients.git, live):
        return None
    version = read_if_possible(promotion, live.identity.version)
    stands = is_image_of(live.identity, view.image)
    if not isinstance(version, ModelVersion):
        return live if stands else None
    state = version.state(promotion.policy.name)
    if version.tag(promotion.policy.name, "commit") != live.commit.commit:
        return live if stands else None  # the tags are of an earlier attempt
    ended = state in (State.CHAMPION, State.FORMER_CHAMPION, State.ROLLED_BACK)
    return None if ended else live

"""Returns to a former champion: promotion commits that a person made, told by the trailer `Returns-From`."""

from orchestration.promotion.branch_standing import CommittedPromotion, live_promotion
from orchestration.promotion.branch_view import is_verified
from orchestration.promotion.decided import Decided, decided_in
from orchestration.promotion.deployed import Deployed
from orchestration.promotion.identity import PromotionId, promotion_trailers
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.ports import GitOpsRepository
from orchestration.promotion.timestamps import format_time

RETURNS_FROM = "Returns-From"
"""The trailer of a return's commit: the version that served before it, or what the manifest had when none is known."""


def return_subject(identity: PromotionId) -> str:
    """The subject line of a return's commit."""
    return f"Return {identity.policy} to version {identity.version}"


def return_trailers(
    identity: PromotionId, version: ModelVersion, deployed: Deployed, left: str, decided: Decided, now: float
) -> dict[str, str]:
    """The trailers of a return's commit: those of a promotion that was requested just now, what is left, who and why.

    Args:
        identity: The id of the new attempt.
        version: The version to return to.
        deployed: Its verified image, by digest, or its address.
        left: The version, or the image or address, that serves until then.
        decided: Who returns, and why.
        now: The time of the request, in seconds since the epoch.
    """
    usual = promotion_trailers(identity, version, deployed)
    return {**usual, "Requested-At": format_time(now), RETURNS_FROM: left, **decided.trailers}


def is_return(committed: CommittedPromotion) -> bool:
    """Whether a promotion commit brings a former champion back."""
    return RETURNS_FROM in committed.commit.trailers


def left_version(committed: CommittedPromotion) -> int | None:
    """Return the version that a return left; None when what served was of no known version."""
    left = committed.commit.trailers.get(RETURNS_FROM, "")
    return int(left) if left.isascii() and left.isdigit() and len(left) < 19 else None


def in_words(committed: CommittedPromotion) -> str:
    """Say who returned to the version, and why; empty for an ordinary promotion."""
    if not is_return(committed):
        return ""
    return f"Brought back by {decided_in(committed.commit.trailers)}."


def unfinished_return(git: GitOpsRepository, promotions: tuple[CommittedPromotion, ...]) -> CommittedPromotion | None:
    """Return the newest promotion that stands when it is a return that was not verified yet, as Git alone knows."""
    live = live_promotion(promotions)
    if live is None or not is_return(live) or is_verified(git, live):
        return None
    return live

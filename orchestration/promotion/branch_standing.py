"""Where a version stands on the GitOps branch, determined by its history, HEAD's image and the version's tags alone.

Dagster's storage has no part in this, because it may be lost at any time. Git and MLflow are the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestration.promotion.deployed import digest_of
from orchestration.promotion.identity import PromotionId, parse_promotion_id
from orchestration.promotion.images import short_digest
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.ports import BranchCommit
from orchestration.promotion.state import State


@dataclass(frozen=True)
class CommittedPromotion:
    """A promotion commit of the branch, and the commit that took it back, if any."""

    identity: PromotionId
    commit: BranchCommit
    rollback: BranchCommit | None


def committed_promotions(history: Sequence[BranchCommit], policy: str) -> tuple[CommittedPromotion, ...]:
    """Pair each promotion of a policy with its rollback, newest first.

    Trailers that do not parse as a promotion id are ignored.
    """
    rollbacks: dict[str, BranchCommit] = {}
    promotions: list[CommittedPromotion] = []
    for commit in history:
        taken_back = parse_promotion_id(commit.trailers.get("Rollback-Of", ""))
        if taken_back is not None:
            rollbacks.setdefault(str(taken_back), commit)
        identity = parse_promotion_id(commit.trailers.get("Promotion-Id", ""))
        if identity is not None and identity.policy == policy:
            promotions.append(CommittedPromotion(identity, commit, rollbacks.get(str(identity))))
    return tuple(promotions)


def live_promotion(promotions: Sequence[CommittedPromotion]) -> CommittedPromotion | None:
    """Return the newest promotion that was not taken back."""
    return next((promotion for promotion in promotions if promotion.rollback is None), None)


def live_attempt(
    version: ModelVersion, policy: str, promotions: Sequence[CommittedPromotion]
) -> CommittedPromotion | None:
    """Return the live promotion when it is the version's, and no other attempt was asked for since."""
    live = live_promotion(promotions)
    is_ours = live is not None and live.identity.version == version.version
    return live if live is not None and is_ours and version.attempt(policy) <= live.identity.attempt else None


def is_image_of(identity: PromotionId, image: str) -> bool:
    """Tell by the digest whether a manifest's image, or address, is the one that a promotion committed."""
    digest = digest_of(image)
    return digest is not None and short_digest(digest) == identity.digest


@dataclass(frozen=True)
class MayCommit:
    """The version is not on the branch; a commit of this attempt may be made."""

    attempt: int

    def __str__(self) -> str:
        return "no commit of this version"


@dataclass(frozen=True)
class OnBranch:
    """Our commit was not taken back and HEAD has its image: the promotion is under way, or the version is champion."""

    promotion: CommittedPromotion

    def __str__(self) -> str:
        return f"its commit {self.promotion.commit.commit[:12]}"


@dataclass(frozen=True)
class Reverted:
    """Our commit is the newest promotion that stands, but someone has put another image there since."""

    promotion: CommittedPromotion
    image: str

    def __str__(self) -> str:
        return f"its commit {self.promotion.commit.commit[:12]} undone by someone else"


@dataclass(frozen=True)
class TakenBack:
    """incumbent rolled the newest attempt back, and nobody asked for another one."""

    promotion: CommittedPromotion

    def __str__(self) -> str:
        return f"its commit {self.promotion.commit.commit[:12]} rolled back"


@dataclass(frozen=True)
class Overtaken:
    """Another version was promoted after ours."""

    promotion: CommittedPromotion
    by: CommittedPromotion

    def __str__(self) -> str:
        return f"version {self.by.identity.version} promoted after it"


@dataclass(frozen=True)
class Ended:
    """The version's tags say that its last attempt ended without a commit on this branch."""

    state: State

    def __str__(self) -> str:
        return f"a version that was {self.state} without a commit"


BranchStanding = MayCommit | OnBranch | Reverted | TakenBack | Overtaken | Ended


def standing_on_branch(
    version: ModelVersion, policy: str, promotions: Sequence[CommittedPromotion], head_image: str
) -> BranchStanding:
    """Say where a version stands on the branch under one policy.

    A version that was taken back may be committed again only when its tag `attempt` asks for an attempt above those on
    the branch. Only `incumbent retry` writes such a tag, so a lost tag never brings a rejected version back.

    Args:
        version: The version, with its tags.
        policy: The policy's name.
        promotions: `committed_promotions(...)` at HEAD.
        head_image: The image in HEAD's manifest.
    """
    attempts = [promotion for promotion in promotions if promotion.identity.version == version.version]
    if not attempts or version.attempt(policy) > max(promotion.identity.attempt for promotion in attempts):
        state = version.state(policy)
        if state in (State.REFUSED, State.REJECTED, State.ROLLED_BACK, State.FORMER_CHAMPION):
            return Ended(state)
        return MayCommit(1 + len(attempts))
    newest = attempts[0]
    if newest.rollback is not None:
        return TakenBack(newest)
    later = live_promotion(promotions[: promotions.index(newest)])
    has_our_image = is_image_of(newest.identity, head_image)
    if has_our_image and (later is None or later.identity.digest != newest.identity.digest):
        return OnBranch(newest)
    return Overtaken(newest, later) if later else Reverted(newest, head_image)

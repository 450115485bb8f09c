"""Where a version stands: told from the branch's history, HEAD's image and the registry's tags, and from nothing else.

Dagster's storage takes no part in it, because it may be lost at any time; Git and MLflow are the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestration.promotion.identity import PromotionId, parse_promotion_id
from orchestration.promotion.images import parse_image
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.ports import BranchCommit
from orchestration.promotion.state import State


@dataclass(frozen=True)
class Promoted:
    """One promotion commit of the branch, and the commit that took it back, if any."""

    identity: PromotionId
    commit: BranchCommit
    rollback: BranchCommit | None


def promotions(history: Sequence[BranchCommit], policy: str) -> tuple[Promoted, ...]:
    """The policy's promotions, newest first, each with its rollback. Trailers that are no promotion id are ignored."""
    rollbacks: dict[str, BranchCommit] = {}
    found: list[Promoted] = []
    for commit in history:
        taken_back = parse_promotion_id(commit.trailers.get("Rollback-Of", ""))
        if taken_back is not None:
            rollbacks.setdefault(str(taken_back), commit)
        identity = parse_promotion_id(commit.trailers.get("Promotion-Id", ""))
        if identity is not None and identity.policy == policy:
            found.append(Promoted(identity, commit, rollbacks.get(str(identity))))
    return tuple(found)


def live_promotion(found: Sequence[Promoted]) -> Promoted | None:
    """The newest promotion that was not taken back."""
    return next((one for one in found if one.rollback is None), None)


def is_image_of(identity: PromotionId, image: str) -> bool:
    """Whether a manifest's image is the one that a promotion committed, by its digest."""
    reference = parse_image(image)
    digest = reference.digest if reference else None
    return digest is not None and digest.removeprefix("sha256:")[:12] == identity.digest


@dataclass(frozen=True)
class MayCommit:
    """Not on the branch; a commit of this attempt may be made."""

    attempt: int


@dataclass(frozen=True)
class OnBranch:
    """Our commit was not taken back and HEAD's image is ours: the promotion goes on, or it has won."""

    promoted: Promoted


@dataclass(frozen=True)
class Reverted:
    """Our commit is the newest promotion that stands, but somebody else has put another image there since."""

    promoted: Promoted
    image: str


@dataclass(frozen=True)
class TakenBack:
    """The newest attempt was rolled back by incumbent, and nobody asked for another one."""

    promoted: Promoted


@dataclass(frozen=True)
class Overtaken:
    """A promotion of another version was committed after ours."""

    promoted: Promoted
    by: Promoted


@dataclass(frozen=True)
class Ended:
    """The registry's tags say that this version's last attempt ended without a commit on this branch."""

    state: State


Standing = MayCommit | OnBranch | Reverted | TakenBack | Overtaken | Ended


def standing(version: ModelVersion, policy: str, found: Sequence[Promoted], head_image: str) -> Standing:
    """Where a version stands under one policy.

    `found` is `promotions(...)` at HEAD and `head_image` the image that HEAD's manifest has. A version that was taken
    back may be committed again only when its tag `attempt` asks for an attempt above those on the branch: only
    `incumbent retry` writes such a tag, so no lost tag brings a rejected version back.
    """
    ours = [one for one in found if one.identity.version == version.version]
    if not ours or version.attempt(policy) > max(one.identity.attempt for one in ours):
        state = version.state(policy)
        if state in (State.REFUSED, State.REJECTED, State.ROLLED_BACK):
            return Ended(state)
        return MayCommit(1 + len(ours))
    last = ours[0]
    if last.rollback is not None:
        return TakenBack(last)
    newer = live_promotion(found[: found.index(last)])
    if is_image_of(last.identity, head_image) and (newer is None or newer.identity.digest != last.identity.digest):
        return OnBranch(last)
    return Overtaken(last, newer) if newer else Reverted(last, head_image)

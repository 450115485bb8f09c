"""What serves again when a promotion is taken back (design rule 8)."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestration.promotion.acts import adopted_version
from orchestration.promotion.branch_standing import CommittedPromotion, is_image_of
from orchestration.promotion.branch_view import is_verified, was_ended
from orchestration.promotion.deployed import ModelAddress, parse_deployed
from orchestration.promotion.identity import MODEL_ADDRESS, committed_digest
from orchestration.promotion.images import ImageRef
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.state import State
from orchestration.stages.stage import Promotion


@dataclass(frozen=True)
class RollbackTarget:
    """The image, or the address, that serves again after a rollback."""

    image: str
    described: str
    """`version 2`, or `the image before, unverified`."""
    version: int | None = None
    """The verified or adopted version whose image it is; None when there is none."""


def rollback_target(
    promotion: Promotion, earlier: Sequence[CommittedPromotion], before: str | None
) -> RollbackTarget | None:
    """Return the image that HEAD had before the promotion, unless that image was itself rejected or taken back.

    In that case, and when the manifest as it was before cannot be read, the newest verified promotion below it is the
    target. The champion alias is never followed: a person may have left that version by hand.

    Args:
        promotion: The promotion that is, or may be, taken back.
        earlier: The policy's promotions before it, newest first.
        before: The image that HEAD had before it; None when the manifest cannot be read there.

    Returns:
        The target; None when the image before cannot be read, and no earlier promotion is verified.
    """
    what = f"the {promotion.policy.slot.noun} before"
    had = next((known for known in earlier if before is not None and is_image_of(known.identity, before)), None)
    if before is not None and had is None:
        adopted = adopted_version(before, promotion.acts)
        described = f"{what}, unverified" if adopted is None else f"version {adopted}, which was adopted"
        return RollbackTarget(before, described, adopted)
    if before is not None and had is not None and not _was_taken_back(promotion, had):
        number = had.identity.version
        if is_verified(promotion.clients.git, had):
            return RollbackTarget(before, f"version {number}", number)
        return RollbackTarget(before, f"{what}, unverified")
    below = earlier if had is None else earlier[earlier.index(had) + 1 :]
    for known in below:
        differs = had is None or known.identity.digest != had.identity.digest
        differs = differs and known.identity.version != promotion.version.version  # an earlier attempt of what is left
        if differs and is_verified(promotion.clients.git, known) and not _was_taken_back(promotion, known):
            number = known.identity.version
            return RollbackTarget(_image_of(promotion, known), f"version {number}", number)
    return None if before is None else RollbackTarget(before, f"{what}, which had been taken back")


def alias_disagreement(promotion: Promotion, promotions: Sequence[CommittedPromotion], before: str) -> str:
    """Say that the champion alias names a version whose image HEAD did not have before; empty when it agrees.

    Args:
        promotion: The promotion under way.
        promotions: All promotions of the policy on the branch.
        before: The image that HEAD had before the promotion.
    """
    policy = promotion.policy
    try:
        named = promotion.clients.registry.version_by_alias(policy.model, policy.champion_alias)
    except DependencyError:  # a person's abort takes the image back all the same
        return ""
    if named is None:
        return ""
    known = [committed.identity for committed in promotions if committed.identity.version == named.version]
    if any(is_image_of(identity, before) for identity in known):
        return ""
    if named.version == adopted_version(before, promotion.acts):
        return ""
    had_not = f"whose {policy.slot.noun} the manifest did not have"
    disagrees = had_not if known else "of which the branch has no promotion"
    return (
        f"Alias {policy.champion_alias} names version {named.version}, {disagrees} before version "
        f"{promotion.version.version}: it had {before}. The alias is not followed."
    )


def _was_taken_back(promotion: Promotion, committed: CommittedPromotion) -> bool:
    """Tell whether a promotion was taken back by a commit, ended by someone's change, or left by a person."""
    policy, clients, identity = promotion.policy, promotion.clients, committed.identity
    if committed.rollback is not None:
        return True
    try:
        version = clients.registry.version(policy.model, identity.version)
    except DependencyError:  # a person's abort takes the image back all the same, by what Git knows
        version = None
    state = version.state(policy.name) if version is not None else None
    if version is not None and version.attempt(policy.name) == identity.attempt:
        if state in (State.CHAMPION, State.FORMER_CHAMPION):
            return False
        if state in (State.REJECTED, State.ROLLED_BACK):
            return True
    return was_ended(clients.git, identity)


def _image_of(promotion: Promotion, committed: CommittedPromotion) -> str:
    """Return the image that a promotion committed, also when its manifest cannot be read any more."""
    image = promotion.image_at(committed.commit.commit)
    if image is not None:
        return image
    trailers = committed.commit.trailers
    return trailers.get(MODEL_ADDRESS) or f"{promotion.policy.images.repository}@{committed_digest(trailers)}"


def way_back_problem(promotion: Promotion, target: RollbackTarget) -> Problem | None:
    """Say why what a rollback would return to could not be served again; None when it could.

    Raises:
        DependencyError: the registry, or the image registry, does not answer.
    """
    deployed = parse_deployed(target.image)
    if promotion.policy.slot.holds_address and isinstance(deployed, ModelAddress):
        return _lost_model(promotion, target, deployed)
    if isinstance(deployed, ImageRef) and promotion.clients.images.resolve(deployed) is not None:
        return None
    return Problem(
        f"rollback target {target.image}",
        "an image that can still be pulled",
        "no such image in the registry",
        "Push it again, or commit an image that exists, so that there is a way back.",
    )


def _lost_model(promotion: Promotion, target: RollbackTarget, address: ModelAddress) -> Problem | None:
    """Say why an address does not lead back to what served; of a place that is no known version's, nobody can tell."""
    subject, registry = f"rollback target {address}", promotion.clients.registry
    if not address.is_fixed:
        next_step = f"Write the version that serves into {promotion.policy.manifest.path}, and commit that."
        found = "an alias or a stage, which may be moved meanwhile"
        return Problem(subject, "an address that names one fixed model", found, next_step)
    named = address.version or (target.version and (promotion.policy.model, target.version))
    if not named:
        return None
    version = registry.version(*named)
    if version is not None and registry.model_location(version) is not None:
        return None
    return Problem(
        subject,
        "a model that the registry still has",
        "no such version" if version is None else "a version without its files",
        "Restore it, or commit the address of a version that exists, so that there is a way back.",
    )

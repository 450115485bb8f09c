"""Which versions were verified champions under a policy, and which one serves: from Git alone, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestration.promotion.acts import ActKind, parse_act
from orchestration.promotion.branch_standing import CommittedPromotion, is_image_of, live_promotion
from orchestration.promotion.branch_view import acts, image_at
from orchestration.promotion.images import ImageRef, parse_image
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import GitOpsRepository
from orchestration.promotion.returns import is_return, left_version


@dataclass(frozen=True)
class Champion:
    """A version that was proved to serve well: by a promotion that has its evidence tag, or because it was adopted."""

    version: int
    digest: str
    """The digest of its image, `sha256:<64 digits>`."""
    commit: str
    """A commit at which the manifest had its image."""
    at: float
    """When it was committed or adopted, in seconds since the epoch."""
    promotion: CommittedPromotion | None
    """The promotion; None for a version that was adopted."""
    left: bool = False
    """Whether a person has gone back from it to another version since."""


def champions(git: GitOpsRepository, policy: Policy, promotions: Sequence[CommittedPromotion]) -> tuple[Champion, ...]:
    """List the policy's verified champions, present and former, newest first; a version may be among them repeatedly.

    Args:
        git: The repository, with the branch fetched.
        policy: The policy.
        promotions: `committed_promotions(...)` at HEAD.
    """
    tags = {tag.name: tag for tag in git.tags_below(f"incumbent/{policy.name}/")}
    found: list[Champion] = []
    for committed in promotions:
        tag = tags.get(committed.identity.evidence_tag)
        digest = committed.commit.trailers.get("Image-Digest", "")
        if committed.rollback is None and tag is not None and tag.commit == committed.commit.commit:
            commit, at = committed.commit.commit, committed.commit.committed_at
            found.append(Champion(committed.identity.version, digest, commit, at, committed))
    for tag in tags.values():
        act = parse_act(tag.name, tag.message, tag.commit)
        if act is not None and act.kind is ActKind.ADOPT and act.version is not None and act.digest is not None:
            found.append(Champion(act.version, act.digest, act.commit, act.at, None))
    newest_first = sorted(found, key=lambda champion: champion.at, reverse=True)
    return tuple(_with_left(champion, promotions) for champion in newest_first)


def _with_left(champion: Champion, promotions: Sequence[CommittedPromotion]) -> Champion:
    left = any(
        is_return(committed)
        and committed.rollback is None
        and left_version(committed) == champion.version
        and committed.commit.committed_at >= champion.at
        for committed in promotions
    )
    return Champion(champion.version, champion.digest, champion.commit, champion.at, champion.promotion, left)


def pinned_image(git: GitOpsRepository, policy: Policy, champion: Champion) -> ImageRef | None:
    """Return a champion's image by its verified digest; None when its commit does not have it."""
    text = image_at(git, policy, champion.commit)
    reference = parse_image(text) if text is not None else None
    if reference is None or reference.digest not in (None, champion.digest):
        return None
    return ImageRef(reference.repository, reference.tag, champion.digest)


def version_of_image(
    git: GitOpsRepository, policy: Policy, promotions: Sequence[CommittedPromotion], image: str
) -> int | None:
    """Return the version whose image the manifest has, by its promotion or its adoption; None when neither is known."""
    live = live_promotion(promotions)
    candidates = [*([live] if live is not None else []), *promotions]
    promoted = next((made for made in candidates if is_image_of(made.identity, image)), None)
    return promoted.identity.version if promoted is not None else adopted_version(git, policy, image)


def adopted_version(git: GitOpsRepository, policy: Policy, image: str) -> int | None:
    """Return the version that was adopted last with that image; None when it never was.

    An image without a digest counts as adopted when the manifest had the same text then.
    """
    reference = parse_image(image)
    digest = reference.digest if reference is not None else None
    made = (act for act in acts(git, policy.name) if act.kind is ActKind.ADOPT)
    same = (
        act.version
        for act in made
        if (act.digest == digest if digest is not None else image_at(git, policy, act.commit) == image)
    )
    return next(same, None)


def adopted_image(git: GitOpsRepository, policy: Policy, version: int) -> ImageRef | None:
    """Return the image with which a version was adopted last, by its digest; None when it never was."""
    made = (act for act in acts(git, policy.name) if act.kind is ActKind.ADOPT and act.version == version)
    digest = next((act.digest for act in made), None)
    return ImageRef(policy.image.repository, None, digest) if digest is not None else None

"""The GitOps branch at one head: the commit, the manifest there, and the policy's promotions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestration.promotion.acts import Act, ActKind, acts_prefix, adopted_version, newest_first, parse_act
from orchestration.promotion.branch_standing import (
    BranchStanding,
    CommittedPromotion,
    committed_promotions,
    is_image_of,
    live_promotion,
    standing_on_branch,
)
from orchestration.promotion.deployed import Deployed, parse_address
from orchestration.promotion.identity import PromotionId
from orchestration.promotion.images import ImageRef
from orchestration.promotion.manifest import CurrentImage, EditRefused, read_image
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import GitOpsRepository, Registry, TagRecord
from orchestration.promotion.problems import Problem


@dataclass(frozen=True)
class BranchView:
    """The branch at one head, as it concerns one version under one policy."""

    head: str
    content: bytes
    """The whole manifest at the head."""
    image: str
    """The image that the manifest has."""
    promotions: tuple[CommittedPromotion, ...]
    """The policy's promotions, newest first."""
    standing: BranchStanding


def view_branch(git: GitOpsRepository, policy: Policy, version: ModelVersion, head: str) -> BranchView | Problem:
    """Read the branch at `head`, which must have been fetched.

    Returns:
        The view, or why the manifest cannot be read there for this policy.
    """
    read = manifest_at(git, policy, head)
    if isinstance(read, Problem):
        return read
    content, image = read
    promotions = committed_promotions(git.history(head, policy.name), policy.name)
    standing = standing_on_branch(version, policy.name, promotions, image)
    return BranchView(head, content, image, promotions, standing)


def manifest_at(git: GitOpsRepository, policy: Policy, head: str) -> tuple[bytes, str] | Problem:
    """Read the policy's manifest at a commit: its content and the image in it, or why it cannot be read."""
    target = policy.manifest
    content = git.read_file(head, target.path)
    if content is None:
        return Problem(
            f"{target.path} at {head[:12]}",
            f"the manifest that policy {policy.name} names",
            "no such file",
            "Correct manifest.path in the policy, or commit the file.",
        )
    current = read_image(content, policy)
    return current.problem if isinstance(current, EditRefused) else (content, current.value)


def unfinished(
    git: GitOpsRepository, promotions: Sequence[CommittedPromotion], made: Iterable[Act]
) -> CommittedPromotion | None:
    """Return the committed promotion that is neither verified nor taken back nor ended by an act, as Git alone knows.

    Args:
        git: The repository.
        promotions: The policy's promotions, newest first.
        made: The policy's acts.
    """
    live = live_promotion(promotions)
    ended = {act.promotion for act in made if act.kind is ActKind.ENDED}
    is_open = live is not None and live.identity not in ended and git.tag(live.identity.evidence_tag) is None
    return live if is_open else None


def image_at(git: GitOpsRepository, policy: Policy, commit: str) -> str | None:
    """Return the image that the policy's manifest has at a commit; None when it cannot be read there."""
    content = git.read_file(commit, policy.manifest.path)
    current = read_image(content, policy) if content is not None else None
    return current.value if isinstance(current, CurrentImage) else None


def other_under_way(
    registry: Registry,
    git: GitOpsRepository,
    policy: Policy,
    head: str,
    promotions: tuple[CommittedPromotion, ...],
    version: int | None,
) -> tuple[CommittedPromotion, ModelVersion | None] | None:
    """Return the committed promotion of another version that is neither champion nor taken back.

    Such a promotion is finished before the next one begins, also when its version was deleted from the registry (None)
    or its tags were lost: without the evidence tag, nobody has judged what it put there.
    """
    live = live_promotion(promotions)
    if live is None or live.identity.version == version:
        return None
    other = registry.version(policy.model, live.identity.version)
    state = other.state(policy.name) if other is not None else None
    if other is not None and state is not None:
        asked_again = other.attempt(policy.name) > live.identity.attempt
        return None if state.is_end or asked_again else (live, other)
    image = image_at(git, policy, head)
    stands = image is None or is_image_of(live.identity, image)
    is_over = git.tag(live.identity.evidence_tag) is not None or was_ended(git, live.identity)
    return (live, other) if stands and not is_over else None


def is_verified(git: GitOpsRepository, committed: CommittedPromotion) -> bool:
    """Whether Git has the evidence tag of a promotion, on that promotion's commit."""
    tag = git.tag(committed.identity.evidence_tag)
    return tag is not None and tag.commit == committed.commit.commit


def was_ended(git: GitOpsRepository, promotion: PromotionId) -> bool:
    """Tell whether an act says that a promotion ended without a rollback commit."""
    return any(act.kind is ActKind.ENDED and act.promotion == promotion for act in acts(git, promotion.policy))


def version_of_image(promotions: Sequence[CommittedPromotion], image: str, made: Iterable[Act]) -> int | None:
    """Return the version whose image the manifest has, by its promotion or its adoption; None when neither is known.

    Args:
        promotions: The policy's promotions, newest first.
        image: The image in the manifest.
        made: The policy's acts, newest first.
    """
    live = live_promotion(promotions)
    candidates = [*([live] if live is not None else []), *promotions]
    promoted = next((known for known in candidates if is_image_of(known.identity, image)), None)
    return promoted.identity.version if promoted is not None else adopted_version(image, made)


def adopted_image(policy: Policy, version: int, made: Iterable[Act]) -> Deployed | None:
    """Return the image, by its digest, or the address with which a version was adopted last; None when it never was.

    Args:
        policy: The policy.
        version: The version.
        made: The policy's acts, newest first.
    """
    adoption = next((act for act in made if act.kind is ActKind.ADOPT and act.version == version), None)
    if adoption is None or adoption.digest is None:
        return None
    address = parse_address(adoption.image)
    return address or (ImageRef(policy.images.repository, None, adoption.digest) if policy.image is not None else None)


def act_tags(git: GitOpsRepository, policy: str) -> tuple[TagRecord, ...]:
    """Read the tags of all acts of a policy as the server has them now."""
    return git.tags_below(acts_prefix(policy))


def acts(git: GitOpsRepository, policy: str) -> tuple[Act, ...]:
    """Read all acts of a policy as the server has them now, newest first."""
    return parse_acts(act_tags(git, policy))


def parse_acts(records: Iterable[TagRecord]) -> tuple[Act, ...]:
    """Read the acts among some tags, newest first."""
    parsed = (parse_act(record.name, record.message, record.commit) for record in records)
    return newest_first(act for act in parsed if act is not None)

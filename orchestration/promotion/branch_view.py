"""What the GitOps branch has at a commit, for one policy."""

from orchestration.promotion.manifest import CurrentImage, read_image
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import GitOpsRepository


def image_at(git: GitOpsRepository, policy: Policy, commit: str) -> str | None:
    """Return the image that the policy's manifest has at a commit; None when it cannot be read there."""
    content = git.read_file(commit, policy.manifest.path)
    current = read_image(content, policy.manifest) if content is not None else None
    return current.value if isinstance(current, CurrentImage) else None

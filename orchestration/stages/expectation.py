"""What must be live once a commit is rolled out."""

from orchestration.promotion.deployed import IMAGE, ModelAddress, parse_deployed
from orchestration.promotion.images import ImageRef
from orchestration.promotion.problems import Problem
from orchestration.promotion.rollout_conditions import Expected
from orchestration.promotion.version_image import serving_image
from orchestration.stages.stage import Promotion


def expect(promotion: Promotion, commit: str, text: str) -> Expected | Problem:
    """Find out what must be live: what the manifest has, and every digest by which a kubelet may name the image.

    The image that serves an address is the one that the manifest has now: when someone changes it while a rollout is
    waited for, pods run another one, and whoever asks again goes by the new one.

    Args:
        promotion: The promotion.
        commit: The commit.
        text: The image or the address that it put into the manifest.

    Returns:
        What must be live; or why that is not known.

    Raises:
        DependencyError: the image registry or Git does not answer.
    """
    policy, clients = promotion.policy, promotion.clients
    deployed, container, slot = parse_deployed(text), policy.manifest.container, policy.slot
    if isinstance(deployed, ModelAddress) and slot.holds_address:
        content = clients.git.read_file(clients.git.fetch(), policy.manifest.path)
        image = serving_image(clients.images, policy, content) if content is not None else None
        if isinstance(image, Problem):
            return image
        if image is None:
            return Expected(commit, deployed, container, frozenset(), slot, is_pinned=False)
        return Expected(commit, deployed, container, image.resolved.known_digests, slot, image.is_pinned)
    resolved = clients.images.resolve(deployed) if isinstance(deployed, ImageRef) and slot == IMAGE else None
    if deployed is None or resolved is None:
        return Problem(f"image {text}", "an image in the registry", "no such image in the registry", "Push it again.")
    return Expected(commit, deployed, container, resolved.known_digests)

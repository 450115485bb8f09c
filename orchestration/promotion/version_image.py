"""What a model version would be deployed as: the image that it names, as it is in its registry now, or its address.

And the image that serves the models whose addresses are deployed.
"""

from dataclasses import dataclass

from orchestration.promotion.deployed import ModelAddress, parse_address
from orchestration.promotion.images import choose_image, parse_image
from orchestration.promotion.manifest import EditRefused, read_serving_image
from orchestration.promotion.model_version import ModelVersion, not_registered
from orchestration.promotion.originals import with_originals
from orchestration.promotion.policy import Policy
from orchestration.promotion.ports import ImageRegistry, Registry, ResolvedImage
from orchestration.promotion.problems import Problem
from orchestration.promotion.quality import run_problem
from orchestration.promotion.served_model import shown


def version_deployed(
    registry: Registry, images: ImageRegistry, policy: Policy, version: ModelVersion, next_step: str
) -> ResolvedImage | ModelAddress | Problem:
    """Find what a promotion of a version would deploy, without waiting for it.

    Args:
        registry: The model registry.
        images: The image registry.
        policy: The policy.
        version: The version.
        next_step: What a person should do when the image is not published.

    Returns:
        The image or the address; or why there is none.
    """
    if policy.deploys == "model_uri":
        return version_address(registry, policy, version)
    run = registry.training(version)
    problem = run_problem(version, run)
    if run is None or problem is not None:
        assert problem is not None, "a version without a run has a problem"
        return problem
    chosen = choose_image(with_originals(registry, version), run, policy.images.repository)
    if isinstance(chosen, Problem):
        return chosen
    image = images.resolve(chosen)
    if image is None:
        return Problem(f"image {chosen}", "a published image", "no such image in the registry", next_step)
    return image


def version_address(registry: Registry, policy: Policy, version: ModelVersion) -> ModelAddress | Problem:
    """Find the address of a version's model, which the registry must still have, and have in a place that is allowed.

    Whoever registers a version says where its artifacts are, and an address decides which code a server loads (design
    rule 9). So the policy says below which prefix they must be, and only a whole address below it will do.
    """
    if registry.version(policy.model, version.version) is None:
        return not_registered(policy.model, version.version)
    location = registry.model_location(version)
    if location is None:
        next_step = "Log and register the model again, as a new version."
        return Problem(str(version), "a model whose files are in the registry", "no files of it", next_step)
    by_name = ModelAddress(f"models:/{policy.model}/{version.version}")
    if policy.artifacts_below is None:
        return by_name
    address = parse_address(location)
    if address is None or not location.startswith(policy.artifacts_below):
        return Problem(
            f"the artifacts of {version}",
            f"a place below {policy.artifacts_below}, in the form of an address",
            shown(repr(location)),
            "Register a model whose artifacts are there, or correct artifacts_below in the policy.",
        )
    return address if policy.model_address == "artifacts" else by_name


@dataclass(frozen=True)
class ServingImage:
    """The image that serves the models whose addresses are deployed."""

    resolved: ResolvedImage
    is_pinned: bool
    """Whether the manifest names it by its digest."""


def serving_image(images: ImageRegistry, policy: Policy, content: bytes) -> ServingImage | Problem | None:
    """Resolve the image that serves the models whose addresses a policy deploys, as a manifest has it.

    Args:
        images: The image registry.
        policy: The policy.
        content: The manifest.

    Returns:
        The image; why it cannot be had; or None when the manifest leaves it to the platform, as KServe's may.
    """
    found = read_serving_image(content, policy)
    if found is None:
        return None
    if isinstance(found, EditRefused):
        return found.problem
    reference = parse_image(found.value)
    resolved = images.resolve(reference) if reference is not None else None
    if resolved is None:
        return Problem(
            f"serving image {found.value}",
            "an image in its registry",
            "no such image in the registry",
            f"Push it again, or correct it in {policy.manifest.path}.",
        )
    return ServingImage(resolved, reference is not None and reference.digest is not None)

"""Judging the address of a version's model: it exists, and so does the image that serves it."""

from orchestration.promotion.branch_view import BranchView
from orchestration.promotion.deployed import ModelAddress, Slot
from orchestration.promotion.manifest import read_variable
from orchestration.promotion.originals import with_originals
from orchestration.promotion.ports import ResolvedImage
from orchestration.promotion.problems import Problem
from orchestration.promotion.served_model import MODEL_URI, manifest_problem
from orchestration.promotion.version_image import serving_image, version_address
from orchestration.stages.judge_signature import require_signature, with_signatures
from orchestration.stages.results import Checklist
from orchestration.stages.stage import Promotion


def require_address(promotion: Promotion, view: BranchView, checklist: Checklist) -> ModelAddress:
    """Require that the version's model can be deployed by its address, and that the manifest's image can serve it.

    What the serving image says of a model by itself is no contradiction, because the manifest's value takes precedence;
    a `MODEL_URI` that the manifest has beside another place of the address is one.

    Raises:
        StageEnded: refused.
        DependencyError: the registry, the cluster or the image registry does not answer.
    """
    policy = promotion.policy
    address = version_address(promotion.clients.registry, policy, promotion.version)
    if isinstance(address, Problem):
        raise checklist.failed("image_published", address.then(promotion.how_to_retry))
    problem = _contradiction(promotion, view)
    if problem is not None:
        raise checklist.failed("image_published", problem)
    image = serving_image(promotion.clients.images, policy, view.content)
    if isinstance(image, Problem):
        raise checklist.failed("image_published", image.then(promotion.how_to_retry))
    rows = [{"what": "address", "finding": str(address)}]
    if image is None:
        if policy.signature is not None:
            raise checklist.failed("image_signed", _nothing_to_verify(promotion))
        rows.append({"what": "serving image", "finding": "not in the manifest: the platform chooses it"})
        checklist.passed("image_signed", "the policy asks for no signature")
    else:
        problem = architecture_problem(promotion, image.resolved)
        if problem is not None:
            raise checklist.failed("image_published", problem.then(promotion.how_to_retry), rows=rows)
        rows.append({"what": "serving image", "finding": str(image.resolved.reference)})
        require_signature(promotion, with_signatures(promotion, image.resolved), checklist)
    checklist.passed("image_published", f"{address} is in the registry, and the serving image fits the nodes", rows)
    return address


def architecture_problem(promotion: Promotion, image: ResolvedImage) -> Problem | None:
    """Say why an image runs on none of the cluster's nodes; None when it does."""
    nodes = promotion.clients.cluster.nodes()
    wanted = {node.architecture for node in nodes if node.ready} or {node.architecture for node in nodes}
    offered = {platform.architecture for platform in image.platforms}
    if wanted & offered:
        return None
    return Problem(
        f"image {image.reference}",
        f"a platform of cluster {promotion.policy.cluster}'s nodes ({', '.join(sorted(wanted)) or 'no nodes'})",
        ", ".join(sorted(offered)) or image.instead or "an image without platforms",
        "Build and push the image for the nodes' architecture.",
    )


def _nothing_to_verify(promotion: Promotion) -> Problem:
    target = promotion.policy.manifest
    return Problem(
        f"{target.kind} {target.namespace}/{target.name}",
        "an image in the manifest, whose signature the policy asks for",
        "no image: the platform chooses it",
        f"Name the image in {target.path}, or remove signature from the policy.",
    )


def _contradiction(promotion: Promotion, view: BranchView) -> Problem | None:
    """Say why another field of the manifest makes its container serve another model; None when none does."""
    policy = promotion.policy
    if policy.slot == Slot("variable", MODEL_URI):
        return None
    variable = read_variable(view.content, policy, MODEL_URI)
    if variable is None:
        return None
    place = f"{policy.manifest.path}, line {variable.line}, at {view.head[:12]}"
    version = with_originals(promotion.clients.registry, promotion.version)
    return manifest_problem(place, variable.value, version, promotion.how_to_retry)

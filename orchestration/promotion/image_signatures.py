"""Which signatures of an image count: one by the policy's key or identity, for this digest, in this repository."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestration.promotion.images import ImageRef, parse_image, split_repository
from orchestration.promotion.policy import CosignPolicy
from orchestration.promotion.problems import Problem


@dataclass(frozen=True)
class ImageSignature:
    """A signature that is stored beside an image: what it says, and whether the one that was asked about made it."""

    digest: str
    """The digest of the image that was signed."""
    repository: str | None
    """The repository for which it was signed; None for a Sigstore bundle, which names none."""
    fault: str | None = None
    """Why it is not by the key or identity that was asked about; then anybody may have written the rest."""


def signature_problem(image: ImageRef, signatures: Sequence[ImageSignature], wanted: CosignPolicy) -> Problem | None:
    """Say why no signature of an image counts; None when one does.

    Args:
        image: the image, with its digest.
        signatures: all that are stored beside it.
        wanted: who must have signed.
    """
    ours = [each for each in signatures if each.fault is None]
    of_image = [each for each in ours if each.digest == image.digest]
    if any(each.repository is None or _same(each.repository, image.repository) for each in of_image):
        return None
    how = "--key KEY " if wanted.key is not None else ""
    if of_image:
        found = f"a signature by it for another repository, {of_image[0].repository}"
        how = f"--sign-container-identity {image.repository} {how}"
    elif ours:
        found = f"a signature by it for another image, {ours[0].digest}"
    elif signatures:
        faults = dict.fromkeys(each.fault for each in signatures if each.fault is not None)
        found = f"{len(signatures)} signature(s), none by it: {'; '.join(faults)}"
    else:
        found = "no signature"
    again = f"Sign it{'' if how else ' as that identity'}: cosign sign {how}{image.repository}@{image.digest}."
    return Problem(f"image {image}", f"a signature by {wanted.signer} for this image", found, again)


def _same(signed: str, repository: str) -> bool:
    """Compare repositories as cosign names them: `index.docker.io/library/redis`, at times with a tag."""
    reference = parse_image(signed)
    return reference is not None and split_repository(reference.repository) == split_repository(repository)

"""Which signatures of an image count: one that the policy's key made, for this digest, in this repository."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestration.promotion.images import ImageRef, parse_image, split_repository
from orchestration.promotion.problems import Problem


@dataclass(frozen=True)
class ImageSignature:
    """A signature that is stored beside an image: what it says, and whether a key made it."""

    digest: str
    """The digest of the image that was signed."""
    repository: str | None
    """The repository for which it was signed; None for a Sigstore bundle, which names none."""
    is_by_key: bool
    """Whether the key that was asked about made it; until then, anybody may have written the rest."""


def signature_problem(image: ImageRef, signatures: Sequence[ImageSignature], key: str) -> Problem | None:
    """Say why no signature of an image counts; None when one does.

    Args:
        image: the image, with its digest.
        signatures: all that are stored beside it.
        key: the name of the key, for the message.
    """
    ours = [each for each in signatures if each.is_by_key]
    of_image = [each for each in ours if each.digest == image.digest]
    if any(each.repository is None or _same(each.repository, image.repository) for each in of_image):
        return None
    again = f"Sign it: cosign sign --key KEY {image.repository}@{image.digest}."
    if of_image:
        found = f"a signature by it for another repository, {of_image[0].repository}"
        again = again.replace("--key", f"--sign-container-identity {image.repository} --key")
    elif ours:
        found = f"a signature by it for another image, {ours[0].digest}"
    else:
        found = f"{len(signatures)} signature(s), none by it" if signatures else "no signature"
    return Problem(f"image {image}", f"a signature by the key {key} for this image", found, again)


def _same(signed: str, repository: str) -> bool:
    """Compare repositories as cosign names them: `index.docker.io/library/redis`, at times with a tag."""
    reference = parse_image(signed)
    return reference is not None and split_repository(reference.repository) == split_repository(repository)

"""Judging an image's signature, and looking for an image that is published, signed or answered for only later."""

from dataclasses import dataclass

from orchestration.promotion.image_signatures import ImageSignature, signature_problem
from orchestration.promotion.images import ImageRef
from orchestration.promotion.ports import ResolvedImage
from orchestration.promotion.problems import RateLimitedError
from orchestration.stages.results import Checklist
from orchestration.stages.stage import Promotion


@dataclass(frozen=True)
class Found:
    """An image in the registry, with the signatures that were read beside it in the same look."""

    image: ResolvedImage
    signatures: tuple[ImageSignature, ...]
    """None are read when the policy asks for none."""


@dataclass(frozen=True)
class Missing:
    """What keeps a version waiting for its image."""

    what: str
    """What it should be: `published`, `signed`."""
    found: str
    mend: str
    """What a person does."""


NOT_PUBLISHED = Missing("published", "no such image in the registry", "Push it")
NOT_SIGNED = Missing("signed", "no signature beside the image", "Sign it with cosign")


class ImageSearch:
    """Looks for an image again and again, and leaves a registry alone that wants to be asked later."""

    def __init__(self, promotion: Promotion, image: ImageRef, deadline: float) -> None:
        """Look for nothing yet; the deadline is in seconds since the epoch."""
        self._promotion, self._image, self._deadline = promotion, image, deadline
        self._not_before = 0.0
        self._last: Found | Missing = NOT_PUBLISHED

    def look(self) -> Found | Missing:
        """Return the image once it is published and, if the policy asks for that, has any signature.

        Raises:
            RateLimitedError: the registry wants to be asked later than the deadline, or no other may wait for it.
            DependencyError: the registry does not answer, or what verifies signatures cannot be had.
        """
        now = self._promotion.clients.clock.now()
        if now >= self._not_before:
            try:
                self._last = self._look()
            except RateLimitedError as error:
                self._not_before = now + error.seconds
                if self._not_before > self._deadline or self._promotion.lease.is_held:
                    raise
        return self._last

    def _look(self) -> Found | Missing:
        image = self._promotion.clients.images.resolve(self._image)
        if image is None:
            return NOT_PUBLISHED
        found = with_signatures(self._promotion, image)
        # Whoever pushes an image signs it some moments later; a signature that is wrong is judged at once.
        return NOT_SIGNED if self._promotion.policy.signature is not None and not found.signatures else found


def with_signatures(promotion: Promotion, image: ResolvedImage) -> Found:
    """Read the signatures beside an image, if the policy asks for one.

    Raises:
        DependencyError: the registry does not answer, or what verifies signatures cannot be had.
    """
    wanted = promotion.policy.signature
    if wanted is None:
        return Found(image, ())
    return Found(image, promotion.clients.images.signatures(image.reference, wanted.cosign))


def require_signature(promotion: Promotion, found: Found, checklist: Checklist) -> None:
    """Require the signature that the policy asks for.

    Raises:
        StageEnded: refused, because no signature of the image counts.
    """
    wanted = promotion.policy.signature
    if wanted is None:
        checklist.passed("image_signed", "the policy asks for no signature")
        return
    reference = found.image.reference
    problem = signature_problem(reference, found.signatures, wanted.cosign)
    if problem is not None:
        raise checklist.failed("image_signed", problem.then(promotion.how_to_retry))
    checklist.passed("image_signed", f"{reference} is signed by {wanted.cosign.signer}")

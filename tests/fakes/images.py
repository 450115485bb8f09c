"""An image registry in memory, held to the same contract tests as the one that asks a real registry."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestration.promotion.image_signatures import ImageSignature
from orchestration.promotion.images import ImageRef
from orchestration.promotion.policy import CosignPolicy
from orchestration.promotion.ports import PlatformImage, ResolvedImage
from orchestration.promotion.problems import DependencyError, Problem, RateLimitedError


@dataclass
class FakeImages:
    """Implements the `ImageRegistry` port. Tests publish into it, and take it down with `down = True`."""

    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    """The digest of each repository's tag."""
    images: dict[tuple[str, str], tuple[PlatformImage, ...]] = field(default_factory=dict)
    """The platforms of each repository's digest."""
    signed: dict[str, tuple[ImageSignature, ...]] = field(default_factory=dict)
    """The signatures of each digest."""
    asked_for_signatures: int = 0
    """How often signatures were read."""
    limited: list[float] = field(default_factory=list)
    """For how many seconds each next question is too early."""
    down: bool = False

    def publish(
        self,
        repository: str,
        tag: str,
        environment: Mapping[str, str] | None = None,
        architectures: tuple[str, ...] = ("amd64",),
    ) -> str:
        """Publish an image; its digest follows from what it is."""
        platforms = tuple(
            PlatformImage(
                architecture,
                _digest("manifest", repository, tag, architecture, environment),
                _digest("config", repository, tag, architecture, environment),
                dict(environment or {}),
            )
            for architecture in architectures
        )
        digest = platforms[0].manifest_digest if len(platforms) == 1 else _digest("index", repository, tag, environment)
        self.images[repository, digest] = platforms
        self.tags[repository, tag] = digest
        return digest

    def remove(self, repository: str, digest: str) -> None:
        """Delete an image, as a registry's clean-up does."""
        del self.images[repository, digest]

    def resolve(self, reference: ImageRef) -> ResolvedImage | None:
        if self.down:
            raise DependencyError(Problem("the image registry", "an answer", "no answer", "Start it again."))
        if self.limited:
            problem = Problem("the image registry", "an answer", "HTTP 429", "Ask later.")
            raise RateLimitedError(problem, self.limited.pop(0))
        digest = reference.digest or self.tags.get((reference.repository, reference.tag or "latest"))
        platforms = None if digest is None else self.images.get((reference.repository, digest))
        if platforms is None:
            return None
        return ResolvedImage(ImageRef(reference.repository, reference.tag, digest), platforms)

    def signatures(self, image: ImageRef, wanted: CosignPolicy) -> tuple[ImageSignature, ...]:
        assert image.digest is not None
        self.asked_for_signatures += 1
        return self.signed.get(image.digest, ())


def _digest(*parts: object) -> str:
    return f"sha256:{hashlib.sha256(repr(parts).encode()).hexdigest()}"

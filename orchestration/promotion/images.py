"""Image references in the OCI grammar, and which image a model version names."""

import re
from dataclasses import dataclass

from orchestration.promotion.model_version import ModelVersion, TrainingRun
from orchestration.promotion.problems import Problem
from orchestration.promotion.redact import redact

# The grammar of github.com/distribution/reference (regexp.go); a text must match it from beginning to end.
_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?)"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_REFERENCE = re.compile(
    rf"(?P<repository>(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_IMAGE_TAGS = {"image", "image_tag", "image_digest"}
DOCKER_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
_GIT_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True)
class ImageRef:
    """An image reference, `repository[:tag][@digest]`, with the repository as it was written."""

    repository: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


def parse_image(text: str) -> ImageRef | None:
    """Parse `text` as an image reference; None unless all of it matches (design rule 9)."""
    match = _REFERENCE.fullmatch(text)
    if match is None or len(match["repository"]) > 255:
        return None
    return ImageRef(match["repository"], match["tag"], match["digest"])


def split_repository(repository: str) -> tuple[str, str]:
    """Split a repository's name into host and path by Docker's rules: `redis` is `docker.io` and `library/redis`."""
    first, slash, rest = repository.partition("/")
    if not slash or not is_registry_host(first):
        first, rest = "docker.io", repository
    host = registry_host(first)
    return host, rest if host != "docker.io" or "/" in rest else f"library/{rest}"


def is_registry_host(text: str) -> bool:
    """Whether the first part of a repository's name is a registry, and no part of a name on Docker Hub."""
    return "." in text or ":" in text or text == "localhost"


def registry_host(host: str) -> str:
    """Return the one name of a registry that has several, as Docker Hub has."""
    return "docker.io" if host in DOCKER_HUB_HOSTS else host


def is_same_image(live: ImageRef, wanted: ImageRef) -> bool:
    """Whether a live image is the wanted one. A pinned digest decides; a tag beside a digest is only a comment."""
    if live.repository != wanted.repository:
        return False
    return live.digest == wanted.digest if wanted.digest else live == wanted


def is_tag(text: str) -> bool:
    """Whether the whole text is an image tag."""
    return re.fullmatch(_TAG, text) is not None


def is_tag_with_digest(text: str) -> bool:
    """Whether the whole text is a tag, alone or with a sha256 digest: `v7`, `v7@sha256:...`."""
    tag, at, digest = text.partition("@")
    return is_tag(tag) and (not at or is_digest(digest))


def short_digest(digest: str) -> str:
    """Return the first 12 digits of a digest, by which promotions and people tell images apart."""
    return digest.removeprefix("sha256:")[:12]


def is_digest(text: str) -> bool:
    """Whether the whole text is a sha256 digest."""
    return re.fullmatch(_DIGEST, text) is not None


def choose_image(version: ModelVersion, run: TrainingRun, repository: str) -> ImageRef | Problem:
    """Choose the image that a version names, in the policy's one repository (design rule 9).

    The version's tags `image`, `image_tag` and `image_digest` are combined and must not contradict each other. If the
    version has none of them, those of the nearest version count that it is a copy of, and after these the run's
    `mlflow.source.git.commit`, which is the image's tag. A malformed tag is refused, never ignored.

    Args:
        version: the version to promote, with its originals.
        run: its training run.
        repository: the only repository that the policy deploys from.

    Returns:
        The image, with a tag or a digest or both; a problem when the version names none or one that is refused.
    """
    version = next((one for one in (version, *version.originals) if _IMAGE_TAGS & one.tags.keys()), version)
    tags = version.tags
    reference = tags.get("image")
    parts = {"image_tag": tags.get("image_tag"), "image_digest": tags.get("image_digest")}
    if reference is None and not any(value is not None for value in parts.values()):
        return _image_of_commit(version, run, repository)
    for name, grammar in (("image_tag", is_tag), ("image_digest", is_digest)):
        value = parts[name]
        if value is not None and not grammar(value):
            form = "sha256:<64 hexadecimal digits>" if name == "image_digest" else "an image tag"
            return _refuse(version, f"its tag {name} to be {form}", f"{name}={_shown(value)}")
    tag, digest = parts["image_tag"], parts["image_digest"]
    if reference is None:
        return ImageRef(repository, tag, digest)
    image = parse_image(reference)
    if image is None or (image.tag is None and image.digest is None):
        expected = f"its tag image to be {repository}:<tag> or {repository}@<digest>"
        return _refuse(version, expected, f"image={_shown(reference)}")
    if image.repository != repository:
        expected = f"its tag image to be in the policy's repository {repository}"
        return _refuse(version, expected, f"an image in {image.repository}")
    for name, in_image, in_tag in (("image_tag", image.tag, tag), ("image_digest", image.digest, digest)):
        if in_image is not None and in_tag is not None and in_image != in_tag:
            expected = "its tags image, image_tag and image_digest to agree"
            return _refuse(version, expected, f"{in_image} in image, but {name}={in_tag}")
    return ImageRef(repository, image.tag or tag, image.digest or digest)


def _image_of_commit(version: ModelVersion, run: TrainingRun, repository: str) -> ImageRef | Problem:
    commit = run.tags.get("mlflow.source.git.commit")
    if commit is None:
        return _refuse(
            version,
            "a tag image, image_tag or image_digest, or a run that records its Git commit",
            f"none of these tags, and {run} without mlflow.source.git.commit",
        )
    if not _GIT_COMMIT.fullmatch(commit):
        expected = f"mlflow.source.git.commit of {run} to be a full commit id"
        return _refuse(version, expected, f"mlflow.source.git.commit={_shown(commit)}")
    return ImageRef(repository, tag=commit)


def _refuse(version: ModelVersion, expected: str, found: str) -> Problem:
    command = f'client.set_model_version_tag("{version.model}", "{version.version}", "image_tag", "<tag>")'
    return Problem(str(version), expected, found, f"Set the image with {command}.")


def _shown(text: str) -> str:
    """A value from the registry, made safe to print: quoted, shortened, and without credentials."""
    text = redact(text)
    return repr(text if len(text) <= 120 else text[:120] + "...")

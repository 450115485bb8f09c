"""Image references in the OCI grammar, and which image a model version names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from orchestration.promotion.model_version import ModelVersion, TrainingRun
from orchestration.promotion.problems import Problem
from orchestration.promotion.redact import redact

# The grammar of distribution/reference (github.com/distribution/reference, regexp.go), matched whole.
_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?)"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_REFERENCE = re.compile(
    rf"(?P<repository>(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_GIT_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True)
class ImageRef:
    """`repository[:tag][@digest]`, with the repository as it was written."""

    repository: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


def parse_image(text: str) -> ImageRef | None:
    """The reference that `text` is, whole; None when it is none (design rule 9)."""
    match = _REFERENCE.fullmatch(text)
    if match is None or len(match["repository"]) > 255:
        return None
    return ImageRef(match["repository"], match["tag"], match["digest"])


def is_tag(text: str) -> bool:
    """Whether a text, whole, is an image tag."""
    return re.fullmatch(_TAG, text) is not None


def is_digest(text: str) -> bool:
    """Whether a text, whole, is a sha256 digest."""
    return re.fullmatch(_DIGEST, text) is not None


def choose_image(version: ModelVersion, run: TrainingRun, repository: str) -> ImageRef | Problem:
    """The image that a version names, in the policy's one repository (design rule 9).

    The version's tags `image`, `image_tag` and `image_digest` are put together and must not contradict each other.
    With none of them the run's `mlflow.source.git.commit` is the image's tag. A tag that is there but malformed is
    refused, never skipped.
    """
    tags = version.tags
    whole = tags.get("image")
    parts = {"image_tag": tags.get("image_tag"), "image_digest": tags.get("image_digest")}
    if whole is None and not any(value is not None for value in parts.values()):
        return _image_of_commit(version, run, repository)
    for name, grammar in (("image_tag", is_tag), ("image_digest", is_digest)):
        value = parts[name]
        if value is not None and not grammar(value):
            form = "sha256:<64 hexadecimal digits>" if name == "image_digest" else "an image tag"
            return _refuse(version, f"its tag {name} to be {form}", _shown(value))
    tag, digest = parts["image_tag"], parts["image_digest"]
    if whole is None:
        return ImageRef(repository, tag, digest)
    image = parse_image(whole)
    if image is None or (image.tag is None and image.digest is None):
        return _refuse(version, f"its tag image to be {repository}:<tag> or {repository}@<digest>", _shown(whole))
    if image.repository != repository:
        return _refuse(version, f"its tag image to be in the policy's repository {repository}", image.repository)
    for name, one, other in (("image_tag", image.tag, tag), ("image_digest", image.digest, digest)):
        if one is not None and other is not None and one != other:
            return _refuse(version, "its tags image, image_tag and image_digest to agree", f"{one} and {name} {other}")
    return ImageRef(repository, image.tag or tag, image.digest or digest)


def served_model_problem(environment: Mapping[str, str], version: ModelVersion) -> Problem | None:
    """Why an image does not serve this version, by the `MODEL_URI` of its config's environment.

    None when it names this version (`models:/<model>/<version>`, `models:/<model id>` or `runs:/<run id>/<path>`), and
    when it is absent or empty: then the image does not say. An alias or a stage is refused, because it names another
    version tomorrow.
    """
    uri = environment.get("MODEL_URI", "")
    if not uri or _names_version(uri, version):
        return None
    fixed = f"MODEL_URI=models:/{version.model}/{version.version}"
    floating = uri.startswith("models:/") and ("@" in uri or not uri.rpartition("/")[2].isdigit())
    reason = ", which does not name one fixed version" if floating and not _is_model_id(uri) else ""
    return Problem(
        f"the image of {version}",
        f"{fixed} in its environment, or this version's model id or run",
        f"{_shown(uri)}{reason}",
        "Build the image for this version, or set the version's image tags to the image that serves it.",
    )


def _names_version(uri: str, version: ModelVersion) -> bool:
    if uri == f"models:/{version.model}/{version.version}":
        return True
    if version.model_id and uri == f"models:/{version.model_id}":
        return True
    return bool(version.run_id) and re.fullmatch(rf"runs:/{re.escape(version.run_id or '')}/[^/].*", uri) is not None


def _is_model_id(uri: str) -> bool:
    return re.fullmatch(r"models:/m-[0-9a-f]+", uri) is not None


def _image_of_commit(version: ModelVersion, run: TrainingRun, repository: str) -> ImageRef | Problem:
    commit = run.tags.get("mlflow.source.git.commit")
    if commit is None:
        return _refuse(
            version,
            "a tag image, image_tag or image_digest, or a run that knows its Git commit",
            f"none of the tags, and run {run.run_id} without mlflow.source.git.commit",
        )
    if not _GIT_COMMIT.fullmatch(commit):
        return _refuse(version, f"mlflow.source.git.commit of run {run.run_id} to be a full commit id", _shown(commit))
    return ImageRef(repository, tag=commit)


def _refuse(version: ModelVersion, expected: str, found: str) -> Problem:
    command = f'client.set_model_version_tag("{version.model}", "{version.version}", "image_tag", "<tag>")'
    return Problem(str(version), expected, found, f"Set it with {command}.")


def _shown(text: str) -> str:
    """A value of the registry, made safe to print: quoted, short, and without credentials."""
    text = redact(text)
    return repr(text if len(text) <= 120 else text[:120] + "...")

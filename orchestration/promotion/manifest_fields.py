"""Which fields of a file make up an image together: Kustomize's `images[]`, and values of Helm charts in their forms.

A chart may keep the image as one reference, or split it over a registry, a repository, a tag and a digest, in a mapping
of their own (`image.tag`) or flat (`imageTag`, `image_tag`). The names are no standard, so a name says what a field
holds only where every chart means the same by it; otherwise the form of its value does.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orchestration.promotion.images import is_digest, is_tag_with_digest, parse_image
from orchestration.promotion.yaml_text import Node, RefusedError, ScalarNode, text_of

Part = Literal["whole", "tag", "digest", "address"]
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_ROLES = ("suffix", "digest", "sha256", "sha", "tag", "version", "registry", "repository", "repo", "name", "image")
"""What a word in a field's name says that the field holds; of several the first one decides."""
_REPOSITORIES = ("repository", "repo", "name", "image")
_RIVALS = ("suffix", "sha", "sha256")
"""What some charts and Kustomize add to a tag in a form of their own."""


@dataclass(frozen=True)
class Field:
    """One scalar of the image."""

    node: ScalarNode
    part: Part


@dataclass(frozen=True)
class Split:
    """The scalars that have the image's version, and the repository that stands beside them."""

    fields: tuple[Field, ...]
    repository: str | None = None
    before: str = ""
    """What stands before a whole image in its scalar: `iris=`, the name that Kustomize knows the image by."""


def split_image(key: str, node: ScalarNode, siblings: Mapping[str, Node]) -> Split:
    """Say what a field holds, and what else beside it belongs to the image.

    Args:
        key: the field's name.
        node: its value.
        siblings: the fields beside it, itself included, by their names.

    Raises:
        RefusedError: it holds no version, or what stands beside it makes it doubtful which version is meant.
    """
    role, stem = _role_of(key)
    part = _part_of(role, node.value)
    if part is None:
        raise RefusedError(
            f"the field {key}, which holds a name and not a version",
            line=node.line,
            expected="a path to the whole image, its tag or its digest",
            next_step="Let manifest.yaml_path end in newTag, tag, digest, or the field of the whole image.",
        )
    if part == "whole":
        name, equals, _ = node.value.rpartition("=")
        return Split((Field(node, "whole"),), before=name + equals)
    beside: dict[str, ScalarNode] = {}
    for name, value in siblings.items():
        other, of_image = _role_of(name)
        belongs = of_image == stem or (other == "image" and stem in ((), ("image",)))
        # Kustomize's newName replaces name.
        if not belongs or not isinstance(value, ScalarNode) or _is_empty(value):
            continue
        if other not in beside or name == "newName":
            beside[other] = value
    return Split(_version_fields(key, node, part, beside), _repository(key, beside))


def _role_of(key: str) -> tuple[str, tuple[str, ...]]:
    """What a field holds by its name, and whose: (`tag`, (`image`,)) for `imageTag`; the role is empty for any other.

    Kustomize's `newTag` and `newName` are those of no image in particular.
    """
    words = tuple(word.lower() for word in _WORD.findall(key))
    role = next((role for role in _ROLES if role in words), "")
    if role == "image" and words[-1] != "image":
        role = ""
    roles = {*_ROLES, "new"} - ({"image"} if role != "image" else set())
    return role, tuple(word for word in words if word not in roles)


def _is_empty(node: ScalarNode) -> bool:
    """Whether a field holds nothing: an empty text, or null as YAML writes it."""
    return node.value == "" or (not node.style and node.value in ("~", "null", "Null", "NULL"))


def _part_of(role: str, value: str) -> Part | None:
    """What a field holds; None for a name or another word, which is never written."""
    if role == "tag":
        return "tag"
    if role == "digest":
        return "digest"
    if role in ("registry", "repository", "repo", "name"):
        return None
    if is_digest(value):
        return "digest"
    if role != "image" and is_tag_with_digest(value):
        # Where the name says nothing, `Always` of a pullPolicy looks like a tag, too.
        return "tag" if role or any(map(str.isdigit, value)) else None
    return "whole"


def _version_fields(key: str, node: ScalarNode, part: Part, beside: Mapping[str, ScalarNode]) -> tuple[Field, ...]:
    """The fields that are written: the tag, the digest, or both where both make up the image together."""
    for rival in _RIVALS:
        if rival in beside:
            raise RefusedError(
                f"a {rival} beside {key}, which make up the image together",
                line=beside[rival].line,
                expected="the version in a tag, a digest, or both",
                next_step=f"Remove the {rival} from the file; newTag and tag may hold tag@digest.",
            )
    tag = node if part == "tag" else beside.get("tag")
    digest = node if part == "digest" else beside.get("digest")
    if _is_empty(node) and part == "tag" and digest is None:
        # What serves then is in no file that could be restored, so there would be no way back.
        raise RefusedError(
            f"an empty {key}, in whose place a chart takes its own appVersion",
            line=node.line,
            expected="the tag that is running there",
            next_step="Write that tag into the file.",
        )
    if _is_empty(node) and part == "digest":
        raise RefusedError(
            f"an empty {key}",
            line=node.line,
            expected="a digest",
            next_step="Let manifest.yaml_path lead to the tag, which may hold tag@digest.",
        )
    fields = [Field(each, name) for each, name in _named(tag, digest) if not _is_empty(each)]
    return tuple(fields)


def _named(tag: ScalarNode | None, digest: ScalarNode | None) -> list[tuple[ScalarNode, Part]]:
    pairs: list[tuple[ScalarNode | None, Part]] = [(tag, "tag"), (digest, "digest")]
    return [(node, part) for node, part in pairs if node is not None]


def _repository(key: str, beside: Mapping[str, ScalarNode]) -> str | None:
    """The repository beside a version; a bare `name` or `image` is one only for Kustomize, or with a slash in it."""
    registry = text_of(beside.get("registry"))
    for role in _REPOSITORIES:
        text = text_of(beside.get(role))
        image = parse_image(text) if text is not None else None
        if text is None or image is None:
            continue
        if role in ("repository", "repo") and (image.tag or image.digest):
            raise RefusedError(
                f"{text}, which has a version of its own beside {key}",
                line=beside[role].line,
                expected=f"a {role} without tag or digest",
                next_step=f"Remove the version from the {role}, and commit that.",
            )
        if image.tag or image.digest:
            continue
        if role in ("name", "image") and "/" not in text and key not in ("newTag", "digest"):
            continue
        return f"{registry}/{text}" if registry and not text.startswith(f"{registry}/") else text
    return None

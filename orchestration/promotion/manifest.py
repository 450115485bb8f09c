"""Read and set the image, or the model's address, in a manifest without changing any other byte (design rule 3).

The file is parsed to find where the scalar stands, the new text is put there, and the document that holds it is parsed
again to prove that exactly that scalar has changed. Nothing is ever dumped, so comments, quotes, indentation, order and
line ends stay. Anything that has more than one reading is refused, with file, line and reason.

By default the image is that of a container, found by kind, namespace, name and container. A document without a
namespace counts as one of the wanted namespace, because Argo CD deploys it to the Application's; so beside another
match it is ambiguous, and refused.

With `yaml_path` the image stands at that path, and the path's last field says what is written there
(`manifest_fields`): a tag as `v7@sha256:...`, which Kustomize and charts append to the repository; a digest alone; a
tag and a digest in a field each, both in the same edit; or the whole reference, which may stand behind a name, as in
`iris=ghcr.io/acme/iris:v1` of an Application's `kustomize.images`. What holds a name is never written.

The address of a model stands in a variable or an argument of the container, or is the `storageUri` of an
InferenceService (`deployed.Slot`). It is replaced where it stands once, and never added.

A repository that the file gives beside a tag or digest must be the image's; where it gives none, it is the policy's.
What is read is a whole reference, so that it can be compared, and set again by a rollback.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from orchestration.promotion.deployed import IMAGE, parse_address
from orchestration.promotion.images import ImageRef, is_digest, is_tag, is_tag_with_digest, parse_image
from orchestration.promotion.manifest_place import Place, Selector, find_place, literal_variable
from orchestration.promotion.policy import Policy
from orchestration.promotion.problems import Problem
from orchestration.promotion.redact import redact
from orchestration.promotion.yaml_text import (
    RefusedError,
    ScalarNode,
    Stream,
    confirm,
    flatten,
    is_text_without_quotes,
    parse_documents,
    read_stream,
    too_large,
)

_KEPT_FILES = 64
"""Contents whose readings are kept: the stages of a promotion look at the same few again and again."""
_AN_ADDRESS = "the address of a model, such as models:/iris/7, without login, query or blanks"
_WRITE_ANOTHER = "Write it in that form."


_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a pointer file of Git LFS begins (github.com/git-lfs/git-lfs: docs/spec.md)."""


@dataclass(frozen=True)
class CurrentImage:
    """The image that a file has, as a whole reference if the file or the policy gives the repository; or an address."""

    value: str
    line: int


@dataclass(frozen=True)
class Variable:
    """An environment variable that a file gives the container whose image it has."""

    value: str
    line: int


@dataclass(frozen=True)
class Edited:
    """A file's content with the new image, or the new address."""

    content: bytes
    old: str
    """The image before, in the form of `CurrentImage.value`."""
    line: int


@dataclass(frozen=True)
class Unchanged:
    """The file has the image already."""

    value: str
    line: int


@dataclass(frozen=True)
class EditRefused:
    """The file cannot be read or edited without doubt; nothing was changed."""

    problem: Problem


def read_image(content: bytes, target: Policy | Selector) -> CurrentImage | EditRefused:
    """Read the image, or the address, that a file has now."""
    return _read_image(content, target if isinstance(target, Selector) else Selector.of(target))


@lru_cache(maxsize=_KEPT_FILES)
def _read_image(content: bytes, selector: Selector) -> CurrentImage | EditRefused:
    try:
        _, place = _read(content, selector)
        return CurrentImage(_value(place), place.node.line)
    except RefusedError as refused:
        return _refusal(selector, refused)


def read_serving_image(content: bytes, policy: Policy) -> CurrentImage | EditRefused | None:
    """Read the image that serves the models whose addresses a policy deploys.

    None when the manifest leaves it to the platform, as the `model` of an InferenceService does.
    """
    image = read_image(content, Selector.of(policy, IMAGE))
    return None if isinstance(image, EditRefused) and policy.manifest.storage_uri else image


def read_variable(content: bytes, target: Policy | Selector, name: str) -> Variable | None:
    """Read a variable that a file sets by itself for the container whose image it has; None when it does not."""
    return _read_variable(content, target if isinstance(target, Selector) else Selector.of(target), name)


@lru_cache(maxsize=_KEPT_FILES)
def _read_variable(content: bytes, selector: Selector, name: str) -> Variable | None:
    try:
        _, place = _read(content, selector)
    except RefusedError:
        return None
    value = literal_variable(place, name)
    return None if value is None else Variable(value.value, value.line)


def set_image(
    content: bytes, target: Policy | Selector, image: str, *, expected: str | None = None
) -> Edited | Unchanged | EditRefused:
    """Put an image, or an address, into a file's content.

    Args:
        content: The whole file.
        target: Which image of the file is meant.
        image: The image reference; a tag or digest alone where the file keeps that part apart. Or the address.
        expected: Edit only if the file still has this image, in the form that `read_image` gives. A file that has the
            new image already is `Unchanged` all the same, so that running an edit again is not an error.
    """
    selector = target if isinstance(target, Selector) else Selector.of(target)
    try:
        stream, place = _read(content, selector)
        old, line = _value(place), place.node.line
        changes = _written(place, image)
        if all(node.value == text for node, text in changes):
            return Unchanged(old, line)
        if expected is not None and expected not in (old, place.node.value):
            raise RefusedError(
                old,
                line=line,
                expected=f"the {selector.slot.noun} {redact(expected[:400])}",
                next_step="Someone else has changed it, and that change is not overwritten: compare the two.",
            )
        return Edited(splice(stream, changes), old, line)
    except RefusedError as refused:
        return _refusal(selector, refused)


def too_large_problem(file: str, size: int | None) -> Problem:
    """Describe a file above the size limit to a caller that does not read such a file whole.

    Args:
        file: The file's name.
        size: Its size in bytes; None when it is not known, as for standard input.
    """
    return _problem(file, too_large(size))


def _read(content: bytes, selector: Selector) -> tuple[Stream, Place]:
    """Parse a file and find the image; two parsers agree on the document that holds it."""
    if content.startswith(_LFS_POINTER):
        raise RefusedError(
            "a pointer of Git LFS, whose content is on another server",
            expected="the manifest itself",
            next_step="Keep manifests out of LFS: remove the pattern from .gitattributes, and commit the file again.",
        )
    stream = read_stream(content)
    place = find_place(stream, selector)
    confirm(stream, stream.document_of(place.node))
    return stream, place


def _value(place: Place) -> str:
    """Return the image that the scalars of a place stand for."""
    texts = {field.part: field.node.value for field in place.fields}
    line = place.node.line
    if "address" in texts:
        address = texts["address"].removeprefix(place.before)
        if parse_address(address) is None:
            raise RefusedError(_odd(address), line=line, expected=_AN_ADDRESS, next_step=_WRITE_ANOTHER)
        return address
    if "whole" in texts:
        image = texts["whole"].removeprefix(place.before)
        if parse_image(image) is None:
            raise RefusedError(_odd(texts["whole"]), line=line, expected="an image reference, repository:tag@digest")
        return image
    tag, digest = texts.get("tag"), texts.get("digest")
    if digest is not None and not is_digest(digest):
        raise RefusedError(_odd(digest), line=line, expected="a digest, sha256:<64 hexadecimal digits>")
    if tag is not None and not (is_tag(tag) if digest is not None else is_tag_with_digest(tag)):
        expected = "a tag, because the digest has a field of its own" if digest is not None else "a tag, or tag@digest"
        raise RefusedError(_odd(tag), line=line, expected=expected)
    version = f"{f':{tag}' if tag is not None else ''}{f'@{digest}' if digest is not None else ''}"
    return f"{place.repository}{version}" if place.repository else version.lstrip(":@")


def _written(place: Place, image: str) -> list[tuple[ScalarNode, str]]:
    """Return the text by which an image is written into each scalar of a place."""
    parts = [field.part for field in place.fields]
    if parts == ["address"]:
        if parse_address(image) is None:
            raise RefusedError(f"{_odd(image)} as the new address", expected=_AN_ADDRESS, next_step=_WRITE_ANOTHER)
        return [(place.node, f"{place.before}{image}")]
    reference = _given(place, image)
    if parts == ["whole"]:
        return [(place.node, f"{place.before}{image}")]
    if reference.repository and place.repository not in (None, reference.repository):
        raise RefusedError(
            f"{place.repository} beside the {parts[0]}",
            line=place.node.line,
            expected=f"the image's repository {reference.repository}",
            next_step="Correct the repository in the file (newName, or repository) by hand.",
        )
    for part, text in (("tag", reference.tag), ("digest", reference.digest)):
        if part in parts and text is None:
            raise RefusedError(
                f"{image}, which has no {part}",
                line=place.node.line,
                expected=f"an image with a {part}",
                next_step=f"Give an image with a {part}, or let manifest.yaml_path end in another field.",
            )
    tag, digest = reference.tag or "", reference.digest or ""
    texts = {"tag": tag, "digest": digest}
    if parts == ["tag"] and digest:
        texts["tag"] = f"{tag}@{digest}"
    return [(field.node, texts[field.part]) for field in place.fields]


def _given(place: Place, image: str) -> ImageRef:
    """Read the new image: a whole reference, or a version alone where the file keeps that apart."""
    parts = [field.part for field in place.fields]
    if "tag" in parts and is_tag_with_digest(image):
        tag, _, digest = image.partition("@")
        return ImageRef("", tag, digest or None)
    if parts == ["digest"] and is_digest(image):
        return ImageRef("", digest=image)
    reference = parse_image(image)
    if reference is None:
        raise RefusedError(
            f"{_odd(image)} as the new image",
            expected="an image reference, repository:tag@digest",
            next_step="Give the whole image reference.",
        )
    return reference


def splice(stream: Stream, changes: Sequence[tuple[ScalarNode, str]]) -> bytes:
    """Put new texts in the place of scalars, which are all in one document."""
    document = stream.document_of(changes[0][0])
    text, at = "", document.start
    for node, new in sorted(changes, key=lambda change: change[0].start):
        quote = node.style or ("" if is_text_without_quotes(new) else '"')
        text += f"{stream.text[at : node.start]}{quote}{new}{quote}"
        at = node.end
    edited = text + stream.text[at : document.end]
    _prove(stream, changes, edited)
    return f"{stream.bom}{stream.text[: document.start]}{edited}{stream.text[document.end :]}".encode()


def _prove(stream: Stream, changes: Sequence[tuple[ScalarNode, str]], edited: str) -> None:
    """Parse the edited document again, and prove that exactly those scalars have changed, to exactly those texts.

    The other documents need no proof: not a byte of them changes, and a YAML document's end does not depend on what is
    in the document, as long as it is still one document.

    Raises:
        RefusedError: more has changed, so nothing is handed out.
    """
    before, positions = flatten(stream.document_of(changes[0][0]).root)
    documents = parse_documents(edited)
    after = flatten(documents[0].root)[0] if len(documents) == 1 else []
    for node, text in changes:
        quoted = bool(node.style) or not is_text_without_quotes(text)
        before[positions[id(node)]] = ("scalar", None, None, text, quoted)
    if before != after or documents[0].end != len(edited):
        node, text = changes[0]
        raise RefusedError(f"an edit that would change more than this value, with {text!r}", line=node.line)


def _odd(text: str) -> str:
    """Describe a value that is not an image or an address, safe to print."""
    text = redact(text)
    kind = "a template " if "{{" in text or "$" in text else ""
    return kind + repr(text if len(text) <= 120 else text[:120] + "...")


def _refusal(selector: Selector, refused: RefusedError) -> EditRefused:
    return EditRefused(_problem(selector.file, refused))


def _problem(file: str, refused: RefusedError) -> Problem:
    subject = file if refused.line is None else f"{file}, line {refused.line}"
    return Problem(subject, refused.expected, refused.found, refused.next_step)

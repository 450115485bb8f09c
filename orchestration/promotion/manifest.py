"""Read and set the image in a manifest without changing any other byte (design rule 3).

The file is parsed to find where the scalar stands, the new text is put there, and the document that holds it is parsed
again to prove that exactly that scalar has changed. Nothing is ever dumped, so comments, quotes, indentation, order and
line ends stay. Anything that has more than one reading is refused, with file, line and reason.

By default the image is that of a container, found by kind, namespace, name and container. A document without a
namespace counts as one of the wanted namespace, because Argo CD deploys it to the Application's; so beside another
match it is ambiguous, and refused.

With `yaml_path` the image stands at that path, and the path's last field says what is written there:

- `newTag` or `tag`: tag and digest, `v7@sha256:...`, which Kustomize and charts append to the repository;
- `digest`: the digest alone;
- any other field: the whole reference. `newName`, `name`, `repository` and `registry` are never written.

A repository that the file gives beside a tag or digest must be the image's. What is read is always a whole reference
when the file gives the repository, so that it can be compared, and set again by a rollback.
"""

from dataclasses import dataclass

from orchestration.promotion.images import is_digest, is_tag, parse_image
from orchestration.promotion.manifest_place import Place, Selector, find_place, literal_variable
from orchestration.promotion.policy import ManifestTarget
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


@dataclass(frozen=True)
class CurrentImage:
    """The image that a file has, as a whole reference if the file gives the repository."""

    value: str
    line: int


@dataclass(frozen=True)
class Variable:
    """An environment variable that a file gives the container whose image it has."""

    value: str
    line: int


@dataclass(frozen=True)
class Edited:
    """A file's content with the new image."""

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


def read_image(content: bytes, target: ManifestTarget | Selector) -> CurrentImage | EditRefused:
    """Read the image that a file has now."""
    selector = target if isinstance(target, Selector) else Selector.of(target)
    try:
        _, place = _read(content, selector)
        return CurrentImage(_value(place, place.node.value), place.node.line)
    except RefusedError as refused:
        return _refusal(selector, refused)


def read_variable(content: bytes, target: ManifestTarget | Selector, name: str) -> Variable | None:
    """Read a variable that a file sets by itself for the container whose image it has; None when it does not."""
    try:
        _, place = _read(content, target if isinstance(target, Selector) else Selector.of(target))
    except RefusedError:
        return None
    value = literal_variable(place, name)
    return None if value is None else Variable(value.value, value.line)


def set_image(
    content: bytes, target: ManifestTarget | Selector, image: str, *, expected: str | None = None
) -> Edited | Unchanged | EditRefused:
    """Put an image into a file's content.

    Args:
        content: The whole file.
        target: Which image of the file is meant.
        image: The image reference; a tag or digest alone where the file keeps that part apart.
        expected: Edit only if the file still has this image, in the form that `read_image` gives. A file that has the
            new image already is `Unchanged` all the same, so that running an edit again is not an error.
    """
    selector = target if isinstance(target, Selector) else Selector.of(target)
    try:
        stream, place = _read(content, selector)
        old, line = _value(place, place.node.value), place.node.line
        text = _written(place, image)
        if text == place.node.value:
            return Unchanged(old, line)
        if expected is not None and expected not in (old, place.node.value):
            raise RefusedError(
                old,
                line=line,
                expected=f"the image {redact(expected[:400])}",
                next_step="Someone else has changed it, and that change is not overwritten: compare the two.",
            )
        return Edited(_splice(stream, place.node, text), old, line)
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
    stream = read_stream(content)
    place = find_place(stream, selector)
    confirm(stream, stream.document_of(place.node))
    return stream, place


def _value(place: Place, text: str) -> str:
    """Return the image that a scalar's text stands for."""
    line = place.node.line
    if place.part == "whole":
        if parse_image(text) is None:
            raise RefusedError(_odd(text), line=line, expected="an image reference, repository:tag@digest")
        return text
    if place.part == "digest":
        if not is_digest(text):
            raise RefusedError(_odd(text), line=line, expected="a digest, sha256:<64 hexadecimal digits>")
        return f"{place.repository}@{text}" if place.repository else text
    if not _is_tag_with_digest(text):
        raise RefusedError(_odd(text), line=line, expected="a tag, or tag@digest")
    return f"{place.repository}:{text}" if place.repository else text


def _written(place: Place, image: str) -> str:
    """Return the text by which an image is written at a place."""
    reference = parse_image(image)
    if place.part == "whole" and reference is not None:
        return image
    if (place.part == "tag" and _is_tag_with_digest(image)) or (place.part == "digest" and is_digest(image)):
        return image
    if reference is None:
        raise RefusedError(
            f"{_odd(image)} as the new image",
            expected="an image reference, repository:tag@digest",
            next_step="Give the whole image reference.",
        )
    if place.repository not in (None, reference.repository):
        raise RefusedError(
            f"{place.repository} beside the {place.part}",
            line=place.node.line,
            expected=f"the image's repository {reference.repository}",
            next_step="Correct the repository in the file (newName, or repository) by hand.",
        )
    needed = reference.tag if place.part == "tag" else reference.digest
    if needed is None:
        raise RefusedError(
            f"{image}, which has no {place.part}",
            line=place.node.line,
            expected=f"an image with a {place.part}",
            next_step=f"Give an image with a {place.part}, or let manifest.yaml_path end in another field.",
        )
    return f"{needed}@{reference.digest}" if place.part == "tag" and reference.digest else needed


def _is_tag_with_digest(text: str) -> bool:
    tag, at, digest = text.partition("@")
    return is_tag(tag) and (not at or is_digest(digest))


def _splice(stream: Stream, node: ScalarNode, text: str) -> bytes:
    quote = node.style or ("" if is_text_without_quotes(text) else '"')
    written = f"{quote}{text}{quote}"
    document = stream.document_of(node)
    _prove(
        stream, node, text, f"{stream.text[document.start : node.start]}{written}{stream.text[node.end : document.end]}"
    )
    return f"{stream.bom}{stream.text[: node.start]}{written}{stream.text[node.end :]}".encode()


def _prove(stream: Stream, node: ScalarNode, text: str, edited: str) -> None:
    """Parse the edited document again, and prove that exactly that scalar has changed, to exactly that text.

    The other documents need no proof: not a byte of them changes, and a YAML document's end does not depend on what is
    in the document, as long as it is still one document.

    Raises:
        RefusedError: more has changed, so nothing is handed out.
    """
    before, positions = flatten(stream.document_of(node).root)
    position = positions[id(node)]
    documents = parse_documents(edited)
    after = flatten(documents[0].root)[0] if len(documents) == 1 else []
    quoted = bool(node.style) or not is_text_without_quotes(text)
    before[position] = ("scalar", None, None, text, quoted)
    if before != after or documents[0].end != len(edited):
        raise RefusedError(f"an edit that would change more than the image, with {text!r}", line=node.line)


def _odd(text: str) -> str:
    """Describe a value that is not an image, safe to print."""
    text = redact(text)
    kind = "a template " if "{{" in text or "$" in text else ""
    return kind + repr(text if len(text) <= 120 else text[:120] + "...")


def _refusal(selector: Selector, refused: RefusedError) -> EditRefused:
    return EditRefused(_problem(selector.file, refused))


def _problem(file: str, refused: RefusedError) -> Problem:
    subject = file if refused.line is None else f"{file}, line {refused.line}"
    return Problem(subject, refused.expected, refused.found, refused.next_step)

"""Read and set the image in a manifest without changing one other byte (design rule 3).

The file is parsed to find where the scalar stands, the new text is put there, and the result is parsed again to prove
that exactly that scalar has changed. Nothing is ever dumped, so comments, quotes, indentation, order and line ends
stay. What cannot be told without doubt is refused, with file, line and reason.

By default the image is that of a container, found by kind, namespace, name and container. A document without a
namespace counts as one of the wanted namespace, because Argo CD deploys it to the Application's; so beside another
match it is ambiguous, and refused.

With `yaml_path` the image stands at that path, and the path's last field says what is written there:

- `newTag` or `tag`: tag and digest, `v7@sha256:...`, which Kustomize and charts append to the repository;
- `digest`: the digest alone;
- any other field: the whole reference. `newName`, `name`, `repository` and `registry` are never written.

The repository that the file says beside a tag or digest must be the image's. What is read is always a whole reference
when the file says the repository, so it can be compared, and set again by a rollback.
"""

from dataclasses import dataclass

from ruamel.yaml.nodes import ScalarNode

from orchestration.promotion.images import is_digest, is_tag, parse_image
from orchestration.promotion.manifest_place import Place, Selector, find_place
from orchestration.promotion.policy import ManifestTarget
from orchestration.promotion.problems import Problem
from orchestration.promotion.redact import redact
from orchestration.promotion.yaml_text import (
    RefusedError,
    Stream,
    flatten,
    is_text_without_quotes,
    line_of,
    read_stream,
)


@dataclass(frozen=True)
class CurrentImage:
    value: str
    line: int


@dataclass(frozen=True)
class Edited:
    content: bytes
    old: str
    """What stood there before, in the form of `CurrentImage.value`."""
    line: int


@dataclass(frozen=True)
class Unchanged:
    """The image stands there already."""

    value: str
    line: int


@dataclass(frozen=True)
class EditRefused:
    problem: Problem


def read_image(content: bytes, target: ManifestTarget | Selector) -> CurrentImage | EditRefused:
    """The image that a file has now."""
    selector = target if isinstance(target, Selector) else Selector.of(target)
    try:
        place = find_place(read_stream(content), selector)
        return CurrentImage(_value(place, place.node.value), line_of(place.node))
    except RefusedError as refused:
        return _refusal(selector, refused)


def set_image(
    content: bytes, target: ManifestTarget | Selector, image: str, *, expected: str | None = None
) -> Edited | Unchanged | EditRefused:
    """Put an image into a file's content.

    With `expected` the file must still have that image, in the form that `read_image` gives; an image that is already
    there is `Unchanged` all the same, so that saying it twice is no error.
    """
    selector = target if isinstance(target, Selector) else Selector.of(target)
    try:
        stream = read_stream(content)
        place = find_place(stream, selector)
        old, line = _value(place, place.node.value), line_of(place.node)
        text = _written(place, image)
        if text == place.node.value:
            return Unchanged(old, line)
        if expected is not None and expected not in (old, place.node.value):
            raise RefusedError(
                old,
                line=line,
                expected=f"the image to be {redact(expected[:400])} still",
                next_step="Somebody changed it in between, and a person's change is not overwritten: look at both.",
            )
        return Edited(_splice(stream, place.node, text), old, line)
    except RefusedError as refused:
        return _refusal(selector, refused)


def _value(place: Place, text: str) -> str:
    """The image that a scalar's text stands for."""
    line = line_of(place.node)
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
    """The text by which an image is written at a place."""
    reference = parse_image(image)
    if place.part == "whole" and reference is not None:
        return image
    if (place.part == "tag" and _is_tag_with_digest(image)) or (place.part == "digest" and is_digest(image)):
        return image
    if reference is None:
        raise RefusedError(
            f"{_odd(image)} to be put there",
            expected="an image reference, repository:tag@digest",
            next_step="Give the whole image reference.",
        )
    if place.repository not in (None, reference.repository):
        raise RefusedError(
            f"{place.repository} beside the {place.part}",
            line=line_of(place.node),
            expected=f"the image's repository {reference.repository}",
            next_step="Correct the repository in the file (newName, or repository) by hand.",
        )
    needed = reference.tag if place.part == "tag" else reference.digest
    if needed is None:
        raise RefusedError(
            f"{image}, which has no {place.part}",
            line=line_of(place.node),
            expected=f"an image with a {place.part}",
            next_step=f"Give an image with a {place.part}, or let manifest.yaml_path end in another field.",
        )
    return f"{needed}@{reference.digest}" if place.part == "tag" and reference.digest else needed


def _is_tag_with_digest(text: str) -> bool:
    tag, at, digest = text.partition("@")
    return is_tag(tag) and (not at or is_digest(digest))


def _splice(stream: Stream, node: ScalarNode, text: str) -> bytes:
    quote = node.style or ("" if is_text_without_quotes(text) else '"')
    start, end = node.start_mark.index, node.end_mark.index
    content = f"{stream.bom}{stream.text[:start]}{quote}{text}{quote}{stream.text[end:]}".encode()
    _prove(stream, node, text, content)
    return content


def _prove(stream: Stream, node: ScalarNode, text: str, content: bytes) -> None:
    """Read the new content again; exactly that scalar has changed, to exactly that text.

    Raises:
        RefusedError: it has not, so nothing is handed out.
    """
    before, positions = flatten(stream.documents)
    after, _ = flatten(read_stream(content).documents)
    place = positions[id(node)]
    before[place] = ("ScalarNode", "tag:yaml.org,2002:str", text, None)
    if before != after:
        raise RefusedError(f"that putting {text!r} there would change more than that text", line=line_of(node))


def _odd(text: str) -> str:
    """A value that is no image, made safe to print."""
    text = redact(text)
    kind = "a template " if "{{" in text or "$" in text else ""
    return kind + repr(text if len(text) <= 120 else text[:120] + "...")


def _refusal(selector: Selector, refused: RefusedError) -> EditRefused:
    subject = selector.file if refused.line is None else f"{selector.file}, line {refused.line}"
    return EditRefused(Problem(subject, refused.expected, refused.found, refused.next_step))

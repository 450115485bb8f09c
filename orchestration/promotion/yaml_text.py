"""YAML as text with known positions: read strictly and never dumped, so that an edit can replace one scalar in place.

Positions are offsets in characters of the decoded text. The byte order mark is set aside, and line ends stay as they
are (design rule 3).

libyaml reads every document, because it is fast and because Argo CD's parser is a port of it. ruamel.yaml, a parser
with other roots and a newer YAML, then reads the one document that holds the image (`confirm`). An image is edited
only where both see the same structure at the same positions.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml as libyaml  # type: ignore[import-untyped]  # no types of its own
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

MAX_BYTES = 4 * 1024 * 1024
"""Size limit of a file in bytes: large enough for bundles of install manifests with their CRDs."""
MAX_DOCUMENT = 256 * 1024
"""Size limit in characters of the document that holds the image; ruamel.yaml needs seconds for more."""
_KEPT_READINGS = 16
_MAX_NODES = 600_000
"""Half again as many as the densest bundles of `MAX_BYTES` have."""
_MAX_DEPTH = 60
_MAX_DIRECTIVES = 20
"""libyaml compares each tag directive with all before it; manifests have none, and hardly any YAML has two."""
_BOM = "\ufeff"
# Line breaks in YAML 1.1 (Argo CD's parser) and ordinary characters in YAML 1.2: the two would disagree.
_DISPUTED_BREAKS = ("\x85", "\u2028", "\u2029")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)
# What YAML 1.1 or 1.2 takes for a number, a date, a truth value, null or an indicator when it stands without quotes: as
# an image tag the commit id 12e34567 is a float.
_NOT_TEXT = re.compile(
    r"[-+]?(\.?[0-9][0-9_]*(\.[0-9_]*)?(e[-+]?[0-9]+)?|0[xob][0-9a-f_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*|[-+]?\.(inf|nan)|y|n|yes|no|on|off|true|false|null|~|=|<<"
    r"|[@`%!&*|>'\"#,\[\]{}].*",
    re.IGNORECASE,
)
# What ruamel.yaml is known to raise besides its own errors, on input that no emitter writes.
_RUAMEL_FAULTS = (YAMLError, ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError)


class RefusedError(Exception):
    """Stops the reading of one file; whoever has it read catches it, and makes it a value."""

    def __init__(
        self,
        found: str,
        *,
        line: int | None = None,
        expected: str = "YAML that has only one reading",
        next_step: str = "Correct the file by hand and commit it.",
    ) -> None:
        super().__init__(found)
        self.found = found
        self.line = line
        self.expected = expected
        self.next_step = next_step


@dataclass(eq=False, slots=True)
class Node:
    """A value in a document, with its explicit tag and anchor, its span in characters, and its line (from 1)."""

    tag: str | None
    anchor: str | None
    start: int
    end: int
    line: int


@dataclass(eq=False, slots=True)
class ScalarNode(Node):
    """A scalar, with its text as YAML reads it."""

    value: str
    style: str
    """The quote or block indicator; empty for a plain scalar."""


@dataclass(eq=False, slots=True)
class SequenceNode(Node):
    """A sequence, with its elements in order."""

    value: list[Node]


@dataclass(eq=False, slots=True)
class MappingNode(Node):
    """A mapping, with its pairs in the order of the text."""

    value: list[tuple[ScalarNode, Node]]


@dataclass(frozen=True)
class Document:
    """The root node of a document, and the document's span in characters, from its directives to its end."""

    root: Node
    start: int
    end: int


@dataclass(frozen=True)
class Stream:
    """A decoded file and its documents."""

    bom: str
    text: str
    documents: tuple[Document, ...]

    def source(self, node: Node) -> str:
        """Return a node as it is written, with its quotes."""
        return self.text[node.start : node.end]

    def document_of(self, node: Node) -> Document:
        """Return the document that contains a node."""
        return next(document for document in self.documents if document.start <= node.start <= document.end)


def read_stream(content: bytes) -> Stream:
    """Parse a file.

    Raises:
        RefusedError: the file is too large, not UTF-8, not YAML, a template, or holds what parsers read differently.
    """
    if len(content) > MAX_BYTES:
        raise too_large(len(content))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RefusedError(f"bytes that are not UTF-8 ({error.reason})", line=line) from error
    bom = _BOM if text.startswith(_BOM) else ""
    text = text[len(bom) :]
    if not text.strip():
        raise RefusedError("an empty file")
    _check_characters(text)
    return Stream(bom, text, parse_documents(text))


def too_large(size: int | None) -> RefusedError:
    """Make the refusal of a file above the size limit.

    Args:
        size: The file's size in bytes; None when it is not known, as for standard input.
    """
    return RefusedError(
        f"more than {MAX_BYTES:,} bytes" if size is None else f"{size:,} bytes",
        expected=f"at most {MAX_BYTES:,} bytes ({MAX_BYTES // 1024**2} MiB)",
        next_step="Move the workload into a file of its own.",
    )


def parse_documents(text: str) -> tuple[Document, ...]:
    """Parse decoded text with libyaml.

    Raises:
        RefusedError: the text is not YAML, is a template, or has a key twice in one mapping.
    """
    if len(_DIRECTIVE.findall(text)) > _MAX_DIRECTIVES:
        raise RefusedError(f"more than {_MAX_DIRECTIVES} lines that begin with %, as YAML directives do")
    try:
        return tuple(_compose(libyaml.parse(text, Loader=libyaml.CSafeLoader)))
    except libyaml.YAMLError as error:
        raise _not_yaml(error, text) from error


def confirm(stream: Stream, document: Document) -> None:
    """Check that ruamel.yaml reads a document as libyaml did: the same values at the same positions.

    Raises:
        RefusedError: it does not, or the document is too large for it.
    """
    line = _line_at(stream.text, document.start)
    text = stream.text[document.start : document.end]
    if len(text) > MAX_DOCUMENT:
        raise RefusedError(
            f"{len(text):,} characters in the document that holds the image",
            line=line,
            expected=f"at most {MAX_DOCUMENT:,} characters ({MAX_DOCUMENT // 1024} KiB) in that document",
            next_step="Move the workload into a document of its own.",
        )
    try:
        other = _read_again(text)
    except RefusedError as refused:
        raise _disputed(refused.found, line) from refused
    except _RUAMEL_FAULTS as error:
        raise _disputed(_reason(error), line) from error
    if len(other) != 1 or not _same_reading(document, other[0]):
        raise _disputed("another structure", line)


@lru_cache(maxsize=_KEPT_READINGS)
def _read_again(text: str) -> tuple[Document, ...]:
    """Parse a document with ruamel.yaml; the stages of a promotion look at the same few again and again."""
    parser = YAML(typ="safe", pure=True)
    parser.max_depth = _MAX_DEPTH
    return tuple(_compose(parser.parse(text)))


def get(node: Node | None, key: str) -> Node | None:
    """Return the value of a key; None when the node is not a mapping or has no such key.

    Raises:
        RefusedError: the key is missing but may come from a merge key.
    """
    if not isinstance(node, MappingNode):
        return None
    merges = False
    for name, value in node.value:
        if name.value == key:
            return value
        merges = merges or name.value == "<<"
    if merges:
        raise RefusedError(f"a merge key (<<), which may supply {key!r}", line=node.line)
    return None


def items(node: Node | None) -> Sequence[Node]:
    """Return the elements of a sequence; none when the node is not a sequence."""
    return node.value if isinstance(node, SequenceNode) else ()


def text_of(node: Node | None) -> str | None:
    """Return the text of a scalar; None when the node is not a scalar, or is empty."""
    return node.value if isinstance(node, ScalarNode) and node.value != "" else None


def is_text_without_quotes(text: str) -> bool:
    """Whether every YAML parser reads an image, a tag, a digest or a branch as text when it stands without quotes."""
    return _NOT_TEXT.fullmatch(text) is None


def flatten(root: Node) -> tuple[list[tuple[Any, ...]], dict[int, int]]:
    """List all that a document says, in order, with the position of each node (by its `id`) in that list.

    An alias is one entry that names the position of what it repeats. No alias is expanded, so a file of aliases to
    aliases costs no more than its length.
    """
    entries: list[tuple[Any, ...]] = []
    positions: dict[int, int] = {}
    for node in _walk(root):
        if id(node) in positions:
            entries.append(("alias", positions[id(node)]))
            continue
        positions[id(node)] = len(entries)
        if isinstance(node, ScalarNode):
            entries.append(("scalar", node.tag, node.anchor, node.value, bool(node.style)))
        elif isinstance(node, SequenceNode | MappingNode):
            entries.append((type(node).__name__, node.tag, node.anchor, len(node.value)))
    return entries, positions


def _not_yaml(error: libyaml.YAMLError, text: str) -> RefusedError:
    templated = "; it looks like a template, and only plain manifests are edited" if "{{" in text else ""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return RefusedError(
        f"text that is not YAML ({_reason(error)}){templated}", line=mark.line + 1 if mark is not None else None
    )


def _reason(error: Exception) -> str:
    """Return what a parser says, on one line and without the excerpts that it adds."""
    problem = getattr(error, "problem", None) or getattr(error, "context", None) or error
    return " ".join(str(problem).split())[:200] or type(error).__name__


def _disputed(found: str, line: int) -> RefusedError:
    return RefusedError(f"a document in which a second YAML parser finds {found}", line=line)


def _check_characters(text: str) -> None:
    for character in _DISPUTED_BREAKS:
        if character in text:
            raise RefusedError(
                f"U+{ord(character):04X}, which some YAML parsers read as a line break and others do not",
                line=_line_at(text, text.index(character)),
            )
    unprintable = _UNPRINTABLE.search(text)
    if unprintable is not None:
        raise RefusedError(
            f"U+{ord(unprintable[0]):04X}, a character that YAML does not allow",
            line=_line_at(text, unprintable.start()),
        )


def _compose(events: Iterable[Any]) -> Iterator[Document]:
    """Build the documents of a stream of events, whose classes have the same names in both parsers.

    Raises:
        RefusedError: an undefined alias, too many nodes or levels, or a mapping with an unclear key.
    """
    start, nodes = 0, 0
    anchors: dict[str, Node] = {}
    levels: list[tuple[Node, list[Node]]] = []
    """The collections that are open, with their children so far, below a list that gets the root."""
    for event in events:
        kind = type(event).__name__
        if kind == "ScalarEvent":
            node: Node = ScalarNode(*_common(event), event.value, event.style or "")
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            node = MappingNode(*_common(event), []) if kind[0] == "M" else SequenceNode(*_common(event), [])
        elif kind == "AliasEvent":
            line = event.start_mark.line + 1
            if event.anchor not in anchors:
                raise RefusedError(f"the undefined alias *{event.anchor}", line=line)
            levels[-1][1].append(anchors[event.anchor])
            continue
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            collection, children = levels.pop()
            collection.end = event.end_mark.index
            _fill(collection, children)
            continue
        else:
            if kind == "DocumentStartEvent":
                anchors.clear()
                start = event.start_mark.index - event.start_mark.column
                levels = [(_ROOT, [])]
            elif kind == "DocumentEndEvent":
                yield Document(levels.pop()[1][0], start, event.end_mark.index)
            continue
        nodes += 1
        if nodes > _MAX_NODES:
            raise RefusedError(f"more than {_MAX_NODES:,} values", next_step="Split the file.")
        levels[-1][1].append(node)
        if node.anchor is not None:
            anchors[node.anchor] = node  # a second anchor of the same name is legal YAML
        if not isinstance(node, ScalarNode):
            if len(levels) > _MAX_DEPTH:
                raise RefusedError(f"a nesting depth of more than {_MAX_DEPTH} levels", line=node.line)
            levels.append((node, []))


_ROOT = SequenceNode(None, None, 0, 0, 0, [])


def _common(event: Any) -> tuple[str | None, str | None, int, int, int]:
    start = event.start_mark
    tag = event.tag
    return None if tag is None else str(tag), event.anchor, start.index, event.end_mark.index, start.line + 1


def _fill(collection: Node, children: list[Node]) -> None:
    """Give a collection its children, and check a mapping's keys."""
    if isinstance(collection, SequenceNode):
        collection.value = children
    elif isinstance(collection, MappingNode):
        names: set[str] = set()
        for key, value in zip(children[::2], children[1::2], strict=True):
            if not isinstance(key, ScalarNode):
                finding = "{{ }} in place of a value: a template, and only plain manifests are edited"
                if not isinstance(key, MappingNode):
                    finding = "a key that is not a scalar"
                raise RefusedError(finding, line=key.line)
            if key.value in names:
                raise RefusedError(f"the key {key.value!r} twice in one mapping", line=key.line)
            names.add(key.value)
            collection.value.append((key, value))


def _same_reading(document: Document, other: Document) -> bool:
    """Whether two readings of a document agree in all values, and in the positions of scalars that can be edited."""
    if flatten(document.root)[0] != flatten(other.root)[0]:
        return False
    pairs = zip(_walk(document.root), _walk(other.root), strict=True)
    return all(
        (node.start - document.start, node.end - document.start) == (twin.start, twin.end)
        for node, twin in pairs
        if isinstance(node, ScalarNode) and _is_editable(node)
    )


def _is_editable(node: ScalarNode) -> bool:
    return bool(node.value) and node.tag is None and node.anchor is None and node.style not in ("|", ">")


def _walk(root: Node) -> Iterator[Node]:
    """Yield every node in the order of the text; a node that is met again is yielded again, but not entered again."""
    entered: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if id(node) in entered:
            continue
        entered.add(id(node))
        if isinstance(node, MappingNode):
            waiting += [part for pair in reversed(node.value) for part in reversed(pair)]
        elif isinstance(node, SequenceNode):
            waiting += reversed(node.value)


def _line_at(text: str, index: int) -> int:
    """Return the line (from 1) of a position, counted as the parsers and editors count it."""
    return len(_LINE_BREAK.findall(text, 0, index)) + 1

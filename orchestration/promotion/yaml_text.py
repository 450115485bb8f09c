"""YAML as a text with places in it: read strictly, never written back, so that an edit can splice one scalar.

The parser's marks are offsets in characters, so all of this works on the decoded text; the byte order mark is set
aside and line ends stay as they are (design rule 3).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES = 256 * 1024
"""A manifest above this is refused: it takes the parser more than seconds, and no person reads it either."""
_MAX_DEPTH = 60
_BOM = "\ufeff"
# Line breaks in YAML 1.1 (Argo CD's parser) and ordinary characters in YAML 1.2 (ours): the two would disagree.
_DISPUTED_BREAKS = ("\x85", "\u2028", "\u2029")
# What YAML 1.1 or 1.2 takes for a number, a date, a truth value or nothing when it stands without quotes: as an image
# tag the commit id 12e34567 is a float.
_NOT_TEXT = re.compile(
    r"[0-9][0-9_]*(\.[0-9_]*)?(e[-+]?[0-9]+)?|0[xob][0-9a-f_]+|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*"
    r"|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|y|n|yes|no|on|off|true|false|null",
    re.IGNORECASE,
)
# What the parser is known to raise besides its own errors, on input that no emitter makes.
_PARSER_FAULTS = (YAMLError, ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError)


class RefusedError(Exception):
    """Stops the reading of one file; it never leaves `orchestration.promotion.manifest`, which makes it a value."""

    def __init__(
        self,
        found: str,
        *,
        line: int | None = None,
        expected: str = "YAML whose image can be told without doubt",
        next_step: str = "Correct the file by hand and commit it.",
    ) -> None:
        super().__init__(found)
        self.found = found
        self.line = line
        self.expected = expected
        self.next_step = next_step


@dataclass(frozen=True)
class Stream:
    """A decoded file and the root node of each of its documents."""

    bom: str
    text: str
    documents: tuple[Node, ...]

    def source(self, node: Node) -> str:
        """A node as it is written, with its quotes."""
        return self.text[node.start_mark.index : node.end_mark.index]


def read_stream(content: bytes) -> Stream:
    """Parse a file.

    Raises:
        RefusedError: it is too large, no UTF-8, no YAML, a template, or holds what parsers read differently.
    """
    if len(content) > MAX_BYTES:
        raise RefusedError(f"a file of {len(content)} bytes, more than {MAX_BYTES}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RefusedError(f"bytes that are no UTF-8 ({error.reason})", line=line) from error
    bom = _BOM if text.startswith(_BOM) else ""
    text = text[len(bom) :]
    if not text.strip():
        raise RefusedError("an empty file")
    for character in _DISPUTED_BREAKS:
        if character in text:
            line = text.count("\n", 0, text.index(character)) + 1
            raise RefusedError(
                f"U+{ord(character):04X}, a line break to some YAML parsers and not to others", line=line
            )
    documents = _compose(text)
    _check_keys(documents)
    return Stream(bom, text, documents)


def get(node: Node | None, key: str) -> Node | None:
    """The value of a key; None when the node is no mapping or has no such key.

    Raises:
        RefusedError: the key is missing but may come from a merge key.
    """
    if not isinstance(node, MappingNode):
        return None
    merges = False
    for name, value in node.value:
        if name.value == key:
            found: Node = value
            return found
        merges = merges or name.value == "<<"
    if merges:
        raise RefusedError(f"{key!r} comes from a merge key (<<), if at all", line=line_of(node))
    return None


def items(node: Node | None) -> Sequence[Node]:
    """The elements of a sequence; none when the node is none."""
    return node.value if isinstance(node, SequenceNode) else ()


def text_of(node: Node | None) -> str | None:
    """The text of a scalar that is there and not empty."""
    return str(node.value) if isinstance(node, ScalarNode) and node.value != "" else None


def is_text_without_quotes(text: str) -> bool:
    """Whether every YAML parser takes an image, a tag or a digest for a text when it stands without quotes."""
    return _NOT_TEXT.fullmatch(text) is None


def line_of(node: Node) -> int:
    return int(node.start_mark.line) + 1


def flatten(documents: Sequence[Node]) -> tuple[list[tuple[Any, ...]], dict[int, int]]:
    """All that the documents mean, in order, and the position of each node (by its `id`) in it.

    An alias is one entry that names the position of what it repeats: no alias is expanded, so a file of aliases to
    aliases costs no more than its length.
    """
    entries: list[tuple[Any, ...]] = []
    positions: dict[int, int] = {}
    for node in _walk(documents):
        if id(node) in positions:
            entries.append(("alias", positions[id(node)]))
            continue
        positions[id(node)] = len(entries)
        value = node.value if isinstance(node, ScalarNode) else len(node.value)
        entries.append((type(node).__name__, str(node.tag), value, node.anchor))
    return entries, positions


def _compose(text: str) -> tuple[Node, ...]:
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = _MAX_DEPTH
    yaml.composer.warn_double_anchors = False  # legal YAML; an anchor on the way to the image is refused anyway
    templated = "; it looks like a template, and only plain manifests are edited" if "{{" in text else ""
    try:
        return tuple(node for node in yaml.compose_all(text) if node is not None)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        reason = " ".join(str(error.problem or error.context or "a fault").split())
        raise RefusedError(f"text that is no YAML ({reason}){templated}", line=line) from error
    except _PARSER_FAULTS as error:
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise RefusedError(f"text that is no YAML ({reason}){templated}") from error


def _check_keys(documents: Sequence[Node]) -> None:
    seen: set[int] = set()
    for node in _walk(documents):
        if id(node) in seen or not isinstance(node, MappingNode):
            continue
        seen.add(id(node))
        names: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                found = "{{ }} in place of a value: a template, and only plain manifests are edited"
                if not isinstance(key, MappingNode):
                    found = "a key that is not a text"
                raise RefusedError(found, line=line_of(key))
            if key.value in names:
                raise RefusedError(f"the key {key.value!r} twice in one mapping", line=line_of(key))
            names.add(key.value)


def _walk(documents: Sequence[Node]) -> Iterator[Node]:
    """Every node in the order of the text; a node that is met again is given again, but not entered again."""
    entered: set[int] = set()
    waiting = list(reversed(documents))
    while waiting:
        node = waiting.pop()
        yield node
        if id(node) in entered:
            continue
        entered.add(id(node))
        if isinstance(node, MappingNode):
            waiting += [part for pair in reversed(node.value) for part in reversed(pair)]
        elif isinstance(node, SequenceNode):
            waiting += list(reversed(node.value))

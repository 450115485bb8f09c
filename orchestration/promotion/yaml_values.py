"""What a YAML document says, as values of JSON: resolved as Argo CD's parser does, go-yaml in its second version.

That is YAML 1.1 (`yes` and `on` are true, `0755` is octal) without base 60, in which dates stay texts
(go.yaml.in/yaml/v2: resolve.go, decode.go; sigs.k8s.io/yaml makes JSON of it).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from orchestration.promotion.yaml_text import MappingNode, Node, RefusedError, ScalarNode, SequenceNode

_MOST_VALUES = 100_000
"""Aliases are expanded, so that a file of aliases to aliases must have an end; manifests have some hundred values."""
_MOST_LEVELS = 100
_WORDS: Mapping[str, bool | None] = {
    **{each: True for word in ("y", "yes", "true", "on") for each in (word, word.capitalize(), word.upper())},
    **{each: False for word in ("n", "no", "false", "off") for each in (word, word.capitalize(), word.upper())},
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
}
_INTEGER = re.compile(r"([-+]?)(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|[1-9][0-9]*|0)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TEXT = "tag:yaml.org,2002:str"
_BASES = {"x": 16, "b": 2, "o": 8}


def value_of(node: Node) -> Any:
    """Return a node as JSON has it: a mapping, a list, a text, a number, a truth value or None.

    Raises:
        RefusedError: it has more values, or more levels, than any manifest, as aliases to aliases have.
    """
    return _value(node, 0, iter(range(_MOST_VALUES)))


def _value(node: Node, level: int, left: Iterator[int]) -> Any:
    if level > _MOST_LEVELS or next(left, None) is None:
        raise RefusedError("more values than a manifest has, by aliases", line=node.line)
    if isinstance(node, SequenceNode):
        return [_value(item, level + 1, left) for item in node.value]
    if isinstance(node, MappingNode):
        return _mapping(node, level, left)
    assert isinstance(node, ScalarNode), "a node is a scalar, a sequence or a mapping"
    return node.value if node.style or node.tag == _TEXT else _plain(node.value)


def _mapping(node: MappingNode, level: int, left: Iterator[int]) -> dict[str, Any]:
    """Return a mapping, whose own keys go before merged ones; of several merged mappings, the first one counts."""
    merged: dict[str, Any] = {}
    own = {key.value: _value(value, level + 1, left) for key, value in node.value if not _is_merge(key)}
    for key, value in node.value:
        for part in reversed(value.value if isinstance(value, SequenceNode) else [value]) if _is_merge(key) else ():
            found = _value(part, level + 1, left)
            merged |= found if isinstance(found, dict) else {}
    return {**merged, **own}


def _is_merge(key: ScalarNode) -> bool:
    return key.value == "<<" and not key.style


def _plain(text: str) -> Any:
    """Resolve a scalar that stands without quotes."""
    if text in _WORDS:
        return _WORDS[text]
    digits = text.replace("_", "") if text[0] in "+-0123456789" else text
    integer = _INTEGER.fullmatch(digits)
    if integer is not None:
        sign, number = integer.groups()
        decimal_or_octal = 8 if number.startswith("0") else 10
        return int(f"{sign}{number}", _BASES.get(number[1:2].lower(), decimal_or_octal))
    if _FLOAT.fullmatch(digits) is not None:
        value = float(digits.replace(".i", "i").replace(".I", "I").replace(".n", "n").replace(".N", "N"))
        return int(value) if value.is_integer() else value  # Go writes it without a fraction
    return text

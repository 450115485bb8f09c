"""Paths to values in JSON, in the part of JSONPath (RFC 9535) that names a place: `$.data[0].score`, `$.outputs[*].id`.

The `$` may be left out. A path stands for the value there and for everything below it.
"""

import json
import re
from collections.abc import Iterator, Sequence

Path = tuple[str | int, ...]
"""The keys and indices that lead to one value."""
PathPattern = tuple[str | int | None, ...]
"""A path in which None stands for every member of an object and every element of a list."""

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_STEP = re.compile(
    rf"\.?(?P<name>{_NAME})|\.\*|\[\*\]|\[(?P<index>[0-9]{{1,9}})\]|\[(?P<quoted>\"(?:[^\"\\]|\\.)*\"|'[^']*')\]"
)


def parse_path(text: str) -> PathPattern:
    """Read a path such as `$.data[0].score`, `outputs[*].id` or `['a name with blanks']`.

    Raises:
        ValueError: the text is not such a path, or names the whole answer.
    """
    rest = text.removeprefix("$")
    steps: list[str | int | None] = []
    at = 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None:
            break
        if match["name"] is not None:
            steps.append(match["name"])
        elif match["index"] is not None:
            steps.append(int(match["index"]))
        elif match["quoted"] is not None:
            steps.append(_unquoted(match["quoted"]))
        else:
            steps.append(None)
        at = match.end()
    if at < len(rest) or not steps:
        raise ValueError(f"expected a path such as $.data[0].score or $.outputs[*].id, found {text!r}")
    return tuple(steps)


def checked_path(text: str) -> str:
    """Return a text that `parse_path` can read.

    Raises:
        ValueError: it cannot.
    """
    parse_path(text)
    return text


def format_path(path: Sequence[str | int], root: str = "$") -> str:
    """Write a path as `parse_path` reads it; `root` stands for the whole value."""
    return root + "".join(_formatted(step) for step in path)


def format_pattern(pattern: PathPattern) -> str:
    """Write a pattern as `parse_path` reads it."""
    return "$" + "".join("[*]" if step is None else _formatted(step) for step in pattern)


def values_at(value: object, pattern: PathPattern) -> Iterator[object]:
    """Yield every value that a pattern names, in the order of the JSON; none where there is no such place."""
    if not pattern:
        yield value
        return
    step, rest = pattern[0], pattern[1:]
    if step is None:
        members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        for member in members:
            yield from values_at(member, rest)
    elif isinstance(step, str):
        if isinstance(value, dict) and step in value:
            yield from values_at(value[step], rest)
    elif isinstance(value, list) and step < len(value):
        yield from values_at(value[step], rest)


def leaves(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Yield every value that has nothing below it, with its path; an empty object or list is one."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path, value


def below(patterns: Sequence[PathPattern], step: str | int) -> tuple[PathPattern, ...]:
    """What is left of the patterns one step further down; an empty pattern has arrived."""
    return tuple(pattern[1:] for pattern in patterns if pattern and (pattern[0] is None or pattern[0] == step))


def _unquoted(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text[1:-1]


def _formatted(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if re.fullmatch(_NAME, step) else f"[{json.dumps(step)}]"

"""Tables for a terminal of any width: in columns where they fit, and else one value a line."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from shutil import get_terminal_size
from textwrap import wrap

import click

_WIDTH_WITHOUT_TERMINAL = 160
_GAP = "  "
_NARROWEST = 20
"""How many characters a last column must be given."""
_COMFORTABLE = 32
"""How many characters a text needs to stand beside its head."""


def width() -> int:
    """Return the terminal's width in characters."""
    return get_terminal_size((_WIDTH_WITHOUT_TERMINAL, 24)).columns


def table(rows: Sequence[Mapping[str, object]], columns: int) -> str:
    """Lay out rows of the same keys in columns, with the keys as the head.

    Where they do not fit, the last column is wrapped; when that leaves too little for it, each row becomes a block of
    lines with a key each.

    Args:
        rows: The rows; None is shown as a dash.
        columns: The characters that fit on a line.
    """
    if not rows:
        return ""
    names = list(rows[0])
    cells = [[shown(row[name]) for name in names] for row in rows]
    widths = [max(len(line[at]) for line in (names, *cells)) for at in range(len(names))]
    before = sum(widths[:-1]) + len(_GAP) * (len(names) - 1)
    room = min(widths[-1], columns - before)
    if room < min(widths[-1], _NARROWEST):
        return "\n\n".join(fields(dict(zip(names, line, strict=True)), columns) for line in cells)
    lines = []
    for line in ([name.upper() for name in names], *cells):
        first, *more = wrap(line[-1], room, break_on_hyphens=False) or [""]
        padded = (*(cell.ljust(size) for cell, size in zip(line[:-1], widths, strict=False)), first)
        lines += [_GAP.join(padded).rstrip(), *(" " * before + text for text in more)]
    return "\n".join(lines)


def fields(values: Mapping[str, object], columns: int) -> str:
    """Write one value a line, wrapped behind its name."""
    size = max(len(name) for name in values)
    lines = []
    for name, value in values.items():
        first, *more = wrap(shown(value), max(_NARROWEST, columns - size - len(_GAP)), break_on_hyphens=False) or [""]
        indent = " " * (size + len(_GAP))
        lines += [f"{name.ljust(size)}{_GAP}{first}".rstrip(), *(indent + text for text in more)]
    return "\n".join(lines)


def beside(head: str, texts: Sequence[str], columns: int) -> list[str]:
    """Write texts to the right of a head, each from a line of its own; below it where that leaves too little room.

    Args:
        head: What stands before the first text, padded, and perhaps in colours.
        texts: The texts; empty ones are left out.
        columns: The characters that fit on a line.
    """
    size = len(click.unstyle(head))
    written = [text for text in map(shown, texts) if text]
    room = columns - size
    if room < _COMFORTABLE and any(len(text) > room for text in written):
        return [head.rstrip(), *(paragraph(text, columns, 2 * len(_GAP)) for text in written)]
    first, *more = [line for text in written for line in wrap(text, room, break_on_hyphens=False)] or [""]
    return [f"{head}{first}".rstrip(), *(" " * size + line for line in more)]


def paragraph(text: str, columns: int, indent: int = len(_GAP)) -> str:
    """Wrap a remark to a table, indented."""
    lines = wrap(shown(text), max(_NARROWEST, columns - indent), break_on_hyphens=False)
    return "\n".join(f"{' ' * indent}{line}" for line in lines)


def shown(value: object) -> str:
    """Write a value on one line, without what could steer a terminal: parts of it come from others (design rule 9)."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    visible = (char for char in str(value) if char.isspace() or not _steers(char))
    return " ".join("".join(visible).split())


def printable(text: str) -> str:
    """Leave out of a text what could steer a terminal, and keep its lines and its spaces as they are."""
    return "".join(char for char in text if char in "\n\t" or not _steers(char))


def escaped(document: str) -> str:
    """Write what could steer a terminal, in the strings of a JSON document, as JSON's escapes."""
    return "".join(json.dumps(char)[1:-1] if char != "\n" and _steers(char) else char for char in document)


def _steers(char: str) -> bool:
    """Whether a character is a control or has no look of its own: escape sequences, overrides of the direction."""
    return unicodedata.category(char).startswith("C")


def time_of(at: float | None) -> str | None:
    """Write a time for a person, to the minute, in UTC."""
    return None if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"


def short_image(image: str) -> str:
    """Shorten the digest of an image reference to its first 12 digits."""
    name, separator, digest = image.rpartition("sha256:")
    return f"{name}{digest[:12]}" if separator else image

"""Texts from outside: put on one line, and read as trailers or as a JSON object."""

import json
from collections.abc import Mapping


def one_line(text: str) -> str:
    """Put a text on one line, so that none of its lines can pass for a trailer."""
    return " ".join(text.split())


def read_trailers(message: str) -> dict[str, str]:
    """Read `Key: value` lines of a message's last paragraph; of a repeated key, the first counts."""
    values: dict[str, str] = {}
    for line in message.strip().split("\n\n")[-1].split("\n"):
        key, colon, value = line.partition(": ")
        if colon:
            values.setdefault(key.strip(), value.strip())
    return values


def read_json_object(text: str | bytes) -> Mapping[str, object]:
    """Read a JSON object; empty for anything else, because whoever wrote it may write anything (design rule 9)."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}

"""Reading of JSON that may lack any field, as values that mean "not yet".

Nothing here fails: what is absent, or of another type, reads as empty (CVE-2026-40886).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]


def condition_of(status: Json, kind: str) -> Json:
    """The condition of that type in a status; an empty mapping when there is none."""
    return next((condition for condition in items_of(status, "conditions") if condition.get("type") == kind), {})


def mapping_at(raw: Json, *path: str) -> Json:
    """The mapping at a path; an empty mapping when any part of the path is absent or of another type."""
    for key in path:
        value = raw.get(key)
        raw = value if isinstance(value, Mapping) else {}
    return raw


def items_of(raw: Json, key: str) -> Sequence[Json]:
    """The mappings in a list; none when it is absent or not a list."""
    value = raw.get(key)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def text_of(raw: Json, key: str) -> str | None:
    """The text; None when it is absent, empty or of another type."""
    value = raw.get(key)
    return value if isinstance(value, str) and value else None


def int_of(raw: Json, key: str) -> int:
    """The whole number; 0 when it is absent or of another type."""
    value = raw.get(key)
    return value if isinstance(value, int) else 0


def time_of(raw: Json, key: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 time, with or without fractions; None when absent or malformed."""
    text = text_of(raw, key)
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.timestamp() if at.tzinfo is not None else None


def controller_uid(raw: Json) -> str | None:
    """The uid of the object that controls this one; None when nothing does."""
    owners = items_of(mapping_at(raw, "metadata"), "ownerReferences")
    return next((text_of(owner, "uid") for owner in owners if owner.get("controller") is True), None)

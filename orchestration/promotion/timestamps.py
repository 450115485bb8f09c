"""Times as version tags, trailers and evidence spell them."""

from datetime import UTC, datetime


def format_time(at: float) -> str:
    """Seconds since the epoch as people read them in a tag: `2026-01-31T12:00:00.000Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str | None) -> float | None:
    """Seconds since the epoch of a time with its zone; None when the text is none."""
    try:
        parsed = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return parsed.timestamp() if parsed.tzinfo else None

"""Times as version tags, trailers and evidence spell them."""

from datetime import UTC, datetime


def format_time(at: float) -> str:
    """Format seconds since the epoch for a person: `2026-01-31T12:00:00.000Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str | None) -> float | None:
    """Parse a time with its zone into seconds since the epoch; None when the text is not one."""
    try:
        parsed = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return parsed.timestamp() if parsed.tzinfo else None

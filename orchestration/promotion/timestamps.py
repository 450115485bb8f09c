"""Times as version tags, trailers and the evidence spell them."""

from datetime import UTC, datetime


def format_time(at: float) -> str:
    """Write seconds since the epoch as a time in UTC with milliseconds: `2026-01-31T12:00:00.000Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str | None) -> float | None:
    """Parse a time with its zone into seconds since the epoch; None when the text is not one."""
    try:
        parsed = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return parsed.timestamp() if parsed.tzinfo else None


def show_time(at: float) -> str:
    """Show a person seconds since the epoch as a time in UTC: `2026-01-31 12:00 UTC`."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def show_clock(at: float) -> str:
    """Show a person a moment of today, in seconds since the epoch, to the second in UTC: `12:00:00 UTC`."""
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S} UTC"

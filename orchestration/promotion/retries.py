"""Why a version was tried again, kept as a version tag of its own for each retry, which nothing overwrites."""

from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.texts import one_line


def retry_tags(requested_at: str, attempt: int, by: str, reason: str) -> dict[str, str]:
    """Return the tag that keeps a retry's reason, who asked and which attempt it began.

    Args:
        requested_at: When the retry was asked for, as `format_time` writes it; it makes the tag unique.
        attempt: The number of the attempt, from 1.
        by: Who asked.
        reason: Why.
    """
    return {_name(requested_at): f"{one_line(reason)} ({one_line(by)}, attempt {attempt})"}


def retried_because(version: ModelVersion, policy: str) -> str | None:
    """Return why the present request is a retry, by whom and as which attempt; None for a first attempt."""
    requested_at = version.tag(policy, "requested_at")
    return version.tag(policy, _name(requested_at)) if requested_at else None


def _name(requested_at: str) -> str:
    return f"retried.{requested_at}"

"""What was learned of the pods that served before a promotion: trailers of its commit, so that no run can lose it."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

LIVE_BEFORE = "Live-Before"
"""The trailer: a JSON object of values by the SLOs' names. The old pods are gone by the soak, and so is their evidence
when Prometheus forgets it."""

TOLD_APART = "Told-Apart"
"""The trailer: a `ToldApart` in JSON, from which a run that comes later knows what right answers prove."""


@dataclass(frozen=True)
class ToldApart:
    """How what served before a promotion answered its recorded requests otherwise than its version does.

    Pods with the same image that answer all of these requests as recorded are then not what served before (decision
    13).
    """

    difference: str
    """The first other answer, in words; or why right answers suffice without one."""
    requests: str
    """The digest of the recorded requests that were asked."""
    image: str
    """The digest of the image that the asked pod ran; empty when none was asked."""


def dump_told_apart(told: ToldApart) -> str:
    """Write it as a trailer's text, on one line."""
    return json.dumps(asdict(told))


def parse_told_apart(text: str) -> ToldApart | None:
    """Read a trailer's text; None when it is another text, because anyone may write a commit."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_told = isinstance(fields, dict) and fields.keys() == {"difference", "requests", "image"}
    return ToldApart(**fields) if is_told and all(isinstance(value, str) for value in fields.values()) else None


def dump_live(values: Mapping[str, float]) -> str:
    """Write the values as a trailer's text, on one line."""
    return json.dumps(dict(values), sort_keys=True)


def parse_live(text: str) -> Mapping[str, float]:
    """Read a trailer's text; what is not a finite number is left out, because anyone may write a commit."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }

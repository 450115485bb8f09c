"""What was learned of the pods that served before a promotion: trailers of its commit, so that no run can lose it."""

import json
import math
from collections.abc import Mapping

LIVE_BEFORE = "Live-Before"
"""The trailer: a JSON object of values by the SLOs' names. The old pods are gone by the soak, and so is their evidence
when Prometheus forgets it."""


TOLD_APART = "Told-Apart"
"""The trailer: how what served before answered a recorded request of this version otherwise than this version does, or
that it answered none. Whoever answers all of them as recorded is then not what served before."""


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

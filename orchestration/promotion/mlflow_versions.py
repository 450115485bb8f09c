"""Which versions of MLflow's server the pipeline works with."""

import re

OLDEST = "3.3"
"""The oldest server that was tried, by hand: docs/compatibility.md says with what result."""
HOW_TO_UPGRADE = "Upgrade the server (and its database: mlflow db upgrade URL)."


def is_too_old(version: str) -> bool:
    """Whether a server of a version such as `3.17.2` is older than the oldest one; False for any other text."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    oldest = tuple(int(number) for number in OLDEST.split("."))
    return numbers is not None and (int(numbers[1]), int(numbers[2])) < oldest

"""Which versions of MLflow's server the pipeline works with."""

import re

OLDEST = "3.3"
"""The oldest server that the tests run: docs/compatibility.md says with what result."""
SENDS_ANY_NAME = "3.13"
"""The first server that sends files whose names have other letters than ASCII's; older ones fail (mlflow#23241)."""
HOW_TO_UPGRADE = "Upgrade the server (and its database: mlflow db upgrade URL)."


def is_older(version: str, than: str) -> bool:
    """Whether a server's version such as `3.17.2` is older than one such as `3.3`; False for any other text."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    bound = tuple(int(number) for number in than.split("."))
    return numbers is not None and (int(numbers[1]), int(numbers[2])) < bound


def is_too_old(version: str) -> bool:
    """Whether a server is older than the oldest one that the pipeline works with; False for a text that is none."""
    return is_older(version, OLDEST)

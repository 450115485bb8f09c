"""Which tests stay together when several workers of pytest-xdist share the work, and which come first.

Every other test may run on any worker at any time. Tests that share a server, or models that take long to train, run on
one worker one after the other, so that no worker starts a second one. Workers begin with them, because nothing can be
spread any more once only they are left.
"""

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
GROUPS = {
    "sandbox/test_services.py": "sandbox",
    "scenarios/test_story.py": "sandbox",
    "contract/*": "contract",
    "sandbox/test_model_server.py": "models",
    "sandbox/test_training.py": "models",
    "adapters/test_metrics_of_promotions.py": "mlflow",
    "adapters/test_mlflow_registry.py": "mlflow",
    "adapters/test_oci.py": "OCI registry",
    "sandbox/test_images.py": "images",
    "adapters/test_prometheus.py": "Prometheus",
}
"""Patterns of files below `tests/`, in which `*` crosses folders, with their group; the longest groups come first."""


def assign_groups(items: list[pytest.Item]) -> None:
    """Put the groups first, and give their tests the mark by which `--dist loadgroup` keeps them on one worker."""
    places = {}
    for item in items:
        pattern = pattern_of(item.path.relative_to(_TESTS).as_posix())
        if pattern is not None:
            item.add_marker(pytest.mark.xdist_group(GROUPS[pattern]))
        places[item] = list(GROUPS).index(pattern) if pattern is not None else len(GROUPS)
    items.sort(key=places.__getitem__)


def pattern_of(place: str) -> str | None:
    """Return the pattern that decides about a file, given by its path below `tests/`; None for a file without group."""
    return next((pattern for pattern in GROUPS if fnmatchcase(place, pattern)), None)

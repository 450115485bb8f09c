"""Which tests stay together when several workers of pytest-xdist share the work, and which come first.

Every other test may run on any worker at any time. Tests that share a server, or models that take long to train, run on
one worker one after the other, so that no worker starts a second one. Workers begin with them, because once
only groups are left, the work cannot be spread any more.
"""

from fnmatch import fnmatchcase
from functools import cache

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests.targets import TESTS, path_of

GROUPS = {
    "sandbox/test_services.py": "sandbox",
    "scenarios/test_story.py": "sandbox",
    "scenarios/test_week.py": "sandbox",
    "scenarios/test_model_servers.py": "sandbox of other model servers",
    "scenarios/test_addresses.py": "sandbox of other model servers",
    "contract/*": "contract",
    "sandbox/test_model_server.py": "models",
    "sandbox/test_training.py": "models",
    "adapters/test_metrics_of_promotions.py": "mlflow",
    "adapters/test_mlflow_registry.py": "mlflow",
    "adapters/test_mlflow_dialects.py": "mlflow",
    "adapters/test_model_servers.py": "mlflow",
    "companion/test_dispatch.py": "companion",
    "orchestration/test_warm_runs.py": "warm runs",
    "adapters/test_oci*.py": "OCI registry",
    "adapters/test_cosign.py": "OCI registry",
    "sandbox/test_images.py": "images",
    "adapters/test_prometheus.py": "Prometheus",
    "adapters/test_metrics_presets.py": "Prometheus of the presets",
    "adapters/test_prometheus_access.py": "Prometheus with a login",
    "manifests/test_scraping.py": "Prometheus of the manifests",
}
"""Patterns of files below `tests/`, in which `*` crosses folders, with their group; the longest groups come first."""


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc] # pytest-xdist ships no types
    """Hands out whole groups, and one test at a time from files without a group.

    pytest-xdist's own `--dist loadgroup` ignores its marks under pytest 9.2, which no longer lets it rename tests.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0].removeprefix(f"{TESTS.name}/")) or nodeid

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """Note that a test has ended, and forget what a worker has done: all of that is counted for each test."""
        super().mark_test_complete(node, item_index, duration)
        work = self.assigned_work[node]
        scope = self._split_scope(self.registered_collections[node][item_index])
        if all(work[scope].values()):
            del work[scope]


def put_groups_first(items: list[pytest.Item]) -> None:
    """Sort the tests of the groups to the front, in the order of `GROUPS`; the other tests keep their order."""
    patterns = list(GROUPS)

    def rank(item: pytest.Item) -> int:
        pattern = pattern_of(path_of(item.path))
        return len(patterns) if pattern is None else patterns.index(pattern)

    items.sort(key=rank)


def ends_group(item: pytest.Item, following: pytest.Item | None) -> bool:
    """Whether a test is the last one of its group on this worker."""
    group = group_of(path_of(item.path))
    return group is not None and (following is None or group_of(path_of(following.path)) != group)


def group_of(path: str) -> str | None:
    """Return the group of a file, given by its path below `tests/`; None for a file without a group."""
    pattern = pattern_of(path)
    return None if pattern is None else GROUPS[pattern]


@cache
def pattern_of(path: str) -> str | None:
    """Return the pattern that applies to a file, given by its path below `tests/`; None for a file without a group."""
    return next((pattern for pattern in GROUPS if fnmatchcase(path, pattern)), None)

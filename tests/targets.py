"""Which of the Makefile's targets runs a test; every test belongs to exactly one target.

`OF_FILES` names the target of its file, and a marker on the test overrides it.
"""

from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

FAST, TEST, SCENARIOS, PLATFORM, HOMELAB = TARGETS = ("fast", "test", "scenarios", "platform", "homelab")
RUN_BY = {FAST: {FAST}, TEST: {FAST, TEST}, SCENARIOS: {SCENARIOS}, PLATFORM: {PLATFORM}}
"""The targets whose tests `--target` runs: `make test` includes those of `make test-fast`.

The homelab's tests are selected by their paths instead.
"""

BUILD_SECONDS = 3600
"""The time limit of a test that may have to build programs first, on a busy machine."""

TESTS = Path(__file__).parent
OF_FILES = {
    "adapters/test_model_servers.py": SCENARIOS,
    "adapters/*": TEST,
    "analysis/*": FAST,
    "bench/*": FAST,
    "bootstrap/*": TEST,
    "common/*": TEST,
    "contract/*": TEST,
    "dashboards/*": FAST,
    "docs/*": FAST,
    "companion/test_requests.py": FAST,
    "companion/*": TEST,
    "dispatcher/test_crashes.py": TEST,
    "dispatcher/*": FAST,
    "exporter/test_ledger.py": TEST,
    "exporter/*": FAST,
    "guards/*": FAST,
    "homelab/*": HOMELAB,
    "manifests/test_dagster.py": FAST,
    "manifests/test_kserve.py": FAST,
    "manifests/test_kustomizations.py": FAST,
    "manifests/test_mlflow_objects.py": FAST,
    "manifests/test_network.py": FAST,
    "manifests/*": TEST,
    "orchestration/test_analysis_workflows.py": FAST,
    "orchestration/test_champions.py": FAST,
    "orchestration/test_adopt.py": FAST,
    "orchestration/test_persons_images.py": FAST,
    "orchestration/test_permission.py": FAST,
    "orchestration/test_live.py": FAST,
    "orchestration/test_look_before.py": FAST,
    "orchestration/test_narrow_moments.py": FAST,
    "orchestration/test_checking_server.py": FAST,
    "orchestration/test_cli_planning.py": FAST,
    "orchestration/test_cli_rules.py": FAST,
    "orchestration/test_candidates.py": FAST,
    "orchestration/test_hostile_texts.py": FAST,
    "orchestration/test_init.py": FAST,
    "orchestration/test_plan.py": FAST,
    "orchestration/test_pull_requests.py": FAST,
    "orchestration/test_showing.py": FAST,
    "orchestration/test_workflow.py": FAST,
    "orchestration/*": TEST,
    "platform/*": PLATFORM,
    "promotion/test_served_quality.py": TEST,
    "promotion/*": FAST,
    "sandbox/test_homelab_files.py": FAST,
    "sandbox/test_waiting.py": FAST,
    "sandbox/*": TEST,
    "scenarios/*": TEST,
    "story/*": TEST,
    "test_ci_usage.py": FAST,
    "test_dockerfiles.py": FAST,
    "test_targets.py": FAST,
    "test_wheel.py": FAST,
}
"""The target of each file below `tests/`, by pattern; `*` also matches across folders, and the first match counts."""


def target_of(item: pytest.Item) -> str:
    """Return the target that a test belongs to.

    Raises:
        pytest.UsageError: no pattern matches its file, or markers name more than one target.
    """
    marked = {marker.name for marker in item.iter_markers() if marker.name in TARGETS}
    if len(marked) > 1:
        raise pytest.UsageError(f"{item.nodeid}: expected one target, found markers of {' and '.join(sorted(marked))}")
    return marked.pop() if marked else OF_FILES[pattern_of(path_of(item.path))]


def may_run(path: str, target: str) -> bool:
    """Check whether `--target` may run tests of a file, given by its path below `tests/`.

    Markers, which only the file itself tells, move tests to the targets `scenarios` and `platform`.
    """
    return bool(RUN_BY[target] & {OF_FILES[pattern_of(path)], SCENARIOS, PLATFORM})


@cache
def path_of(file: Path) -> str:
    """Return a file's path below `tests/`, which all tests in it ask for."""
    return file.relative_to(TESTS).as_posix()


@cache
def pattern_of(path: str) -> str:
    """Return the pattern that applies to a file, given by its path below `tests/`.

    Raises:
        pytest.UsageError: no pattern matches it.
    """
    for pattern in OF_FILES:
        if fnmatchcase(path, pattern):
            return pattern
    raise pytest.UsageError(f"{path}: expected a line in tests/targets.py that gives it a target, found none")

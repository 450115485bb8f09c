"""Which of the Makefile's targets runs a test. Every test belongs to exactly one of these.

A test belongs to the target of its file, which `OF_FILES` names, unless a marker names another one.
"""

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

FAST, TEST, SCENARIOS, PLATFORM, HOMELAB = TARGETS = ("fast", "test", "scenarios", "platform", "homelab")
RUN_BY = {FAST: {FAST}, TEST: {FAST, TEST}, SCENARIOS: {SCENARIOS}, PLATFORM: {PLATFORM}}
"""The targets whose tests `--target` runs: `make test` includes what `make test-fast` runs. The homelab has paths."""

BUILD_SECONDS = 3600
"""The longest that a test may take that finds nothing built, on a busy machine."""

TESTS = Path(__file__).parent
OF_FILES = {
    "adapters/*": TEST,
    "bootstrap/*": TEST,
    "common/*": TEST,
    "contract/*": TEST,
    "docs/*": FAST,
    "exporter/test_command.py": TEST,
    "exporter/*": FAST,
    "homelab/*": HOMELAB,
    "manifests/*": TEST,
    "orchestration/*": TEST,
    "platform/*": PLATFORM,
    "promotion/*": FAST,
    "sandbox/*": TEST,
    "scenarios/*": TEST,
    "story/*": TEST,
    "test_targets.py": TEST,
}
"""Patterns of files below `tests/`, in which `*` crosses folders, with their target; the first match counts."""


def target_of(item: pytest.Item) -> str:
    """Return the target that a test belongs to.

    Raises:
        pytest.UsageError: no target has its file, or markers name two.
    """
    marked = {marker.name for marker in item.iter_markers() if marker.name in TARGETS}
    if len(marked) > 1:
        raise pytest.UsageError(f"{item.nodeid}: expected one target, found markers of {' and '.join(sorted(marked))}")
    place = item.path.relative_to(TESTS).as_posix()
    return marked.pop() if marked else OF_FILES[pattern_of(place)]


def may_run(place: str, target: str) -> bool:
    """Check whether `--target` may run tests of a file, given by its path below `tests/`.

    Markers, which only the file itself tells, move tests to the targets `scenarios` and `platform`.
    """
    return bool(RUN_BY[target] & {OF_FILES[pattern_of(place)], SCENARIOS, PLATFORM})


def pattern_of(place: str) -> str:
    """Return the pattern that decides about a file, given by its path below `tests/`.

    Raises:
        pytest.UsageError: no pattern matches it.
    """
    for pattern in OF_FILES:
        if fnmatchcase(place, pattern):
            return pattern
    raise pytest.UsageError(f"{place}: expected a line in tests/targets.py that gives it a target, found none")

"""Every test belongs to exactly one of the Makefile's targets, and the Makefile runs each of them."""

import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.targets import (
    FAST,
    HOMELAB,
    OF_FILES,
    PLATFORM,
    RUN_BY,
    SCENARIOS,
    TARGETS,
    TEST,
    may_run,
    pattern_of,
    target_of,
)
from tests.workers import GROUPS, ends_group, group_of
from tests.workers import pattern_of as group_pattern_of

ROOT = Path(__file__).parents[1]
PLACES = sorted(path.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py"))


def read(place: str) -> str:
    return (ROOT / "tests" / place).read_text(encoding="utf-8")


def recipe(name: str) -> str:
    """Return the commands of a target of the Makefile."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    (commands,) = re.findall(rf"^{name}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    return str(commands)


def test_every_file_has_a_target() -> None:
    """A test in a new folder cannot be forgotten: its file needs a line in the table."""
    assert {OF_FILES[pattern_of(place)] for place in PLACES} <= set(TARGETS)


def test_no_line_of_the_table_is_stale() -> None:
    """Each pattern decides about at least one file."""
    assert {pattern_of(place) for place in PLACES} == set(OF_FILES)


def test_a_marker_moves_a_test_to_another_target(request: pytest.FixtureRequest) -> None:
    """One marker overrides the file's target; two are an error."""
    assert target_of(request.node) == FAST
    request.node.add_marker(SCENARIOS)
    assert target_of(request.node) == SCENARIOS
    request.node.add_marker(PLATFORM)
    with pytest.raises(pytest.UsageError, match="expected one target, found markers of platform and scenarios"):
        target_of(request.node)


def test_a_file_without_a_target_is_an_error() -> None:
    """Pytest does not start with a test that no make target would run."""
    with pytest.raises(pytest.UsageError, match=r"tests/targets\.py.*found none"):
        pattern_of("elsewhere/test_something.py")


def test_files_without_a_test_of_the_target_are_not_imported() -> None:
    """A file is left out only if none of its tests can belong to the target, whatever their markers."""
    for place in PLACES:
        target = OF_FILES[pattern_of(place)]
        assert may_run(place, FAST) is (target == FAST)
        assert may_run(place, TEST) is (target in (FAST, TEST))
        assert may_run(place, SCENARIOS)
        assert may_run(place, PLATFORM)


def test_every_marker_is_a_target() -> None:
    """The registered markers, which are strict, are names of targets."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert {marker.partition(":")[0] for marker in settings["markers"]} == {PLATFORM, SCENARIOS} <= set(TARGETS)


def test_the_makefile_runs_every_target() -> None:
    """Each target has its make target, and together they run every test."""
    for target in RUN_BY:
        name = "test" if target == TEST else f"test-{target}"
        assert f"--target {target}\n" in recipe(name)
    assert f"--testbed homelab tests/{HOMELAB} " in recipe("test-homelab")
    assert {HOMELAB}.union(*RUN_BY.values()) == set(TARGETS)


def test_no_group_of_workers_is_stale() -> None:
    """Each pattern decides about at least one file."""
    assert {pattern for place in PLACES if (pattern := group_pattern_of(place))} == set(GROUPS)


def test_tests_that_share_a_server_are_a_group() -> None:
    """A server that a file's tests share is started on one worker, and not on each of them."""
    shared = re.compile(
        r'fixture\(scope="(?:module|session)".*\n.*(?:\n    .*)*?-> "?Iterator|\b(?:mlflow|oci|prometheus)_url: str'
    )
    sharing = {place for place in PLACES if OF_FILES[pattern_of(place)] in (FAST, TEST) and shared.search(read(place))}
    assert {place for place in sharing if group_of(place) is None} == set()


def test_a_group_ends_with_its_last_test() -> None:
    """Files of one group follow one another; any other test, or none, ends the group."""

    def test_of(place: str) -> Any:
        return SimpleNamespace(path=ROOT / "tests" / place)

    story, other = test_of("scenarios/test_story.py"), test_of("promotion/test_gate.py")
    assert not ends_group(story, test_of("scenarios/test_week.py"))
    assert ends_group(story, test_of("scenarios/test_addresses.py"))
    assert ends_group(story, other)
    assert ends_group(story, None)
    assert not ends_group(other, story)

"""What the command refuses before it asks anything: a DAGSTER_HOME without use, and policies that cannot be read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestration.cli import main

POLICIES = Path(__file__).parents[2] / "policies"


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses at which nobody answers, and a usable folder for Dagster."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("INCUMBENT_GIT_URL", "http://127.0.0.1:1/gitops.git")
    monkeypatch.setenv("INCUMBENT_POLICIES", str(POLICIES))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def register(policy: str = "iris-classifier-edge") -> Result:
    return CliRunner().invoke(main, ["register", policy, "7"])


@pytest.mark.parametrize(
    ("home", "found"),
    [
        ("", "found no value."),
        (".", "found the relative path .."),
        ("/nowhere/at/all", "found /nowhere/at/all, which does not exist."),
        (__file__, f"found {__file__}, which is not a folder."),
        ("/proc", "found /proc, where nothing may be written."),
    ],
)
def test_a_useless_dagster_home_is_refused_before_the_alias_is_set(
    home: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3 and one line; the registry, which would not answer, is not asked."""
    monkeypatch.setenv("DAGSTER_HOME", home)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "/proc" and access(path, mode))  # root may all
    result = register()
    assert result.exit_code == 3, result.output
    assert result.stderr.startswith("setting DAGSTER_HOME: expected the absolute path of a Dagster instance's folder, ")
    assert found in result.stderr


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def make_binary(path: Path) -> None:
    path.write_bytes(b"model: \xff")


def make_large(path: Path) -> None:
    path.write_bytes((POLICIES / "iris-classifier-edge.yaml").read_bytes() + b"# x\n" * 250_000)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (make_pipe, "found a folder, pipe or device."),
        (make_folder, "found a folder, pipe or device."),
        (make_dangling, "found No such file or directory."),
        (make_binary, "found bytes that are not UTF-8 (invalid start byte at byte 7)."),
        (make_large, "at most 1,000,000 bytes, found a larger file."),
    ],
)
def test_a_policy_that_cannot_be_read_is_refused(
    make: Callable[[Path], None], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe is not waited for, and no part of a large file is taken for the policy."""
    make(tmp_path / "a.yaml")
    monkeypatch.setenv("INCUMBENT_POLICIES", str(tmp_path))
    result = register("a")
    assert result.exit_code == 3, result.output
    assert found in result.stderr


@pytest.mark.parametrize("command", ["register", "retry", "record"])
def test_a_version_that_is_no_number_is_wrong_usage(command: str) -> None:
    """The message says what was expected, in words."""
    result = CliRunner().invoke(main, [command, "iris", "v7"])
    assert result.exit_code == 2
    assert "Invalid value for 'VERSION': expected a number such as 7, found 'v7'" in result.stderr

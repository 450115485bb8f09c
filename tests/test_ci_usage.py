"""How the scripts of CI answer to a person who only asks, or who errs: at once, and without doing anything."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def ci(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / ".ci" / script, *arguments], capture_output=True, text=True, timeout=30, cwd=ROOT, check=False
    )


@pytest.mark.parametrize("script", ["run", "fresh"])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_no_mistake(script: str, option: str) -> None:
    """The usage is on standard output, and the exit code is 0."""
    result = ci(script, option)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: .ci/{script} ")


@pytest.mark.parametrize(
    ("script", "expected"), [("run", "expected one of check docs test"), ("fresh", "bookworm|trixie")]
)
def test_an_unknown_name_is_wrong_usage(script: str, expected: str) -> None:
    """The names that exist are on standard error, and the exit code is 2."""
    result = ci(script, "nonsense")
    assert (result.returncode, result.stdout) == (2, "")
    assert expected in result.stderr

"""Running tests against a copy of the pipeline, in a process of its own.

The process is forked from one that has imported the libraries and nothing of the pipeline, because for most tests those
imports take longer than everything else. So this module, which the process imports as well, imports nothing of it.
"""

import multiprocessing
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.guards.guard import CHECKOUT

_LIBRARIES = ["pytest", "pydantic", "ruamel.yaml", "yaml", "click", "httpx2", "stamina", "dagster"]
_SECONDS = 120
_ASSERTIONS = ("assert ", "AssertionError", "Failed: DID NOT RAISE")
"""How the message of a failed assertion begins, in pytest's words."""
_processes = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Failure:
    """A test that failed, and pytest's message."""

    test: str
    message: str

    def is_by(self, exception: str) -> bool:
        """Whether an exception of that name ended it; or, for an empty name, an assertion."""
        if not exception:
            return self.message.startswith(_ASSERTIONS)
        return self.message.partition(":")[0].rpartition(".")[2] == exception


@dataclass(frozen=True)
class Trial:
    """What came of some tests."""

    passed: int
    failures: tuple[Failure, ...]
    errors: tuple[str, ...]
    """What kept tests from being run or from ending, or broke their fixtures."""
    output: str


def run_tests(pipeline: Path, tests: Sequence[str], scratch: Path, *, seconds: float = 2 * _SECONDS) -> Trial:
    """Run tests against the pipeline in a folder.

    Args:
        pipeline: The folder that has `orchestration/`.
        tests: Their files below `tests/`, each perhaps with the name of a test.
        scratch: A folder for what is written meanwhile.
    """
    _processes.set_forkserver_preload(_LIBRARIES)
    process = _processes.Process(target=_run, args=(pipeline, tuple(tests), scratch), daemon=False)
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
    output = (scratch / "output").read_text(encoding="utf-8") if (scratch / "output").exists() else ""
    report = scratch / "report.xml"
    if not report.exists():
        return Trial(0, (), (f"pytest ended with status {process.exitcode}",), output)
    failures: list[Failure] = []
    errors: list[str] = []
    passed = 0
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name, results = case.get("name", ""), {child.tag: child.get("message", "") for child in case}
        if "failure" in results:
            failures.append(Failure(name, results["failure"]))
        elif "error" in results or "skipped" in results:
            errors.append(f"{name}: {results.get('error') or results.get('skipped')}")
        else:
            passed += 1
    return Trial(passed, tuple(failures), tuple(errors), output)


def _run(pipeline: Path, tests: tuple[str, ...], scratch: Path) -> None:
    """Run pytest in this process, which ends with it."""
    output = os.open(scratch / "output", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(CHECKOUT)
    # A process that a test starts must see the same pipeline.
    path = [str(pipeline), str(CHECKOUT)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    os.environ.clear()
    os.environ.update(inherited, PYTHONPATH=os.pathsep.join(path), HYPOTHESIS_STORAGE_DIRECTORY=str(scratch / "cases"))
    # What this module itself was imported from must not decide which pipeline the tests import.
    sys.path[:] = [*path, *(entry for entry in sys.path if entry not in path)]
    arguments = [
        *("-q", "--no-header", "--tb=short", "-p", "no:cacheprovider"),
        *("-c", str(CHECKOUT / "pyproject.toml"), "-o", f"pythonpath={' '.join(map(shlex.quote, path))}"),
        *("-o", f"timeout={_SECONDS}", f"--junitxml={scratch / 'report.xml'}", f"--basetemp={scratch / 'tmp'}"),
        *(f"{CHECKOUT}/tests/{test}" for test in tests),  # no Path: the name of a case may have slashes
    ]
    assert "orchestration" not in sys.modules, "the pipeline is imported by the tests alone"
    import pytest

    sys.exit(pytest.main(arguments))

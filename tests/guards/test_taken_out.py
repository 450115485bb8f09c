"""Each guard of the table is taken out of a copy of the pipeline, and the test that the table names fails there."""

import compileall
from pathlib import Path

import pytest

from tests.guards.guard import Guard, copy_pipeline
from tests.guards.table import ALL_GUARDS
from tests.guards.trial import run_tests
from tests.targets import PLATFORM, SCENARIOS


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the pipeline as it is, with the bytecode that all other copies would otherwise have to make."""
    folder = tmp_path_factory.mktemp("whole")
    copy_pipeline(folder)
    assert compileall.compile_dir(folder, quiet=1)
    return folder


def _case(guard: Guard) -> object:
    target = PLATFORM if guard.needs_programs else SCENARIOS
    return pytest.param(guard, id=guard.what, marks=getattr(pytest.mark, target))


@pytest.mark.parametrize("guard", [_case(guard) for guard in ALL_GUARDS])
def test_without_a_guard_its_test_fails(guard: Guard, whole: Path, tmp_path: Path) -> None:
    """The test that the table names falls by an assertion, or by the exception that the table names."""
    trial = run_tests(guard.mutant.write(tmp_path / "pipeline", whole), [guard.test], tmp_path)
    assert not trial.errors, trial.output
    assert trial.failures, f"{guard.test} does not notice that this is missing: {guard.what}"
    assert all(failure.is_by(guard.raises) for failure in trial.failures), trial.output


@pytest.mark.scenarios
@pytest.mark.timeout(1200)
def test_with_every_guard_the_same_tests_pass(whole: Path, tmp_path: Path) -> None:
    """A copy of the pipeline as it is passes all of them, so it is the missing guard that they notice."""
    trial = run_tests(
        whole, sorted({guard.test for guard in ALL_GUARDS if not guard.needs_programs}), tmp_path, seconds=1000
    )
    assert (trial.failures, trial.errors) == ((), ()), trial.output
    assert trial.passed

"""What the homelab builds is built once, completely or not at all, and a failure says why."""

import multiprocessing
from pathlib import Path

import pytest

from orchestration.promotion.problems import ProblemError
from testbeds.homelab.cache import cache_folder, cached, key_of
from testbeds.homelab.offline import go_build
from testbeds.homelab.programs import run_long


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test."""
    monkeypatch.setenv("HOMELAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_entry_is_made_once(empty_cache: Path) -> None:
    """The second caller gets the entry that the first one made."""
    paths: list[Path] = []

    def make(path: Path) -> None:
        paths.append(path)
        path.write_text("complete")

    first = cached("things", "a thing", make)
    assert cached("things", "a thing", make) == first == cache_folder() / "things" / "a thing"
    assert first.read_text() == "complete"
    assert len(paths) == 1
    assert paths[0] != first


def test_an_unfinished_entry_is_not_kept(empty_cache: Path) -> None:
    """When making an entry fails half-way, no entry is left, and the next caller makes it from the beginning."""

    def fail(path: Path) -> None:
        path.mkdir()
        (path / "half").write_text("")
        raise ValueError("no more disk")

    with pytest.raises(ValueError, match="no more disk"):
        cached("things", "a thing", fail)
    assert not (empty_cache / "things" / "a thing").exists()
    assert list(cached("things", "a thing", Path.mkdir).iterdir()) == []


def _make_slowly(counter: str) -> None:
    def make(path: Path) -> None:
        with Path(counter).open("a") as file:
            file.write("made\n")
        path.write_text("complete")

    cached("things", "a thing", make)


def test_parallel_callers_make_an_entry_once(tmp_path: Path) -> None:
    """When several processes want the same entry at the same time, it is made once."""
    context = multiprocessing.get_context("fork")
    callers = [context.Process(target=_make_slowly, args=(str(tmp_path / "counter"),)) for _ in range(4)]
    for process in callers:
        process.start()
    for process in callers:
        process.join()
    assert (tmp_path / "counter").read_text() == "made\n"


def test_a_key_depends_on_where_its_inputs_end() -> None:
    """Inputs that only differ in where one ends and the next begins have different keys."""
    assert key_of("ab", "c") != key_of("a", "bc") != key_of("abc")
    assert key_of("a", b"b") == key_of("a", "b")


def test_a_failed_program_shows_the_end_of_its_output() -> None:
    """The error of a failed program has its last output and what to do about it."""
    progress: list[str] = []
    with pytest.raises(ProblemError, match=r"(?s)making: expected success, found sh ended with 3.*no space.*Free it"):
        run_long("making", ["sh", "-c", "echo no space >&2; exit 3"], progress.append, next_step="Free it.")
    with pytest.raises(ProblemError, match="expected a working no-such-program"):
        run_long("making", ["no-such-program"], progress.append, next_step="Get it.")
    assert progress == ["making ...", "making ..."]


@pytest.mark.parametrize("installed", ["", "go1.22.3", "go1.9"])
def test_an_old_go_is_refused(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Go that is missing or too old for a module is refused, and the error names the version that is needed."""
    monkeypatch.setattr(go_build, "_go_version", lambda: installed)
    with pytest.raises(
        ProblemError, match=rf"build coredns: expected version 1.24.0 or later .* {installed or 'no Go'}"
    ):
        go_build.build("coredns", print)


def test_every_module_has_its_recipe() -> None:
    """Each folder of a Go module has a line in the table of builds, and each line has its folder."""
    assert {path.name for path in go_build._MODULES.iterdir()} == set(go_build.BUILDS)

"""What is made for the homelab is made once, whole or not at all, and who cannot make it says why."""

import multiprocessing
from pathlib import Path

import pytest

from orchestration.promotion.problems import ProblemError
from testbeds.homelab.cache import cache_folder, cached, key_of
from testbeds.homelab.offline import go_build
from testbeds.homelab.programs import run_long


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("HOMELAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_entry_is_made_once(empty_cache: Path) -> None:
    """The second asker gets what the first one made."""
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        path.write_text("whole")

    first = cached("things", "one", make)
    assert cached("things", "one", make) == first == cache_folder() / "things" / "one"
    assert first.read_text() == "whole"
    assert len(made) == 1
    assert made[0] != first


def test_an_unfinished_entry_is_none(empty_cache: Path) -> None:
    """What fails half-way leaves nothing under the name, and the next asker makes it from the beginning."""

    def fail(path: Path) -> None:
        path.mkdir()
        (path / "half").write_text("")
        raise ValueError("no more disk")

    with pytest.raises(ValueError, match="no more disk"):
        cached("things", "one", fail)
    assert not (empty_cache / "things" / "one").exists()
    assert list(cached("things", "one", Path.mkdir).iterdir()) == []


def _make_slowly(counter: str) -> None:
    def make(path: Path) -> None:
        with Path(counter).open("a") as file:
            file.write("made\n")
        path.write_text("whole")

    cached("things", "one", make)


def test_parallel_askers_make_one(tmp_path: Path) -> None:
    """Several processes that want the same at the same time make it once."""
    context = multiprocessing.get_context("fork")
    asking = [context.Process(target=_make_slowly, args=(str(tmp_path / "counter"),)) for _ in range(4)]
    for process in asking:
        process.start()
    for process in asking:
        process.join()
    assert (tmp_path / "counter").read_text() == "made\n"


def test_a_key_tells_its_inputs_apart() -> None:
    """Where one input ends and the next begins matters."""
    assert key_of("ab", "c") != key_of("a", "bc") != key_of("abc")
    assert key_of("a", b"b") == key_of("a", "b")


def test_a_failed_program_shows_its_last_words() -> None:
    """The error has what the program said, and what to do."""
    said: list[str] = []
    with pytest.raises(ProblemError, match=r"(?s)making: expected success, found sh ended with 3.*no space.*Free it"):
        run_long("making", ["sh", "-c", "echo no space >&2; exit 3"], said.append, next_step="Free it.")
    with pytest.raises(ProblemError, match="expected a working no-such-program"):
        run_long("making", ["no-such-program"], said.append, next_step="Get it.")
    assert said == ["making ...", "making ..."]


@pytest.mark.parametrize("installed", ["", "go1.22.3", "go1.9"])
def test_an_old_go_is_refused(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Go that is too old for the module builds nothing; the error says which version is needed."""
    monkeypatch.setattr(go_build, "_go_version", lambda: installed)
    with pytest.raises(
        ProblemError, match=rf"build coredns: expected version 1.24.0 or later .* {installed or 'no Go'}"
    ):
        go_build.build("coredns", print)


def test_every_module_has_its_recipe() -> None:
    """Each folder of Go modules is built by a line of the table, and each line has its folder."""
    assert {path.name for path in go_build._MODULES.iterdir()} == set(go_build.BUILDS)

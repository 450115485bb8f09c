"""The programs that no Python package brings: found, or fetched without installing anything."""

import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from orchestration.promotion.problems import ProblemError
from testbeds.common import tools
from testbeds.common.tools import find_tool

PROGRAM = "#!/bin/sh\necho 'promtool, version 9.9.9'\n"


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the programs: its PATH holds only the folder `bin`; paths have spaces in them."""
    root = tmp_path / "a machine"
    for needed in ("dpkg-deb", "tar", "sh", "cp", "rm"):
        found = shutil.which(needed)
        if found:
            (root / "bin").mkdir(parents=True, exist_ok=True)
            (root / "bin" / needed).symlink_to(found)
    monkeypatch.setenv("PATH", str(root / "bin"))
    monkeypatch.setenv("INCUMBENT_TOOLS", str(root / "own tools"))
    return root


@pytest.fixture
def mirror(machine: Path) -> Path:
    """A distribution's mirror: an `apt-get` that hands out a real package, and counts how often it was asked."""
    if not (machine / "bin" / "dpkg-deb").exists():
        pytest.fail("these tests need dpkg-deb: run them on Debian or Ubuntu")
    program(machine / "package" / "usr" / "bin" / "promtool", PROGRAM)
    control = machine / "package" / "DEBIAN" / "control"
    control.parent.mkdir()
    control.write_text(
        "Package: prometheus\nVersion: 9.9.9\nArchitecture: all\nMaintainer: nobody <a@localhost>\nDescription: x\n",
        encoding="utf-8",
    )
    deb = machine / "prometheus_9.9.9_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(control.parents[1]), str(deb)], check=True, capture_output=True)
    program(
        machine / "bin" / "apt-get",
        f'#!/bin/sh\necho "$@" >> "{machine}/asked"\ncase "$*" in *download*) cp "{deb}" . ;; esac\n',
    )
    return machine


def asked(machine: Path) -> list[str]:
    """The downloads that the mirror was asked for."""
    lines = (machine / "asked").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if "download" in line]


def test_a_program_on_path_is_taken(machine: Path) -> None:
    """What the machine has is used, and nothing is fetched."""
    there = program(machine / "bin" / "promtool", PROGRAM)
    assert find_tool("promtool") == there


def test_the_registry_is_found_under_its_other_name(machine: Path) -> None:
    """The distribution project's own binary is called `registry`."""
    there = program(machine / "bin" / "registry", "#!/bin/sh\necho registry github.com/distribution/distribution v3\n")
    assert find_tool("docker-registry") == there


def test_another_program_of_that_name_is_not_taken(machine: Path) -> None:
    """A `registry` on PATH that is no OCI registry is passed by."""
    program(machine / "bin" / "registry", "#!/bin/sh\necho windows\n")
    with pytest.raises(ProblemError, match="no such program on PATH"):
        find_tool("docker-registry")


def test_a_package_is_unpacked_once(mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing program comes from the distribution's package into the project's folder, and stays there."""
    first = find_tool("promtool")
    assert first == mirror / "own tools" / "prometheus" / "usr" / "bin" / "promtool"
    assert find_tool("promtool") == first
    assert len(asked(mirror)) == 1
    assert "not installed" in capsys.readouterr().err


def test_parallel_callers_fetch_once(mirror: Path) -> None:
    """Callers at the same time get the same program from one download."""
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(find_tool("promtool"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    assert len(set(found)) == 1
    assert len(asked(mirror)) == 1


def test_what_a_killed_fetch_left_is_repaired(mirror: Path) -> None:
    """Half an unpacked package is never taken for a whole one, and is cleared away."""
    half = program(
        mirror / "own tools" / ".unpacking-dead" / "root" / "usr" / "bin" / "promtool", "#!/bin/sh\nexit 1\n"
    )
    assert find_tool("promtool").read_text(encoding="utf-8") == PROGRAM
    assert not half.exists()


def test_lists_are_made_when_the_first_download_finds_none(mirror: Path) -> None:
    """With no package lists, or old ones, they are fetched and the download is tried again."""
    text = (mirror / "bin" / "apt-get").read_text(encoding="utf-8")
    program(
        mirror / "bin" / "apt-get",
        text.replace("*download*) cp", f'*update*) : > "{mirror}/lists" ;; *download*) [ -e "{mirror}/lists" ] && cp'),
    )
    assert find_tool("promtool").exists()
    assert len(asked(mirror)) == 2


def test_a_machine_that_cannot_fetch_is_told_what_to_do(machine: Path) -> None:
    """Without apt the error names the program and the ways to get it."""
    with pytest.raises(ProblemError, match=r"program prometheus: .*apt-get install prometheus.*try again"):
        find_tool("prometheus")


def test_a_failed_download_says_why(mirror: Path) -> None:
    """What apt said is part of the error, and nothing half done is left."""
    program(mirror / "bin" / "apt-get", "#!/bin/sh\necho 'E: Unable to locate package prometheus' >&2\nexit 100\n")
    with pytest.raises(ProblemError, match="ended with 100: E: Unable to locate package"):
        find_tool("promtool")
    assert not list((mirror / "own tools").glob(".unpacking-*"))


def test_the_folder_is_the_checkouts_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless told otherwise, tools lie in the project's own folder."""
    monkeypatch.delenv("INCUMBENT_TOOLS", raising=False)
    assert tools.tools_folder() == tools.CHECKOUT / ".tools"

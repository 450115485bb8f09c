"""Programs that no Python package contains are found on PATH or fetched without installing anything."""

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
    """A machine without the programs, whose PATH has only the folder `bin`; its paths contain spaces."""
    root = tmp_path / "a machine"
    for needed in ("dpkg-deb", "tar", "sh", "cp", "rm"):
        path = shutil.which(needed)
        if path:
            (root / "bin").mkdir(parents=True, exist_ok=True)
            (root / "bin" / needed).symlink_to(path)
    monkeypatch.setenv("PATH", str(root / "bin"))
    monkeypatch.setenv("INCUMBENT_TOOLS", str(root / "own tools"))
    return root


class Mirror:
    """A distribution's mirror: an `apt-get` that provides real packages and logs its calls."""

    def __init__(self, machine: Path) -> None:
        if not (machine / "bin" / "dpkg-deb").exists():
            pytest.fail("these tests need dpkg-deb; run them on Debian or Ubuntu")
        self.machine = machine
        self.tools = machine / "own tools"
        (machine / "debs").mkdir()
        self.apt()

    def apt(self, needs: str = "true") -> None:
        """Provide an `apt-get` that knows the published packages while the shell command `needs` succeeds."""
        program(
            self.machine / "bin" / "apt-get",
            f"""#!/bin/sh
echo "$@" >> "{self.machine}/calls"
case "$*" in *update*) : > "{self.machine}/lists"; exit 0 ;; esac
for package; do :; done
deb="{self.machine}/debs/${{package}}_9.9.9_all.deb"
if ! {needs} || ! [ -e "$deb" ]; then echo "E: Unable to locate package $package" >&2; exit 100; fi
case "$*" in *--print-uris*) ;; *) cp "$deb" . ;; esac
""",
        )

    def publish(self, package: str, *programs: str) -> None:
        """Build a package of these programs, each of which prints its own name."""
        root = self.machine / "packages" / package
        for name in programs:
            program(root / "usr" / "bin" / name, f"#!/bin/sh\necho '{name}, version 9.9.9'\n")
        control = root / "DEBIAN" / "control"
        control.parent.mkdir(parents=True)
        control.write_text(
            f"Package: {package}\nVersion: 9.9.9\nArchitecture: all\nMaintainer: nobody <a@localhost>\n"
            "Description: x\n",
            encoding="utf-8",
        )
        deb = self.machine / "debs" / f"{package}_9.9.9_all.deb"
        subprocess.run(["dpkg-deb", "--build", str(root), str(deb)], check=True, capture_output=True)

    def downloads(self) -> list[str]:
        """Return the calls that downloaded a package."""
        lines = (self.machine / "calls").read_text(encoding="utf-8").splitlines()
        return [line for line in lines if "download" in line and "--print-uris" not in line]


@pytest.fixture
def mirror(machine: Path) -> Mirror:
    """The mirror of Debian 12, Ubuntu 22.04 and 24.04, where promtool is part of Prometheus' package."""
    mirror = Mirror(machine)
    mirror.publish("prometheus", "prometheus", "promtool")
    return mirror


@pytest.fixture
def newer_mirror(machine: Path) -> Mirror:
    """The mirror of Debian 13 and sid and of Ubuntu 26.04, where promtool has a package of its own."""
    mirror = Mirror(machine)
    mirror.publish("prometheus", "prometheus")
    mirror.publish("promtool", "promtool")
    return mirror


def test_a_program_on_path_is_used(machine: Path) -> None:
    """A program that the machine already has is used, and none is fetched."""
    installed = program(machine / "bin" / "promtool", PROGRAM)
    assert find_tool("promtool") == installed


def test_the_registry_is_found_under_its_other_name(machine: Path) -> None:
    """The registry is also found as `registry`, the name of the distribution project's own binary."""
    installed = program(
        machine / "bin" / "registry", "#!/bin/sh\necho registry github.com/distribution/distribution v3\n"
    )
    assert find_tool("docker-registry") == installed


def test_another_program_of_that_name_is_not_used(machine: Path) -> None:
    """A program `registry` on PATH that is not an OCI registry is ignored."""
    program(machine / "bin" / "registry", "#!/bin/sh\necho windows\n")
    with pytest.raises(ProblemError, match="no such program on PATH"):
        find_tool("docker-registry")


def test_a_package_is_unpacked_once(mirror: Mirror, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing program is unpacked once from the distribution's package into the project's folder."""
    first = find_tool("promtool")
    assert first == mirror.tools / "prometheus" / "usr" / "bin" / "promtool"
    assert find_tool("promtool") == first
    assert find_tool("prometheus") == first.with_name("prometheus")
    assert len(mirror.downloads()) == 1
    assert "not installed" in capsys.readouterr().err


@pytest.mark.parametrize("order", [("prometheus", "promtool"), ("promtool", "prometheus")])
def test_a_distribution_that_splits_a_package_provides_both(newer_mirror: Mirror, order: tuple[str, str]) -> None:
    """Each program is unpacked from its own package into its own folder, whichever is needed first."""
    paths = {name: find_tool(name) for name in order}
    assert paths == {name: newer_mirror.tools / name / "usr" / "bin" / name for name in order}
    assert len(newer_mirror.downloads()) == 2


def test_a_split_package_is_found_before_there_are_lists(newer_mirror: Mirror) -> None:
    """promtool is found in its own package even on a fresh machine, which has no package lists yet."""
    newer_mirror.apt(needs=f'[ -e "{newer_mirror.machine}/lists" ]')
    assert find_tool("promtool") == newer_mirror.tools / "promtool" / "usr" / "bin" / "promtool"


def test_parallel_callers_fetch_once(mirror: Mirror) -> None:
    """Callers at the same time get the same program from a single download."""
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(find_tool("promtool"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(paths) == 4
    assert len(set(paths)) == 1
    assert len(mirror.downloads()) == 1


def test_remains_of_a_killed_fetch_are_removed(mirror: Mirror) -> None:
    """A half-unpacked package is never taken for a complete one, and is removed."""
    half = program(mirror.tools / ".unpacking-dead" / "root" / "usr" / "bin" / "promtool", "#!/bin/sh\nexit 1\n")
    assert find_tool("promtool").read_text(encoding="utf-8") == PROGRAM
    assert not half.exists()


@pytest.mark.parametrize(
    "left", ["usr/share/doc/prometheus/copyright", "usr/bin/promtool"], ids=["no program", "a broken program"]
)
def test_an_incomplete_folder_is_replaced(mirror: Mirror, left: str) -> None:
    """An incomplete folder, from an interrupted deletion or an earlier release, is replaced by the whole package."""
    remains = program(mirror.tools / "prometheus" / left, "#!/bin/sh\nexit 1\n")
    path = find_tool("promtool")
    assert path.read_text(encoding="utf-8") == PROGRAM
    assert remains == path or not remains.exists()
    assert find_tool("prometheus") == path.with_name("prometheus")
    assert not list(mirror.tools.glob(".unpacking-*"))


def test_a_package_without_the_program_is_an_error(newer_mirror: Mirror) -> None:
    """The error for a package without the program names the package, and does not prevent the next attempt."""
    (newer_mirror.machine / "debs" / "promtool_9.9.9_all.deb").unlink()
    with pytest.raises(ProblemError, match="found package prometheus without a working promtool"):
        find_tool("promtool")
    assert not (newer_mirror.tools / "prometheus").exists()
    assert find_tool("prometheus") == newer_mirror.tools / "prometheus" / "usr" / "bin" / "prometheus"


def test_package_lists_are_fetched_when_a_download_fails(mirror: Mirror) -> None:
    """When package lists are missing or old, they are fetched and the download is tried again."""
    mirror.apt(needs=f'[ -e "{mirror.machine}/lists" ]')
    assert find_tool("promtool").exists()
    assert len(mirror.downloads()) == 2


def test_without_apt_the_error_says_what_to_do(machine: Path) -> None:
    """On a machine without apt, the error names the program and how to get it."""
    with pytest.raises(ProblemError, match=r"program prometheus: .*apt-get install prometheus.*try again"):
        find_tool("prometheus")


def test_a_failed_download_says_why(mirror: Mirror) -> None:
    """The error of a failed download includes apt's message, and no unfinished folder is left."""
    mirror.apt(needs="false")
    with pytest.raises(ProblemError, match="ended with 100: E: Unable to locate package"):
        find_tool("promtool")
    assert not list(mirror.tools.glob(".unpacking-*"))


def test_tools_lie_in_the_checkout_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless INCUMBENT_TOOLS names another folder, tools lie in the checkout's own."""
    monkeypatch.delenv("INCUMBENT_TOOLS", raising=False)
    assert tools.tools_folder() == tools.CHECKOUT / ".tools"

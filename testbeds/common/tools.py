"""Programs that the testbeds run and that no Python package contains, such as Prometheus, PostgreSQL and etcd.

They are taken from PATH. A machine that lacks one downloads the distribution's own package and unpacks it into a folder
of the project: nothing is installed, no service starts, root is not needed, and nothing outside that folder changes.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestration.promotion.problems import Problem, ProblemError

CHECKOUT = Path(__file__).resolve().parents[2]
_FETCH_SECONDS = 300.0


@dataclass(frozen=True)
class Tool:
    """A program, and where distributions keep it."""

    packages: tuple[str, ...]
    """The packages that contain it, by distribution; the first one that a distribution has is the right one."""
    says: str
    """What its `--version` must mention, because other programs are also called `registry`."""
    other_names: tuple[str, ...] = ()
    """Other names under which it may be on PATH."""
    folder: str = "usr/bin"
    """Where its package has it; `{version}` is what follows the last dash of the package's name."""
    on_demand: bool = False
    """Whether it is fetched only when something asks for it, and not with the others."""


TOOLS = {
    "prometheus": Tool(("prometheus",), says="prometheus"),
    # It has a package of its own since Debian 13 and Ubuntu 26.04, and was in the server's package before.
    "promtool": Tool(("promtool", "prometheus"), says="promtool"),
    "docker-registry": Tool(("docker-registry",), says="distribution", other_names=("registry",)),
    "etcd": Tool(("etcd-server",), says="etcd version", on_demand=True),
    # Debian 14, 13 and 12, Ubuntu 26.04, 24.04 and 22.04. `initdb` is beside it.
    "postgres": Tool(
        tuple(f"postgresql-{version}" for version in (18, 17, 16, 14, 15)),
        says="postgres (postgresql)",
        folder="usr/lib/postgresql/{version}/bin",
        on_demand=True,
    ),
}


def tools_folder() -> Path:
    """Return the folder of the unpacked packages: `INCUMBENT_TOOLS`, or else `.tools` in the checkout."""
    configured = os.environ.get("INCUMBENT_TOOLS")
    return Path(configured).resolve() if configured else CHECKOUT / ".tools"


def find_tool(name: str) -> Path:
    """Find one of the programs in `TOOLS`, and fetch it if the machine does not have it.

    Raises:
        ProblemError: it is not installed and cannot be fetched; the problem says how to get it.
    """
    program = _on_path(name) or _installed(name) or _unpacked(name)
    if program is None:
        with one_at_a_time(tools_folder()):
            program = _unpacked(name) or _fetch(name)
    return program


def _on_path(name: str) -> Path | None:
    for candidate in (name, *TOOLS[name].other_names):
        path = shutil.which(candidate)
        if path and _works(Path(path), TOOLS[name]):
            return Path(path)
    return None


def _installed(name: str) -> Path | None:
    """Find a program that its installed package keeps outside of PATH."""
    if TOOLS[name].folder == Tool.folder:
        return None
    programs = (Path("/", _place_of(name, package)) for package in TOOLS[name].packages)
    return next((program for program in programs if _works(program, TOOLS[name])), None)


def _unpacked(name: str) -> Path | None:
    programs = (_program_of(name, package) for package in TOOLS[name].packages)
    return next((program for program in programs if _works(program, TOOLS[name])), None)


def _program_of(name: str, package: str) -> Path:
    return tools_folder() / package / _place_of(name, package)


def _place_of(name: str, package: str) -> str:
    """Return where a program is in its package."""
    return f"{TOOLS[name].folder.format(version=package.rpartition('-')[2])}/{name}"


def _works(program: Path, tool: Tool) -> bool:
    try:
        answer = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tool.says in (answer.stdout + answer.stderr).lower()


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Have parallel callers fetch only once; the lock ends with its process, so a killed one does not block others."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(name: str) -> Path:
    """Download the program's package and unpack it; the folder gets its name only once it is complete."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise _unavailable(name, "no such program on PATH, and no apt-get and dpkg-deb to fetch it with")
    print(f"{name}: downloading the distribution's package, which is unpacked and not installed ...", file=sys.stderr)
    folder = tools_folder()
    for left_behind in folder.glob(".unpacking-*"):
        shutil.rmtree(left_behind)
    scratch = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder))
    try:
        package, archive = _download(name, scratch)
        _run(name, ["dpkg-deb", "--extract", str(archive), str(scratch / "root")], scratch)
        program = _program_of(name, package)
        if not _works(scratch / "root" / program.relative_to(folder / package), TOOLS[name]):
            raise _unavailable(name, f"package {package} without a working {name}")
        # An existing folder of that name is incomplete, such as after an interrupted deletion.
        if (folder / package).exists():
            (folder / package).rename(scratch / "broken")
        (scratch / "root").rename(folder / package)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{name}: ready in {folder / package}", file=sys.stderr)
    return program


def _download(name: str, scratch: Path) -> tuple[str, Path]:
    """Download the package that contains a program on this distribution.

    Returns:
        The package's name and its archive.
    """
    lists = tools_folder() / "apt"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    # With folders of the project, an ordinary user may run apt. It reads a quoted path with spaces correctly.
    settings = scratch / "apt.conf"
    settings.write_text(f'Dir::State::Lists "{lists}/";\nDir::Cache "{scratch}/";\n', encoding="utf-8")
    apt = ["apt-get", "-q", "-o", "Acquire::Retries=3"]
    if os.geteuid() == 0:
        apt += ["-o", "APT::Sandbox::User=root"]  # apt's own user could not write to root's folders
    environment = {"APT_CONFIG": str(settings)}

    def package_here() -> str:
        *preferred, last = TOOLS[name].packages
        for package in preferred:
            try:
                _run(name, [*apt, "--print-uris", "download", package], scratch, environment)
            except ProblemError:  # apt's lists have no such package
                continue
            return package
        return last

    def download() -> tuple[str, Path]:
        package = package_here()
        _run(name, [*apt, "download", package], scratch, environment)
        return package, next(scratch.glob(f"{package}_*.deb"))

    try:
        return download()
    except ProblemError:  # apt has no lists yet, or they name a version that the mirror no longer has
        _run(name, [*apt, "update"], scratch, environment)
        return download()


def _run(name: str, command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_FETCH_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unavailable(name, f"{command[0]} did not finish ({type(error).__name__})") from error
    if done.returncode != 0:
        tail = " / ".join(line.strip() for line in done.stdout.splitlines()[-3:])
        action = next(word for word in command if word in ("download", "update", "--extract"))
        raise _unavailable(name, f"{command[0]} {action} ended with {done.returncode}: {tail}")


def _unavailable(name: str, found: str) -> ProblemError:
    packages = " or ".join(f"`apt-get install {package}`" for package in TOOLS[name].packages)
    return ProblemError(
        Problem(
            f"program {name}",
            "the program on PATH, or a Debian or Ubuntu machine that can download its package",
            found,
            f"Install it ({packages}, or its project's release for your system) so that `{name} --version` works, and "
            "try again.",
        )
    )


def main() -> int:
    """Find or fetch every program that is always needed and print its path, so that nothing later needs a network."""
    try:
        for name in (name for name, tool in TOOLS.items() if not tool.on_demand):
            print(f"{name}: {find_tool(name)}")
    except ProblemError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

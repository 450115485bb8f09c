"""Programs that the sandbox runs and that no Python package brings: Prometheus and the OCI registry.

They are taken from PATH, else from Debian's or Ubuntu's own packages, which are downloaded and unpacked into a folder
of the project and not installed: no root, no service started, nothing outside that folder changed.
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
    """A program: the Debian package that has it, and other names under which it may be on PATH."""

    package: str
    other_names: tuple[str, ...] = ()
    says: str = ""
    """What its `--version` must mention; other programs are called `registry` too."""


TOOLS = {
    "prometheus": Tool("prometheus", says="prometheus"),
    "promtool": Tool("prometheus", says="promtool"),
    "docker-registry": Tool("docker-registry", other_names=("registry",), says="distribution"),
}


def tools_folder() -> Path:
    """Where unpacked packages lie: `INCUMBENT_TOOLS`, else `.tools` in the checkout."""
    given = os.environ.get("INCUMBENT_TOOLS")
    return Path(given).resolve() if given else CHECKOUT / ".tools"


def find_tool(name: str) -> Path:
    """The program `prometheus`, `promtool` or `docker-registry`, fetched once when the machine has none.

    Raises:
        ProblemError: it is neither there nor to be had; the problem says how to get it.
    """
    tool = TOOLS[name]
    for candidate in (name, *tool.other_names):
        found = shutil.which(candidate)
        if found and _is_it(Path(found), tool):
            return Path(found)
    unpacked = tools_folder() / tool.package / "usr" / "bin" / name
    if not unpacked.exists():
        with _one_at_a_time(tools_folder()):
            if not unpacked.exists():
                _unpack_package(name, tool.package)
    if not unpacked.exists() or not _is_it(unpacked, tool):
        raise _unavailable(name, tool.package, f"package {tool.package} without a working {unpacked.name}")
    return unpacked


def _is_it(program: Path, tool: Tool) -> bool:
    try:
        answer = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tool.says in (answer.stdout + answer.stderr).lower()


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Parallel callers fetch once; the lock ends with its process, so a killed one blocks nobody."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpack_package(name: str, package: str) -> None:
    """Download a package and unpack it; the folder appears under its name only when it is whole."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise _unavailable(name, package, "no such program on PATH, and no apt-get and dpkg-deb to fetch it with")
    print(f"{name}: fetching the distribution's package {package} (unpacked, not installed) ...", file=sys.stderr)
    folder = tools_folder()
    for left_behind in folder.glob(".unpacking-*"):
        shutil.rmtree(left_behind)
    scratch = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder))
    try:
        deb = _download(name, package, scratch)
        _run(name, package, ["dpkg-deb", "--extract", str(deb), str(scratch / "root")], scratch)
        (scratch / "root").rename(folder / package)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{name}: ready in {folder / package}", file=sys.stderr)


def _download(name: str, package: str, scratch: Path) -> Path:
    lists = tools_folder() / "apt"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    # Own folders for what apt writes, so that an ordinary user may run it. A path with spaces must be quoted for apt.
    apt = ["apt-get", "-q", "-o", "Acquire::Retries=3"]
    if os.geteuid() == 0:
        apt += ["-o", "APT::Sandbox::User=root"]  # root's files: the user _apt could not write here
    settings = scratch / "apt.conf"
    settings.write_text(f'Dir::State::Lists "{lists}/";\nDir::Cache "{scratch}/";\n', encoding="utf-8")
    environment = {"APT_CONFIG": str(settings)}
    try:
        _run(name, package, [*apt, "download", package], scratch, environment)
    except ProblemError:  # no lists yet, or lists that name a version which the mirror no longer has
        _run(name, package, [*apt, "update"], scratch, environment)
        _run(name, package, [*apt, "download", package], scratch, environment)
    return next(scratch.glob(f"{package}_*.deb"))


def _run(name: str, package: str, command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
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
        raise _unavailable(name, package, f"{command[0]} that did not finish ({type(error).__name__})") from error
    if done.returncode != 0:
        tail = " / ".join(line.strip() for line in done.stdout.splitlines()[-3:])
        action = next(word for word in command if word in ("download", "update", "--extract"))
        raise _unavailable(name, package, f"{command[0]} {action} that ended with {done.returncode}: {tail}")


def _unavailable(name: str, package: str, found: str) -> ProblemError:
    return ProblemError(
        Problem(
            f"program {name}",
            "the program on PATH, or a Debian or Ubuntu machine that can download its package",
            found,
            f"Install it (`apt-get install {package}`, or its project's release for your system) so that "
            f"`{name} --version` works, and try again.",
        )
    )


def main() -> int:
    """Find or fetch all of them and print where they are: afterwards nothing needs a network."""
    try:
        for name in TOOLS:
            print(f"{name}: {find_tool(name)}")
    except ProblemError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

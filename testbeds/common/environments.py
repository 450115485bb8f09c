"""Virtual environments beside the project's own, each installed with uv from a lock with hashes and no addresses."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from orchestration.promotion.problems import Problem, ProblemError
from testbeds.common.tools import tools_folder

_OLDEST_PYTHON = 11
_INSTALL_SECONDS = 900.0


@dataclass(frozen=True)
class Locked:
    """What an environment is installed from."""

    name: str
    """What its errors call it: `model server fastapi`."""
    requirements: Path
    """A file that ends in `.in`; its lock is beside it and ends in `.lock`."""
    newest_python: int
    """The minor version of the newest Python 3 that the lock has packages for."""

    @property
    def lock_file(self) -> Path:
        return self.requirements.with_suffix(".lock")

    def fingerprint(self) -> str:
        """Return a line that changes with the lock and with the Python that it is installed for."""
        return f"{hashlib.sha256(self.lock_file.read_bytes()).hexdigest()} for {python_for(self)}\n"


def install(locked: Locked, folder: Path) -> None:
    """Make the environment in a folder, in place of what is there; its `bin/python` works after the folder is moved.

    Raises:
        ProblemError: it cannot be installed; the problem says what to do.
    """
    packages = locked.lock_file.read_text(encoding="utf-8").count("==")
    print(f"{locked.name}: installing its locked environment ({packages} packages) ...", file=sys.stderr)
    began = time.monotonic()
    uv = _uv(locked)
    _run(locked, [uv, "venv", "--quiet", "--clear", "--python", python_for(locked), str(folder)])
    sync = [uv, "pip", "sync", "--quiet", "--compile-bytecode", "--require-hashes", str(locked.lock_file)]
    _run(locked, sync, VIRTUAL_ENV=str(folder))
    print(f"{locked.name}: ready after {time.monotonic() - began:.0f} s", file=sys.stderr)


def lock(locked: Locked, constraint: Path | None = None) -> None:
    """Resolve the requirements again and write the lock, without download addresses.

    Args:
        locked: what is locked.
        constraint: a lock with the versions that shared packages get, so that each is downloaded once.
    """
    command = [_uv(locked), "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-annotate"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-header", f"--python-version=3.{_OLDEST_PYTHON}"]
    command += [] if constraint is None else ["--constraint", str(constraint)]
    _run(locked, [*command, str(locked.requirements), "--output-file", str(locked.lock_file)])


def python_for(locked: Locked, minor: int = sys.version_info.minor) -> str:
    """Return this process's Python, 3.`minor`, or where that is too new for the lock, the newest on PATH that is not.

    Raises:
        ProblemError: there is none.
    """
    newest = locked.newest_python
    if minor <= newest:
        return str(Path(sys.base_prefix) / "bin" / f"python3.{minor}")
    for other in range(newest, _OLDEST_PYTHON - 1, -1):
        if python := shutil.which(f"python3.{other}"):
            return python
    found = f"Python 3.{minor} alone"
    step = f"Install python3.{newest} beside it and try again."
    expected = f"Python 3.{_OLDEST_PYTHON} to 3.{newest} on PATH, for which it has packages"
    raise _unavailable(locked, found, step, expected)


def _uv(locked: Locked) -> str:
    own = tools_folder() / "uv" / "bin" / "uv"
    uv = shutil.which("uv") or (str(own) if own.exists() else None)
    if uv is None:
        raise _unavailable(locked, "no uv on PATH or in .tools", "Run `make setup`, which installs uv, and try again.")
    return uv


def _run(locked: Locked, command: list[str], **settings: str) -> None:
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", **settings}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
    )
    if done.returncode != 0:
        said = " / ".join(line.strip() for line in done.stderr.splitlines()[-4:])
        step = "Check that uv can reach a package index, and try again."
        raise _unavailable(locked, f"uv {command[1]} ended with {done.returncode}: {said}", step)


def _unavailable(
    locked: Locked,
    found: str,
    step: str,
    expected: str = "its locked packages, or a package index to download them from",
) -> ProblemError:
    return ProblemError(Problem(f"environment of the {locked.name}", expected, found, step))

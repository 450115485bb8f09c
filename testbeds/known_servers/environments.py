"""The servers' environments: each a virtual environment below `.tools/servers`, installed from a lock with hashes."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from orchestration.promotion.problems import Problem, ProblemError
from testbeds.common.tools import CHECKOUT, one_at_a_time, tools_folder

FOLDER = Path(__file__).parent
NEWEST_PYTHON: Mapping[str, int] = {"mlflow": 14, "mlserver": 13, "kserve": 13, "fastapi": 14}
"""Each server with the minor version of the newest Python 3 that its lock has packages for."""
_OLDEST_PYTHON = 11
_INSTALL_SECONDS = 900.0
_UNLOCKED = ("mlserver", "kserve")
"""Servers that need other versions of packages than the project itself has."""


def find_environment(name: str) -> Path:
    """Return the folder of a server's environment, which is installed first if it is missing or out of date.

    Raises:
        ProblemError: it cannot be installed; the problem says what to do.
    """
    folder, stamp = _place(name)
    if not _is_ready(name):
        with one_at_a_time(tools_folder()):
            if not _is_ready(name):
                _install(name, folder)
                stamp.write_text(_fingerprint(name), encoding="utf-8")
    return folder


def lock(name: str) -> None:
    """Resolve a server's requirements again and write its lock, without download addresses.

    What the project itself also uses gets the project's version, so that it is downloaded once.
    """
    requirements = FOLDER / name / "requirements.in"
    command = [_uv(name), "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-annotate"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-header", f"--python-version=3.{_OLDEST_PYTHON}"]
    command += [] if name in _UNLOCKED else ["--constraint", str(CHECKOUT / "requirements.lock")]
    _run(name, [*command, str(requirements), "--output-file", str(_lock_file(name))])


def _place(name: str) -> tuple[Path, Path]:
    folder = tools_folder() / "servers" / name
    return folder, folder / ".installed"


def _lock_file(name: str) -> Path:
    return FOLDER / name / "requirements.lock"


def _is_ready(name: str) -> bool:
    stamp = _place(name)[1]
    return stamp.exists() and stamp.read_text(encoding="utf-8") == _fingerprint(name)


def _fingerprint(name: str) -> str:
    return f"{hashlib.sha256(_lock_file(name).read_bytes()).hexdigest()} for {python_for(name)}\n"


def _install(name: str, folder: Path) -> None:
    packages = _lock_file(name).read_text(encoding="utf-8").count("==")
    print(f"{name}: installing its locked environment ({packages} packages) into {folder} ...", file=sys.stderr)
    began = time.monotonic()
    uv = _uv(name)
    _run(name, [uv, "venv", "--quiet", "--clear", "--python", python_for(name), str(folder)])
    install = [uv, "pip", "sync", "--quiet", "--compile-bytecode", "--require-hashes", str(_lock_file(name))]
    _run(name, install, VIRTUAL_ENV=str(folder))
    print(f"{name}: ready after {time.monotonic() - began:.0f} s", file=sys.stderr)


def _uv(name: str) -> str:
    own = tools_folder() / "uv" / "bin" / "uv"
    uv = shutil.which("uv") or (str(own) if own.exists() else None)
    if uv is None:
        raise _unavailable(name, "no uv on PATH or in .tools", "Run `make setup`, which installs uv, and try again.")
    return uv


def python_for(name: str, minor: int = sys.version_info.minor) -> str:
    """Return this process's Python, 3.`minor`, or where that is too new for the server, the newest on PATH that is not.

    Raises:
        ProblemError: there is none.
    """
    newest = NEWEST_PYTHON[name]
    if minor <= newest:
        return str(Path(sys.base_prefix) / "bin" / f"python3.{minor}")
    for minor in range(newest, _OLDEST_PYTHON - 1, -1):
        if python := shutil.which(f"python3.{minor}"):
            return python
    found = f"Python 3.{minor} alone"
    step = f"Install python3.{newest} beside it and try again."
    raise _unavailable(name, found, step, f"Python 3.{_OLDEST_PYTHON} to 3.{newest} on PATH, for which it has packages")


def _run(name: str, command: list[str], **settings: str) -> None:
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", **settings}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
    )
    if done.returncode != 0:
        said = " / ".join(line.strip() for line in done.stderr.splitlines()[-4:])
        step = "Check that uv can reach a package index, and try again."
        raise _unavailable(name, f"uv {command[1]} ended with {done.returncode}: {said}", step)


def _unavailable(
    name: str, found: str, step: str, expected: str = "its locked packages, or a package index to download them from"
) -> ProblemError:
    return ProblemError(Problem(f"environment of the model server {name}", expected, found, step))

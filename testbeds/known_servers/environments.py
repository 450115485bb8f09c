"""The servers' environments: each a virtual environment below `.tools/servers`, installed from a lock with hashes."""

from collections.abc import Mapping
from pathlib import Path

from testbeds.common import environments
from testbeds.common.environments import Locked
from testbeds.common.tools import CHECKOUT, one_at_a_time, tools_folder

FOLDER = Path(__file__).parent
NEWEST_PYTHON: Mapping[str, int] = {"mlflow": 14, "mlserver": 13, "kserve": 13, "fastapi": 14}
"""Each server with the minor version of the newest Python 3 that its lock has packages for."""
_UNLOCKED = ("mlserver", "kserve")
"""Servers that need other versions of packages than the project itself has."""


def locked(name: str) -> Locked:
    """Return what a server's environment is installed from."""
    return Locked(f"model server {name}", FOLDER / name / "requirements.in", NEWEST_PYTHON[name])


def find_environment(name: str) -> Path:
    """Return the folder of a server's environment, which is installed first if it is missing or out of date.

    Raises:
        ProblemError: it cannot be installed; the problem says what to do.
    """
    folder, wanted = tools_folder() / "servers" / name, locked(name)
    stamp = folder / ".installed"

    def is_ready() -> bool:
        return stamp.exists() and stamp.read_text(encoding="utf-8") == wanted.fingerprint()

    if not is_ready():
        with one_at_a_time(tools_folder()):
            if not is_ready():
                environments.install(wanted, folder)
                stamp.write_text(wanted.fingerprint(), encoding="utf-8")
    return folder


def lock(name: str) -> None:
    """Resolve a server's requirements again and write its lock.

    What the project itself also uses gets the project's version, so that it is downloaded once.
    """
    environments.lock(locked(name), None if name in _UNLOCKED else CHECKOUT / "requirements.lock")

"""MLflow's servers in other versions than the project's own, each in an environment of its own in the homelab's cache.

`python -m tests.platform.mlflow_servers` resolves each `mlflow_locks/VERSION.in` again and writes its lock.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from orchestration.promotion.problems import ProblemError
from testbeds.common.environments import Locked, install, lock
from testbeds.homelab.cache import cached, key_of

_LOCKS = Path(__file__).parent / "mlflow_locks"
NEWEST_PYTHON: Mapping[str, int] = {"2.22.5": 13, "3.3.2": 13, "3.10.1": 14}
"""Each version with the minor version of the newest Python 3 that its lock has packages for."""


def locked_servers() -> tuple[Locked, ...]:
    """Return what each environment is installed from."""
    return tuple(
        Locked(f"MLflow server {version}", _LOCKS / f"{version}.in", newest)
        for version, newest in NEWEST_PYTHON.items()
    )


def python_of(version: str) -> Path:
    """Return the Python with a version of MLflow's server, which is installed first if it is missing.

    Raises:
        ProblemError: it cannot be installed; the problem says what to do.
    """
    (locked,) = (each for each in locked_servers() if each.requirements.stem == version)
    name = f"{version}-{key_of(locked.fingerprint())}"
    return cached("mlflow", name, lambda folder: install(locked, folder)) / "bin" / "python"


def main() -> int:
    try:
        for locked in locked_servers():
            lock(locked)
    except ProblemError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

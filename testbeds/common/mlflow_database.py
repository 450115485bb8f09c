"""MLflow's database as a new server lays it out, made once for each version of MLflow and copied from then on.

MLflow runs some sixty migrations to lay one out, which takes 4 s of a processor: most of the start of a server that has
none yet. `python -m testbeds.common.mlflow_database` makes the copy ahead.
"""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from orchestration.promotion.problems import Problem, ProblemError
from testbeds.common.tools import one_at_a_time, tools_folder

# The default experiment names this place for artifacts where the server hands them out itself (`--serve-artifacts`).
_LAY_OUT = """
import sys
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
SqlAlchemyStore(f"sqlite:///{sys.argv[1]}", "mlflow-artifacts:/")
"""


def lay_out_mlflow(database: Path) -> None:
    """Put an empty database there, for this environment's version of MLflow and a server with `--serve-artifacts`.

    Raises:
        ProblemError: MLflow does not lay it out.
    """
    shutil.copyfile(_empty(), database)


def _empty() -> Path:
    file = tools_folder() / f"mlflow-{version('mlflow')}.db"
    if not file.exists():
        with one_at_a_time(tools_folder()):
            if not file.exists():
                _make(file)
    return file


def _make(file: Path) -> None:
    """Let MLflow lay it out; it gets its name only once it is complete."""
    unfinished = file.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    settings = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [sys.executable, "-c", _LAY_OUT, str(unfinished)]
    settings["MLFLOW_DISABLE_TELEMETRY"] = "true"
    done = subprocess.run(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        found = f"exit code {done.returncode}:\n{done.stdout}"
        step = "Run `make setup` if MLflow is incomplete, and try again."
        raise ProblemError(Problem("MLflow's empty database", f"MLflow to lay it out in {unfinished}", found, step))
    unfinished.rename(file)


if __name__ == "__main__":
    print(f"MLflow's empty database: {_empty()}")

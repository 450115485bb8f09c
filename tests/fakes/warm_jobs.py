"""Jobs that say where and how they run, for the launcher of warm runs."""

import gc
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import dagster as dg
import numpy as np

TOLD = "WARM_JOBS_TELL"
"""The environment's name for the folder into which runs write what they are."""


@dg.op
def tell(context: dg.OpExecutionContext) -> None:
    """Write down the process, its numbers and what it was given."""
    print("said by the run")
    told = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "number": float(np.random.random()),
        "environment": sorted(os.environ),
        "imported": sorted(sys.modules),
        # What was there before the fork is frozen, and so none of the collector's objects.
        "imported_since": sorted(
            each.__name__
            for each in gc.get_objects()
            if isinstance(each, ModuleType) and sys.modules.get(each.__name__) is each
        ),
        "descriptors": descriptors(os.getpid()),
    }
    (Path(os.environ[TOLD]) / context.run_id).write_text(json.dumps(told), encoding="utf-8")


@dg.op
def wait(context: dg.OpExecutionContext) -> None:
    """Say that it is there, and wait until it may end; SIGINT ends it as a cancelled promotion."""
    there = Path(os.environ[TOLD]) / context.run_id
    there.touch()
    while not there.with_suffix(".go").exists():
        time.sleep(0.02)


def descriptors(pid: int) -> list[str]:
    """List what a process holds open; what has been closed meanwhile is left out."""
    held = list[str]()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            held.append(str(each.readlink()))
    return held


@dg.job(executor_def=dg.in_process_executor)
def quick() -> None:
    """Tell."""
    tell()


@dg.job(executor_def=dg.in_process_executor)
def slow() -> None:
    """Wait."""
    wait()


@dg.repository
def jobs() -> list[dg.JobDefinition]:
    """Both."""
    return [quick, slow]

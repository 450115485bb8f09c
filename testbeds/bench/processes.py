"""What the pipeline's own processes take: Dagster's, its runs and the companion, and nothing of the testbed."""

from collections.abc import Iterator
from pathlib import Path

import psutil


def processor_seconds(home: Path) -> float:
    """Return the processor time that the pipeline's processes have taken so far, in seconds.

    A process counts with those of its children that have ended, so that nothing is lost when a run ends.
    """
    total = 0.0
    for process in _of_the_pipeline(home):
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:  # it ended just now, and is counted with its parent from here on
            continue
    return total


def resident_bytes(home: Path) -> int:
    """Return the memory that the pipeline's processes hold, each page counted once (PSS), in bytes."""
    total = 0
    for process in _of_the_pipeline(home):
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total


def _of_the_pipeline(home: Path) -> Iterator[psutil.Process]:
    """Yield the processes that work on a DAGSTER_HOME."""
    for process in psutil.process_iter():
        try:
            is_ours = process.environ().get("DAGSTER_HOME") == str(home)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if is_ours:
            yield process

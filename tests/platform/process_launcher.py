"""Runs as dagster-k8s starts them, each by its own command, but as processes of this machine instead of pods."""

import os
import signal
import subprocess
import sys
from typing import Any

from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._core.storage.dagster_run import DagsterRun
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClass, ConfigurableClassData

PROCESS_TAG = "process"
"""The tag of a run with the id of its process."""


class ProcessRunLauncher(RunLauncher[Any], ConfigurableClass):
    """Starts `dagster api execute_run` for each run, in a session of its own, so that nobody's end is its end."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        super().__init__()  # type: ignore[no-untyped-call]

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "ProcessRunLauncher":
        return cls(inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        assert context.job_code_origin is not None
        arguments = ExecuteRunArgs(context.job_code_origin, run.run_id, self._instance.get_ref()).get_command_args()
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", *arguments[1:]],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._instance.add_run_tags(run.run_id, {PROCESS_TAG: str(process.pid)})

    def terminate(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        assert run is not None
        self._instance.report_run_canceling(run)
        os.kill(process_of(run), signal.SIGTERM)
        return True


def process_of(run: DagsterRun) -> int:
    """Return the process id of a run."""
    return int(run.tags[PROCESS_TAG])

"""The run launcher of Dagster that forks runs from a warm process; without one, Dagster's own starts them."""

import logging
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from dagster import DagsterInstance, DagsterRun
from dagster._config.config_schema import UserConfigSchema
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClassData, serialize_value

from orchestration.warm_runs.channel import (
    NoAnswerError,
    connected,
    environment_digest,
    hear,
    initial_environment,
    say,
)
from orchestration.warm_runs.worker import Worker

TAG = "incumbent/warm_run"
"""Of a run that was forked: its process."""
_ANSWER_SECONDS = 10.0
"""To fork takes some milliseconds, on a machine whose processors are busy a second."""
_RETRY_SECONDS = 300.0
"""How long no other process is started after one that could not import what it must, which takes 4 s of a processor."""
_log = logging.getLogger(__name__)


class WarmRunLauncher(DefaultRunLauncher):
    """Launches each run in a process that has imported everything; one line of `dagster.yaml` turns it on.

    `challenger_sensor` keeps that process, because it is evaluated where the settings are. A run for which there is
    none is started by Dagster's own launcher.
    """

    _told = ""
    """Why the last run was started cold; empty when it was not."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """There is nothing to configure."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Make the launcher that `dagster.yaml` names."""
        return cls(inst_data=inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Fork the run, or let Dagster start it.

        Raises:
            Exception: as Dagster's own launcher; or the run's process could not be noted or has ended, and was not
                told to go.
        """
        try:
            self._fork(context)
        except NoAnswerError as error:
            if str(error) != self._told:
                self._told = str(error)
                _log.warning(
                    "runs start without a warm process, which takes some seconds longer: %s. "
                    "challenger_sensor starts that process while it is on.",
                    error,
                )
            super().launch_run(context)
        else:
            self._told = ""

    def _fork(self, context: LaunchRunContext) -> None:
        """Raise `NoAnswerError` only as long as the run cannot have begun."""
        run, origin = context.dagster_run, context.job_code_origin
        if origin is None or run.remote_job_origin is None:
            raise NoAnswerError("Dagster does not know where the run's code is")
        arguments = ExecuteRunArgs(origin, run.run_id, self._instance.get_ref())
        home = Path(self._instance.root_directory)
        with connected(home, run.remote_job_origin.location_name, _ANSWER_SECONDS) as connection:
            say(connection, {"op": "run", "arguments": serialize_value(arguments)})
            answer = hear(connection)
            if "worker" not in answer:
                raise NoAnswerError(str(answer.get("refused")))
            self._instance.add_run_tags(run.run_id, {TAG: str(answer["worker"])})
            # Whatever fails from here on fails the launch: Dagster calls the run failed, and nobody starts it again.
            connection.sendall(b'{"op": "go"}\n')
        self._run_ids.add(run.run_id)

    def terminate(self, run_id: str) -> bool:
        """Interrupt a run, as Dagster's own launcher does; False when it has ended."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or TAG not in run.tags:
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call] # Dagster's own has no types
        if run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        worker = Worker.read(run.tags[TAG])
        if worker.is_here and worker.interrupt():
            return True
        where = "has ended" if worker.is_here else f"is on {worker.host}, and only from there can it be interrupted"
        self._instance.report_engine_event(f"The process of the run {where}.", run, cls=self.__class__)
        return False

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether the processes of runs are looked after: the warm process, which does so too, may have ended."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Say whether a run's process is there. Those of Dagster's own launcher are looked after by the code server."""
        if TAG not in run.tags:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its code server looks after it")
        worker = Worker.read(run.tags[TAG])
        if not worker.is_here:
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"it is on {worker.host}")
        if worker.is_alive:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"its process {worker.pid} has ended")


class _Start:
    """The warm process that this process started last."""

    process: "subprocess.Popen[bytes] | None" = None
    at = 0.0


def keep_warm(instance: DagsterInstance, location: str) -> None:
    """See to it that a code location has a warm process with this process's settings, if runs are forked from one.

    It is started beside this one, and is there some seconds later. It ends by itself when nobody has asked for it for
    a while, and when its code or settings are no longer those that count.

    Args:
        instance: whose `dagster.yaml` says whether runs are forked. Another launcher is not made here, because it may
            need what only the daemon has, such as an account in a cluster.
        location: the code location's name.
    """
    launcher = instance.get_ref().run_launcher_data
    if launcher is None or (launcher.module_name, launcher.class_name) != (__name__, WarmRunLauncher.__name__):
        return
    home, environment = Path(instance.root_directory), initial_environment()
    try:
        with connected(home, location, _ANSWER_SECONDS) as connection:
            say(connection, {"op": "here", "environment": environment_digest(environment)})
            if hear(connection).get("stays"):
                return
    except NoAnswerError:
        pass
    if _Start.process is not None:
        code = _Start.process.poll()
        if code is None or (code != 0 and time.monotonic() < _Start.at + _RETRY_SECONDS):
            return
    command = [sys.executable, "-m", "orchestration.warm_runs.parent", str(home), location]
    _Start.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)  # noqa: S603 - ourselves
    _Start.at = time.monotonic()

"""Runs that are forked from a warm process: a real one, with real runs of small jobs on a Dagster home of its own."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.code_pointer import CodePointer
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.launcher.base import LaunchRunContext, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import serialize_value

import orchestration
from orchestration.warm_runs import channel
from orchestration.warm_runs.launcher import TAG, WarmRunLauncher, _Start, keep_warm
from orchestration.warm_runs.worker import Worker
from testbeds.common.processes import wait_until
from testbeds.common.tools import CHECKOUT
from tests.fakes import warm_jobs

LOCATION = "a location/of any name"
SECONDS = 120.0
_PIPELINE = Path(orchestration.__file__).parents[1]
"""Where the tested code is: that of a trial is a copy."""


class Warm:
    """A Dagster home whose runs are forked, and the process that forks them."""

    def __init__(self, home: Path, told: Path) -> None:
        self.home, self.told = home, told
        path = f"{_PIPELINE}{os.pathsep}{CHECKOUT}"
        self.environment = {**os.environ, warm_jobs.TOLD: str(told), "PYTHONPATH": path}
        self.process: subprocess.Popen[bytes] | None = None
        self.instance = dg.DagsterInstance.from_config(str(home))
        self.instance.get_runs_count()

    def start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "orchestration.warm_runs.parent", str(self.home), LOCATION]
        return subprocess.Popen(command, env=self.environment, cwd=_PIPELINE)

    def keep(self) -> int:
        """Start the process unless it is there, and return its id once it answers."""
        if self.process is None or self.process.poll() is not None:
            self.process = self.start()
        wait_until(lambda: self.ask("here").get("stays"), SECONDS, "the warm process answers")
        return self.process.pid

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def ask(self, op: str, **more: object) -> Mapping[str, object]:
        try:
            with channel.connected(self.home, LOCATION, 30) as connection:
                channel.say(connection, {"op": op, **more})
                return channel.hear(connection)
        except channel.NoAnswerError:
            return {}

    def run(self, job: str) -> dg.DagsterRun:
        """Make a run as the daemon does for a request of a sensor."""
        repository = ReconstructableRepository(CodePointer.from_module(warm_jobs.__name__, "jobs", str(CHECKOUT)))
        origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), "jobs")
        return self.instance.create_run_for_job(
            getattr(warm_jobs, job),
            remote_job_origin=RemoteJobOrigin(origin, job),
            job_code_origin=repository.get_reconstructable_job(job).get_python_origin(),
        )

    def launch(self, job: str) -> str:
        run = self.run(job)
        self.instance.launch_run(run.run_id, None)  # type: ignore[arg-type] # only Dagster's own launcher needs a workspace
        return run.run_id

    @property
    def launcher(self) -> WarmRunLauncher:
        launcher = self.instance.run_launcher
        assert isinstance(launcher, WarmRunLauncher)
        return launcher

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def ends(self, run_id: str) -> dg.DagsterRunStatus:
        def end() -> dg.DagsterRunStatus | None:
            run = self.instance.get_run_by_id(run_id)
            return run.status if run is not None and run.is_finished else None

        return wait_until(end, SECONDS, "the run ends")

    def told_by(self, run_id: str) -> Any:
        assert self.ends(run_id) is dg.DagsterRunStatus.SUCCESS
        return json.loads((self.told / run_id).read_text(encoding="utf-8"))

    def begins(self, run_id: str) -> Worker:
        wait_until((self.told / run_id).exists, SECONDS, "the run is at work")
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return Worker.read(run.tags[TAG])

    def let_end(self, run_id: str) -> None:
        (self.told / f"{run_id}.go").touch()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    home = tmp_path_factory.mktemp("home" + 100 * "-")  # an address of a socket has 107 bytes at most
    (home / "dagster.yaml").write_text((CHECKOUT / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    warm = Warm(home, tmp_path_factory.mktemp("told"))
    try:
        yield warm
    finally:
        if warm.process is not None:
            warm.kill()
        warm.instance.dispose()


@pytest.fixture
def warm(kept: Warm) -> Warm:
    kept.keep()
    return kept


def test_a_run_is_forked_with_everything_imported(warm: Warm) -> None:
    """It is a child of the warm process, has its settings and none of its sockets, and imports no library again."""
    parent = warm.keep()
    sockets = {held for held in warm_jobs.descriptors(parent) if "socket" in held or "warm_runs" in held}
    told = warm.told_by(warm.launch("quick"))
    assert told["parent"] == parent
    assert {"mlflow", "kubernetes.client", "orchestration.definitions"} <= set(told["imported"])
    assert {name.partition(".")[0] for name in told["imported_since"]} <= {"tests"}, told["imported_since"]
    assert "OPENBLAS_NUM_THREADS" not in set(told["environment"]) - set(warm.environment)
    assert len(sockets) >= 3, "the listener, the lock, and what signals are noticed by"
    assert not sockets & set(told["descriptors"])


def test_runs_draw_numbers_of_their_own(warm: Warm) -> None:
    """What was drawn from before the fork would repeat in each run."""
    first, second = (warm.told_by(warm.launch("quick")) for _ in range(2))
    assert first["number"] != second["number"]


def test_what_a_run_prints_is_kept(warm: Warm) -> None:
    """Dagster shows it beside the run, as for a run that it starts itself."""
    run_id = warm.launch("quick")
    warm.ends(run_id)
    (log,) = warm.instance.all_logs(run_id, of_type=dg.DagsterEventType.LOGS_CAPTURED)
    key = [run_id, "compute_logs", log.get_dagster_event().logs_captured_data.file_key]
    assert b"said by the run" in (warm.instance.compute_log_manager.get_log_data(key).stdout or b"")


def test_a_killed_run_is_reported_as_failed(warm: Warm) -> None:
    """The warm process notices, and says by which signal it ended."""
    run_id = warm.launch("slow")
    os.kill(warm.begins(run_id).pid, signal.SIGKILL)
    assert warm.ends(run_id) is dg.DagsterRunStatus.FAILURE
    engine = warm.instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    assert any("SIGKILL" in str(log.get_dagster_event().message) for log in engine)


def test_a_cancelled_run_is_interrupted(warm: Warm) -> None:
    """Terminating it interrupts what it does, and Dagster calls it cancelled; a second time there is none to end."""
    run_id = warm.launch("slow")
    warm.begins(run_id)
    assert warm.launcher.terminate(run_id)
    assert warm.ends(run_id) is dg.DagsterRunStatus.CANCELED
    assert not warm.launcher.terminate(run_id)


def test_a_launcher_that_ends_at_once_starts_no_run(warm: Warm) -> None:
    """A run that was not told to go executes nothing, so another launcher may start it."""
    run = warm.run("quick")
    assert run.job_code_origin is not None
    arguments = serialize_value(ExecuteRunArgs(run.job_code_origin, run.run_id, warm.instance.get_ref()))
    worker = Worker.read(str(warm.ask("run", arguments=arguments)["worker"]))
    wait_until(lambda: not worker.is_alive, SECONDS, "the forked process has ended")
    assert warm.status(run.run_id) is dg.DagsterRunStatus.NOT_STARTED


def test_a_second_warm_process_ends_at_once(warm: Warm) -> None:
    """Two code servers may look after the same location: one process serves it."""
    assert warm.start().wait(SECONDS) == 0
    assert warm.ask("here") == {"stays": True}


def test_only_the_owner_may_start_runs(warm: Warm) -> None:
    """Neither the folder nor the socket is open to other users."""
    folder = channel.folder_of(warm.home)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (folder, folder / channel.name_of(LOCATION))}
    assert modes == {"warm_runs": 0o700, channel.name_of(LOCATION): 0o600}


def test_runs_outlive_the_warm_process(warm: Warm) -> None:
    """Its end, however sudden, ends no run; they are cancelled as before, and run monitoring sees which have ended."""
    stays, cancelled, killed = (warm.launch("slow") for _ in range(3))
    workers = {run_id: warm.begins(run_id) for run_id in (stays, cancelled, killed)}
    warm.kill()
    assert warm.launcher.terminate(cancelled)
    assert warm.ends(cancelled) is dg.DagsterRunStatus.CANCELED
    os.kill(workers[killed].pid, signal.SIGKILL)
    wait_until(lambda: not workers[killed].is_alive, SECONDS, "the killed run has ended")
    states = {run_id: warm.instance.get_run_by_id(run_id) for run_id in (stays, killed)}
    health = {run_id: warm.launcher.check_run_worker_health(run).status for run_id, run in states.items() if run}
    assert health == {stays: WorkerStatus.RUNNING, killed: WorkerStatus.FAILED}
    warm.let_end(stays)
    assert warm.ends(stays) is dg.DagsterRunStatus.SUCCESS


def test_without_a_warm_process_dagster_starts_runs(
    kept: Warm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each run is handed to Dagster's own launcher, and one warning says why, until there is a warm process again."""
    if kept.process is not None:
        kept.kill()
    started = list[str]()

    def launch_run(_launcher: DefaultRunLauncher, context: LaunchRunContext) -> None:
        started.append(context.dagster_run.run_id)

    monkeypatch.setattr(DefaultRunLauncher, "launch_run", launch_run)
    with caplog.at_level(logging.WARNING):
        cold = [kept.launch("quick") for _ in range(2)]
    assert started == cold
    assert len([record for record in caplog.records if "without a warm process" in record.getMessage()]) == 1
    kept.keep()  # where the killed one left its socket
    kept.told_by(kept.launch("quick"))
    assert started == cold


def test_other_settings_end_the_warm_process_and_not_its_runs(warm: Warm) -> None:
    """Whoever asks with another environment than its own starts a new one; a run goes on with what it began with."""
    run_id = warm.launch("slow")
    warm.begins(run_id)
    assert "refused" in warm.ask("here", environment="another")
    assert warm.process is not None
    assert warm.process.wait(SECONDS) == 0
    warm.let_end(run_id)
    assert warm.ends(run_id) is dg.DagsterRunStatus.SUCCESS


def test_where_runs_are_launched_otherwise_no_warm_process_is_kept(tmp_path: Path) -> None:
    """As on Kubernetes: the tick starts none, and does not make the launcher, which perhaps only a daemon can."""
    elsewhere = "run_launcher: {module: launcher.of.another.machine, class: Launcher}\n"
    (tmp_path / "dagster.yaml").write_text(elsewhere, encoding="utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        keep_warm(instance, LOCATION)
    assert _Start.process is None


def test_another_process_of_the_same_id_is_not_interrupted() -> None:
    """A process id is used again, and only the time of its start tells whose it is; one that has ended is none."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        worker = Worker(Worker.this().host, other.pid, "1")
        assert not worker.is_alive
        assert not worker.interrupt()
        assert other.poll() is None
        there = Worker(
            worker.host, other.pid, Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[19]
        )
        assert there.is_alive
        other.communicate(b"\n")
        assert not there.is_alive
        assert not there.interrupt()
    finally:
        other.kill()

"""The watch on services during a wait: it shortens logged errors to their cause, and notices services that end."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbeds.common.processes import Processes, Service, wait_until
from testbeds.common.service_watch import ServiceWatch

_FRAMES = '  File "/checkout/dagster/_grpc/client.py", line 210, in _query\n    return self._get_response(method)\n'
# What Dagster's daemon logs when it may not write to /dev/shm, with fewer frames.
CANNOT_START = f"""\
\x1b[32m2026-11-26 05:26:18 +0000\x1b[0m - dagster.daemon.QueuedRunCoordinatorDaemon - \x1b[34mERROR\x1b[0m - \
\x1b[31mCaught an error dequeuing run {{run}}\x1b[0m
Traceback (most recent call last):
{_FRAMES}           ^^^^^^^^^^^^^^^^^^^^^^^^^^
grpc._channel._InactiveRpcError: <_InactiveRpcError of RPC that terminated with:
\tstatus = StatusCode.UNKNOWN
\tdetails = "Exception calling application: [Errno 13] Permission denied"
>

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
{_FRAMES}dagster._core.errors.DagsterUserCodeUnreachableError: Could not reach user code server.
"""
CAUSE = """\
grpc._channel._InactiveRpcError: <_InactiveRpcError of RPC that terminated with:
\tstatus = StatusCode.UNKNOWN
\tdetails = "Exception calling application: [Errno 13] Permission denied"
dagster._core.errors.DagsterUserCodeUnreachableError: Could not reach user code server."""
ORDINARY = """\
\x1b[32m2026-11-26 05:26:27 +0000\x1b[0m - dagster.daemon.SensorDaemon - \x1b[34mINFO\x1b[0m - no ERROR here
time="2026-11-26T05:24:58Z" level=error msg="response completed with error" http.response.status=404
05:24:57 application iris-classifier: sync to 6172f3dfda33: failed
2026-11-26 05:44:17 +0000 - dagster - ERROR - promote - ef7d - 98 - rollout - STEP_FAILURE - Execution of step failed.

dagster._core.definitions.events.Failure: refused: metric accuracy: expected >= 0.9, found 0.8

Stack Trace:
  File "/checkout/dagster/_core/execution/plan/execute_plan.py", line 243, in dagster_event_sequence_for_step
    yield from check.generator(step_events)
2026-11-26 05:44:17 +0000 - dagster - ERROR - promote - ef7d - serving_model - Dependencies for step serving_model \
were not executed: ['rollout']. Not executing.
INFO:     127.0.0.1:44000 - "GET /health HTTP/1.1" 200 OK
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path / "a state")
    yield started
    started.stop_all()


def start(processes: Processes, name: str, program: str = "", *, ends_by_itself: bool = False) -> Service:
    """Start a service that runs the program, or by default runs until it is stopped."""
    source = program or "import time; time.sleep(600)"
    return processes.start(name, [sys.executable, "-c", source], ends_by_itself=ends_by_itself)


def log(service: Service, text: str) -> None:
    with service.log.open("a", encoding="utf-8") as file:
        file.write(text)


def test_an_error_is_shortened_to_its_cause(processes: Processes) -> None:
    """The watch leaves out the stack, but keeps the exception that names the cause even if it is not the last one."""
    daemon = start(processes, "dagster-daemon")
    watch = ServiceWatch(processes)
    log(daemon, ORDINARY + CANNOT_START.format(run="b") + ORDINARY)
    assert watch.new_errors() == [f"dagster-daemon logs an error: {CAUSE} ({daemon.log})"]


def test_a_cause_is_shown_once_and_counted_in_the_report(processes: Processes) -> None:
    """A cause that is logged again and again is shown once as new, and the report says how often it was logged."""
    daemon = start(processes, "dagster-daemon")
    watch = ServiceWatch(processes)
    log(daemon, CANNOT_START.format(run="b"))
    assert len(watch.new_errors()) == 1
    log(daemon, CANNOT_START.format(run="c"))
    assert watch.new_errors() == []
    first, *lines = watch.report().splitlines()
    assert first == f"dagster-daemon logged 2 errors; the last, in {daemon.log}:"
    assert lines[0].endswith("ERROR - Caught an error dequeuing run c")
    assert "\n".join(line.removeprefix("    ") for line in lines[1:]) == CAUSE


def test_lines_that_are_not_a_services_errors_are_not_reported(processes: Processes) -> None:
    """Ordinary records, the registry's answers about missing images and the verdicts of stages are not errors."""
    watch = ServiceWatch(processes)
    log(start(processes, "registry"), ORDINARY)
    assert watch.new_errors() == []
    assert watch.report() == "No service has ended, and none has logged an error."


def test_errors_from_before_the_watch_do_not_count(processes: Processes) -> None:
    """A watch ignores errors from before it began, but counts the whole log of a service that is started later."""
    daemon = start(processes, "dagster-daemon")
    log(daemon, CANNOT_START.format(run="a"))
    watch = ServiceWatch(processes)
    log(daemon, ORDINARY)
    assert watch.new_errors() == []
    processes.stop(daemon)
    log(start(processes, "dagster-daemon"), "panic: out of memory\n")
    assert watch.new_errors() == [f"dagster-daemon logs an error: panic: out of memory ({daemon.log})"]


def test_an_incomplete_line_is_left_for_later(processes: Processes) -> None:
    """A line that is still being written is not shown until it is complete."""
    daemon = start(processes, "dagster-daemon")
    watch = ServiceWatch(processes)
    log(daemon, "ERROR: the disk is")
    assert watch.new_errors() == []
    log(daemon, " full\n")
    assert watch.new_errors() == [f"dagster-daemon logs an error: ERROR: the disk is full ({daemon.log})"]


def test_a_service_that_has_ended_is_noticed(processes: Processes) -> None:
    """The report has the exit code, the log's path and its last lines, even if the service logged no error."""
    watch = ServiceWatch(processes)
    assert not watch.has_failed()
    mlflow = start(processes, "mlflow", "print('no space left'); raise SystemExit(3)")
    wait_until(watch.has_failed, 60, "mlflow has ended")
    assert watch.report() == f"mlflow has ended with exit code 3; its log ({mlflow.log}) ends:\n    no space left"


def test_an_uncaught_exception_is_an_error_without_a_level(processes: Processes) -> None:
    """The traceback of an uncaught Python exception counts as an error, although it has no level."""
    watch = ServiceWatch(processes)
    broken = start(processes, "broken", "print('begins', flush=True); open('/nowhere/at/all')")
    wait_until(watch.has_failed, 60, "it has ended")
    cause = "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/at/all'"
    assert watch.new_errors() == [f"broken logs an error: {cause} ({broken.log})"]


def test_a_program_that_is_done_has_not_failed(processes: Processes) -> None:
    """A program that ends by itself fails only by its exit code, while a daemon that ends has failed even with 0."""
    watch = ServiceWatch(processes)
    training = start(processes, "training", "pass", ends_by_itself=True)
    wait_until(lambda: training.ended is not None, 60, "training has ended")
    assert not watch.has_failed()
    failed = start(processes, "more training", "raise SystemExit(1)", ends_by_itself=True)
    wait_until(lambda: failed.failed, 60, "training has failed")
    processes.stop(failed)
    daemon = start(processes, "daemon", "pass")
    wait_until(lambda: daemon.failed, 60, "the daemon has ended")
    assert watch.has_failed()

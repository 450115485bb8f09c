"""Whatever ends the stand-in, nothing that it started goes on."""

import os
import signal

import psutil
import pytest

from tests.sandbox.cluster.conftest import Running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_running(running: Running, number: signal.Signals) -> None:
    """A stand-in that is asked to end, or killed, takes all its processes along."""
    children = psutil.Process(running.cluster.process.pid).children(recursive=True)
    assert len(children) >= 3  # the parent of the pods, and the pods
    os.kill(running.cluster.process.pid, number)
    _, alive = psutil.wait_procs(children, timeout=10)
    running.cluster.process.wait(10)
    assert alive == []

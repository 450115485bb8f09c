"""However the stand-in ends, no process that it started is left."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from testbeds.sandbox.cluster.handle import start_cluster
from tests.sandbox.cluster.conftest import POD_COMMAND, Platform, Running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_running(running: Running, number: signal.Signals) -> None:
    """When the stand-in is stopped or killed, all its processes end too."""
    children = psutil.Process(running.cluster.process.pid).children(recursive=True)
    assert len(children) >= 3  # the parent of the pods, and the pods
    os.kill(running.cluster.process.pid, number)
    _, alive = psutil.wait_procs(children, timeout=10)
    running.cluster.process.wait(10)
    assert alive == []


def test_a_killed_stand_in_starts_again_in_the_same_folder(platform: Platform) -> None:
    """What a killed stand-in left behind, even the lock of a killed fetch, does not stop the next one."""

    def start() -> None:
        mirrors = {"ghcr.io": platform.images.url}
        url = platform.bare.as_uri()
        with start_cluster(platform.state, url, oci_mirrors=mirrors, pod_command=POD_COMMAND) as cluster:
            cluster.wait_for("pods", lambda: list((platform.state / "pods").glob("*/*.log")))
            cluster.process.kill()

    start()
    (platform.state / "repository.git" / "shallow.lock").touch()
    (platform.state / "repository.git" / "refs" / "sandbox" / "target.lock").touch()
    start()


def test_a_repository_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Without a readable repository the stand-in ends at once, and its error includes Git's message."""
    missing = (tmp_path / "missing.git").as_uri()
    with (
        pytest.raises(AssertionError, match="cluster cannot start: `git fetch` failed"),
        start_cluster(tmp_path / "state", missing, oci_mirrors={}, pod_command=POD_COMMAND),
    ):
        pass

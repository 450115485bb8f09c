"""The homelab itself: it comes up again after being killed, and goes down without a trace. These tests come last."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from testbeds.common.services import answers
from testbeds.homelab import settings
from testbeds.homelab.docker import daemon_answers
from testbeds.homelab.environment import HomelabEnvironment
from testbeds.homelab.homelab import Homelab
from testbeds.homelab.offline import leftovers
from testbeds.homelab.waiting import applications

pytestmark = pytest.mark.timeout(1800)
_KINDS = {"container", "firewall rule", "interface", "mount", "network", "process"}


def test_a_killed_homelab_comes_up_again_and_goes_down_without_a_trace(
    environment: HomelabEnvironment, pytestconfig: pytest.Config
) -> None:
    """After SIGKILL of all its processes, `up` makes a new homelab that serves, and `down` leaves nothing behind."""
    homelab = environment.homelab
    environment.stop_client()
    environment.stop_dagster()
    assert {kind for kind, _ in traces(homelab)} >= _KINDS
    kill_everything(homelab)
    again = Homelab.up(print, homelab.state)
    assert answers(f"{again.service_url}/health")
    assert all(application.well for application in applications(again.gcp))
    Homelab.down(print, homelab.state)
    assert traces(homelab) == []
    if pytestconfig.getoption("keep_homelab"):
        Homelab.up(print, homelab.state)


def kill_everything(homelab: Homelab) -> None:
    """Send SIGKILL to the homelab's Docker daemon and all below it, or kill its containers on the user's own daemon."""
    processes = leftovers.processes()
    for process in processes:
        with suppress(ProcessLookupError):  # it died with its container's first process
            os.kill(process, signal.SIGKILL)
    if not processes:
        homelab.docker.run("kill", *_listed(homelab, "ps", "{{.Names}}"))


def traces(homelab: Homelab) -> list[tuple[str, str]]:
    """Return the kind and the name of everything on this machine that belongs to a homelab."""
    traces: list[tuple[str, str]] = []
    if daemon_answers(homelab.docker.program, homelab.docker.settings):
        traces += [("container", name) for name in _listed(homelab, "ps", "{{.Names}}", "--all")]
        traces += [("network", name) for name in _listed(homelab, "network", "{{.Name}}")]
    traces += [("process", str(process)) for process in leftovers.processes()]
    traces += [("interface", name) for name in os.listdir("/sys/class/net") if name == settings.BRIDGE]  # noqa: PTH208
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    traces += [("mount", line.split()[1]) for line in mounts if "homelab" in line]
    if iptables := shutil.which("iptables-save"):
        rules = subprocess.run([iptables], check=True, capture_output=True, text=True).stdout.splitlines()
        traces += [("firewall rule", line) for line in rules if settings.BRIDGE in line or str(settings.SUBNET) in line]
    return traces


def _listed(homelab: Homelab, what: str, template: str, *options: str) -> list[str]:
    """Return the names of the homelab's containers (`ps`) or networks (`network`) in Docker's lists."""
    command = (what,) if what == "ps" else (what, "ls")
    names = homelab.docker.run(*command, *options, "--format", template).split()
    return [name for name in names if name.startswith(("k3d-", "homelab"))]

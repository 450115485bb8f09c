"""The homelab's own life: it comes up again whatever killed it, and goes without a trace. The last of all tests."""

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


def test_killed_as_a_whole_it_comes_up_again_and_then_goes_without_a_trace(
    environment: HomelabEnvironment, pytestconfig: pytest.Config
) -> None:
    """After SIGKILL of every process of it `up` makes a new one that serves; `down` leaves nothing of any kind."""
    homelab = environment.homelab
    environment.stop_client()
    environment.stop_dagster()
    assert {kind for kind, _ in traces(homelab)} >= _KINDS
    kill_everything(homelab)
    again = Homelab.up(print, homelab.state)
    assert answers(f"{again.service_url}/health")
    assert all(one.well for one in applications(again.gcp))
    Homelab.down(print, homelab.state)
    assert traces(homelab) == []
    if pytestconfig.getoption("keep_homelab"):
        Homelab.up(print, homelab.state)


def kill_everything(homelab: Homelab) -> None:
    """SIGKILL of the daemon and all that runs below it; of a user's own daemon only what is the homelab's."""
    ours = leftovers.processes()
    for process in ours:
        with suppress(ProcessLookupError):  # it died with its container's first process
            os.kill(process, signal.SIGKILL)
    if not ours:
        homelab.docker.run("kill", *_listed(homelab, "ps", "{{.Names}}"))


def traces(homelab: Homelab) -> list[tuple[str, str]]:
    """What of a homelab is to be seen on this machine: its kind, and its name."""
    found: list[tuple[str, str]] = []
    if daemon_answers(homelab.docker.program, homelab.docker.settings):
        found += [("container", name) for name in _listed(homelab, "ps", "{{.Names}}", "--all")]
        found += [("network", name) for name in _listed(homelab, "network", "{{.Name}}")]
    found += [("process", str(process)) for process in leftovers.processes()]
    found += [("interface", name) for name in os.listdir("/sys/class/net") if name == settings.BRIDGE]  # noqa: PTH208
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    found += [("mount", line.split()[1]) for line in mounts if "homelab" in line]
    if iptables := shutil.which("iptables-save"):
        rules = subprocess.run([iptables], check=True, capture_output=True, text=True).stdout.splitlines()
        found += [("firewall rule", line) for line in rules if settings.BRIDGE in line or str(settings.SUBNET) in line]
    return found


def _listed(homelab: Homelab, what: str, name: str, *options: str) -> list[str]:
    """The homelab's containers or networks, as Docker knows them."""
    command = (what,) if what == "ps" else (what, "ls")
    names = homelab.docker.run(*command, *options, "--format", name).split()
    return [one for one in names if one.startswith(("k3d-", "homelab"))]

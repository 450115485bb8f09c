"""A Docker daemon of the homelab's own, for a machine where none runs.

Its images stay in the cache; everything else is in one folder under /run, since a machine has at most one such daemon:
the homelab's address can exist only once. Everything that the daemon starts belongs to one control group, so that what
a killed daemon leaves can be found (`leftovers`).
"""

import json
import os
import signal
import subprocess
from pathlib import Path

from testbeds.common.guardian import MARK
from testbeds.common.processes import Service, wait_until
from testbeds.homelab.cache import cache_folder
from testbeds.homelab.docker import Docker, daemon_answers
from testbeds.homelab.offline import leftovers
from testbeds.homelab.progress import Say

DOCKER = Path("/usr/bin/docker")
SOCKET = leftovers.RUN / "docker.sock"
SETTINGS = {"DOCKER_HOST": f"unix://{SOCKET}", "DOCKER_SOCK": str(SOCKET)}
"""Environment variables by which `docker` finds the daemon, and `k3d`, which also needs the socket."""

_PROCESSOR_SHARE = {"cpu.shares": "16384", "cpu.weight": "1600"}
"""How much of busy processors the homelab gets, in control groups of version 1 and 2: 16 times the default.

It is one group with both clusters in it, beside which every other session of a machine may count as one, too.
"""
_RUNTIME = Path(__file__).with_name("runc-wrapper")
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0


def runs() -> bool:
    """Check that such a daemon exists and answers."""
    return SOCKET.exists() and daemon_answers(DOCKER, SETTINGS)


def start(say: Say) -> None:
    """Start the daemon unless it is running; what a killed daemon left is removed first.

    Raises:
        ProblemError: the daemon does not answer; with its log's last lines.
    """
    if runs():
        return
    leftovers.clear()
    leftovers.remember()
    _claim_processors()
    configuration = leftovers.RUN / "daemon.json"
    configuration.write_text(json.dumps(_configuration(), indent=2), encoding="utf-8")
    log = leftovers.RUN / "dockerd.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            # The shell enters the control group before it becomes the daemon, so that nothing starts outside the group.
            ["sh", "-c", 'echo $$ >"$0" && exec /usr/sbin/dockerd --config-file "$1"', _own_group(), configuration],
            env={name: value for name, value in os.environ.items() if name != MARK},  # it outlives its starter
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    service = Service("dockerd", process, log)
    wait_until(lambda: daemon_answers(DOCKER, SETTINGS), _START_SECONDS, "a Docker daemon that answers", service)
    say(f"Docker daemon: process {process.pid}, {SOCKET}")


def stop(say: Say) -> None:
    """End the daemon and everything that it runs, and undo what it changed on the machine."""
    if not runs() and any((_data() / "containers").glob("*")):
        start(say)  # it was killed, and only a daemon can remove its containers
    if runs():
        _remove_all(Docker(DOCKER, SETTINGS))
        daemon = int((leftovers.RUN / "docker.pid").read_text(encoding="utf-8"))
        os.kill(daemon, signal.SIGTERM)
        wait_until(lambda: not leftovers.is_alive(daemon), _STOP_SECONDS, "the end of the Docker daemon")
        say("Docker daemon: ended")
    leftovers.clear()


def _remove_all(docker: Docker) -> None:
    containers = docker.run("ps", "--all", "--quiet").split()
    if containers:
        docker.run("rm", "--force", "--volumes", *containers)
    docker.run("network", "prune", "--force")
    docker.run("volume", "prune", "--force")
    docker.run("image", "prune", "--force")  # images whose names other images have taken


def _own_group() -> Path:
    """Make the daemon's control group, and return the file that lists the group's processes."""
    root = leftovers.control_group_roots()[0]
    group = root / leftovers.GROUP / "daemon"
    group.mkdir(parents=True, exist_ok=True)
    return group / "cgroup.procs"


def _claim_processors() -> None:
    for root in leftovers.control_group_roots():
        group = root / leftovers.GROUP
        if (root / "cpu.stat").exists():
            group.mkdir(exist_ok=True)
        for name, share in _PROCESSOR_SHARE.items():
            if (group / name).exists():
                (group / name).write_text(share, encoding="utf-8")


def _data() -> Path:
    return cache_folder() / "docker"


def _configuration() -> dict[str, object]:
    return {
        "hosts": [SETTINGS["DOCKER_HOST"]],
        "data-root": str(_data()),
        "exec-root": str(leftovers.RUN / "exec"),
        "pidfile": str(leftovers.RUN / "docker.pid"),
        "bridge": "none",  # the homelab has its own network
        "cgroup-parent": f"/{leftovers.GROUP}",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "default-runtime": "homelab",
        "runtimes": {"homelab": {"path": str(_RUNTIME)}},
        "oom-score-adjust": 0,  # a better score than other processes' takes CAP_SYS_RESOURCE
        "log-opts": {"max-size": "10m", "max-file": "2"},
    }

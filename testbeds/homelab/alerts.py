"""Where alerts end: containers beside the clusters that keep Alertmanager's notifications and the dispatcher's runs."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap.kubectl import Kubectl
from bootstrap.objects import read_secret
from bootstrap.secrets import GITHUB, MONITORING, WEBHOOK
from testbeds.common import github_server
from testbeds.homelab import receiver, settings
from testbeds.homelab.docker import Docker

GITHUB_HEALTH_URL = f"{settings.GITHUB_URL}{github_server.VERSIONS_PATH}"
HEALTH_URL = f"{settings.RECEIVER_URL}{receiver.HEALTH_PATH}"


@dataclass(frozen=True)
class Alert:
    """One alert of a notification that came with the right token."""

    at: float
    status: str
    """`firing` or `resolved`."""
    labels: Mapping[str, str]


@dataclass(frozen=True)
class _Container:
    """A program of one file that listens at an address of the homelab's network."""

    name: str
    address: str
    port: int
    program: Path
    log: Path
    options: tuple[str, ...] = ()


def start_receiver(docker: Docker, gcp: Kubectl, state: Path) -> None:
    """Run the receiver with the token that was made in the cluster for Alertmanager."""
    log_file(state).parent.mkdir(exist_ok=True)
    container = _Container(
        settings.RECEIVER,
        settings.RECEIVER_ADDRESS,
        settings.RECEIVER_PORT,
        Path(receiver.__file__),
        log_file(state),
    )
    _start(docker, container, state / "webhook-token", read_secret(gcp, MONITORING, WEBHOOK)["token"])


def restart_receiver(docker: Docker, gcp: Kubectl, state: Path) -> None:
    """Run the receiver with the token of a new control plane; what arrived before is kept."""
    docker.run("rm", "--force", settings.RECEIVER)
    start_receiver(docker, gcp, state)


def start_github(docker: Docker, gcp: Kubectl, state: Path) -> None:
    """Run the stand-in for GitHub, after the receiver, with the token that the dispatcher has."""
    container = _Container(
        settings.GITHUB,
        settings.GITHUB_ADDRESS,
        settings.GITHUB_PORT,
        Path(github_server.__file__),
        dispatches_file(state),
        (f"--repository={settings.GITHUB_REPOSITORY}", f"--ref={settings.OWNER.branch}"),
    )
    _start(docker, container, github_token_file(state), read_secret(gcp, MONITORING, GITHUB)["token"])


def _start(docker: Docker, container: _Container, token_file: Path, token: str) -> None:
    token_file.touch(mode=0o600)
    token_file.write_text(token, encoding="utf-8")
    docker.run(
        "run",
        "--detach",
        f"--name={container.name}",
        f"--network={settings.NETWORK}",
        f"--ip={container.address}",
        f"--publish={settings.ADDRESS}:{container.port}:{container.port}",
        "--restart=unless-stopped",
        f"--user={os.getuid()}:{os.getgid()}",  # the owner of the files
        f"--volume={container.log.parent}:/srv/alerts",
        f"--volume={token_file}:/srv/token:ro",
        f"--volume={container.program.resolve()}:/srv/program.py:ro",
        settings.PYTHON_IMAGE,
        "python3",
        "/srv/program.py",
        "--host=0.0.0.0",
        f"--port={container.port}",
        "--token-file=/srv/token",
        f"--log=/srv/alerts/{container.log.name}",
        *container.options,
    )


def log_file(state: Path) -> Path:
    """Return the file that has each notification as a line."""
    return state / "alerts" / "notifications.jsonl"


def dispatches_file(state: Path) -> Path:
    """Return the file that has each run that the dispatcher started as a line."""
    return state / "alerts" / "dispatches.jsonl"


def github_token_file(state: Path) -> Path:
    """Return the file with the token that the stand-in for GitHub takes."""
    return state / "github-token"


def started_runs(state: Path) -> list[Mapping[str, str]]:
    """Read the inputs of every run that has been started so far."""
    return [entry["inputs"] for entry in _lines(dispatches_file(state))]


def received_alerts(state: Path) -> list[Alert]:
    """Read every alert that has been received so far, once per notification."""
    return [
        Alert(entry["at"], alert["status"], alert["labels"])
        for entry in _lines(log_file(state))
        for alert in entry["notification"]["alerts"]
    ]


def _lines(file: Path) -> list[Any]:
    """Read the complete lines of a log that a container may be writing."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]

"""The receiver of alerts: a container beside the clusters that keeps Alertmanager's notifications."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bootstrap.kubectl import Kubectl
from bootstrap.objects import read_secret
from bootstrap.secrets import MONITORING, WEBHOOK
from testbeds.homelab import receiver, settings
from testbeds.homelab.docker import Docker

URL = f"{settings.RECEIVER_URL}{receiver.PATH}"
HEALTH_URL = f"{settings.RECEIVER_URL}{receiver.HEALTH_PATH}"


@dataclass(frozen=True)
class Alert:
    """One alert of a notification that came with the right token."""

    at: float
    status: str
    """`firing` or `resolved`."""
    labels: Mapping[str, str]


def start_receiver(docker: Docker, gcp: Kubectl, state: Path) -> None:
    """Run the receiver with the token that was made in the cluster for Alertmanager."""
    folder, token_file = log_file(state).parent, state / "webhook-token"
    folder.mkdir()
    token_file.touch(mode=0o600)
    token_file.write_text(read_secret(gcp, MONITORING, WEBHOOK)["token"], encoding="utf-8")
    docker.run(
        "run",
        "--detach",
        f"--name={settings.RECEIVER}",
        f"--network={settings.NETWORK}",
        f"--ip={settings.RECEIVER_ADDRESS}",
        f"--publish={settings.ADDRESS}:{settings.RECEIVER_PORT}:{settings.RECEIVER_PORT}",
        "--restart=unless-stopped",
        f"--user={os.getuid()}:{os.getgid()}",  # the owner of the files
        f"--volume={folder}:/srv/alerts",
        f"--volume={token_file}:/srv/token:ro",
        f"--volume={Path(receiver.__file__).resolve()}:/srv/receiver.py:ro",
        settings.PYTHON_IMAGE,
        "python3",
        "/srv/receiver.py",
        "--host=0.0.0.0",
        f"--port={settings.RECEIVER_PORT}",
        "--token-file=/srv/token",
        f"--log=/srv/alerts/{log_file(state).name}",
    )


def log_file(state: Path) -> Path:
    """Return the file that has each notification as a line."""
    return state / "alerts" / "notifications.jsonl"


def received_alerts(state: Path) -> list[Alert]:
    """Read every alert that has been received so far, once per notification."""
    if not log_file(state).exists():
        return []
    lines = log_file(state).read_text(encoding="utf-8").splitlines(keepends=True)
    received = [json.loads(line) for line in lines if line.endswith("\n")]
    return [
        Alert(entry["at"], alert["status"], alert["labels"])
        for entry in received
        for alert in entry["notification"]["alerts"]
    ]

"""Alerts, an outbox in memory, and a GitHub that answers as it is told, for tests of the dispatcher."""

from collections import Counter, deque
from collections.abc import Mapping
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

from orchestration.dispatcher.configuration import Configuration
from orchestration.dispatcher.notification import Alert, Status
from orchestration.promotion.problems import DependencyError

_numbers = count(1)
POD_LABELS = {"cluster": "edge", "namespace": "ml-apps", "pod": "iris-1", "severity": "critical"}


def _fingerprint() -> str:
    return sha256(str(next(_numbers)).encode()).hexdigest()[:16]


def alert(name: str = "ModelPodOOMKilled", status: Status = Status.FIRING, **labels: str) -> Alert:
    """Return an alert on a pod; each has a fingerprint of its own."""
    return Alert(_fingerprint(), "2026-01-31T12:00:00Z", status, {"alertname": name, **POD_LABELS, **labels}, {})


def drift() -> Alert:
    """Return an alert on a model, which has no pod."""
    labels = {"alertname": "ModelAccuracyBelowBaseline", "model": "iris", "policy": "iris-edge", "version": "7"}
    accuracy = {"current_accuracy": "0.81", "baseline_accuracy": "0.95"}
    return Alert(_fingerprint(), "2026-01-31T12:00:00Z", Status.FIRING, labels, accuracy)


def configuration(folder: Path = Path("/outbox"), **fields: Any) -> Configuration:
    """Return a configuration with the defaults."""
    needed = {
        "repository": "acme/platform",
        "token_file": folder / "github-token",
        "webhook_token_file": folder / "webhook-token",
        "outbox": folder,
    }
    return Configuration.model_validate({**needed, **fields})


def notification(*alerts: Alert, version: str = "4") -> dict[str, object]:
    """Return alerts as Alertmanager sends them."""
    return {
        "version": version,
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "dispatcher",
        "alerts": [
            {
                "status": each.status,
                "labels": dict(each.labels),
                "annotations": dict(each.annotations),
                "startsAt": each.starts_at,
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus/graph",
                "fingerprint": each.fingerprint,
            }
            for each in alerts
        ],
    }


class ScriptedGitHub:
    """Acknowledges each dispatch, or raises what the script has next."""

    def __init__(self) -> None:
        self.script: deque[DependencyError | None] = deque()
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        """Each dispatch that was asked for, acknowledged or not."""

    def dispatch(self, workflow: str, ref: str, inputs: Mapping[str, str]) -> None:
        self.asked.append((workflow, inputs))
        error = self.script.popleft() if self.script else None
        if error is not None:
            raise error


class Counted:
    """What the dispatcher counted."""

    def __init__(self) -> None:
        self.by: Counter[str] = Counter()

    def dispatched(self, workflow: str) -> None:
        self.by[workflow] += 1

    def failed(self, reason: str) -> None:
        self.by[reason] += 1

    def limited(self, alerts: int) -> None:
        self.by["limited"] += alerts

"""What all parts of the stand-in share: the objects, the faults that are on, the settings, and the log."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from testbeds.sandbox.cluster.objects import Json, Store, timestamp

_EVENTS_KEPT = 500


@dataclass
class Faults:
    """What goes wrong on purpose; read and set at `/sandbox/faults`."""

    drop_refreshes: int = 0
    """This many of the next refresh requests are removed without any work (argo-cd#28392)."""
    freeze_argocd: bool = False
    """Argo CD does nothing; its statuses stay as they are."""
    reconcile_seconds: float = 0.0
    """Seconds that a comparison with Git takes longer than usual; a refresh that is requested meanwhile is lost."""
    poisoned_cache: bool = False
    """A new revision is reported with the manifests of the one before, until a hard refresh (argo-cd#26530)."""
    never_finish: bool = False
    """Operations succeed without ever getting a finishedAt (argo-cd#29636)."""
    not_ready: bool = False
    """/readyz answers 500, and everything else 503."""
    node_not_ready: bool = False
    """The node is NotReady, and no new pod is placed on it."""
    stall_pulls: bool = False
    """Image pulls never end."""
    route_lag_seconds: float = 0.5
    """Seconds until the Services notice that a pod has become ready or has been deleted."""

    def set(self, values: Mapping[str, Any]) -> None:
        """Set some faults.

        Raises:
            ValueError: a fault is unknown or its value has another type; then no fault is set.
        """
        known = {fault.name: type(getattr(self, fault.name)) for fault in fields(self)}
        for name, value in values.items():
            kind = known.get(name)
            if kind is None:
                raise ValueError(f"unknown fault {name!r}; the faults are {', '.join(known)}")
            if isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, float)) or value < 0:
                raise ValueError(f"fault {name} takes a {kind.__name__}, found {value!r}")
        for name, value in values.items():
            setattr(self, name, value)


@dataclass(frozen=True)
class Settings:
    """How a stand-in was started."""

    state: Path
    repo_url: str
    token_file: Path | None
    branch: str
    """The branch that `targetRevision: HEAD` means."""
    applications: tuple[str, ...]
    """Paths of Application manifests in the repository."""
    mlflow_uri: str
    oci_mirrors: Mapping[str, str]
    node_ports: Mapping[int, int]
    pod_command: tuple[str, ...] = ()
    """The command that pods run; the model server when it is empty."""


@dataclass
class World:
    settings: Settings
    store: Store = field(default_factory=Store)
    faults: Faults = field(default_factory=Faults)

    def log(self, subject: str, message: str) -> None:
        """Write one line of the stand-in's log to standard output."""
        print(f"{time.strftime('%H:%M:%S')} {subject}: {message}", flush=True)

    def event(self, about: Json, kind: str, reason: str, message: str) -> None:
        """Record an event of type `kind` (Normal or Warning); a repeated event is counted, as in Kubernetes."""
        metadata = about["metadata"]
        namespace = metadata.get("namespace", "")
        events = self.store.all("Event", namespace)
        for event in events:
            same = event["involvedObject"]["uid"] == metadata["uid"]
            if same and (event["reason"], event["message"]) == (reason, message):
                event["count"] += 1
                event["lastTimestamp"] = timestamp()
                self.store.changed(event)
                return
        if kind == "Warning":
            self.log(f"{about['kind'].lower()} {metadata['name']}", f"{reason}: {message}")
        if len(events) >= _EVENTS_KEPT:
            self.store.delete(min(events, key=lambda event: int(event["metadata"]["resourceVersion"])))
        now = timestamp()
        involved = {"kind": about["kind"], "apiVersion": about["apiVersion"], "namespace": namespace}
        self.store.create(
            {
                "kind": "Event",
                "apiVersion": "v1",
                "metadata": {"name": f"{metadata['name']}.{time.time_ns():x}", "namespace": namespace},
                "involvedObject": involved | {"name": metadata["name"], "uid": metadata["uid"]},
                "reason": reason,
                "message": message,
                "source": {"component": "sandbox"},
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
                "type": kind,
            }
        )


def set_condition(conditions: list[Json], kind: str, status: str, reason: str, message: str, **times: str) -> None:
    """Set one condition in place; `lastTransitionTime` moves only with the status."""
    old = next((condition for condition in conditions if condition["type"] == kind), None)
    same = old is not None and old["status"] == status
    words = {"reason": reason, "message": message}
    new: Json = {"type": kind, "status": status} | {key: word for key, word in words.items() if word} | times
    new["lastTransitionTime"] = old["lastTransitionTime"] if old is not None and same else timestamp()
    if old is None:
        conditions.append(new)
    else:
        old.clear()
        old.update(new)


def status_of(item: Json) -> Json:
    """Copy an object's status, to change it and put it back."""
    result: Json = copy.deepcopy(item.get("status", {}))
    return result

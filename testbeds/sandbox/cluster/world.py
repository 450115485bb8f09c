"""What every part of the stand-in shares: the objects, the faults that are on, the settings, and the log."""

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
    """So many of the next refresh requests are taken away unworked (argo-cd#28392)."""
    freeze_argocd: bool = False
    """Argo CD does nothing at all; what it said stays as it is."""
    reconcile_seconds: float = 0.0
    """How much longer than usual a comparison with Git takes; a refresh that comes meanwhile is lost."""
    poisoned_cache: bool = False
    """A new revision is reported with the manifests of the one before, until a hard refresh (argo-cd#26530)."""
    never_finish: bool = False
    """Operations succeed without ever getting a finishedAt (argo-cd#29636)."""
    not_ready: bool = False
    """/readyz says 500 and all else 503."""
    node_not_ready: bool = False
    """The node says NotReady, and nothing new is placed on it."""
    stall_pulls: bool = False
    """Images are pulled for ever."""
    route_lag_seconds: float = 0.5
    """How long after a pod's readiness or its deletion the Services notice."""

    def set(self, values: Mapping[str, Any]) -> None:
        """Set some of them.

        Raises:
            ValueError: one is unknown or of another type; none is set then.
        """
        known = {one.name: type(getattr(self, one.name)) for one in fields(self)}
        for name, value in values.items():
            kind = known.get(name)
            if kind is None:
                raise ValueError(f"unknown fault {name!r}; there are {', '.join(known)}")
            if isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, float)) or value < 0:
                raise ValueError(f"fault {name} takes a {kind.__name__}, found {value!r}")
        for name, value in values.items():
            setattr(self, name, value)


@dataclass(frozen=True)
class Settings:
    """How one stand-in was started."""

    state: Path
    repo_url: str
    token_file: Path | None
    branch: str
    """What `targetRevision: HEAD` means."""
    applications: tuple[str, ...]
    """Paths of Application manifests in the repository."""
    mlflow_uri: str
    oci_mirrors: Mapping[str, str]
    node_ports: Mapping[int, int]
    pod_command: tuple[str, ...] = ()
    """What a pod runs; empty: the model server."""


@dataclass
class World:
    settings: Settings
    store: Store = field(default_factory=Store)
    faults: Faults = field(default_factory=Faults)

    def log(self, subject: str, message: str) -> None:
        """One line of the stand-in's log, on stdout."""
        print(f"{time.strftime('%H:%M:%S')} {subject}: {message}", flush=True)

    def event(self, about: Json, kind: str, reason: str, message: str) -> None:
        """Record an event of type `kind` (Normal or Warning); the same one again is counted, as the real one does."""
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
    old = next((one for one in conditions if one["type"] == kind), None)
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
    """A copy of an object's status to change and put back."""
    result: Json = copy.deepcopy(item.get("status", {}))
    return result

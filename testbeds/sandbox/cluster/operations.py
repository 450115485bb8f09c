"""Sync operations: applied, tried again after a failure as the sync policy says, and shown in the Application."""

import asyncio
import re
import time

from testbeds.sandbox.cluster.apply import InvalidObjectError, apply_object, surplus_objects
from testbeds.sandbox.cluster.objects import Json, Key, key_of, timestamp
from testbeds.sandbox.cluster.world import World, status_of

_API_CALLS = 0.1
"""Seconds that Argo CD's API calls take at the beginning of a sync."""
_HISTORY = 10
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
# Argo CD's defaults: auto-sync retries this often.
_RETRY: Json = {"limit": 5, "backoff": {"duration": "5s", "factor": 2, "maxDuration": "3m"}}


class Operation:
    """One automated sync of an Application to a revision; no other begins until it has ended, whatever Git has then."""

    def __init__(
        self, world: World, application: Json, spec: Json, revision: str, desired: dict[Key, Json], *, prune: bool
    ) -> None:
        self._world, self._app, self._desired, self._prune = world, application, desired, prune
        self._name = application["metadata"]["name"]
        self._source = spec["source"]
        self._retry: Json = _RETRY | (spec.get("syncPolicy", {}).get("retry") or {})
        self._retries = 0
        self._next = 0.0
        self.ended = False
        self.revision = revision
        operation = {"initiatedBy": {"automated": True}, "sync": {"prune": prune, "revision": revision}}
        self._state: Json = {
            "operation": operation | {"retry": self._retry},
            "phase": "Running",
            "message": "",
            "startedAt": timestamp(),
        }

    @property
    def due(self) -> bool:
        return not self.ended and time.monotonic() >= self._next

    def announce(self) -> None:
        """Request the sync as `argocd app sync` does: in the Application, whose last operation state is removed."""
        self._app["operation"] = self._state["operation"]
        self._app["status"].pop("operationState", None)
        self._world.store.changed(self._app, spec=True)

    async def attempt(self) -> None:
        """Apply everything once."""
        self._state |= {"message": f"Retrying operation. Attempt #{self._retries}"} if self._retries else {}
        self._state.pop("finishedAt", None)
        self._show()
        await asyncio.sleep(_API_CALLS)
        resources, refused = self._apply()
        result = {"revision": self.revision, "source": self._source, "resources": resources}
        self._state |= {"syncResult": result}
        if not refused:
            self._end("Succeeded", "successfully synced (all tasks run)", forget=self._world.faults.never_finish)
            return
        message = f"one or more objects failed to apply, reason: {','.join(refused)}"
        if self._retries < self._retry["limit"]:
            self._wait(message)
        else:
            self._end("Failed", message + (f" (retried {self._retries} times)." if self._retries else ""))

    def _apply(self) -> tuple[list[Json], list[str]]:
        """Return what became of each object, and the API server's messages about refused objects."""
        store, resources, refused = self._world.store, [], []
        for wanted in self._desired.values():
            try:
                changed = apply_object(store, wanted)
                words = {"status": "Synced", "message": "configured" if changed else "unchanged"}
            except InvalidObjectError as error:
                verb = "creating" if store.get(*key_of(wanted)) is None else "patching"
                refused.append(f'error when {verb} "/dev/shm/0": {error}')  # a file of the kubectl that it uses
                words = {"status": "SyncFailed", "message": refused[-1]}
            resources.append(described(wanted, words["status"]) | words)
        if self._prune and not refused:
            for surplus in surplus_objects(store, self._app, self._desired):
                store.delete(surplus)
                resources.append(described(surplus, "Pruned") | {"message": "pruned"})
                self._world.log(f"application {self._name}", f"pruned {'/'.join(key_of(surplus))}")
        return resources, refused

    def _wait(self, message: str) -> None:
        """Stay Running, though with an end: so Argo CD shows a failure that will be retried."""
        backoff = self._retry.get("backoff") or {}
        seconds = _seconds(backoff.get("duration", "5s")) * float(backoff.get("factor", 2)) ** self._retries
        seconds = min(seconds, _seconds(backoff.get("maxDuration", "3m")))
        self._retries += 1
        self._next = time.monotonic() + seconds
        at = time.strftime("%I:%M%p", time.localtime(time.time() + seconds)).lstrip("0")
        self._state |= {"message": f"{message}. Retrying attempt #{self._retries} at {at}.", "finishedAt": timestamp()}
        self._state |= {"retryCount": self._retries}
        self._show()

    def _end(self, phase: str, message: str, *, forget: bool = False) -> None:
        self._state |= {"phase": phase, "message": message} | ({} if forget else {"finishedAt": timestamp()})
        self.ended = True
        self._app.pop("operation", None)
        self._show()
        self._world.log(f"application {self._name}", f"sync to {self.revision[:12]}: {message}")

    def _show(self) -> None:
        status = status_of(self._app)
        status["operationState"] = self._state
        if self.ended and self._state["phase"] == "Succeeded" and "finishedAt" in self._state:
            history = status.get("history", [])
            entry = {"id": history[-1]["id"] + 1 if history else 0, "revision": self.revision}
            entry |= {"deployStartedAt": self._state["startedAt"], "deployedAt": self._state["finishedAt"]}
            status["history"] = [*history, entry | {"source": self._source}][-_HISTORY:]
        self._world.store.set_status(self._app, status)


def described(item: Json, status: str) -> Json:
    """Describe an object as the Application's lists of resources do."""
    group, _, version = item["apiVersion"].rpartition("/")
    result = {"kind": item["kind"], "version": version, "name": item["metadata"]["name"], "status": status}
    result |= {"group": group} if group else {}
    namespace = item["metadata"].get("namespace")
    return result | ({"namespace": namespace} if namespace else {})


def _seconds(text: object) -> float:
    """Parse a duration as Argo CD writes it: `5s`, `3m`, `1h`, or a plain number of seconds."""
    match = re.fullmatch(r"([0-9.]+)([smh]?)", str(text))
    if match is None:
        raise ValueError(f"no duration: {text!r}")
    return float(match[1]) * _UNITS[match[2]]

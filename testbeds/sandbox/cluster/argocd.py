"""The application controller: compares Git with the cluster, applies, prunes, heals, and says so in the Application."""

import asyncio
import copy
import time

from testbeds.sandbox.cluster.apply import NEVER_BROUGHT, belongs_to, desired_objects, out_of_sync, surplus_objects
from testbeds.sandbox.cluster.gitsource import GitSource, SourceError
from testbeds.sandbox.cluster.health import application_health, object_health
from testbeds.sandbox.cluster.objects import Json, Key, timestamp
from testbeds.sandbox.cluster.operations import Operation, described
from testbeds.sandbox.cluster.stirred import Stirred
from testbeds.sandbox.cluster.tasks import Tasks
from testbeds.sandbox.cluster.world import World, status_of

REFRESH = "argocd.argoproj.io/refresh"
POLL_SECONDS = 180.0
"""Seconds between unrequested comparisons with Git, as in Argo CD."""
_HEAL_AFTER = 2.0


class ApplicationController:
    """The controller of one Application in the store."""

    def __init__(self, world: World, source: GitSource, application: Json, tasks: Tasks) -> None:
        self._world, self._store, self._source, self._app = world, world.store, source, application
        self._name = application["metadata"]["name"]
        self._rendered: dict[str, list[Json]] = {}
        self._revision = ""
        self._compared_spec: Json = {}
        self._live_changed = False
        self._stirred = Stirred()
        self._operation: Operation | None = None
        self._operation_ended = self._compared_at = 0.0
        self._store.listeners.append(self._notice)
        tasks.start(self._run())

    def _notice(self, kind: str, item: Json) -> None:
        if item is self._app:
            self._stirred.stir()
        elif kind not in NEVER_BROUGHT and belongs_to(item, self._app):
            self._live_changed = True
            self._stirred.stir()

    async def _run(self) -> None:
        polled = 0.0
        while True:
            await self._stirred.wait()
            if self._world.faults.freeze_argocd:
                continue
            refresh = self._app["metadata"].get("annotations", {}).get(REFRESH)
            if refresh and self._world.faults.drop_refreshes > 0:
                self._world.faults.drop_refreshes -= 1
                self._world.log(f"application {self._name}", "refresh dropped")
                self._take_refresh_away()
                continue
            spec = self._app["spec"]
            moved_source = spec.get("source") != self._compared_spec.get("source")
            due = polled == 0.0 or time.monotonic() - polled > POLL_SECONDS
            if refresh or due or moved_source:
                polled = time.monotonic()
                await self._reconcile(ask_git=True, hard=refresh == "hard")
            elif self._live_changed or spec != self._compared_spec or self._heal_due():
                await self._reconcile(ask_git=False, hard=False)
            elif self._operation is not None and self._operation.due:
                await self._attempt(self._operation)

    def _heal_due(self) -> bool:
        automated = self._app["spec"].get("syncPolicy", {}).get("automated") or {}
        if not automated.get("selfHeal") or self._app["status"]["sync"]["status"] != "OutOfSync":
            return False
        return time.monotonic() - max(self._operation_ended, self._compared_at) > _HEAL_AFTER

    def _take_refresh_away(self) -> None:
        """Count every refresh that was requested until now as done, also one of a moment ago (argo-cd#28392)."""
        if self._app["metadata"].get("annotations", {}).pop(REFRESH, None):
            self._store.changed(self._app)

    async def _reconcile(self, *, ask_git: bool, hard: bool) -> None:
        self._live_changed = False
        self._compared_at = time.monotonic()
        spec: Json = copy.deepcopy(self._app["spec"])
        begun: Operation | None = None
        try:
            if ask_git:
                revision = await self._source.resolve(spec["source"].get("targetRevision", "HEAD"))
                await self._render(revision, spec["source"], hard=hard)
                self._world.log(f"application {self._name}", f"compares with {revision[:12]}")
                await asyncio.sleep(self._world.faults.reconcile_seconds)
                self._revision = revision
            desired = desired_objects(self._rendered[self._revision], self._app) if self._revision else {}
        except SourceError as error:
            start = "Failed to load target state: failed to generate manifest for source 1 of 1: rpc error: "
            self._show_error(f"{start}code = FailedPrecondition desc = {error}")
        else:
            if self._revision:
                begun = self._show(spec, desired)
        self._compared_spec = spec
        if ask_git:
            self._take_refresh_away()
        if begun is not None:
            await self._attempt(begun)

    async def _render(self, revision: str, source: Json, *, hard: bool) -> None:
        if hard:
            self._rendered.clear()
        if revision in self._rendered:
            return
        if self._world.faults.poisoned_cache and not hard and self._revision in self._rendered:
            self._world.log(f"application {self._name}", f"cache of {revision[:12]} poisoned")
            self._rendered[revision] = self._rendered[self._revision]
        else:
            self._rendered[revision] = await self._source.manifests(revision, source)

    def _show_error(self, message: str) -> None:
        status = status_of(self._app)
        if status["sync"]["status"] != "Unknown":
            self._world.log(f"application {self._name}", message)
        source = self._app["spec"]["source"]
        asked = source.get("targetRevision", "HEAD")  # stands where the commit would
        status["sync"] = {"status": "Unknown", "revision": asked, "comparedTo": {"source": source}}
        status["conditions"] = [_condition("ComparisonError", message)]
        status["reconciledAt"] = timestamp()
        self._store.set_status(self._app, status)

    def _show(self, spec: Json, desired: dict[Key, Json]) -> Operation | None:
        """Write the comparison (sync status, revision, resources, health), and return the operation that it starts."""
        resources, images = [], set()
        for key, wanted in desired.items():
            live = self._store.get(*key)
            resources.append(described(wanted, "OutOfSync" if out_of_sync(wanted, live) else "Synced"))
            resources[-1] |= {"health": health} if (health := object_health(wanted["kind"], live)) else {}
            containers = wanted.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
            images |= {container.get("image") for container in containers}
        resources += [
            described(item, "OutOfSync") | {"requiresPruning": True}
            for item in surplus_objects(self._store, self._app, desired)
        ]
        status = status_of(self._app)
        synced = all(resource["status"] == "Synced" for resource in resources)
        source = {"source": spec["source"], "destination": spec["destination"]}
        sync = {"status": "Synced" if synced else "OutOfSync", "revision": self._revision, "comparedTo": source}
        worst = application_health(resources)
        before = (status["sync"]["status"], status["sync"].get("revision", ""), status["health"]["status"])
        if before[2] != worst:
            status["health"] = {"status": worst, "lastTransitionTime": timestamp()}
        if before != (sync["status"], self._revision, worst):
            said = f"{sync['status']} at {self._revision[:12]}, {worst}"
            self._world.log(f"application {self._name}", said)
        status |= {"sync": sync, "resources": resources, "summary": {"images": sorted(filter(None, images))}}
        status |= {"sourceType": "Directory", "reconciledAt": timestamp()}
        begun, refusal = self._auto_sync(spec, desired, status)
        status.pop("conditions", None)
        status |= {"conditions": [_condition("SyncError", refusal)]} if refusal else {}
        if begun is not None:
            begun.announce()  # the last operation's state is removed before the new revision is shown
            status.pop("operationState", None)
        self._store.set_status(self._app, status)
        return begun

    def _auto_sync(self, spec: Json, desired: dict[Key, Json], status: Json) -> tuple[Operation | None, str]:
        """Return the operation that the sync policy asks for, or None and why an expected operation does not begin."""
        automated = spec.get("syncPolicy", {}).get("automated")
        if self._operation is not None:
            return None, ""  # it may be a retry, which keeps its revision
        if automated is None or automated.get("enabled") is False or status["sync"]["status"] != "OutOfSync":
            return None, ""
        prune = bool(automated.get("prune"))
        if not prune and all(
            each.get("requiresPruning") for each in status["resources"] if each["status"] == "OutOfSync"
        ):
            return None, ""
        if not desired and not automated.get("allowEmpty"):
            return None, f"Skipping sync attempt to [{self._revision}]: auto-sync will wipe out all resources"
        last = status.get("operationState", {})
        if last.get("syncResult", {}).get("revision") == self._revision:
            # A revision is not tried again after a failure, and after a success only to heal.
            if last["phase"] != "Succeeded":
                return None, f"Failed last sync attempt to [{self._revision}]: {last['message']}"
            if not automated.get("selfHeal") or time.monotonic() - self._operation_ended < _HEAL_AFTER:
                return None, ""
        self._world.log(f"application {self._name}", f"sync to {self._revision[:12]} starts")
        self._operation = Operation(self._world, self._app, spec, self._revision, desired, prune=prune)
        return self._operation, ""

    async def _attempt(self, operation: Operation) -> None:
        await operation.attempt()
        if operation.ended:
            self._operation = None
            self._operation_ended = time.monotonic()
        self._live_changed = True  # compared again soon; until then reconciledAt is older than finishedAt
        self._stirred.stir()


def _condition(kind: str, message: str) -> Json:
    return {"type": kind, "message": message, "lastTransitionTime": timestamp()}


def create_application(world: World, manifest: Json) -> Json:
    """Add an Application as `kubectl apply` does, with an empty status.

    Raises:
        SourceError: the manifest is not an Application with one plain source.
    """
    spec = manifest.get("spec", {})
    if manifest["kind"] != "Application" or "source" not in spec or "destination" not in spec:
        raise SourceError(f"{manifest['kind']} {manifest['metadata']['name']} is not an Application with one source")
    manifest["metadata"].setdefault("namespace", "argocd")
    manifest["status"] = {"sync": {"status": "Unknown"}, "health": {"status": "Missing"}}
    return world.store.create(manifest)

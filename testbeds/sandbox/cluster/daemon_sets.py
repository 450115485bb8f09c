"""The DaemonSet controller: one pod, because there is one node, and a ControllerRevision for each template."""

import asyncio
import copy
import random

from testbeds.sandbox.cluster.deployments import SUFFIX_LETTERS, create_pod, template_hash
from testbeds.sandbox.cluster.kubelet import delete_pod, is_ready
from testbeds.sandbox.cluster.objects import Json, owner_uid
from testbeds.sandbox.cluster.stirred import Stirred
from testbeds.sandbox.cluster.tasks import Tasks
from testbeds.sandbox.cluster.world import World

_HASH = "controller-revision-hash"
_REVISION = "ControllerRevision"


class DaemonSetController:
    def __init__(self, world: World, tasks: Tasks) -> None:
        self._world, self._store = world, world.store
        self._stirred = Stirred()
        self._stirred.listen(world.store, "DaemonSet", "Pod")
        tasks.start(self._run())

    async def _run(self) -> None:
        while True:
            await self._stirred.wait()
            daemon_sets = self._store.all("DaemonSet")
            for daemon_set in daemon_sets:
                self._reconcile(daemon_set)
            alive = {daemon_set["metadata"]["uid"] for daemon_set in daemon_sets}
            for revision in self._store.all(_REVISION):
                if owner_uid(revision) not in alive:
                    self._store.delete(revision)
            await asyncio.sleep(0.02)  # a controller sees changes a moment late

    def _reconcile(self, daemon_set: Json) -> None:
        """Take one step, and publish the status."""
        current = self._current_revision(daemon_set)
        pods = self._store.owned("Pod", daemon_set)
        present = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        new = [pod for pod in present if pod["metadata"]["labels"][_HASH] == current]
        old = [pod for pod in present if pod not in new]
        strategy = daemon_set["spec"]["updateStrategy"]
        surges = strategy.get("rollingUpdate", {}).get("maxSurge", 0) != 0
        if not pods or (old and not new and surges):
            self._create(daemon_set, current)
        elif old and strategy["type"] != "OnDelete" and (not surges or any(map(is_ready, new))):
            delete_pod(self._world, old[0])
        self._publish(daemon_set, current)

    def _create(self, daemon_set: Json, current: str) -> None:
        start = f"{daemon_set['metadata']['name']}-"
        name = start + "".join(random.choices(SUFFIX_LETTERS, k=5))
        create_pod(self._store, daemon_set, {"name": name, "generateName": start}, {_HASH: current})

    def _current_revision(self, daemon_set: Json) -> str:
        """Return the hash of the template, and see to it that its revision has the highest number."""
        template, metadata = daemon_set["spec"]["template"], daemon_set["metadata"]
        current = template_hash(template)
        revisions = {each["metadata"]["labels"][_HASH]: each for each in self._store.owned(_REVISION, daemon_set)}
        newest = max((each["revision"] for each in revisions.values()), default=0)
        known = revisions.get(current)
        if known is None:
            labels = {**template["metadata"]["labels"], _HASH: current}
            own = {"name": f"{metadata['name']}-{current}", "namespace": metadata["namespace"], "labels": labels}
            data = {"spec": {"template": {**copy.deepcopy(template), "$patch": "replace"}}}
            made: Json = {"kind": _REVISION, "apiVersion": "apps/v1", "metadata": own}
            self._store.create({**made, "data": data, "revision": newest + 1}, daemon_set)
        elif known["revision"] < newest:
            known["revision"] = newest + 1
            self._store.changed(known)
        return current

    def _publish(self, daemon_set: Json, current: str) -> None:
        pods = self._store.owned("Pod", daemon_set)
        present = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        # Of two pods on a node, the older one says whether the node is up to date.
        updated = bool(present) and all(pod["metadata"]["labels"][_HASH] == current for pod in present)
        ready = int(any(map(is_ready, present)))
        status: Json = {"observedGeneration": daemon_set["metadata"]["generation"], "numberMisscheduled": 0}
        status |= {"desiredNumberScheduled": 1, "currentNumberScheduled": int(bool(present)), "numberReady": ready}
        status |= {"numberAvailable": ready} if ready else {"numberUnavailable": 1}
        status |= {"updatedNumberScheduled": 1} if updated else {}
        self._store.set_status(daemon_set, status)

"""The StatefulSet controller: pods by ordinal, one after the other, in the order of `OrderedReady`."""

import asyncio
from collections.abc import Mapping

from testbeds.sandbox.cluster.deployments import create_pod, template_hash
from testbeds.sandbox.cluster.kubelet import delete_pod, is_ready
from testbeds.sandbox.cluster.objects import Json
from testbeds.sandbox.cluster.stirred import Stirred
from testbeds.sandbox.cluster.tasks import Tasks
from testbeds.sandbox.cluster.world import World, status_of

_HASH = "controller-revision-hash"
_POD_NAME = "statefulset.kubernetes.io/pod-name"


class StatefulSetController:
    def __init__(self, world: World, tasks: Tasks) -> None:
        self._world, self._store = world, world.store
        self._stirred = Stirred()
        self._stirred.listen(world.store, "StatefulSet", "Pod")
        tasks.start(self._run())

    async def _run(self) -> None:
        while True:
            await self._stirred.wait()
            for stateful_set in self._store.all("StatefulSet"):
                self._reconcile(stateful_set)
            await asyncio.sleep(0.02)  # a controller sees changes a moment late

    def _reconcile(self, stateful_set: Json) -> None:
        """Take one step, and publish the status."""
        revision = f"{stateful_set['metadata']['name']}-{template_hash(stateful_set['spec']['template'])}"
        pods = {_ordinal(pod): pod for pod in self._store.owned("Pod", stateful_set)}
        self._step(stateful_set, revision, pods)
        self._publish(stateful_set, revision)

    def _step(self, stateful_set: Json, revision: str, pods: Mapping[int, Json]) -> None:
        """Create or replace one pod; one that is not ready is waited for, whatever its template (kubernetes#67250)."""
        spec = stateful_set["spec"]
        for ordinal in range(spec["replicas"]):
            pod = pods.get(ordinal)
            if pod is None:
                name = f"{stateful_set['metadata']['name']}-{ordinal}"
                create_pod(self._store, stateful_set, {"name": name}, {_HASH: revision, _POD_NAME: name})
                return
            if "deletionTimestamp" in pod["metadata"] or not is_ready(pod):
                return
        surplus = [ordinal for ordinal in pods if ordinal >= spec["replicas"]]
        if surplus:
            delete_pod(self._world, pods[max(surplus)])
            return
        if spec["updateStrategy"]["type"] == "OnDelete":
            return
        partition = spec["updateStrategy"].get("rollingUpdate", {}).get("partition", 0)
        outdated = [ordinal for ordinal, pod in pods.items() if pod["metadata"]["labels"][_HASH] != revision]
        replaced = [ordinal for ordinal in outdated if ordinal >= partition]
        if replaced:
            delete_pod(self._world, pods[max(replaced)])

    def _publish(self, stateful_set: Json, revision: str) -> None:
        pods = self._store.owned("Pod", stateful_set)
        present = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        ready = sum(map(is_ready, present))
        updated = sum(pod["metadata"]["labels"][_HASH] == revision for pod in present)
        current = status_of(stateful_set).get("currentRevision", revision)
        if updated == ready == stateful_set["spec"]["replicas"] == len(pods):
            current = revision
        numbers = {
            "readyReplicas": ready,
            "currentReplicas": sum(pod["metadata"]["labels"][_HASH] == current for pod in present),
            "updatedReplicas": updated,
        }
        status: Json = {"observedGeneration": stateful_set["metadata"]["generation"], "replicas": len(pods)}
        status |= {name: number for name, number in numbers.items() if number}
        status |= {"availableReplicas": ready, "collisionCount": 0}
        self._store.set_status(stateful_set, status | {"currentRevision": current, "updateRevision": revision})


def _ordinal(pod: Json) -> int:
    return int(pod["metadata"]["name"].rpartition("-")[2])

"""The Deployment and ReplicaSet controllers: templates become ReplicaSets, ReplicaSets become pods, step by step."""

import asyncio
import copy
import hashlib
import json
import math
import random
import time

from testbeds.sandbox.cluster.kubelet import delete_pod, is_ready
from testbeds.sandbox.cluster.objects import Json, Store, owner_uid, timestamp
from testbeds.sandbox.cluster.scaling import spread
from testbeds.sandbox.cluster.stirred import Stirred
from testbeds.sandbox.cluster.tasks import Tasks
from testbeds.sandbox.cluster.world import World, set_condition, status_of

_REVISION = "deployment.kubernetes.io/revision"
_WANTED = "deployment.kubernetes.io/desired-replicas"
_MOST = "deployment.kubernetes.io/max-replicas"
_HASH = "pod-template-hash"
SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # Kubernetes's own letters, of which no word can be made


def template_hash(template: Json) -> str:
    number = int.from_bytes(hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()[:8])
    return "".join(SUFFIX_LETTERS[number // len(SUFFIX_LETTERS) ** place % len(SUFFIX_LETTERS)] for place in range(10))


def create_pod(store: Store, owner: Json, names: Json, labels: Json) -> Json:
    """Create a pod of an owner's template, with these names and with these labels beside the template's."""
    template = owner["spec"]["template"]
    metadata = copy.deepcopy(template.get("metadata", {})) | names
    metadata["namespace"] = owner["metadata"]["namespace"]
    metadata["labels"] = {**metadata.get("labels", {}), **labels}
    spec = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30} | template["spec"]
    status: Json = {"phase": "Pending", "conditions": [], "qosClass": "Burstable"}
    return store.create(
        {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": status}, owner
    )


State = tuple[str, int, tuple[int, int], int]
"""What counts as progress: template hash, pods, pods of that template (all, ready), ready pods."""


class DeploymentController:
    def __init__(self, world: World, tasks: Tasks) -> None:
        self._world, self._store = world, world.store
        self._stirred = Stirred()
        self._stirred.listen(world.store, "Deployment", "ReplicaSet", "Pod")
        self._progress: dict[str, tuple[State, float]] = {}
        tasks.start(self._run())

    async def _run(self) -> None:
        while True:
            await self._stirred.wait()
            for deployment in self._store.all("Deployment"):
                self._reconcile(deployment)
            self._collect_orphans()
            for replica_set in self._store.all("ReplicaSet"):
                self._reconcile_replica_set(replica_set)
            await asyncio.sleep(0.02)  # a controller sees changes a moment late

    def _collect_orphans(self) -> None:
        owners = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet")
        alive = {owner["metadata"]["uid"] for kind in owners for owner in self._store.all(kind)}
        for replica_set in self._store.all("ReplicaSet"):
            if owner_uid(replica_set) not in alive:
                self._store.delete(replica_set)
        for pod in self._store.all("Pod"):
            if owner_uid(pod) not in alive:
                delete_pod(self._world, pod)

    def _reconcile_replica_set(self, replica_set: Json) -> None:
        pods = self._active_pods(replica_set)
        wanted = replica_set["spec"]["replicas"]
        for _ in range(wanted - len(pods)):
            name = replica_set["metadata"]["name"]
            suffix = "".join(random.choices(SUFFIX_LETTERS, k=5))
            names = {"name": f"{name}-{suffix}", "generateName": f"{name}-"}
            pods.append(create_pod(self._store, replica_set, names, {}))
        if wanted < len(pods):
            # First the pods that serve least: not placed, not ready, youngest.
            pods.sort(key=lambda pod: (bool(pod["spec"].get("nodeName")), is_ready(pod)))
            for pod in pods[: len(pods) - wanted]:
                delete_pod(self._world, pod)
            pods = pods[len(pods) - wanted :]
        ready = sum(map(is_ready, pods))
        counts = {"replicas": len(pods), "fullyLabeledReplicas": len(pods)}
        counts |= {"readyReplicas": ready, "availableReplicas": ready} if ready else {}
        observed = {"observedGeneration": replica_set["metadata"]["generation"]}
        self._store.set_status(replica_set, counts | observed)

    def _active_pods(self, replica_set: Json) -> list[Json]:
        return [pod for pod in self._store.owned("Pod", replica_set) if "deletionTimestamp" not in pod["metadata"]]

    def _reconcile(self, deployment: Json) -> None:
        spec = deployment["spec"]
        if not spec.get("paused"):
            new = self._new_replica_set(deployment)
            old = [replica_set for replica_set in self._store.owned("ReplicaSet", deployment) if replica_set is not new]
            if spec["strategy"]["type"] == "Recreate":
                self._recreate(spec, new, old)
            elif not self._rescale(spec, new, old):
                self._roll(spec, new, old)
            retired = sorted((replica_set for replica_set in old if not self._counts(replica_set)[1]), key=_revision)
            for replica_set in retired[: max(0, len(retired) - spec["revisionHistoryLimit"])]:
                self._store.delete(replica_set)
        self._publish(deployment)

    def _new_replica_set(self, deployment: Json) -> Json:
        """Return the ReplicaSet of the present template with the newest revision number; it is made when missing."""
        template = deployment["spec"]["template"]
        digest = template_hash(template)
        metadata = deployment["metadata"]
        owned = self._store.owned("ReplicaSet", deployment)
        newest = max(map(_revision, owned), default=0)
        current = next((each for each in owned if each["metadata"]["labels"][_HASH] == digest), None)
        if current is None:
            labelled = copy.deepcopy(template)
            labelled.setdefault("metadata", {}).setdefault("labels", {})[_HASH] = digest
            selector = {"matchLabels": deployment["spec"]["selector"]["matchLabels"] | {_HASH: digest}}
            current = self._store.create(
                {
                    "kind": "ReplicaSet",
                    "apiVersion": "apps/v1",
                    "metadata": {
                        "name": f"{metadata['name']}-{digest}",
                        "namespace": metadata["namespace"],
                        "labels": labelled["metadata"]["labels"],
                        "annotations": {_REVISION: str(newest + 1)},
                    },
                    "spec": {"replicas": 0, "selector": selector, "template": labelled},
                    "status": {"replicas": 0},
                },
                deployment,
            )
            self._world.log(f"rollout {metadata['name']}", f"ReplicaSet {current['metadata']['name']} created")
        elif _revision(current) < newest:  # a rollback uses the old ReplicaSet again
            current["metadata"]["annotations"][_REVISION] = str(newest + 1)
            self._store.changed(current)
            self._world.log(f"rollout {metadata['name']}", f"ReplicaSet {current['metadata']['name']} taken up again")
        annotations = metadata.setdefault("annotations", {})
        if annotations.get(_REVISION) != current["metadata"]["annotations"][_REVISION]:
            annotations[_REVISION] = current["metadata"]["annotations"][_REVISION]
            self._store.changed(deployment)
        return current

    def _scale(self, spec: Json, replica_set: Json, replicas: int) -> None:
        """Set a ReplicaSet's number of replicas, and note for which number of the Deployment that was."""
        moved = replica_set["spec"]["replicas"] != replicas
        noted = {_WANTED: str(spec["replicas"]), _MOST: str(_most(spec))}
        annotations = replica_set["metadata"].setdefault("annotations", {})
        if moved or not noted.items() <= annotations.items():
            annotations |= noted
            replica_set["spec"]["replicas"] = replicas
            self._store.changed(replica_set, spec=moved)

    def _rescale(self, spec: Json, new: Json, old: list[Json]) -> bool:
        """Share a changed number of replicas among a running rollout's ReplicaSets; return whether it was shared."""
        active = [replica_set for replica_set in [new, *old] if replica_set["spec"]["replicas"]]
        if len(active) < 2 or all(_noted(each, _WANTED, spec["replicas"]) == spec["replicas"] for each in active):
            return False
        grows = _most(spec) > sum(each["spec"]["replicas"] for each in active)
        active.sort(key=lambda each: (-each["spec"]["replicas"], -_revision(each) if grows else _revision(each)))
        sizes = [each["spec"]["replicas"] for each in active]
        shares = spread(sizes, _noted(active[0], _MOST, _most(spec)), _most(spec))
        for replica_set, share in zip(active, shares, strict=True):
            self._scale(spec, replica_set, share)
        return True

    def _recreate(self, spec: Json, new: Json, old: list[Json]) -> None:
        for replica_set in old:
            self._scale(spec, replica_set, 0)
        if not any(self._store.owned("Pod", replica_set) for replica_set in old):
            self._scale(spec, new, spec["replicas"])

    def _roll(self, spec: Json, new: Json, old: list[Json]) -> None:
        """Take one step of a rolling update, by the real controller's arithmetic."""
        wanted = spec["replicas"]
        bounds = spec["strategy"].get("rollingUpdate", {})
        surge = _most(spec) - wanted
        unavailable = _share(bounds.get("maxUnavailable", "25%"), wanted, up=False)
        unavailable = unavailable or int(surge == 0)
        total = sum(each["spec"]["replicas"] for each in [new, *old])
        if new["spec"]["replicas"] > wanted:
            self._scale(spec, new, wanted)
        elif (room := wanted + surge - total) > 0:
            self._scale(spec, new, min(new["spec"]["replicas"] + room, wanted))
            total = sum(each["spec"]["replicas"] for each in [new, *old])
        new_missing = new["spec"]["replicas"] - self._counts(new)[1]
        spare = total - (wanted - unavailable) - new_missing
        for replica_set in old:  # first the pods that are not ready
            sick = min(replica_set["spec"]["replicas"] - self._counts(replica_set)[1], spare)
            if sick > 0:
                self._scale(spec, replica_set, replica_set["spec"]["replicas"] - sick)
                spare -= sick
        available = sum(min(self._counts(each)[1], each["spec"]["replicas"]) for each in [new, *old])
        spare = available - (wanted - unavailable)
        for replica_set in old:
            step = min(replica_set["spec"]["replicas"], spare)
            if step > 0:
                self._scale(spec, replica_set, replica_set["spec"]["replicas"] - step)
                spare -= step

    def _counts(self, replica_set: Json) -> tuple[int, int]:
        """Count a ReplicaSet's pods that are not being deleted: all, and ready."""
        pods = self._active_pods(replica_set)
        return len(pods), sum(map(is_ready, pods))

    def _publish(self, deployment: Json) -> None:
        spec, metadata = deployment["spec"], deployment["metadata"]
        digest, wanted = template_hash(spec["template"]), spec["replicas"]
        counted = {
            each["metadata"]["labels"][_HASH]: self._counts(each)
            for each in self._store.owned("ReplicaSet", deployment)
        }
        total, ready = (sum(counts[place] for counts in counted.values()) for place in (0, 1))
        updated = counted.get(digest, (0, 0))
        status = {"observedGeneration": metadata["generation"]}
        numbers = {"replicas": total, "updatedReplicas": updated[0], "readyReplicas": ready, "availableReplicas": ready}
        numbers["unavailableReplicas"] = max(wanted - ready, total - ready)
        status |= {name: number for name, number in numbers.items() if number}
        status["conditions"] = status_of(deployment).get("conditions", [])
        bounds = spec["strategy"].get("rollingUpdate", {})
        missing_allowed = _share(bounds.get("maxUnavailable", "25%"), wanted, up=False)
        if ready >= wanted - missing_allowed:
            message = "Deployment has minimum availability."
            set_condition(status["conditions"], "Available", "True", "MinimumReplicasAvailable", message)
        else:
            message = "Deployment does not have minimum availability."
            set_condition(status["conditions"], "Available", "False", "MinimumReplicasUnavailable", message)
        self._set_progress(deployment, status["conditions"], (digest, total, updated, ready))
        self._store.set_status(deployment, status)

    def _set_progress(self, deployment: Json, conditions: list[Json], state: State) -> None:
        """Set the condition Progressing: complete, in progress, or timed out after progressDeadlineSeconds."""
        spec, metadata = deployment["spec"], deployment["metadata"]
        digest, total, updated, ready = state
        name = f"{metadata['name']}-{digest}"
        seen, since = self._progress.get(metadata["uid"], (None, 0.0))
        moved = seen != state
        if moved:
            since = time.monotonic()
            self._progress[metadata["uid"]] = (state, since)
        old = next((condition for condition in conditions if condition["type"] == "Progressing"), None)
        if updated == (spec["replicas"], spec["replicas"]) and total == ready == spec["replicas"]:
            reason, message = "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.'
        elif old is not None and old["reason"] == "NewReplicaSetAvailable" and seen is not None and digest == seen[0]:
            return  # a finished rollout stays finished when one of its pods fails later
        elif not moved and time.monotonic() - since > spec["progressDeadlineSeconds"]:
            reason, message = "ProgressDeadlineExceeded", f'ReplicaSet "{name}" has timed out progressing.'
        elif not moved:
            return
        else:
            reason, message = "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.'
        if old is None or (old["reason"], old["message"]) != (reason, message) or moved:
            if old is None or old["reason"] != reason:
                self._world.log(f"rollout {metadata['name']}", message)
            status = "False" if reason == "ProgressDeadlineExceeded" else "True"
            set_condition(conditions, "Progressing", status, reason, message, lastUpdateTime=timestamp())


def _revision(replica_set: Json) -> int:
    return int(replica_set["metadata"].get("annotations", {}).get(_REVISION, 0))


def _noted(replica_set: Json, annotation: str, otherwise: int) -> int:
    return int(replica_set["metadata"].get("annotations", {}).get(annotation, otherwise))


def _most(spec: Json) -> int:
    """Return the largest number of pods in a rolling update."""
    wanted: int = spec["replicas"]
    return wanted + _share(spec["strategy"].get("rollingUpdate", {}).get("maxSurge", "25%"), wanted, up=True)


def _share(bound: object, of: int, *, up: bool) -> int:
    """Resolve a maxSurge or maxUnavailable: a number, or a percentage that is rounded up or down."""
    if isinstance(bound, str) and bound.endswith("%"):
        exact = of * float(bound[:-1]) / 100
        return math.ceil(exact) if up else math.floor(exact)
    return int(str(bound))

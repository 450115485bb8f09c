"""Pods' lives: they are placed on the node, their containers run, and everything ends when they are deleted."""

import asyncio
import random
import time
from pathlib import Path

import httpx2

from testbeds.sandbox.cluster.containers import Container
from testbeds.sandbox.cluster.forks import Forks
from testbeds.sandbox.cluster.nodes import NODE, unschedulable
from testbeds.sandbox.cluster.objects import Json, timestamp
from testbeds.sandbox.cluster.tasks import Tasks
from testbeds.sandbox.cluster.world import World, set_condition, status_of

_PERIOD = 0.1


def delete_pod(world: World, pod: Json) -> None:
    """Request a pod's graceful end: it is terminating until its processes have ended."""
    if "deletionTimestamp" not in pod["metadata"]:
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
        gone_by = timestamp(time.time() + grace)  # in Kubernetes, too, the time by which it must end
        pod["metadata"] |= {"deletionTimestamp": gone_by, "deletionGracePeriodSeconds": grace}
        world.store.changed(pod)


def is_ready(pod: Json) -> bool:
    return any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in pod["status"]["conditions"]
    )


class Kubelet:
    """Runs every pod that appears in the store."""

    def __init__(self, world: World, forks: Forks, client: httpx2.AsyncClient, tasks: Tasks) -> None:
        self._world, self._forks, self._client, self._tasks = world, forks, client, tasks
        self._pods: dict[str, Pod] = {}
        # All of 127.0.0.0/8 is this machine: each pod has an address of its own there, with its own ports.
        self._network = f"127.{random.randint(16, 250)}.{random.randint(1, 250)}"
        self._next = 0
        world.store.listeners.append(self._notice)

    def log_path(self, pod: Json, container: str, *, previous: bool) -> Path:
        return self._pods[pod["metadata"]["uid"]].containers[container].log_path(previous=previous)

    def _notice(self, kind: str, item: Json) -> None:
        if kind != "Pod":
            return
        uid = item["metadata"]["uid"]
        if uid not in self._pods:
            self._pods[uid] = Pod(self._world, self._forks, self._client, item, self._address())
            self._tasks.start(self._pods[uid].run())
        elif "deletionTimestamp" in item["metadata"]:
            self._pods[uid].deleted.set()

    def _address(self) -> str:
        taken = {pod["status"].get("podIP") for pod in self._world.store.all("Pod") if "status" in pod}
        while True:
            self._next = self._next % 250 + 1
            address = f"{self._network}.{self._next}"
            if address not in taken:
                return address


class Pod:
    def __init__(self, world: World, forks: Forks, client: httpx2.AsyncClient, pod: Json, address: str) -> None:
        self.pod, self.address = pod, address
        self.deleted = asyncio.Event()
        self.folder = world.settings.state / "pods" / pod["metadata"]["uid"]
        self.folder.mkdir(parents=True)
        self.containers = {
            spec["name"]: Container(world, forks, client, self, spec) for spec in pod["spec"]["containers"]
        }
        self._world = world

    async def run(self) -> None:
        """Live until deleted."""
        life = asyncio.create_task(self._live())
        deletion = asyncio.create_task(self.deleted.wait())
        await asyncio.wait([life, deletion], return_when=asyncio.FIRST_COMPLETED)
        if not deletion.done():
            deletion.cancel()
            life.result()  # a life ends only by deletion, or by a bug, which raises here
        name = self.pod["metadata"]["name"]
        self._world.log(f"pod {name}", "terminating")
        grace = self.pod["metadata"]["deletionGracePeriodSeconds"]
        await asyncio.gather(*(container.stop(grace) for container in self.containers.values()))
        life.cancel()
        await asyncio.wait([life])
        self._finish()
        self._world.store.delete(self.pod)
        self._world.log(f"pod {name}", "gone")

    async def _live(self) -> None:
        await self._place()
        async with asyncio.TaskGroup() as group:
            for container in self.containers.values():
                group.create_task(container.run())
        await asyncio.Event().wait()

    async def _place(self) -> None:
        while (reason := unschedulable(self._world, self.pod)) is not None:
            status = self.pod["status"]
            shown = [each.get("message") for each in status["conditions"] if each["type"] == "PodScheduled"]
            if shown != [reason]:
                status = status_of(self.pod)
                set_condition(status["conditions"], "PodScheduled", "False", "Unschedulable", reason)
                self._world.store.set_status(self.pod, status)
                self._world.event(self.pod, "Warning", "FailedScheduling", reason)
            await asyncio.sleep(_PERIOD)
        self.pod["spec"]["nodeName"] = NODE
        self.pod["status"]["podIP"] = self.address
        self._world.event(self.pod, "Normal", "Scheduled", f"Successfully assigned to {NODE}")
        self.publish()

    def _finish(self) -> None:
        """Write the last status: a pod whose containers have all ended has succeeded or failed."""
        status = status_of(self.pod)
        ends = [container.status["state"].get("terminated") for container in self.containers.values()]
        if all(ends):
            status["phase"] = "Succeeded" if all(end and end["exitCode"] == 0 for end in ends) else "Failed"
            self._world.store.set_status(self.pod, status)

    def publish(self) -> None:
        """Bring the pod's status up to date with that of its containers."""
        status = status_of(self.pod)
        containers = [container.status for container in self.containers.values()]
        started = any(each["restartCount"] or "waiting" not in each["state"] for each in containers)
        unready = [each["name"] for each in containers if not each["ready"]]
        was_ready = is_ready(self.pod)
        status |= {
            "phase": "Running" if started else "Pending",
            "hostIP": "127.0.0.1",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "qosClass": "Burstable",
            "containerStatuses": containers,
        }
        status.setdefault("startTime", timestamp())
        conditions = status["conditions"]
        for kind in ("PodScheduled", "Initialized"):
            set_condition(conditions, kind, "True", "", "")
        for kind in ("ContainersReady", "Ready"):
            if unready:
                message = f"containers with unready status: [{' '.join(unready)}]"
                set_condition(conditions, kind, "False", "ContainersNotReady", message)
            else:
                set_condition(conditions, kind, "True", "", "")
        self._world.store.set_status(self.pod, status)
        if was_ready == bool(unready):
            name = self.pod["metadata"]["name"]
            self._world.log(f"pod {name}", "ready" if not unready else f"not ready: {', '.join(unready)}")

"""A changed number of replicas: its shares for each ReplicaSet, and the autoscaler that changes it.

The autoscaler sees pods that use nothing, so all it ever wants is its `minReplicas`: it brings a new Deployment there,
and takes back what a test has scaled out.
"""

import asyncio
from collections.abc import Sequence

from testbeds.sandbox.cluster.objects import Json, timestamp
from testbeds.sandbox.cluster.tasks import Tasks
from testbeds.sandbox.cluster.world import World, set_condition, status_of

_PERIOD = 2.0


def spread(sizes: Sequence[int], most_before: int, most: int) -> list[int]:
    """Return new sizes for the ReplicaSets of a rollout that is scaled while it runs, each in proportion to its size.

    `most_before` and `most` are the pods that there may be, surge included. The sizes come in the order in which the
    controller serves them; what rounding leaves is the first one's.
    """
    left = change = most - sum(sizes)
    result = []
    for size in sizes:
        # Rounded as the controller does it: half away from zero, so that the division's fraction decides.
        fair = int(size * most / most_before + 0.5) - size
        step = min(fair, left) if change > 0 else max(fair, left) if change < 0 else 0
        result.append(size + step)
        left -= step
    result[0] = max(0, result[0] + left)
    return result


class Autoscaler:
    """The controller of HorizontalPodAutoscalers, for Deployments."""

    def __init__(self, world: World, tasks: Tasks) -> None:
        self._world, self._store = world, world.store
        tasks.start(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD)
            for autoscaler in self._store.all("HorizontalPodAutoscaler"):
                self._reconcile(autoscaler)

    def _reconcile(self, autoscaler: Json) -> None:
        spec, namespace = autoscaler["spec"], autoscaler["metadata"]["namespace"]
        target = spec["scaleTargetRef"]
        deployment = self._store.get(target["kind"], namespace, target["name"])
        status = status_of(autoscaler)
        conditions = status.setdefault("conditions", [])
        if deployment is None or target["kind"] != "Deployment":
            message = f"the HPA controller was unable to get the target's current scale: {target['name']} not found"
            set_condition(conditions, "AbleToScale", "False", "FailedGetScale", message)
        else:
            before, wanted = deployment["spec"]["replicas"], spec.get("minReplicas", 1)
            message = "the HPA controller was able to get the target's current scale"
            set_condition(conditions, "AbleToScale", "True", "SucceededGetScale", message)
            if before not in (0, wanted):  # 0 switches autoscaling off
                deployment["spec"]["replicas"] = wanted
                self._store.changed(deployment, spec=True)
                self._world.log(f"autoscaler {autoscaler['metadata']['name']}", f"{before} replicas become {wanted}")
                status["lastScaleTime"] = timestamp()
            status |= {"currentReplicas": deployment.get("status", {}).get("replicas", 0), "desiredReplicas": wanted}
        self._store.set_status(autoscaler, status)

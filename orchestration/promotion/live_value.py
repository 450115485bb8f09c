"""What a live workload, and each of its pods, has in a slot: the image or the address that a promotion put there."""

from orchestration.promotion.cluster_status import ContainerSpec, PodStatus, WorkloadStatus
from orchestration.promotion.deployed import Slot, find_argument

STORAGE_INITIALIZER = "storage-initializer"
"""The init container, of this name only, by which KServe downloads the model; its first argument is the address."""


def live_value(workload: WorkloadStatus, container: str, slot: Slot) -> str:
    """Return what the workload's template has in a slot; empty when it has nothing there, or not by itself."""
    if slot.kind == "image":
        return workload.images.get(container, "")
    if slot.kind == "storageUri":
        return workload.storage_uri
    return _value(workload.spec(container), slot)


def pod_value(pod: PodStatus, container: str, slot: Slot) -> str:
    """Return what a pod's own spec has in a slot; empty when it has nothing there, or not by itself.

    KServe's webhook gives a pod, and not its template, the container that downloads the model.
    """
    if slot.kind == "storageUri":
        initializer = pod.spec(STORAGE_INITIALIZER)
        return initializer.arguments[0] if initializer is not None and initializer.arguments else ""
    return _value(pod.spec(container), slot)


def changed_beside(slot: Slot) -> tuple[str, ...]:
    """Name the containers of a pod that a promotion changes beside the one that serves."""
    return (STORAGE_INITIALIZER,) if slot.kind == "storageUri" else ()


def _value(spec: ContainerSpec | None, slot: Slot) -> str:
    if spec is None:
        return ""
    if slot.kind == "variable":
        return spec.environment.get(slot.name) or ""
    found = list(find_argument(spec.arguments, slot.name))
    if len(found) != 1 or found[0][0] >= len(spec.arguments):
        return ""
    at, before = found[0]
    return spec.arguments[at].removeprefix(before)

"""Pods in trouble: what their status, events and Deployment report, and what the pipeline concludes from that."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from orchestration.promotion.cluster_status import ContainerStatus, PodStatus, WorkloadStatus
from orchestration.promotion.pods import PodTrouble, explain
from tests.contract.content import UNKNOWN
from tests.contract.place import CONTAINER, NAMESPACE, TROUBLED, Place
from tests.contract.test_answers import EVENTS


def pod_of(place: Place, name: str) -> tuple[WorkloadStatus, PodStatus, ContainerStatus | None]:
    """Return a Deployment, its only pod, and the pod's container once the kubelet has reported it."""
    workload = place.workload(name)
    assert workload is not None
    (pod,) = workload.new_pods
    return workload, pod, pod.container(CONTAINER)


def container_when(place: Place, name: str, what: str, condition: Callable[[ContainerStatus], bool]) -> ContainerStatus:
    """Wait until the container's status meets a condition, and return that status."""

    def look() -> ContainerStatus | None:
        _, _, container = pod_of(place, name)
        return container if container is not None and condition(container) else None

    return place.wait(f"{name}: {what}", look)


def trouble_when(place: Place, name: str, *, final: bool) -> PodTrouble:
    """Wait until the pipeline finds trouble with the pod, and return it.

    Args:
        final: wait for trouble that the pipeline considers final.
    """

    def look() -> PodTrouble | None:
        trouble = explain(pod_of(place, name)[1], CONTAINER)
        if trouble is None or trouble.kind == "starting":
            return None
        return trouble if trouble.final or not final else None

    return place.wait(f"{name}: trouble", look)


@pytest.mark.parametrize(("name", "reference"), [("missing", f"@{UNKNOWN}"), ("untagged", ":nobody-pushed-it")])
def test_an_image_that_does_not_exist(place: Place, name: str, reference: str) -> None:
    """It waits in ErrImagePull and ImagePullBackOff with the registry's answer, and the model is at fault."""
    image = place.image_repository + reference
    start = re.escape(f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": ')
    # ErrImagePull lasts for a moment after each attempt, ImagePullBackOff until the next.
    reasons = ("ErrImagePull", "ImagePullBackOff")
    failed = container_when(place, name, "no image", lambda container: container.waiting_reason in reasons)
    assert (failed.image_id, failed.ready, failed.restarts) == ("", False, 0)
    assert re.search(f"{start}.*not found", failed.waiting_message or "")
    reason = "ImagePullBackOff"
    backed_off = container_when(place, name, reason, lambda container: container.waiting_reason == reason)
    assert (backed_off.waiting_message or "").startswith(f'Back-off pulling image "{image}": ErrImagePull: ')
    assert re.search(f"{start}.*not found", backed_off.waiting_message or "")
    trouble = trouble_when(place, name, final=True)
    assert (trouble.kind, trouble.fault) == ("image_pull", "model")
    warnings = pod_of(place, name)[1].warnings
    assert any(warning.startswith(f'Failed: Failed to pull image "{image}": ') for warning in warnings)
    assert "Failed: Error: ErrImagePull" in warnings


def test_a_process_that_exits(place: Place) -> None:
    """The container is in CrashLoopBackOff; its last state has the exit code, and the log of the last run is kept."""
    reason = "CrashLoopBackOff"
    crashed = container_when(place, "crash", reason, lambda container: container.waiting_reason == reason)
    assert crashed.restarts >= 1 or crashed.last_exit_code == 7
    assert (crashed.last_exit_code, crashed.last_terminated_reason) == (7, "Error")
    _, pod, _ = pod_of(place, "crash")
    message = rf"back-off [\w.]+ restarting failed container={CONTAINER} pod={pod.name}_{NAMESPACE}\({pod.uid}\)"
    assert re.fullmatch(message, crashed.waiting_message or "")
    trouble = trouble_when(place, "crash", final=True)
    assert (trouble.kind, trouble.fault) == ("crash", "model")
    assert trouble.log is not None
    log = place.cluster.log_tail(NAMESPACE, pod.name, CONTAINER, previous=trouble.log.previous)
    assert log == "version crash starts\n"
    back_off = f"BackOff: Back-off restarting failed container {CONTAINER} in pod {pod.name}_{NAMESPACE}({pod.uid})"
    place.wait("the event", lambda: back_off in pod_of(place, "crash")[1].warnings)


def test_a_process_that_takes_too_much_memory(place: Place) -> None:
    """The container's state or last state is OOMKilled with exit code 137."""

    def killed(container: ContainerStatus) -> bool:
        return "OOMKilled" in (container.terminated_reason, container.last_terminated_reason)

    container = container_when(place, "greedy", "OOMKilled", killed)
    assert 137 in (container.terminated_exit_code, container.last_exit_code)
    trouble = trouble_when(place, "greedy", final=True)
    assert (trouble.kind, trouble.fault) == ("oom", "model")


def test_a_process_that_never_becomes_ready(place: Place) -> None:
    """The container runs unready and is not restarted, and an event of its pod has the probe's message."""
    running = container_when(place, "sick", "a start", lambda container: container.waiting_reason is None)
    assert (running.ready, running.restarts, running.terminated_reason) == (False, 0, None)
    warning = "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 503"
    place.wait("the event", lambda: warning in pod_of(place, "sick")[1].warnings)
    _, pod, _ = pod_of(place, "sick")
    assert (pod.phase, pod.ready) == ("Running", False)
    trouble = trouble_when(place, "sick", final=False)
    assert (trouble.kind, trouble.fault, trouble.final) == ("probe", "model", False)


def test_a_pod_that_fits_nowhere(place: Place) -> None:
    """The pod has no node and no container status; a condition and an event have the scheduler's message."""
    place.wait("the scheduler's condition", lambda: pod_of(place, "unplaceable")[1].unschedulable)
    _, pod, container = pod_of(place, "unplaceable")
    assert (pod.node, pod.phase, container) == (None, "Pending", None)
    assert re.match(r"0/\d nodes are available: .*didn't match Pod's node affinity/selector", pod.unschedulable or "")
    place.wait(
        "the event", lambda: f"FailedScheduling: {pod.unschedulable}" in pod_of(place, "unplaceable")[1].warnings
    )
    trouble = trouble_when(place, "unplaceable", final=False)
    assert (trouble.kind, trouble.fault) == ("unschedulable", "platform")


def test_a_pod_whose_secret_is_missing(place: Place) -> None:
    """The container waits in CreateContainerConfigError with the Secret's name, and the platform is at fault."""
    reason = "CreateContainerConfigError"
    waiting = container_when(place, "secretive", reason, lambda container: container.waiting_reason == reason)
    assert waiting.waiting_message == 'secret "nobody-made-it" not found'
    place.wait(
        "the event",
        lambda: 'Failed: Error: secret "nobody-made-it" not found' in pod_of(place, "secretive")[1].warnings,
    )
    trouble = trouble_when(place, "secretive", final=False)
    assert (trouble.kind, trouble.fault, trouble.final) == ("config", "platform", False)


def test_a_rollout_without_progress_exceeds_its_deadline(place: Place) -> None:
    """Progressing turns False with ProgressDeadlineExceeded, and the Application, still Synced, turns Degraded."""

    def exceeded() -> bool:
        workload = place.workload("missing")
        return workload is not None and workload.progress_deadline_exceeded

    place.wait("the deadline", exceeded)
    place.wait("Degraded", lambda: place.application(TROUBLED).health_status == "Degraded")
    status = place.application(TROUBLED)
    assert (status.sync_status, status.operation_phase) == ("Synced", "Succeeded")
    deployment = place.deployment_json("missing")
    conditions = {condition["type"]: condition for condition in deployment["status"]["conditions"]}
    assert conditions["Progressing"]["status"] == "False"
    assert conditions["Progressing"]["message"].endswith("has timed out progressing.")
    assert (conditions["Available"]["status"], conditions["Available"]["reason"]) == (
        "False",
        "MinimumReplicasUnavailable",
    )


def test_warnings_are_counted_and_name_their_pod(place: Place) -> None:
    """An event names its pod by kind, name and uid, and has the time at which it was last seen."""
    _, pod, _ = pod_of(place, "sick")
    query = {"fieldSelector": f"involvedObject.kind=Pod,involvedObject.name={pod.name},type=Warning"}

    def unhealthy() -> list[dict[str, Any]]:
        return [event for event in place.edge.items(EVENTS, query) if "statuscode: 503" in event["message"]]

    (event,) = place.wait("the event", unhealthy)
    identity = [event["involvedObject"][field] for field in ("kind", "name", "uid", "namespace")]
    assert identity == ["Pod", pod.name, pod.uid, NAMESPACE]
    assert (event["type"], event["reason"]) == ("Warning", "Unhealthy")
    assert event["count"] >= 1
    assert event["lastTimestamp"] >= event["firstTimestamp"]

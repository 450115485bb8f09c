"""Pods in trouble: what their status, their events and their Deployment say, and what the pipeline makes of it."""

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
    """A Deployment with its one pod, and that one's container, when the kubelet has said anything of it."""
    workload = place.workload(name)
    assert workload is not None
    (pod,) = workload.new_pods
    return workload, pod, pod.container(CONTAINER)


def container_when(place: Place, name: str, what: str, so: Callable[[ContainerStatus], bool]) -> ContainerStatus:
    """The container's status in the moment in which it is so."""

    def look() -> ContainerStatus | None:
        _, _, found = pod_of(place, name)
        return found if found is not None and so(found) else None

    return place.wait(f"{name}: {what}", look)


def trouble_when(place: Place, name: str, *, final: bool) -> PodTrouble:
    """What the pipeline says of the pod, as soon as it says it for good (or at all)."""

    def look() -> PodTrouble | None:
        found = explain(pod_of(place, name)[1], CONTAINER)
        return found if found is not None and found.kind != "starting" and (found.final or not final) else None

    return place.wait(f"{name}: trouble", look)


@pytest.mark.parametrize(("name", "reference"), [("missing", f"@{UNKNOWN}"), ("untagged", ":nobody-pushed-it")])
def test_an_image_that_nobody_pushed(place: Place, name: str, reference: str) -> None:
    """It waits in ErrImagePull and ImagePullBackOff, both with the registry's words: the model's fault."""
    image = place.image_repository + reference
    start = re.escape(f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": ')
    # ErrImagePull holds for a moment after each try, ImagePullBackOff until the next.
    failed = container_when(
        place, name, "no image", lambda one: one.waiting_reason in ("ErrImagePull", "ImagePullBackOff")
    )
    assert (failed.image_id, failed.ready, failed.restarts) == ("", False, 0)
    assert re.search(f"{start}.*not found", failed.waiting_message or "")
    backing = container_when(place, name, "ImagePullBackOff", lambda one: one.waiting_reason == "ImagePullBackOff")
    assert (backing.waiting_message or "").startswith(f'Back-off pulling image "{image}": ErrImagePull: ')
    assert re.search(f"{start}.*not found", backing.waiting_message or "")
    trouble = trouble_when(place, name, final=True)
    assert (trouble.kind, trouble.fault) == ("image_pull", "model")
    warnings = pod_of(place, name)[1].warnings
    assert any(one.startswith(f'Failed: Failed to pull image "{image}": ') for one in warnings)
    assert "Failed: Error: ErrImagePull" in warnings


def test_a_process_that_ends_by_itself(place: Place) -> None:
    """CrashLoopBackOff with growing restarts; the last end has its code; the log of the time before is there."""
    crashed = container_when(place, "crash", "CrashLoopBackOff", lambda one: one.waiting_reason == "CrashLoopBackOff")
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
    """OOMKilled with 137, in the state or in the one before."""

    def killed(one: ContainerStatus) -> bool:
        return "OOMKilled" in (one.terminated_reason, one.last_terminated_reason)

    found = container_when(place, "greedy", "OOMKilled", killed)
    assert 137 in (found.terminated_exit_code, found.last_exit_code)
    trouble = trouble_when(place, "greedy", final=True)
    assert (trouble.kind, trouble.fault) == ("oom", "model")


def test_a_process_that_never_becomes_ready(place: Place) -> None:
    """It runs, is not ready, is not restarted, and its pod has the probe's words in an event."""
    running = container_when(place, "sick", "a start", lambda one: one.waiting_reason is None)
    assert (running.ready, running.restarts, running.terminated_reason) == (False, 0, None)
    said = "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 503"
    place.wait("the event", lambda: said in pod_of(place, "sick")[1].warnings)
    _, pod, _ = pod_of(place, "sick")
    assert (pod.phase, pod.ready) == ("Running", False)
    trouble = trouble_when(place, "sick", final=False)
    assert (trouble.kind, trouble.fault, trouble.final) == ("probe", "model", False)


def test_a_pod_that_fits_nowhere(place: Place) -> None:
    """No node, no container status, and the scheduler's sentence in its condition and in an event."""
    place.wait("the scheduler's word", lambda: pod_of(place, "unplaceable")[1].unschedulable)
    _, pod, container = pod_of(place, "unplaceable")
    assert (pod.node, pod.phase, container) == (None, "Pending", None)
    assert re.match(r"0/\d nodes are available: .*didn't match Pod's node affinity/selector", pod.unschedulable or "")
    place.wait(
        "the event", lambda: f"FailedScheduling: {pod.unschedulable}" in pod_of(place, "unplaceable")[1].warnings
    )
    trouble = trouble_when(place, "unplaceable", final=False)
    assert (trouble.kind, trouble.fault) == ("unschedulable", "platform")


def test_a_pod_whose_secret_is_missing(place: Place) -> None:
    """CreateContainerConfigError with the Secret's name: not the model's fault."""
    reason = "CreateContainerConfigError"
    waiting = container_when(place, "secretive", reason, lambda one: one.waiting_reason == reason)
    assert waiting.waiting_message == 'secret "nobody-made-it" not found'
    place.wait(
        "the event",
        lambda: 'Failed: Error: secret "nobody-made-it" not found' in pod_of(place, "secretive")[1].warnings,
    )
    trouble = trouble_when(place, "secretive", final=False)
    assert (trouble.kind, trouble.fault, trouble.final) == ("config", "platform", False)


def test_a_rollout_that_does_not_move_is_given_up(place: Place) -> None:
    """Progressing turns False with ProgressDeadlineExceeded; the Application, Synced all along, is then Degraded."""
    place.wait(
        "the deadline", lambda: (found := place.workload("missing")) is not None and found.progress_deadline_exceeded
    )
    place.wait("Degraded", lambda: place.application(TROUBLED).health_status == "Degraded")
    status = place.application(TROUBLED)
    assert (status.sync_status, status.operation_phase) == ("Synced", "Succeeded")
    conditions = {one["type"]: one for one in place.deployment_json("missing")["status"]["conditions"]}
    assert conditions["Progressing"]["status"] == "False"
    assert conditions["Progressing"]["message"].endswith("has timed out progressing.")
    assert (conditions["Available"]["status"], conditions["Available"]["reason"]) == (
        "False",
        "MinimumReplicasUnavailable",
    )


def test_warnings_are_counted_and_tell_their_pod(place: Place) -> None:
    """An event names its pod by kind, name and uid, and says when it was last seen."""
    _, pod, _ = pod_of(place, "sick")
    query = {"fieldSelector": f"involvedObject.kind=Pod,involvedObject.name={pod.name},type=Warning"}

    def unhealthy() -> list[dict[str, Any]]:
        return [one for one in place.edge.items(EVENTS, query) if "statuscode: 503" in one["message"]]

    (event,) = place.wait("the event", unhealthy)
    about = event["involvedObject"]
    assert (about["kind"], about["name"], about["uid"], about["namespace"]) == ("Pod", pod.name, pod.uid, NAMESPACE)
    assert (event["type"], event["reason"]) == ("Warning", "Unhealthy")
    assert event["count"] >= 1
    assert event["lastTimestamp"] >= event["firstTimestamp"]

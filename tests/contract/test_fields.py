"""The fields that the pipeline reads of each answer, and their types, which are the same on every testbed."""

from typing import Any

from orchestration.promotion.cluster_json import parse_application, parse_node, parse_workload
from orchestration.promotion.cluster_status import PodStatus
from tests.contract.place import PODS, Place
from tests.contract.reading import Reading
from tests.contract.test_answers import EVENTS, REPLICA_SETS


def test_fields_of_a_synced_application(place: Place) -> None:
    """A synced Application has all fields by which a rollout is judged, with times in whole seconds."""
    noted: dict[str, str] = {}
    parse_application(Reading(place.application_json(), noted))
    assert noted == {
        "metadata": "dict",
        "metadata.name": "str",
        "spec": "dict",
        "spec.destination": "dict",
        "spec.destination.name": "str",
        "spec.source": "dict",
        "spec.source.path": "str",
        "spec.source.repoURL": "str",
        "spec.source.targetRevision": "str",
        "spec.syncPolicy": "dict",
        "spec.syncPolicy.automated": "dict",
        "status": "dict",
        "status.health": "dict",
        "status.health.status": "str",
        "status.operationState": "dict",
        "status.operationState.finishedAt": "time",
        "status.operationState.message": "str",
        "status.operationState.phase": "str",
        "status.operationState.syncResult": "dict",
        "status.operationState.syncResult.revision": "str",
        "status.reconciledAt": "time",
        "status.resources": "list",
        "status.resources[].kind": "str",
        "status.resources[].name": "str",
        "status.resources[].namespace": "str",
        "status.sourceType": "str",
        "status.summary": "dict",
        "status.sync": "dict",
        "status.sync.revision": "str",
        "status.sync.status": "str",
    }


def test_fields_of_a_rolled_out_workload(place: Place) -> None:
    """A Deployment, its ReplicaSets and its pods have these fields.

    The pod template is left out, because the parser compares it as a whole.
    """
    place.wait("steady", lambda: place.rolled_out("steady"))
    parts: dict[str, dict[str, str]] = {"deployment": {}, "replica set": {}, "pod": {}}
    query = {"labelSelector": "app=steady"}
    parse_workload(
        "Deployment",
        Reading(place.deployment_json("steady"), parts["deployment"]),
        [Reading(document, parts["replica set"]) for document in place.edge.items(REPLICA_SETS, query)],
        [Reading(document, parts["pod"]) for document in place.edge.items(PODS, query)],
        (),
    )
    assert _but_the_template(parts["deployment"]) == {
        "metadata": "dict",
        "metadata.name": "str",
        "metadata.namespace": "str",
        "metadata.generation": "int",
        "metadata.uid": "str",
        "spec": "dict",
        "spec.replicas": "int",
        "status": "dict",
        "status.availableReplicas": "int",
        "status.conditions": "list",
        "status.conditions[].reason": "str",
        "status.conditions[].type": "str",
        "status.observedGeneration": "int",
        "status.readyReplicas": "int",
        "status.replicas": "int",
        "status.updatedReplicas": "int",
    }
    assert _but_the_template(parts["replica set"]) == {
        "metadata": "dict",
        "metadata.creationTimestamp": "time",
        "metadata.labels": "dict",
        "metadata.labels.pod-template-hash": "str",
        "metadata.ownerReferences": "list",
        "metadata.ownerReferences[].controller": "bool",
        "metadata.ownerReferences[].uid": "str",
        "metadata.uid": "str",
        "spec": "dict",
    }
    assert parts["pod"] == {
        "metadata": "dict",
        "metadata.creationTimestamp": "time",
        "metadata.labels": "dict",
        "metadata.labels.pod-template-hash": "str",
        "metadata.name": "str",
        "metadata.ownerReferences": "list",
        "metadata.ownerReferences[].controller": "bool",
        "metadata.ownerReferences[].uid": "str",
        "metadata.uid": "str",
        "spec": "dict",
        "spec.containers": "list",
        "spec.containers[].env": "list",
        "spec.containers[].env[].name": "str",
        "spec.containers[].env[].value": "str",
        "spec.containers[].env[].valueFrom": "dict",
        "spec.containers[].name": "str",
        "spec.nodeName": "str",
        "status": "dict",
        "status.conditions": "list",
        "status.conditions[].status": "str",
        "status.conditions[].type": "str",
        "status.containerStatuses": "list",
        "status.containerStatuses[].image": "str",
        "status.containerStatuses[].imageID": "str",
        "status.containerStatuses[].lastState": "dict",
        "status.containerStatuses[].name": "str",
        "status.containerStatuses[].ready": "bool",
        "status.containerStatuses[].restartCount": "int",
        "status.containerStatuses[].state": "dict",
        "status.phase": "str",
    }


def _but_the_template(noted: dict[str, str]) -> dict[str, str]:
    return {path: kind for path, kind in noted.items() if not path.startswith("spec.template")}


def read_pods(place: Place, name: str, noted: dict[str, str]) -> tuple[PodStatus, ...]:
    """Read a Deployment's pods as the pipeline does, and note which of their fields are read."""
    query = {"labelSelector": f"app={name}"}
    pods = [Reading(document, noted) for document in place.edge.items(PODS, query)]
    sets = place.edge.items(REPLICA_SETS, query)
    return parse_workload("Deployment", place.deployment_json(name), sets, pods, ()).pods


def test_fields_of_a_crashed_container(place: Place) -> None:
    """The waiting state of a crashed container has a reason and a message, its last state a reason and an exit code."""
    noted: dict[str, str] = {}

    def crashed() -> dict[str, str]:
        noted.clear()
        pods = read_pods(place, "crash", noted)
        reasons = [container.waiting_reason for pod in pods for container in pod.containers]
        return noted if reasons == ["CrashLoopBackOff"] else {}

    place.wait("CrashLoopBackOff", crashed)
    start = "status.containerStatuses[]."
    states = {path.removeprefix(start): kind for path, kind in noted.items() if "tate." in path}
    assert states == {
        "lastState.terminated": "dict",
        "lastState.terminated.exitCode": "int",
        "lastState.terminated.reason": "str",
        "state.waiting": "dict",
        "state.waiting.message": "str",
        "state.waiting.reason": "str",
    }


def test_fields_of_an_unscheduled_pod(place: Place) -> None:
    """An unscheduled pod has no node; the scheduler's condition has a status, a reason and a message."""
    noted: dict[str, str] = {}

    def unplaced() -> bool:
        noted.clear()
        return any(pod.unschedulable for pod in read_pods(place, "unplaceable", noted))

    place.wait("the scheduler's condition", unplaced)
    assert noted["status.conditions[].message"] == "str"
    assert "spec.nodeName" not in noted
    assert "status.containerStatuses" not in noted


def test_fields_of_a_warning(place: Place) -> None:
    """An event has its pod, its type, reason and message, and the time at which it was last seen.

    The scheduler writes events of the newer kind, whose time is `eventTime`, in microseconds.
    """

    def read(name: str) -> dict[str, Any]:
        noted: dict[str, str] = {}
        query = {"fieldSelector": "involvedObject.kind=Pod,type=Warning"}
        events = place.edge.items(EVENTS, query)
        of_pod = [Reading(event, noted) for event in events if event["involvedObject"]["name"].startswith(name)]
        parse_workload("Deployment", {}, (), (), of_pod)
        return noted

    kubelet = place.wait("a probe's event", lambda: read("sick-"))
    involved = {"involvedObject": "dict", "involvedObject.kind": "str", "involvedObject.name": "str"}
    assert {path: kind for path, kind in kubelet.items() if kind != "NoneType"} == {
        **involved,
        "lastTimestamp": "time",
        "message": "str",
        "reason": "str",
        "type": "str",
    }
    scheduler = place.wait("the scheduler's event", lambda: read("unplaceable-"))
    assert {**involved, "message": "str", "reason": "str", "type": "str"}.items() <= scheduler.items()
    assert {"lastTimestamp", "eventTime"} & scheduler.keys()


def test_fields_of_a_node(place: Place) -> None:
    """A node has a label with its processor architecture, addresses, and conditions."""
    noted: dict[str, str] = {}
    for document in place.edge.items("/api/v1/nodes"):
        parse_node(Reading(document, noted))
    assert noted == {
        "metadata": "dict",
        "metadata.labels": "dict",
        "metadata.labels.kubernetes.io/arch": "str",
        "metadata.name": "str",
        "status": "dict",
        "status.addresses": "list",
        "status.addresses[].address": "str",
        "status.addresses[].type": "str",
        "status.conditions": "list",
        "status.conditions[].status": "str",
        "status.conditions[].type": "str",
    }

"""Argo CD's health of an object and of an Application, by gitops-engine's rules."""

from testbeds.sandbox.cluster.objects import Json

_WORST_LAST = ("Healthy", "Suspended", "Progressing", "Missing", "Degraded", "Unknown")


def object_health(kind: str, live: Json | None) -> Json | None:
    """Return the health of a live object; None for kinds without health."""
    if live is None:
        return {"status": "Missing"}
    if kind == "Service":
        return {"status": "Healthy"}
    if kind == "HorizontalPodAutoscaler":
        return _autoscaler_health(live)
    if kind == "StatefulSet":
        return _stateful_set_health(live)
    if kind == "DaemonSet":
        return _daemon_set_health(live)
    return _deployment_health(live) if kind == "Deployment" else None


def _autoscaler_health(autoscaler: Json) -> Json:
    """Judge an autoscaler by its first telling condition: without metrics it is Healthy, as its scale can be read."""
    for condition in autoscaler.get("status", {}).get("conditions", []):
        if condition["reason"] in ("FailedGetScale", "FailedUpdateScale", "FailedGetResourceMetric", "InvalidSelector"):
            return {"status": "Degraded", "message": condition["message"]}
        if condition["type"] in ("AbleToScale", "ScalingLimited") and condition["status"] == "True":
            return {"status": "Healthy", "message": condition["message"]}
    return {"status": "Progressing", "message": "Waiting to Autoscale"}


def _deployment_health(deployment: Json) -> Json:
    spec, status, name = deployment["spec"], deployment.get("status", {}), deployment["metadata"]["name"]
    if spec.get("paused"):
        return {"status": "Suspended", "message": "Deployment is paused"}
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return _progressing("observed deployment generation less than desired generation")
    conditions = status.get("conditions", [])
    if any(each.get("reason") == "ProgressDeadlineExceeded" for each in conditions if each["type"] == "Progressing"):
        return {"status": "Degraded", "message": f'Deployment "{name}" exceeded its progress deadline'}
    wanted, updated = spec["replicas"], status.get("updatedReplicas", 0)
    if updated < wanted:
        return _progressing(f"{updated} out of {wanted} new replicas have been updated...")
    if status.get("replicas", 0) > updated:
        return _progressing(f"{status['replicas'] - updated} old replicas are pending termination...")
    available = status.get("availableReplicas", 0)
    if available < updated:
        return _progressing(f"{available} of {updated} updated replicas are available...")
    return {"status": "Healthy"}


def _stateful_set_health(stateful_set: Json) -> Json:
    spec, status = stateful_set["spec"], stateful_set.get("status", {})
    if status.get("observedGeneration", 0) < stateful_set["metadata"]["generation"]:
        return {"status": "Progressing", "message": "Waiting for statefulset spec update to be observed..."}
    missing = spec["replicas"] - status.get("readyReplicas", 0)
    if missing > 0:
        return {"status": "Progressing", "message": f"Waiting for {missing} pods to be ready..."}
    if spec["updateStrategy"]["type"] == "OnDelete":
        return {"status": "Healthy", "message": f"statefulset has {status.get('readyReplicas', 0)} ready pods"}
    if status["updateRevision"] != status["currentRevision"] and not spec["updateStrategy"].get("rollingUpdate"):
        finding = f"{status.get('updatedReplicas', 0)} pods at revision {status['updateRevision']}"
        return {"status": "Progressing", "message": f"waiting for statefulset rolling update to complete {finding}..."}
    return {"status": "Healthy"}


def _daemon_set_health(daemon_set: Json) -> Json:
    status, name = daemon_set.get("status", {}), daemon_set["metadata"]["name"]
    if status.get("observedGeneration", 0) < daemon_set["metadata"]["generation"]:
        return {"status": "Progressing", "message": "Waiting for daemon set spec update to be observed..."}
    wanted = status.get("desiredNumberScheduled", 0)
    updated, available = (status.get(field, 0) for field in ("updatedNumberScheduled", "numberAvailable"))
    start = f'Waiting for daemon set "{name}" rollout to finish: '
    if daemon_set["spec"]["updateStrategy"]["type"] != "OnDelete":
        if updated < wanted:
            finding = f"{start}{updated} out of {wanted} new pods have been updated..."
            return {"status": "Progressing", "message": finding}
        if available < wanted:
            finding = f"{start}{available} of {wanted} updated pods are available..."
            return {"status": "Progressing", "message": finding}
    return {"status": "Healthy"}


def _progressing(finding: str) -> Json:
    return {"status": "Progressing", "message": f"Waiting for rollout to finish: {finding}"}


def application_health(resources: list[Json]) -> str:
    """Return the worst health of the resources that have a health; resources that only await pruning do not count."""
    healths = [resource["health"]["status"] for resource in resources if "health" in resource]
    return max(healths, key=_WORST_LAST.index, default="Healthy")

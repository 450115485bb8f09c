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


def _progressing(finding: str) -> Json:
    return {"status": "Progressing", "message": f"Waiting for rollout to finish: {finding}"}


def application_health(resources: list[Json]) -> str:
    """Return the worst health of the resources that have a health; resources that only await pruning do not count."""
    healths = [resource["health"]["status"] for resource in resources if "health" in resource]
    return max(healths, key=_WORST_LAST.index, default="Healthy")

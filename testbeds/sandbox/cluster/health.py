"""Argo CD's health of an object and of an Application, by gitops-engine's rules."""

from testbeds.sandbox.cluster.objects import Json

_WORST_LAST = ("Healthy", "Suspended", "Progressing", "Missing", "Degraded", "Unknown")


def object_health(kind: str, live: Json | None) -> Json | None:
    """Health of one live object; None for a kind that has none."""
    if live is None:
        return {"status": "Missing"}
    if kind == "Service":
        return {"status": "Healthy"}
    if kind == "HorizontalPodAutoscaler":
        return _autoscaler_health(live)
    return _deployment_health(live) if kind == "Deployment" else None


def _autoscaler_health(autoscaler: Json) -> Json:
    """By its first condition that says something: one without metrics is Healthy, as its scale can be read."""
    for one in autoscaler.get("status", {}).get("conditions", []):
        if one["reason"] in ("FailedGetScale", "FailedUpdateScale", "FailedGetResourceMetric", "InvalidSelector"):
            return {"status": "Degraded", "message": one["message"]}
        if one["type"] in ("AbleToScale", "ScalingLimited") and one["status"] == "True":
            return {"status": "Healthy", "message": one["message"]}
    return {"status": "Progressing", "message": "Waiting to Autoscale"}


def _deployment_health(deployment: Json) -> Json:
    spec, status, name = deployment["spec"], deployment.get("status", {}), deployment["metadata"]["name"]
    if spec.get("paused"):
        return {"status": "Suspended", "message": "Deployment is paused"}
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return _progressing("observed deployment generation less than desired generation")
    conditions = status.get("conditions", [])
    if any(one.get("reason") == "ProgressDeadlineExceeded" for one in conditions if one["type"] == "Progressing"):
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
    """The worst of the resources that have a health; those that are only to be pruned do not count."""
    found = [one["health"]["status"] for one in resources if "health" in one]
    return max(found, key=_WORST_LAST.index, default="Healthy")

"""Prometheus's targets by HTTP discovery: each annotated pod, scraped through the API server's pod proxy.

What `manifests/platform/monitoring/config/scrape-models.yml` says by its relabelling, this says by itself.
"""

from testbeds.sandbox.cluster.objects import Json, Store

_LABELS = {"cluster": "edge", "environment": "production", "location": "edge"}
_NOT_SCRAPED = ("Pending", "Succeeded", "Failed")


def scrape_targets(store: Store, address: str) -> list[Json]:
    """Return one group per pod and port, with the labels of the real discovery.

    The port is that of the annotation `prometheus.io/port`, or else the one of the name `http`. `address` is the API
    server's. As there, `instance` is the same for all pods: they are told apart by `pod`.
    """
    groups = []
    for pod in store.all("Pod"):
        metadata, labels = pod["metadata"], pod["metadata"].get("labels", {})
        annotations = metadata.get("annotations", {})
        if annotations.get("prometheus.io/scrape") != "true" or pod["status"]["phase"] in _NOT_SCRAPED:
            continue
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", []):
                stated = annotations.get("prometheus.io/port")
                if (str(port["containerPort"]) != stated) if stated else (port.get("name") != "http"):
                    continue
                named = {"namespace": metadata["namespace"], "pod": metadata["name"], "container": container["name"]}
                named |= {"app": labels["app"]} if "app" in labels else {}
                proxied = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}:{port['containerPort']}"
                named["__metrics_path__"] = f"{proxied}/proxy/metrics"
                groups.append({"targets": [address], "labels": _LABELS | named})
    return groups

"""Prometheus's targets by HTTP discovery: each annotated pod, scraped through the API server's pod proxy."""

from testbeds.sandbox.cluster.objects import Json, Store

_LABELS = {"cluster": "edge", "environment": "production", "location": "edge"}


def scrape_targets(store: Store, address: str) -> list[Json]:
    """One group a pod, with the labels that the real discovery gives it; `address` is the API server's."""
    groups = []
    for pod in store.all("Pod"):
        metadata, status = pod["metadata"], pod["status"]
        annotations, labels = metadata.get("annotations", {}), metadata.get("labels", {})
        container = pod["spec"]["containers"][0]
        ports = [str(one["containerPort"]) for one in container.get("ports", [])]
        port = annotations.get("prometheus.io/port") or next(iter(ports), "")
        wanted = annotations.get("prometheus.io/scrape") == "true" and status["phase"] == "Running" and port
        if not wanted:
            continue
        path = annotations.get("prometheus.io/path", "/metrics")
        proxy = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}:{port}/proxy{path}"
        named = {"namespace": metadata["namespace"], "pod": metadata["name"], "container": container["name"]}
        named |= {"app": labels.get("app", ""), "version": labels.get("app.kubernetes.io/version", "")}
        named |= {"instance": f"{status['podIP']}:{port}", "__metrics_path__": proxy}
        groups.append(
            {"targets": [address], "labels": _LABELS | {name: value for name, value in named.items() if value}}
        )
    return groups

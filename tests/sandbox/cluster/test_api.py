"""The API server's behaviour: tokens, Status errors, conflicts, selectors, pages, logs and the pod proxy."""

import json
import socket

import httpx2

from tests.sandbox.cluster.conftest import APPLICATION, DEPLOYMENT, PODS, Running


def test_objects_and_errors_have_kubernetes_shapes(running: Running) -> None:
    """All calls of the API, on one stand-in, answer as Kubernetes does."""
    _a_token_is_required(running)
    _unknown_objects_are_404(running)
    _stale_patches_conflict(running)
    _lists_are_selected_and_paged(running)
    _the_pod_proxy_forwards_requests(running)
    _clients_that_hang_up_are_no_error(running)
    _another_application_is_followed(running)
    _prometheus_finds_each_pod(running)
    _the_kubeconfig_has_both_contexts(running)
    _an_api_that_is_not_ready_answers_with_errors(running)


def _a_token_is_required(running: Running) -> None:
    answer = httpx2.get(f"{running.cluster.url}{DEPLOYMENT}", headers={"Authorization": "Bearer wrong"})
    assert (answer.status_code, answer.json()["kind"], answer.json()["reason"]) == (401, "Status", "Unauthorized")
    assert httpx2.get(f"{running.cluster.url}/readyz").text == "ok"


def _unknown_objects_are_404(running: Running) -> None:
    status = running.cluster.client.get("/apis/apps/v1/namespaces/ml/deployments/other").json()
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 404, "NotFound")
    assert status["message"] == 'deployments.apps "other" not found'
    assert running.cluster.client.get("/api/v1/secrets").json()["kind"] == "Status"


def _stale_patches_conflict(running: Running) -> None:
    patch = {"metadata": {"resourceVersion": "1", "annotations": {"a": "b"}}}
    answer = running.cluster.patch(APPLICATION, patch)
    assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")
    before = running.deployment["metadata"]
    after = running.cluster.patch(DEPLOYMENT, {"metadata": {"annotations": {"a": "b"}}}).json()["metadata"]
    assert (after["generation"], after["annotations"]["a"]) == (before["generation"], "b")
    assert int(after["resourceVersion"]) > int(before["resourceVersion"])
    assert running.cluster.client.patch(DEPLOYMENT, content=b"{}").status_code == 415


def _lists_are_selected_and_paged(running: Running) -> None:
    first = running.cluster.get(PODS, limit="1")
    assert (first["kind"], first["metadata"]["remainingItemCount"]) == ("PodList", 1)
    second = running.cluster.get(
        PODS, labelSelector="app in (iris,other),!absent", **{"continue": first["metadata"]["continue"]}
    )
    names = [item["metadata"]["name"] for page in (first, second) for item in page["items"]]
    assert sorted(names) == sorted(pod["metadata"]["name"] for pod in running.pods)
    assert running.cluster.get(PODS, labelSelector="app!=iris")["items"] == []
    replica_set = running.cluster.get("/apis/apps/v1/namespaces/ml/replicasets", labelSelector="app=iris")["items"][0]
    assert replica_set["metadata"]["ownerReferences"][0]["uid"] == running.deployment["metadata"]["uid"]
    assert running.pods[0]["metadata"]["ownerReferences"][0]["uid"] == replica_set["metadata"]["uid"]
    unknown = running.cluster.client.get(PODS, params={"fieldSelector": "spec.colour=blue"})
    assert (unknown.status_code, unknown.json()["kind"]) == (400, "Status")
    (node,) = running.cluster.get("/api/v1/nodes")["items"]
    assert {condition["type"]: condition["status"] for condition in node["status"]["conditions"]} == {"Ready": "True"}


def _the_pod_proxy_forwards_requests(running: Running) -> None:
    name = running.pods[0]["metadata"]["name"]
    client = running.cluster.client
    answer = client.post(f"{PODS}/{name}:8080/proxy/predict", content=b"{}", headers={"X-Incumbent-Replay": "p/1"})
    assert answer.text == "v1 {} p/1"
    assert client.get(f"{PODS}/{name}:8080/proxy/metrics?a=b").text == f"v1 /metrics?a=b {name}"
    assert client.get(f"{PODS}/{name}/log", params={"tailLines": "5"}).text == "version v1 starts\n"
    unreachable = client.get(f"{PODS}/{name}:8081/proxy/metrics")
    assert (unreachable.status_code, unreachable.json()["kind"]) == (503, "Status")
    assert client.get(f"{PODS}/other:8080/proxy/metrics").status_code == 404


def _clients_that_hang_up_are_no_error(running: Running) -> None:
    service = httpx2.URL(running.service_url)
    running.cluster.wait_for("routes", lambda: "leads to 127" in running.cluster.log_file.read_text())
    for _ in range(10):
        with socket.create_connection((service.host, service.port)) as client:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: iris\r\nConnection: close\r\n\r\n")
        assert httpx2.get(service.join("/health"), trust_env=False).status_code == 200
    assert "exception was never retrieved" not in running.cluster.log_file.read_text()


def _another_application_is_followed(running: Running) -> None:
    path = APPLICATION.rpartition("/")[0]
    application = {name: running.application[name] for name in ("apiVersion", "kind", "spec")}
    application["metadata"] = {"name": "other", "namespace": "argocd"}
    created = running.cluster.client.post(path, json=application)
    assert (created.status_code, created.json()["metadata"]["name"]) == (201, "other")
    running.cluster.wait_for(
        "its comparison with Git",
        lambda: running.cluster.get(f"{path}/other")["status"]["sync"].get("revision"),
    )
    again = running.cluster.client.post(path, json=application)
    assert (again.status_code, again.json()["reason"]) == (409, "AlreadyExists")
    invalid = running.cluster.client.post(path, json={**application, "spec": {}, "metadata": {"name": "third"}})
    assert (invalid.status_code, invalid.json()["reason"]) == (422, "Invalid")


def _prometheus_finds_each_pod(running: Running) -> None:
    groups = running.cluster.get("/sandbox/prometheus/targets")
    assert {group["labels"]["pod"] for group in groups} == {pod["metadata"]["name"] for pod in running.pods}
    labels = groups[0]["labels"]
    assert (labels["cluster"], labels["namespace"], labels["container"]) == ("edge", "ml", "model-server")
    answer = running.cluster.client.get(f"http://{groups[0]['targets'][0]}{labels['__metrics_path__']}")
    assert answer.text.split()[1:] == ["/metrics", labels["pod"]]


def _the_kubeconfig_has_both_contexts(running: Running) -> None:
    config = json.loads(running.cluster.kubeconfig.read_text())
    assert [context["name"] for context in config["contexts"]] == ["gcp", "edge"]
    assert running.cluster.kubeconfig.stat().st_mode & 0o077 == 0
    assert config["users"][0]["user"]["token"] not in running.cluster.log_file.read_text()


def _an_api_that_is_not_ready_answers_with_errors(running: Running) -> None:
    running.cluster.set_faults(not_ready=True)
    assert running.cluster.client.get("/readyz").status_code == 500
    assert running.cluster.client.get(DEPLOYMENT).json()["code"] == 503
    unknown = running.cluster.client.post("/sandbox/faults", json={"colour": True})
    assert (unknown.status_code, "unknown fault" in unknown.text) == (400, True)
    running.cluster.set_faults(not_ready=False, node_not_ready=True)
    (node,) = running.cluster.get("/api/v1/nodes")["items"]
    assert node["status"]["conditions"][0]["status"] == "Unknown"

"""The real Prometheus with its configuration from the cluster, scraping HTTP servers that simulate both clusters."""

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from ruamel.yaml import YAML
from werkzeug import Request, Response

from bootstrap.owner import read_owner
from testbeds.common.processes import Processes, wait_until
from testbeds.common.services import HOST, answers, free_ports
from testbeds.common.tools import CHECKOUT
from testbeds.model_server.metrics import Metrics
from tests.platform.programs import PROMETHEUSES, sandbox_prometheus

MONITORING = CHECKOUT / "manifests/platform/monitoring"
_SECONDS = 120.0
_LIMIT = 64 * 1024 * 1024 * 1024
"""More than a test's process takes, whose own memory the simulated model server reports."""
_POD = 'container="model-server",namespace="ml-apps",pod="iris-1"'
_TARGETS = 'up{job!~"prometheus|alertmanager|dispatcher"}'
_ANSWERING, _FAILING = 11, 3
"""Wine's NodePort does not answer, one pod exposes too many series, and one a label that is too long."""
_OBJECTS = f"""\
kube_pod_container_status_restarts_total{{{_POD}}} 0
kube_pod_container_resource_limits{{{_POD},resource="memory",unit="byte"}} {_LIMIT}
"""
_MEASURED = f"""\
container_memory_working_set_bytes{{id="/"}} 5
container_memory_working_set_bytes{{id="/kubepods"}} 4
container_memory_working_set_bytes{{id="/kubepods/pod1",namespace="ml-apps",pod="iris-1"}} 3
container_memory_working_set_bytes{{id="/kubepods/pod1/a",{_POD}}} 2
container_network_receive_bytes_total{{id="/kubepods/pod1/a",{_POD}}} 1
container_fs_usage_bytes{{device="/dev/sda1",id="/"}} 7
container_fs_usage_bytes{{device="/dev/sda1",id="/kubepods/pod1/a",{_POD}}} 1
machine_memory_bytes 9
"""
_VOLUMES = """\
kubelet_volume_stats_used_bytes{namespace="mlflow",persistentvolumeclaim="mlflow-pvc"} 5
kubelet_running_pods 3
"""
_APPLICATIONS = """\
argocd_app_info{namespace="argocd",name="iris-classifier",sync_status="Synced",health_status="Healthy"} 1
argocd_kubectl_exec_pending 0
"""
_TWO_VERSIONS = """\
model_info{model="wine-quality",version="3",image="i",run_id="r"} 1
model_info{model="wine-quality",version="4",image="i",run_id="r"} 1
process_resident_memory_bytes 1000
"""
_MANY_SERIES = "".join(f'flood{{number="{number}"}} 1\n' for number in range(3000))
_LONG_LABEL = f'flood{{text="{"x" * 1000}"}} 1\n'
_PAGES = {"wine-1": _TWO_VERSIONS, "many-1": _MANY_SERIES, "long-1": _LONG_LABEL}
"""What other pods than iris-1, which is a model server's, expose."""
_OF_CLUSTER = {"cluster": "edge", "environment": "production", "location": "edge"}


@pytest.fixture(scope="module", params=PROMETHEUSES)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start Prometheus, and yield its address once it has scraped all simulated targets and recorded an SLI."""
    folder = tmp_path_factory.mktemp("prometheus")
    processes = Processes(folder / "processes")
    with HTTPServer(threaded=True) as edge, HTTPServer() as objects, HTTPServer() as exporter, HTTPServer() as argocd:
        _simulate_edge(edge)
        _serve(objects, "/metrics", _OBJECTS)
        _serve(exporter, "/metrics", 'incumbent_last_look_timestamp_seconds{policy="iris-classifier-edge"} 1\n')
        _serve(argocd, "/metrics", _APPLICATIONS)
        servers = (edge, objects, exporter, argocd)
        _write_configuration(folder, *(f"{server.host}:{server.port}" for server in servers))
        if request.param is sandbox_prometheus:
            _write_for_distribution(folder, edge)
        (port,) = free_ports(1)
        address = f"http://{HOST}:{port}"
        command: list[str | Path] = [request.param(), f"--config.file={folder / 'config/prometheus.yml'}"]
        service = processes.start(
            "prometheus",
            [*command, f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={HOST}:{port}"],
        )
        try:
            wait_until(lambda: answers(f"{address}/-/ready"), _SECONDS, "Prometheus is ready", service)
            wait_until(
                lambda: _answering(address) == (_ANSWERING, _FAILING), _SECONDS, "all targets are scraped", service
            )
            wait_until(lambda: query(address, "model_version:memory_of_limit"), _SECONDS, "an SLI is recorded", service)
            yield address
        finally:
            processes.stop_all()


def _answering(url: str) -> tuple[int, int]:
    """Return how many simulated targets answered their last scrape, and how many did not."""
    values = [sample["value"] for sample in query(url, _TARGETS)]
    return values.count("1"), values.count("0")


def query(url: str, expression: str) -> list[dict[str, str]]:
    """Return the labels of each sample of an instant query, and its value as another label `value`."""
    address = f"{url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(address, timeout=10) as response:
        return [{**sample["metric"], "value": sample["value"][1]} for sample in json.load(response)["data"]["result"]]


def test_each_pod_is_a_target_of_its_own(url: str) -> None:
    """A running pod with the annotation is a target under its own name; pending pods and others are not targets."""
    found = {sample["pod"] for sample in query(url, 'up{job="edge-pods"}')}
    assert found == {"iris-1", "iris-4", "wine-1", "many-1", "long-1"}
    (up,) = query(url, 'up{job="edge-pods",pod="iris-1"}')
    assert up.items() >= {**_OF_CLUSTER, "namespace": "ml-apps", "pod": "iris-1", "app": "iris-classifier"}.items()
    assert up["value"] == "1"


def test_a_pod_may_name_the_port_of_its_metrics(url: str) -> None:
    """A server with metrics at a port of their own is scraped there, and not at the port of the name http as well."""
    (up,) = query(url, 'up{job="edge-pods",pod="iris-4"}')
    assert up["value"] == "1"
    assert query(url, 'rest_server_requests_total{pod="iris-4"}')


def test_traffic_has_the_version_that_the_pod_reports(url: str) -> None:
    """A pod's counters have the model and version that the pod reports, in addition to its target's labels."""
    (predictions,) = query(url, 'model_predictions_total{source="real",outcome="ok"}')
    assert predictions.items() >= {**_OF_CLUSTER, "pod": "iris-1", "model": "iris-classifier", "version": "7"}.items()
    (memory,) = query(url, "model_version:memory_of_limit")
    assert memory.items() >= {**_OF_CLUSTER, "model": "iris-classifier", "version": "7"}.items()
    assert 0 < float(memory["value"]) < 1


def test_a_pod_that_exposes_too_much_fails_alone(url: str) -> None:
    """Of a pod above the limits on series or labels nothing is stored, and the others are scraped as before."""
    assert {sample["pod"]: sample["value"] for sample in query(url, 'up{job="edge-pods"}')} == {
        "iris-1": "1",
        "iris-4": "1",
        "wine-1": "1",
        "many-1": "0",
        "long-1": "0",
    }
    assert query(url, 'flood{job="edge-pods"}') == []


def test_a_pod_that_says_two_versions_costs_only_its_own_records(url: str) -> None:
    """No rule fails, the other model's memory is recorded, and there is an alert about the pod itself."""
    assert [sample["pod"] for sample in query(url, "namespace_pod:model_info:max")] == ["iris-1"]
    assert [sample["model"] for sample in query(url, "model_version:memory_of_limit")] == ["iris-classifier"]
    alert = 'ALERTS{alertname="ModelInfoAmbiguous",pod="wine-1"}'
    wait_until(lambda: query(url, alert), _SECONDS, "the alert is pending")
    with urllib.request.urlopen(f"{url}/api/v1/rules", timeout=10) as response:
        groups = json.load(response)["data"]["groups"]
    health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert health["model_version:memory_of_limit"] == "ok"
    assert set(health.values()) <= {"ok", "unknown"}, "unknown means not evaluated yet"


def test_services_are_only_checked_for_an_answer(url: str) -> None:
    """For each NodePort only `up` is kept, because the other metrics are those of a random pod."""
    assert {(sample["app"], sample["value"]) for sample in query(url, 'up{job="edge-services"}')} == {
        ("iris-classifier", "1"),
        ("wine-quality", "0"),
    }
    assert {sample["job"] for sample in query(url, 'model_info{job!=""}')} == {"edge-pods"}


@pytest.mark.parametrize("cluster", ["gcp", "edge"])
def test_objects_keep_their_names(cluster: str, url: str) -> None:
    """A metric of kube-state-metrics has the name of the pod it describes, not of kube-state-metrics' own pod."""
    (restarts,) = query(url, f'kube_pod_container_status_restarts_total{{cluster="{cluster}"}}')
    assert (restarts["namespace"], restarts["pod"], restarts["location"]) == ("ml-apps", "iris-1", cluster)
    assert not [label for label in restarts if label.startswith("exported_")]


@pytest.mark.parametrize("cluster", ["gcp", "edge"])
def test_containers_and_nodes_are_kept(cluster: str, url: str) -> None:
    """Of a kubelet's metrics, those of containers and the node are kept; other cgroups and unused metrics are not."""
    samples = query(url, f'{{job="{cluster}-cadvisor",__name__=~"container_.+|machine_.+"}}')
    assert {(sample["__name__"], sample.get("container", ""), sample.get("id", "")) for sample in samples} == {
        ("container_fs_usage_bytes", "", "/"),
        ("container_memory_working_set_bytes", "", "/"),
        ("container_memory_working_set_bytes", "model-server", "/kubepods/pod1/a"),
        ("machine_memory_bytes", "", ""),
    }
    assert {(sample["cluster"], sample["node"]) for sample in samples} == {(cluster, "node-1")}


def test_the_volumes_of_the_control_plane_are_kept(url: str) -> None:
    """Of the kubelet's own metrics only those of volumes are kept, with the claim's namespace."""
    (used,) = query(url, '{job="gcp-kubelet",__name__=~"kubelet_.+|model_.+"}')
    assert (used["persistentvolumeclaim"], used["namespace"], used["node"]) == ("mlflow-pvc", "mlflow", "node-1")


def test_argocds_applications_are_kept(url: str) -> None:
    """Of Argo CD's metrics those of applications are kept, with the application's own name and namespace."""
    (application,) = query(url, '{job="argocd",__name__=~"argocd_.+"}')
    assert (application["name"], application["namespace"]) == ("iris-classifier", "argocd")


def test_the_address_of_the_runbooks_is_in_alerts_alone(url: str) -> None:
    """Alerts are sent with the address in their annotation and without a label of it; series do not have it at all."""
    with urllib.request.urlopen(f"{url}/api/v1/alerts", timeout=10) as response:
        alerts = json.load(response)["data"]["alerts"]
    (watchdog,) = [alert for alert in alerts if alert["labels"]["alertname"] == "Watchdog"]
    assert watchdog["annotations"]["runbook_url"].endswith("/docs/runbooks.md#watchdog")
    assert watchdog["annotations"]["runbook_url"].startswith("https://")
    assert "runbooks" not in watchdog["labels"]


def test_the_metrics_of_promotions_are_scraped(url: str) -> None:
    """The exporter's metrics are stored under the job `incumbent`."""
    (last_look,) = query(url, "incumbent_last_look_timestamp_seconds")
    assert (last_look["job"], last_look["cluster"], last_look["policy"]) == (
        "incumbent",
        "gcp",
        "iris-classifier-edge",
    )


def test_a_target_that_does_not_answer_raises_an_alert(url: str) -> None:
    """The rules are loaded and evaluated: the only service that is not simulated has a pending alert."""
    alert = 'ALERTS{alertname="ModelServiceDown",job="edge-services",app="wine-quality",alertstate="pending"}'
    wait_until(lambda: query(url, alert), _SECONDS, "the alert is pending")


def _simulate_edge(server: HTTPServer) -> None:
    """Answer as edge's API server and NodePort do, and as a kubelet of gcp."""
    model = Metrics(model="iris-classifier", version="7", image="registry/iris:7", run_id="r").text().decode()
    _serve(server, "/metrics", model + _VOLUMES)
    _serve(server, "/metrics/cadvisor", _MEASURED)
    for pod, page in {"iris-1": model, **_PAGES}.items():
        _serve(server, f"/api/v1/namespaces/ml-apps/pods/{pod}:8080/proxy/metrics", page)
    _serve(server, "/api/v1/namespaces/monitoring/services/kube-state-metrics:http/proxy/metrics", _OBJECTS)
    _serve(server, "/api/v1/nodes/node-1/proxy/metrics/cadvisor", _MEASURED)
    _serve(server, "/api/v1/namespaces/ml-apps/pods/iris-4:8082/proxy/metrics", "rest_server_requests_total 1\n")
    node = {
        "metadata": {"name": "node-1"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": server.host}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": server.port}},
        },
    }
    for path, kind, items in (("/api/v1/namespaces/ml-apps/pods", "Pod", _pods()), ("/api/v1/nodes", "Node", [node])):
        listed = {"apiVersion": "v1", "kind": f"{kind}List", "metadata": {"resourceVersion": "1"}, "items": items}
        server.expect_request(path).respond_with_handler(_list_or_watch(json.dumps(listed)))


def _serve(server: HTTPServer, path: str, text: str) -> None:
    server.expect_request(path).respond_with_data(text, content_type="text/plain; version=0.0.4")


def _list_or_watch(listed: str) -> Callable[[Request], Response]:
    """Return a handler that answers with a list, or with a watch that ends at once."""

    def answer(request: Request) -> Response:
        return Response("" if "watch" in request.args else listed, content_type="application/json")

    return answer


def _pods() -> list[dict[str, Any]]:
    scraped = [_pod(name, "Running", "true") for name in ("iris-1", *_PAGES)]
    scraped.append(_pod("iris-4", "Running", "true", metrics_port="8082"))
    return [*scraped, _pod("iris-2", "Pending", "true"), _pod("iris-3", "Running", "false")]


def _pod(name: str, phase: str, scraped: str, metrics_port: str = "") -> dict[str, Any]:
    ports = [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    ports += [{"name": "metrics", "containerPort": 8082, "protocol": "TCP"}] if metrics_port else []
    port = {"prometheus.io/port": metrics_port} if metrics_port else {}
    return {
        "metadata": {
            "name": name,
            "namespace": "ml-apps",
            "uid": name,
            "labels": {"app": "iris-classifier"},
            "annotations": {"prometheus.io/scrape": scraped, **port},
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "model-server", "image": "i", "ports": ports}]},
        "status": {"phase": phase, "podIP": "192.0.2.1", "hostIP": "192.0.2.2"},
    }


def _write_configuration(folder: Path, address: str, objects: str, exporter: str, argocd: str) -> None:
    """Write the manifests' files with other addresses, without TLS, and with intervals short enough for a test."""
    for name in ("config", "rules"):
        (folder / name).mkdir()
        for path in (MONITORING / name).glob("*.yml"):
            text = path.read_text(encoding="utf-8")
            for original, replacement in (
                ("/etc/prometheus", str(folder)),
                ("/var/run/secrets/kubernetes.io/serviceaccount", str(folder / "edge")),
                ("_interval: 15s", "_interval: 1s"),
                ("_interval: 1m", "_interval: 1s"),
                ("scheme: https", "scheme: http"),
                ("https://edge:6550", f"http://{address}"),
                ("edge:6550", address),
                ("edge:30808", address),
                ("edge:30809", f"{HOST}:9"),
                ("kube-state-metrics:8080", objects),
                (f"{read_owner().control_plane.host}:30950", exporter),
                ("argocd-metrics.argocd:8082", argocd),
                (
                    "      - role: node\n    relabel",
                    f"      - role: node\n        api_server: http://{address}\n    relabel",
                ),
            ):
                text = text.replace(original, replacement)
            text = re.sub(
                r"^ +tls_config: .*\n( +(ca_file|server_name|insecure_skip_verify).*\n)*", "", text, flags=re.M
            )
            (folder / name / path.name).write_text(text, encoding="utf-8")
    (folder / "edge").mkdir()
    (folder / "edge/token").write_text("token", encoding="utf-8")


def _write_for_distribution(folder: Path, edge: HTTPServer) -> None:
    """Rewrite the configuration for the distribution's Prometheus.

    It has no discovery in Kubernetes, so it is given what that would find; and only since 2.43 it may have what is
    scraped in files of its own.
    """
    main = folder / "config/prometheus.yml"
    yaml = YAML(typ="safe")
    configuration = yaml.load(main)
    del configuration["scrape_config_files"]
    scraped = [yaml.load(path) for path in sorted(main.parent.glob("scrape-*.yml"))]
    jobs = [job for file in scraped for job in file["scrape_configs"]]
    for job in jobs:
        for discovery in job.pop("kubernetes_sd_configs", []):
            found = _discovered_pods() if discovery["role"] == "pod" else [{"node_name": "node-1"}]
            job["static_configs"] = [
                {
                    "targets": [f"{edge.host}:{edge.port}"],
                    "labels": {f"__meta_kubernetes_{name}": value for name, value in labels.items()},
                }
                for labels in found
            ]
    yaml.dump({**configuration, "scrape_configs": jobs}, main)


def _discovered_pods() -> list[dict[str, str]]:
    """What Prometheus's discovery says of each port of each pod, as far as the configuration asks for it."""
    return [
        {
            "namespace": pod["metadata"]["namespace"],
            "pod_name": pod["metadata"]["name"],
            "pod_label_app": pod["metadata"]["labels"]["app"],
            **{
                f"pod_annotation_{re.sub('[./]', '_', name)}": value
                for name, value in pod["metadata"]["annotations"].items()
            },
            "pod_phase": pod["status"]["phase"],
            "pod_container_name": container["name"],
            "pod_container_port_name": port["name"],
            "pod_container_port_number": str(port["containerPort"]),
        }
        for pod in _pods()
        for container in pod["spec"]["containers"]
        for port in container["ports"]
    ]

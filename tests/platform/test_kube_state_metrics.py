"""kube-state-metrics as the manifests run it exposes only the series that rules use, with the labels they join on."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from testbeds.common.processes import Processes, wait_until
from testbeds.common.services import HOST, answers, free_ports
from tests.platform.programs import content, kube_state_metrics

_SECONDS = 120.0
_ENDED_AT = "2026-01-02T03:04:05Z"
_RESOURCES = {"cpu": "500m", "memory": "512Mi"}
_LISTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "/api/v1/pods": (
        "v1",
        "PodList",
        {
            "metadata": {"name": "iris-1", "namespace": "ml-apps", "uid": "u"},
            "spec": {
                "containers": [
                    {"name": "model-server", "resources": {"requests": _RESOURCES, "limits": _RESOURCES}},
                ]
            },
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [
                    {
                        "name": "model-server",
                        "restartCount": 3,
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"reason": "OOMKilled", "finishedAt": _ENDED_AT}},
                    }
                ],
            },
        },
    ),
    "/api/v1/nodes": (
        "v1",
        "NodeList",
        {
            "metadata": {"name": "node-1", "uid": "n"},
            "status": {"allocatable": _RESOURCES, "conditions": [{"type": "Ready", "status": "True"}]},
        },
    ),
    "/api/v1/services": (
        "v1",
        "ServiceList",
        {"metadata": {"name": "iris", "namespace": "ml-apps", "uid": "s"}, "spec": {"type": "NodePort"}},
    ),
    "/apis/discovery.k8s.io/v1/endpointslices": (
        "discovery.k8s.io/v1",
        "EndpointSliceList",
        {
            "metadata": {
                "name": "iris-abcde",
                "namespace": "ml-apps",
                "uid": "e",
                "labels": {"kubernetes.io/service-name": "iris"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.42.0.7"], "conditions": {"ready": True}}],
            "ports": [],
        },
    ),
    "/apis/batch/v1/cronjobs": (
        "batch/v1",
        "CronJobList",
        {
            "metadata": {
                "name": "mlflow-backup",
                "namespace": "mlflow",
                "uid": "c",
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"schedule": "17 3 * * *", "jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}}},
            "status": {"lastScheduleTime": _ENDED_AT, "lastSuccessfulTime": _ENDED_AT},
        },
    ),
    "/apis/apps/v1/deployments": (
        "apps/v1",
        "DeploymentList",
        {
            "metadata": {"name": "iris", "namespace": "ml-apps", "uid": "d"},
            "spec": {"replicas": 2},
            "status": {"availableReplicas": 1},
        },
    ),
}


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path / "processes")
    yield started
    started.stop_all()


def test_it_exposes_the_allowed_series(processes: Processes, httpserver: HTTPServer) -> None:
    """With the manifests' arguments it requests only lists that its role allows, and exposes each allowed series."""
    for path, (version, kind, item) in _LISTS.items():
        httpserver.expect_request(path).respond_with_handler(_list_or_watch(version, kind, item))
    httpserver.expect_request("/version").respond_with_json({"major": "1", "minor": "34", "gitVersion": "v1.34.4"})
    arguments = _arguments()
    port, telemetry = free_ports(2)
    unchanged = [argument for argument in arguments if not argument.startswith(("--port", "--telemetry-port"))]
    service = processes.start(
        "kube-state-metrics",
        [
            kube_state_metrics(),
            *unchanged,
            f"--apiserver={httpserver.url_for('')}",
            f"--host={HOST}",
            f"--port={port}",
            f"--telemetry-host={HOST}",
            f"--telemetry-port={telemetry}",
        ],
    )
    wait_until(lambda: answers(f"http://{HOST}:{telemetry}/readyz"), _SECONDS, "kube-state-metrics is ready", service)
    assert answers(f"http://{HOST}:{port}/healthz")
    (allowlist,) = [argument for argument in arguments if argument.startswith("--metric-allowlist")]
    allowed = allowlist.partition("=")[2].split(",")

    def exposed() -> list[str] | None:
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as response:
            lines = [line for line in response.read().decode().splitlines() if not line.startswith("#")]
        return lines if len({line.partition("{")[0] for line in lines}) == len(allowed) else None

    lines = wait_until(exposed, _SECONDS, "each allowed series is exposed", service)
    assert {line.partition("{")[0] for line in lines} == set(allowed)
    container = 'namespace="ml-apps",pod="iris-1",uid="u",container="model-server"'
    for line in (
        f"kube_pod_container_status_restarts_total{{{container}}} 3",
        f'kube_pod_container_status_last_terminated_reason{{{container},reason="OOMKilled"}} 1',
        f"kube_pod_container_status_last_terminated_timestamp{{{container}}} 1.767323045e+09",
        'kube_pod_status_phase{namespace="ml-apps",pod="iris-1",uid="u",phase="Running"} 1',
        'kube_node_status_condition{node="node-1",condition="Ready",status="true"} 1',
        f'kube_pod_container_status_waiting_reason{{{container},reason="CrashLoopBackOff"}} 1',
        'kube_pod_status_ready{namespace="ml-apps",pod="iris-1",uid="u",condition="true"} 0',
        'kube_cronjob_status_last_successful_time{namespace="mlflow",cronjob="mlflow-backup"} 1.767323045e+09',
        'kube_deployment_status_replicas_available{namespace="ml-apps",deployment="iris"} 1',
    ):
        assert line in lines
    assert any(
        line.startswith("kube_endpointslice_labels") and 'label_kubernetes_io_service_name="iris"' in line
        for line in lines
    )
    assert any(line.startswith("kube_endpointslice_endpoints") and 'ready="true"' in line for line in lines)
    assert any(line.startswith("kube_service_info") and 'external_name=""' in line for line in lines)
    requested = {request.path for request, _ in httpserver.log}
    assert requested == {*_LISTS, "/version"}
    limits = [line for line in lines if line.startswith("kube_pod_container_resource_limits")]
    assert {line.rpartition(" ")[2] for line in limits} == {"0.5", "5.36870912e+08"}


def _arguments() -> list[str]:
    objects = content("manifests/platform/kube-state-metrics")
    (deployment,) = [document for document in objects if document["kind"] == "Deployment"]
    arguments: list[str] = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    return arguments


def _list_or_watch(version: str, kind: str, item: dict[str, Any]) -> Callable[[Request], Response]:
    """Return a handler that answers with a list of one object, or with a watch that ends at once."""

    def answer(request: Request) -> Response:
        listed = {"apiVersion": version, "kind": kind, "metadata": {"resourceVersion": "1"}, "items": [item]}
        return Response("" if "watch" in request.args else json.dumps(listed), content_type="application/json")

    return answer

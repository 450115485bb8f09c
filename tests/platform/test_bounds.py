"""Pod Security, quotas and limits: a real API server admits each pod of the manifests, and refuses what it must."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from bootstrap.dagster import DAGSTER
from orchestration.adapters.kube_api import ApiReply, KubeApi, api_path
from testbeds.common.processes import wait_until
from tests.manifests.test_network import CLUSTERS, of_kind
from tests.platform.api_server import CONTEXT, ApiServer
from tests.platform.programs import content
from tests.platform.test_fits_the_control_plane import (
    ARGOCD_MIB,
    EXPORTER_MIB,
    NODE_MIB,
    SYSTEM_MIB,
    memory,
    mib,
)
from tests.platform.test_manifests import Workload, of_objects, workloads

_SECONDS = 60.0
_BY_ARGOCD = {"gcp": "in-cluster", "edge": "edge"}
_PODS_OF_A_MODEL = 4 + 1
"""What its autoscaler allows, and one more while it is rolled out."""


def running(cluster: str) -> list[Workload]:
    """What root deploys to a cluster, and Dagster, which is off, on the control plane."""
    here = [each for each in workloads() if each.cluster == _BY_ARGOCD[cluster]]
    dagster = list(of_objects(_BY_ARGOCD[cluster], content("manifests/platform/dagster"))) if cluster == "gcp" else []
    return [*here, *dagster]


@pytest.fixture(scope="module", params=CLUSTERS)
def bounded(request: pytest.FixtureRequest, api_server: ApiServer) -> tuple[str, KubeApi]:
    """Apply a cluster's namespaces with their bounds, and wait until its quotas are counted."""
    cluster, admin = str(request.param), api_server.admin
    admin.apply(of_kind(cluster, "Namespace"))
    admin.apply([*of_kind(cluster, "ResourceQuota"), *of_kind(cluster, "LimitRange")])
    for quota in of_kind(cluster, "ResourceQuota"):
        wait_until(partial(_is_counted, api_server, quota), _SECONDS, f"{quota['metadata']['namespace']} is counted")
    assert admin.kubeconfig is not None
    return cluster, KubeApi(admin.kubeconfig, CONTEXT)


def _is_counted(server: ApiServer, quota: Mapping[str, Any]) -> bool:
    found = server.admin.read("resourcequota", quota["metadata"]["name"], quota["metadata"]["namespace"]) or {}
    account = server.admin.read("serviceaccount", "default", quota["metadata"]["namespace"])
    return account is not None and found.get("status", {}).get("hard") == found["spec"]["hard"]


def create(api: KubeApi, namespace: str, pod: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> ApiReply:
    """Ask whether a pod would be admitted; none is created."""
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tried", "labels": dict(labels or {})},
        "spec": {key: value for key, value in pod.items() if key != "serviceAccountName"},
    }
    path = api_path("api", "v1", "namespaces", namespace, "pods") + "?dryRun=All"
    return api.send("POST", path, document, {"Content-Type": "application/json"})


def test_each_pod_of_the_manifests_is_admitted(bounded: tuple[str, KubeApi]) -> None:
    """Each keeps to the profile restricted, within its namespace's limit range and quota."""
    cluster, api = bounded
    assert running(cluster)
    for workload in running(cluster):
        reply = create(api, workload.namespace, workload.pod, workload.labels)
        assert reply.status == 201, f"{workload}: {reply.body.decode()}"


_SAFE = {
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


def _pod(container: Mapping[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": "busybox", "securityContext": _SAFE, **(container or {})}], **spec}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a folder of the node": (_pod(volumes=[{"name": "host", "hostPath": {"path": "/"}}]), "hostPath"),
    "the node's network": (_pod(hostNetwork=True), "host namespaces"),
    "a privileged container": (
        _pod({"securityContext": {**_SAFE, "allowPrivilegeEscalation": True, "privileged": True}}),
        "privileged (container",
    ),
    "root": (_pod({"securityContext": {**_SAFE, "runAsNonRoot": False}}), "runAsNonRoot"),
    "a capability": (
        _pod({"securityContext": {**_SAFE, "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}}),
        "unrestricted capabilities",
    ),
    "escalation": (_pod({"securityContext": {**_SAFE, "allowPrivilegeEscalation": True}}), "allowPrivilegeEscalation"),
    "no seccomp profile": (
        _pod({"securityContext": {**_SAFE, "seccompProfile": {"type": "Unconfined"}}}),
        "seccompProfile",
    ),
    "more memory than a container may have": (
        _pod({"resources": {"limits": {"memory": "64Gi"}}}),
        "maximum memory usage per Container",
    ),
}


@pytest.mark.parametrize(("pod", "word"), REFUSED.values(), ids=REFUSED)
def test_a_dangerous_pod_is_refused(bounded: tuple[str, KubeApi], pod: dict[str, Any], word: str) -> None:
    """In each namespace with pods, by the rule that it breaks; the same pod without that is admitted."""
    cluster, api = bounded
    for limits in of_kind(cluster, "LimitRange"):
        namespace = limits["metadata"]["namespace"]
        reply = create(api, namespace, pod)
        assert (reply.status, word in reply.body.decode()) == (403, True), reply.body.decode()
        assert create(api, namespace, _pod()).status == 201


def test_no_pod_runs_where_the_accounts_are(bounded: tuple[str, KubeApi]) -> None:
    """A pod in their namespace could be given any of their tokens."""
    reply = create(bounded[1], "incumbent", _pod())
    assert (reply.status, "exceeded quota: bounds" in reply.body.decode()) == (403, True)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_quotas_have_room_for_what_runs(cluster: str) -> None:
    """All pods of a namespace fit at once, each model with all that its autoscaler may add, and one more."""
    for quota in of_kind(cluster, "ResourceQuota"):
        namespace, hard = quota["metadata"]["namespace"], quota["spec"]["hard"]
        here = [each for each in running(cluster) if each.namespace == namespace]
        times = _PODS_OF_A_MODEL if namespace == "ml-apps" else 1
        assert len(here) * times <= int(hard["pods"])
        for bound in ("requests", "limits") if here else ():
            assert sum(memory(each.pod, bound) for each in here) * times <= mib(hard[f"{bound}.memory"])


def test_quotas_of_the_control_plane_fit_its_machine() -> None:
    """Whatever their quotas let in, the node has the memory for it; Dagster, which is off, needs a larger one."""
    quotas = [each for each in of_kind("gcp", "ResourceQuota") if each["metadata"]["namespace"] != DAGSTER]
    hard = [quota["spec"]["hard"] for quota in quotas]
    allowed = sum(mib(each["limits.memory"]) for each in hard if "limits.memory" in each)
    assert allowed + sum(ARGOCD_MIB.values()) + EXPORTER_MIB <= NODE_MIB - SYSTEM_MIB

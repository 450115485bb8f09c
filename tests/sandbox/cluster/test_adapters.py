"""The pipeline's own adapters read from the stand-in what they would read from a real cluster."""

import pytest

from orchestration.adapters.argocd import ArgoCDApplications
from orchestration.adapters.clusters import KubernetesCluster
from orchestration.promotion.cluster_status import ContainerPort, ServicePort, WorkloadStatus
from orchestration.promotion.problems import DependencyError
from tests.sandbox.cluster.conftest import REPOSITORY, Running


def test_the_adapters_follow_a_rollout_to_its_end(running: Running) -> None:
    """The adapters refresh an Application, read the workload and logs, send requests to pods, and notice a dead API."""
    argocd = ArgoCDApplications(running.cluster.kubeconfig, "gcp")
    cluster = KubernetesCluster(running.cluster.kubeconfig, "edge")
    argocd.ready()
    cluster.ready()
    digest = running.platform.images.publish("v2")
    commit = running.platform.set_image(f"{REPOSITORY}:v2@{digest}")
    argocd.refresh("argocd", "iris")
    running.cluster.wait_for("the rollout", lambda: running.rolled_out(commit, f"{REPOSITORY}:v2@{digest}"))

    application = argocd.application("argocd", "iris")
    assert application is not None
    reported = (application.sync_status, application.health_status, application.operation_phase, application.auto_sync)
    assert reported == ("Synced", "Healthy", "Succeeded", True)
    assert application.sync_revision == application.operation_revision == commit

    workload = cluster.workload("Deployment", "ml", "iris")
    assert isinstance(workload, WorkloadStatus)
    assert workload.generation == workload.observed_generation == 2
    assert workload.wanted == workload.updated == workload.ready == workload.available == workload.total == 2
    assert workload.ports == {"model-server": (ContainerPort("http", 8080),)}
    assert workload.old_pods == ()
    services = cluster.services("ml")
    assert services is not None
    assert [(each.ports, each.selects(workload.pod_labels)) for each in services] == [
        ((ServicePort(80, "http", 30808),), True)
    ]
    assert {pod.containers[0].image_id for pod in workload.new_pods} == {f"{REPOSITORY}@{digest}"}
    for pod in workload.new_pods:
        answer = cluster.ask_pod("ml", pod.name, 8080, "/predict", b"{}", {"X-Incumbent-Replay": "p/1"}, 5)
        assert (answer.status, answer.body, answer.from_api) == (200, b"v2 {} p/1", False)
        assert "version v2 starts" in cluster.log_tail("ml", pod.name, "model-server", previous=False)
    unreachable = cluster.ask_pod("ml", workload.pods[0].name, 8081, "/predict", b"{}", {}, 5)
    assert (unreachable.status, unreachable.from_api) == (503, True)
    assert [node.ready for node in cluster.nodes()] == [True]

    running.cluster.set_faults(not_ready=True)
    with pytest.raises(DependencyError):
        cluster.ready()

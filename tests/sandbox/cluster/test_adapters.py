"""The pipeline's own adapters against the stand-in: each call that they make, they make here as on a real cluster."""

import json
from collections.abc import Mapping

import pytest

from orchestration.adapters.argocd import ArgoCDApplications
from orchestration.adapters.clusters import KubernetesCluster
from orchestration.adapters.oci import OciRegistry
from orchestration.promotion.images import ImageRef
from orchestration.promotion.observed import WorkloadStatus
from orchestration.promotion.problems import DependencyError
from tests.sandbox.cluster.conftest import REPOSITORY, Running


@pytest.fixture
def cluster(running: Running) -> KubernetesCluster:
    """The edge cluster, as a policy names it."""
    return KubernetesCluster(running.cluster.kubeconfig, "edge")


@pytest.fixture
def argocd(running: Running) -> ArgoCDApplications:
    """The Applications, as the setting names their context."""
    return ArgoCDApplications(running.cluster.kubeconfig, "gcp")


def workload(cluster: KubernetesCluster) -> WorkloadStatus:
    """The Deployment, which must be there."""
    found = cluster.workload("Deployment", "ml", "iris")
    assert found is not None
    return found


def test_a_promotion_is_seen_from_the_refresh_to_the_new_pods(
    running: Running, cluster: KubernetesCluster, argocd: ArgoCDApplications
) -> None:
    """After a push and a refresh the adapters see revision, image, digests and pods that a rollout is judged by."""
    cluster.ready()
    argocd.ready()
    digest = running.platform.images.publish("v2")
    resolved = OciRegistry({"ghcr.io": running.platform.images.url}).resolve(ImageRef(REPOSITORY, "v2"))
    assert resolved is not None
    assert resolved.digest == digest
    image = str(resolved.reference)
    commit = running.platform.set_image(image)
    argocd.refresh("argocd", "iris")
    running.cluster.wait_for("the rollout", lambda: running.rolled_out(commit, image))
    application = argocd.application("argocd", "iris")
    assert application is not None
    assert application.auto_sync
    assert (application.sync_status, application.sync_revision, application.health_status) == (
        *("Synced", commit),
        "Healthy",
    )
    found = workload(cluster)
    assert found.images == {"model-server": image}
    assert (found.wanted, found.updated, found.available) == (2, 2, 2)
    assert found.observed_generation == found.generation
    assert found.template_hash is not None
    assert len(found.new_pods) == 2
    assert not found.old_pods
    containers = [pod.container("model-server") for pod in found.new_pods]
    assert {one.image_id for one in containers if one} == {f"{REPOSITORY}@{digest}"}
    assert {node.name for node in cluster.nodes()} >= {pod.node for pod in found.new_pods}
    assert all(node.ready and node.architecture for node in cluster.nodes())


def test_each_new_pod_is_asked_by_itself(running: Running, cluster: KubernetesCluster) -> None:
    """The pod proxy carries body and headers to the named pod; a pod that is not there is the API's word."""
    found = workload(cluster)
    port = found.ports["model-server"]
    headers: Mapping[str, str] = {"X-Incumbent-Replay": "1"}
    for pod in found.new_pods:
        answer = cluster.ask_pod("ml", pod.name, port, "/predict", b'{"features": [1.5]}', headers, 5)
        assert (answer.status, answer.from_api) == (200, False)
        version, _, rest = answer.body.decode().partition(" ")
        body, _, mark = rest.rpartition(" ")
        assert (version, json.loads(body), mark) == ("v1", {"features": [1.5]}, "1")
    gone = cluster.ask_pod("ml", "iris-gone", port, "/predict", b"{}", headers, 5)
    assert (gone.status, gone.from_api) == (404, True)


def test_a_crash_is_seen_with_exit_code_and_log(running: Running, cluster: KubernetesCluster) -> None:
    """The reason of a failed rollout is the pod's own: exit code, warnings and last lines."""
    running.platform.images.publish("v2", CRASH="3")
    running.platform.set_image(f"{REPOSITORY}:v2")
    running.refresh()

    def crashed() -> bool:
        containers = [pod.container("model-server") for pod in workload(cluster).new_pods]
        return any(one is not None and one.last_exit_code == 3 for one in containers)

    running.cluster.wait_for("a crash", crashed)
    (pod,) = workload(cluster).new_pods
    running.cluster.wait_for(
        "a warning", lambda: any("BackOff" in text for text in workload(cluster).new_pods[0].warnings)
    )
    assert "version v2 starts" in cluster.log_tail("ml", pod.name, "model-server", previous=True, lines=5)


def test_what_is_not_there_is_none(cluster: KubernetesCluster, argocd: ArgoCDApplications) -> None:
    """Unknown names are answered with None, a refresh of an unknown Application with an error."""
    assert cluster.workload("Deployment", "ml", "wine") is None
    assert argocd.application("argocd", "wine") is None
    assert cluster.log_tail("ml", "gone", "model-server", previous=False) == ""
    with pytest.raises(DependencyError, match="no such Application"):
        argocd.refresh("argocd", "wine")

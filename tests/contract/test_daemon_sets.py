"""A DaemonSet from its first pods through a rolling update, as the pipeline's adapter reads it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from orchestration.promotion.cluster_json import parse_workload
from orchestration.promotion.cluster_status import WorkloadStatus
from orchestration.promotion.rollout_conditions import replicas_condition, running_digest
from tests.contract.manifests import Json, daemon_set
from tests.contract.place import CONTAINER, NAMESPACE, PODS, STEADY, Place
from tests.contract.reading import Reading

NAME = "everywhere"
PATH = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/{NAME}"
REVISIONS = f"/apis/apps/v1/namespaces/{NAMESPACE}/controllerrevisions"
OWN = {"labelSelector": f"app={NAME}"}


@dataclass
class Update:
    """A DaemonSet after a rolling update, with all distinct readings of it on the way."""

    place: Place
    images: tuple[str, str]
    looks: list[WorkloadStatus]

    @property
    def document(self) -> Json:
        """The DaemonSet as it is now."""
        document = self.place.edge.read(PATH)
        assert document is not None
        return document


@pytest.fixture(scope="module")
def update(place: Place) -> Iterator[Update]:
    """Bring a DaemonSet, change its image, and look until all its pods have it."""
    images = place.image(f"{NAME}-1"), place.image(f"{NAME}-2")
    deploy(place, images[0])
    place.wait("the first pods", lambda: rolled_out(look(place), images[0]))
    yield Update(place, images, update_to(place, images[1]))
    place.repository.remove(f"{STEADY}/{NAME}.yaml")
    place.bring(place.repository.push())
    place.wait("no pods", lambda: not place.edge.items(PODS, OWN))


def deploy(place: Place, image: str) -> None:
    place.repository.write(f"{STEADY}/{NAME}.yaml", daemon_set(NAME, image))
    place.bring(place.repository.push())


def update_to(place: Place, image: str) -> list[WorkloadStatus]:
    """Deploy an image, and return all distinct readings until it is rolled out."""
    deploy(place, image)
    return place.readings("the update", lambda: look(place), lambda status: rolled_out(status, image))


def look(place: Place) -> WorkloadStatus | None:
    return place.cluster.workload("DaemonSet", NAMESPACE, NAME)


def rolled_out(status: WorkloadStatus | None, image: str) -> bool:
    return status is not None and status.images[CONTAINER] == image and replicas_condition(status).met


def test_fields_of_a_rolled_out_daemon_set(update: Update) -> None:
    """A DaemonSet and its revisions have these fields beside their pod templates; the status names no revision."""
    noted: dict[str, str] = {}
    revisions = [Reading(revision, noted, "revision") for revision in update.place.edge.items(REVISIONS, OWN)]
    parse_workload("DaemonSet", Reading(update.document, noted), revisions, (), ())
    templates = ("spec.template", "revision.data.spec.template")
    assert {path: kind for path, kind in noted.items() if not path.startswith(templates)} == {
        "metadata": "dict",
        "metadata.generation": "int",
        "metadata.name": "str",
        "metadata.namespace": "str",
        "metadata.uid": "str",
        "revision.data": "dict",
        "revision.data.spec": "dict",
        "revision.metadata": "dict",
        "revision.metadata.labels": "dict",
        "revision.metadata.labels.controller-revision-hash": "str",
        "revision.metadata.ownerReferences": "list",
        "revision.metadata.ownerReferences[].controller": "bool",
        "revision.metadata.ownerReferences[].uid": "str",
        "revision.revision": "int",
        "spec": "dict",
        "spec.updateStrategy": "dict",
        "spec.updateStrategy.type": "str",
        "status": "dict",
        "status.currentNumberScheduled": "int",
        "status.desiredNumberScheduled": "int",
        "status.numberAvailable": "int",
        "status.numberReady": "int",
        "status.observedGeneration": "int",
        "status.updatedNumberScheduled": "int",
    }


def test_there_is_a_pod_on_each_node_and_it_names_the_hash_of_its_revision(update: Update) -> None:
    """The label of a pod is the revision's hash without the DaemonSet's name, and the DaemonSet controls the pod."""
    status = look(update.place)
    assert status is not None
    nodes = update.place.cluster.nodes()
    assert sorted(filter(None, (pod.node for pod in status.new_pods))) == sorted(node.name for node in nodes)
    # Where a node's new pod starts before the old one ends, the old one may still be there, being deleted.
    pods = [pod for pod in update.place.edge.items(PODS, OWN) if "deletionTimestamp" not in pod["metadata"]]
    assert {pod["metadata"]["labels"]["controller-revision-hash"] for pod in pods} == {status.template_hash}
    owners = [owner for pod in pods for owner in pod["metadata"]["ownerReferences"]]
    assert {(owner["kind"], owner["uid"], owner["controller"]) for owner in owners} == {
        ("DaemonSet", update.document["metadata"]["uid"], True)
    }


def test_no_pod_of_another_image_counts_as_new(update: Update) -> None:
    """Until its controller has seen an image, a DaemonSet has no new pods of it, and then only such pods."""
    assert any(status.new_pods and status.old_pods for status in update.looks)
    for status in update.looks:
        digests = {running_digest(pod, CONTAINER) for pod in status.new_pods}
        assert digests <= {None, status.images[CONTAINER].rpartition("@")[2]}


def test_a_former_image_is_told_by_its_former_revision(update: Update) -> None:
    """Going back uses the old ControllerRevision again, under a new number."""
    looks = update_to(update.place, update.images[0])
    revisions = update.place.edge.items(REVISIONS, OWN)
    newest = max(revisions, key=lambda revision: int(revision["revision"]))
    assert len(revisions) == 2
    assert newest["metadata"]["labels"]["controller-revision-hash"] == looks[-1].template_hash
    assert {running_digest(pod, CONTAINER) for pod in looks[-1].new_pods} == {update.images[0].rpartition("@")[2]}

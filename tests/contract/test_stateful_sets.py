"""A StatefulSet from its first pod through a rolling update, as the pipeline's adapter reads it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from orchestration.promotion.cluster_json import parse_workload
from orchestration.promotion.cluster_status import WorkloadStatus
from orchestration.promotion.rollout_conditions import replicas_condition, running_digest
from tests.contract.manifests import Json, stateful_set
from tests.contract.place import CONTAINER, NAMESPACE, PODS, STEADY, Place
from tests.contract.reading import Reading

NAME = "ordered"
PATH = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{NAME}"
OWN_PODS = {"labelSelector": f"app={NAME}"}


@dataclass
class Update:
    """A StatefulSet after a rolling update, with all distinct readings of it on the way."""

    place: Place
    image: str
    looks: list[WorkloadStatus]

    @property
    def document(self) -> Json:
        """The StatefulSet as it is now."""
        document = self.place.edge.read(PATH)
        assert document is not None
        return document


@pytest.fixture(scope="module")
def update(place: Place) -> Iterator[Update]:
    """Bring a StatefulSet of two pods, change its image, and look until all its pods have it."""
    file, image = f"{STEADY}/{NAME}.yaml", place.image(f"{NAME}-2")
    place.repository.write(file, stateful_set(NAME, place.image(f"{NAME}-1"), replicas=2))
    place.bring(place.repository.push())
    place.wait("the first pods", lambda: rolled_out(look(place)))
    place.repository.write(file, stateful_set(NAME, image, replicas=2))
    place.bring(place.repository.push())

    def done(status: WorkloadStatus) -> bool:
        return status.images[CONTAINER] == image and rolled_out(status)

    yield Update(place, image, place.readings("the update", lambda: look(place), done))
    place.repository.remove(file)
    place.bring(place.repository.push())
    place.wait("no pods", lambda: not place.edge.items(PODS, OWN_PODS))


def look(place: Place) -> WorkloadStatus | None:
    return place.cluster.workload("StatefulSet", NAMESPACE, NAME)


def rolled_out(status: WorkloadStatus | None) -> bool:
    return status is not None and replicas_condition(status).met


def test_fields_of_a_rolled_out_stateful_set(update: Update) -> None:
    """A StatefulSet has these fields beside its pod template."""
    noted: dict[str, str] = {}
    parse_workload("StatefulSet", Reading(update.document, noted), (), (), ())
    assert {path: kind for path, kind in noted.items() if not path.startswith("spec.template")} == {
        "metadata": "dict",
        "metadata.generation": "int",
        "metadata.name": "str",
        "metadata.namespace": "str",
        "metadata.uid": "str",
        "spec": "dict",
        "spec.replicas": "int",
        "spec.updateStrategy": "dict",
        "spec.updateStrategy.type": "str",
        "status": "dict",
        "status.availableReplicas": "int",
        "status.observedGeneration": "int",
        "status.readyReplicas": "int",
        "status.replicas": "int",
        "status.updateRevision": "str",
        "status.updatedReplicas": "int",
    } | {path: kind for path, kind in noted.items() if path.startswith("spec.updateStrategy.rollingUpdate")}


def test_pods_name_the_whole_revision_and_their_controller(update: Update) -> None:
    """A pod's label equals `updateRevision`, the StatefulSet itself controls it, and its name has its ordinal."""
    document, pods = update.document, update.place.edge.items(PODS, OWN_PODS)
    assert sorted(pod["metadata"]["name"] for pod in pods) == [f"{NAME}-0", f"{NAME}-1"]
    revision = document["status"]["updateRevision"]
    assert revision.startswith(f"{NAME}-")
    assert {pod["metadata"]["labels"]["controller-revision-hash"] for pod in pods} == {revision}
    owners = [owner for pod in pods for owner in pod["metadata"]["ownerReferences"]]
    assert {(owner["kind"], owner["uid"], owner["controller"]) for owner in owners} == {
        ("StatefulSet", document["metadata"]["uid"], True)
    }


def test_an_update_replaces_the_last_pod_first(update: Update) -> None:
    """Pods are replaced from the highest ordinal down, and no old pod ever counts as one of the new image."""
    first_new = next(status for status in update.looks if status.new_pods and status.old_pods)
    assert [pod.name for pod in first_new.new_pods] == [f"{NAME}-1"]
    assert [pod.name for pod in first_new.old_pods] == [f"{NAME}-0"]
    for status in update.looks:
        if status.images[CONTAINER] == update.image:
            digests = {running_digest(pod, CONTAINER) for pod in status.new_pods}
            assert digests <= {None, update.image.rpartition("@")[2]}

"""An InferenceService under KServe's own controller in raw mode, as the pipeline's adapter reads it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from orchestration.promotion.cluster_json import parse_inference_service
from orchestration.promotion.cluster_status import WorkloadStatus
from orchestration.promotion.rollout_conditions import replicas_condition, running_digest
from testbeds.homelab.controllers import bring_kserve
from testbeds.homelab.homelab import Homelab
from tests.contract.manifests import KSERVE_CONTAINER, Json, inference_service
from tests.contract.place import NAMESPACE, PODS, Place
from tests.contract.reading import Reading

pytestmark = pytest.mark.timeout(900)  # the first test may have to build the controller
NAME = "raw"
MADE = f"{NAME}-predictor"


@dataclass(frozen=True)
class Service:
    """An InferenceService on edge, which no Application deploys, and all distinct readings of its update."""

    homelab: Homelab
    place: Place
    images: tuple[str, str]

    def deploy(self, image: str) -> None:
        manifest = inference_service(NAME, image)
        manifest["metadata"]["namespace"] = NAMESPACE
        self.homelab.edge.apply([manifest])

    def document(self) -> Json:
        document = self.homelab.edge.read("inferenceservice", NAME, NAMESPACE)
        assert document is not None
        return document

    def until(self, what: str, condition: Callable[[WorkloadStatus], Any]) -> list[WorkloadStatus]:
        """Wait, and return all distinct readings until then."""

        def look() -> WorkloadStatus:
            status = self.place.cluster.workload("InferenceService", NAMESPACE, NAME)
            assert status is not None
            return status

        return self.place.readings(f"{NAME}: {what}", look, condition)

    def serves(self, image: str) -> list[WorkloadStatus]:
        def served(status: WorkloadStatus) -> bool:
            return status.images.get(KSERVE_CONTAINER) == image and replicas_condition(status).met

        return self.until("serves", served)


@pytest.fixture(scope="module")
def service(place: Place, request: pytest.FixtureRequest) -> Iterator[Service]:
    """Install KServe, and deploy an InferenceService that serves the first image."""
    homelab: Homelab = request.getfixturevalue("homelab").homelab
    bring_kserve(homelab, print)
    made = Service(homelab, place, (place.image("raw-1"), place.image("raw-2")))
    made.deploy(made.images[0])
    made.serves(made.images[0])
    yield made
    homelab.edge.run("delete", "inferenceservice", NAME, f"--namespace={NAMESPACE}")
    place.wait("no pods", lambda: not place.edge.items(PODS, {"labelSelector": f"app=isvc.{MADE}"}))


def test_fields_of_a_ready_inference_service(service: Service) -> None:
    """An InferenceService has these fields; its generation is not compared, because the status has its Deployment's."""
    noted: dict[str, str] = {}
    parse_inference_service(Reading(service.document(), noted), None)
    assert noted == {
        "metadata": "dict",
        "metadata.generation": "int",
        "metadata.name": "str",
        "metadata.namespace": "str",
        "spec": "dict",
        "status": "dict",
        "status.conditions": "list",
        "status.conditions[].type": "str",
        "status.deploymentMode": "str",
    }


def test_it_controls_a_deployment_whose_pods_have_its_labels(service: Service) -> None:
    """The Deployment has the name with a suffix, and `app` in its pods is not the InferenceService's name."""
    document, deployment = service.document(), service.place.deployment_json(MADE)
    (owner,) = deployment["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("InferenceService", document["metadata"]["uid"], True)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["app"] == f"isvc.{MADE}"
    assert labels["serving.kserve.io/inferenceservice"] == NAME
    assert document["status"]["observedGeneration"] == deployment["status"]["observedGeneration"]


def test_an_image_is_rolled_out_by_its_deployment(service: Service) -> None:
    """Until KServe has changed the Deployment, the old image is what is live; no old pod counts as a new one."""
    service.deploy(service.images[1])
    looks = service.serves(service.images[1])
    for status in looks:
        digests = {running_digest(pod, KSERVE_CONTAINER) for pod in status.new_pods}
        assert digests <= {None, status.images[KSERVE_CONTAINER].rpartition("@")[2]}
    assert {status.never_rolls_out for status in looks} == {None}


def test_it_says_that_it_is_ready_while_new_pods_are_not(service: Service) -> None:
    """The condition Ready only says that enough pods serve, old ones included; the Deployment says which."""
    before = service.until("anything", lambda status: status)[-1]
    sick = service.place.image("raw-sick", NEVER_READY="1")
    service.deploy(sick)
    looks = service.until("starts", lambda status: status.images[KSERVE_CONTAINER] == sick and status.new_pods)
    assert (looks[-1].unfinished, len(looks[-1].old_pods)) == (None, 1)
    assert not replicas_condition(looks[-1]).met
    back = before.images[KSERVE_CONTAINER]
    service.deploy(back)
    assert service.serves(back)[-1].template_hash == before.template_hash

"""iris-classifier as an InferenceService of KServe on edge, as `manifests/applications` has it."""

from collections.abc import Iterator

import pytest
from ruamel.yaml import YAML

from bootstrap.kubectl import Document
from testbeds.homelab import gitops
from testbeds.homelab.controllers import bring_kserve
from testbeds.homelab.environment import HomelabEnvironment
from tests.homelab.lab import Lab
from tests.homelab.other_workloads import Other, deployed

pytestmark = pytest.mark.timeout(1200)  # the first test may have to build the controller
NAME, PORT = "iris-classifier-kserve", 30850
PATH = "manifests/applications/iris-classifier-kserve/inference-service.yaml"
RIGHTS = ({"apiGroups": ["serving.kserve.io"], "resources": ["inferenceservices"], "verbs": ["get"]},)


def argocd() -> list[Document]:
    """Return the platform's own project and Application for KServe, with the homelab's repository."""
    return [dict(document) for document in YAML(typ="safe").load_all(gitops.followed("argocd-apps/kserve-app.yaml"))]


@pytest.fixture(scope="module")
def services(environment: HomelabEnvironment) -> Iterator[Lab]:
    """Install KServe, deploy the InferenceService, and make a version its champion."""
    bring_kserve(environment.homelab, print)
    other = Other(
        "InferenceService", NAME, "kserve", "kserve-container", PATH, "iris-classifier-edge", PORT, RIGHTS, {}
    )
    with deployed(environment, other, argocd()) as lab:
        lab.promote().becomes_champion()
        yield lab


def test_a_version_of_an_inference_service_becomes_champion(services: Lab) -> None:
    """The commit edits the predictor's image, KServe rolls out its Deployment, and no request is lost."""
    seen = services.promote().becomes_champion()
    assert all(pod.pod.startswith(f"{NAME}-predictor-") for pod in seen.serving)


def test_a_bad_version_of_an_inference_service_is_taken_back(services: Lab) -> None:
    """A version that fails real requests is rejected by the gate, and the commit back rolls KServe back."""
    services.promote({"FAULT_FAIL_EVERY": "5"}).is_rolled_back(r"success_ratio", served=True)

"""The KServe variant, which is off: valid for KServe 0.15, and configured like the Deployment that it replaces."""

import pytest

from orchestration.promotion.manifest import Edited, set_image
from orchestration.promotion.manifest_place import Selector
from testbeds.common.tools import CHECKOUT
from tests.platform.crds import complaints, documents

FILE = CHECKOUT / "manifests/applications/iris-classifier-kserve/inference-service.yaml"
INFERENCE_SERVICE, SERVICE = documents(FILE)
(DEPLOYMENT,) = documents(CHECKOUT / "manifests/applications/iris-classifier/deployment.yaml")


@pytest.mark.platform
def test_kserve_knows_every_field() -> None:
    """KServe's own CRD accepts the InferenceService and knows all its fields."""
    assert complaints(INFERENCE_SERVICE) == []


def test_it_runs_what_the_deployment_runs() -> None:
    """Image repository, probes, resources and security context are the Deployment's."""
    predictor, pod = INFERENCE_SERVICE["spec"]["predictor"], DEPLOYMENT["spec"]["template"]["spec"]
    (container,), deployed = predictor["containers"], pod["containers"][0]
    assert container["image"].partition(":")[0] == deployed["image"].partition(":")[0]
    for part in ("resources", "readinessProbe", "livenessProbe", "lifecycle", "securityContext"):
        assert container[part] == deployed[part]
    assert predictor["securityContext"] == pod["securityContext"]


def test_its_port_is_the_reserved_one() -> None:
    """NodePort 30850 leads to the pods by the labels that KServe gives them in RawDeployment mode."""
    (port,) = SERVICE["spec"]["ports"]
    assert port["nodePort"] == 30850
    assert SERVICE["spec"]["selector"] == {"app": f"isvc.{INFERENCE_SERVICE['metadata']['name']}-predictor"}
    assert INFERENCE_SERVICE["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "RawDeployment"


@pytest.mark.parametrize(
    "selector",
    [
        Selector(FILE.name, yaml_path="spec.predictor.containers[name=kserve-container].image"),
        Selector(FILE.name, "InferenceService", "ml-apps", "iris-classifier-kserve", "kserve-container"),
    ],
)
def test_a_promotion_can_edit_it(selector: Selector) -> None:
    """Both kind and name, as in the file's comment, and a path lead a promotion to the file's only image."""
    edit = set_image(FILE.read_bytes(), selector, "ghcr.io/dycouzt/mlops-ai-platform-model-source:next")
    assert isinstance(edit, Edited)
    assert edit.content.count(b":next\n") == 1

"""iris-classifier as an InferenceService on edge that fetches each version from MLflow by its `storageUri`."""

from collections.abc import Iterator
from typing import Any

import pytest
from ruamel.yaml import YAML

from bootstrap.kubectl import Document
from bootstrap.objects import secret
from bootstrap.secrets import TRAINING
from testbeds.common.tools import CHECKOUT
from testbeds.homelab import gitops
from testbeds.homelab.bootstrap import mlflow_login
from testbeds.homelab.controllers import bring_kserve
from testbeds.homelab.environment import HomelabEnvironment
from testbeds.homelab.homelab import Homelab
from testbeds.homelab.images import publish_server
from testbeds.story.expectation import promoting
from testbeds.story.look import branch
from testbeds.story.seen import Commit
from tests.homelab.lab import Lab
from tests.homelab.other_workloads import NAMESPACE, Other, application, deployed, text_of
from tests.homelab.test_kserve import PATH as TEMPLATE
from tests.homelab.test_kserve import RIGHTS
from tests.scenarios.test_addresses import register_broken

pytestmark = pytest.mark.timeout(1200)  # the first test may have to build the controller
NAME, PORT = "iris-by-address", 30851
PATH = f"manifests/applications/{NAME}/inference-service.yaml"
REPOSITORY, TAG = "acme/any-version", "1"
RUNTIME = "any-version"
_KINDS = (("serving.kserve.io", "InferenceService"), ("", "Service"))
_MODELS = "/mnt/models"


def manifests(address: str, image: str) -> tuple[str, Document]:
    """Return the InferenceService with an address and its Service, and the runtime with the server's image."""
    text = (CHECKOUT / TEMPLATE).read_text(encoding="utf-8").replace("iris-classifier-kserve", NAME)
    service, node_port = (dict(each) for each in YAML(typ="safe").load_all(text.replace("30850", str(PORT))))
    predictor = service["spec"]["predictor"]
    (container,), volumes = predictor.pop("containers"), predictor.pop("volumes")
    model = {"modelFormat": {"name": RUNTIME}, "runtime": RUNTIME, "storageUri": address}
    predictor |= {"model": model, "labels": {"loads-from": "mlflow"}}  # as docs/network.md says
    container |= {"image": image, "env": [*container["env"], {"name": "MODEL_DIR", "value": f"{_MODELS}/model"}]}
    runtime = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": RUNTIME, "namespace": NAMESPACE},
        "spec": {"supportedModelFormats": [{"name": RUNTIME}], "containers": [container], "volumes": volumes},
    }
    return text_of(service, node_port), runtime


def fetches_from_mlflow(environment: HomelabEnvironment, image: str) -> tuple[Document, Document]:
    """Return what tells KServe how `models:/` is fetched, and the login for that."""
    login = secret("models-login", NAMESPACE, mlflow_login(environment.homelab.gcp, TRAINING))
    limits = {"cpu": "1", "memory": "512Mi"}
    container: dict[str, Any] = {
        "name": "storage-initializer",
        "image": image,
        "command": ["python", "-m", "model_server.storage_initializer"],
        "env": [{"name": "MLFLOW_TRACKING_URI", "value": environment.mlflow_url}],
        "envFrom": [{"secretRef": {"name": "models-login"}}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": limits},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {"container": container, "supportedUriFormats": [{"prefix": "models:/"}], "workloadType": "initContainer"}
    kind = {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "ClusterStorageContainer"}
    return login, {**kind, "metadata": {"name": "mlflow"}, "spec": spec}


@pytest.fixture(scope="module")
def services(environment: HomelabEnvironment) -> Iterator[Lab]:
    """Install KServe, and let one InferenceService serve version 1 by its address."""
    homelab: Homelab = environment.homelab
    bring_kserve(homelab, print)
    digest = publish_server(homelab.registry_url, REPOSITORY, TAG, print)
    image = f"ghcr.io/{REPOSITORY}:{TAG}@{digest}"
    files, runtime = manifests(f"models:/{environment.model}/1", image)
    homelab.edge.apply([*fetches_from_mlflow(environment, image), runtime])
    other = Other(
        "InferenceService",
        NAME,
        NAME,
        "kserve-container",
        PATH,
        "iris-classifier-edge",
        PORT,
        RIGHTS,
        {PATH: files},
        by_address=True,
    )
    with deployed(environment, other, application(other, gitops.URL, _KINDS)) as lab:
        yield lab


def promoted(lab: Lab, version: int) -> Commit:
    (commit,) = promoting(branch(lab.environment), lab.environment.policy, version)
    return commit


def initializers(lab: Lab) -> set[str]:
    """Return the addresses that KServe gave to the storage initializers of the pods that run."""
    pods = lab.homelab.edge.items("pods", NAMESPACE)
    own = (pod for pod in pods if pod["metadata"]["name"].startswith(f"{NAME}-predictor-"))
    alive = (pod for pod in own if "deletionTimestamp" not in pod["metadata"])
    return {each["args"][0] for pod in alive for each in pod["spec"].get("initContainers", [])}


def test_a_version_is_promoted_and_a_broken_one_taken_back_by_their_storage_uris(services: Lab) -> None:
    """KServe's own initializer gets each address, its pods load that version, and the commit back does the same."""
    lab, model = services, services.environment.model
    good = lab.promote_version(2).end()
    assert good.state == "champion", good
    assert promoted(lab, 2).trailers["Model-Address"] == f"models:/{model}/2"
    assert initializers(lab) == {f"models:/{model}/2"}

    broken = register_broken(lab.environment, 2)
    bad = lab.promote_version(broken).end()
    assert bad.state == "rolled_back", bad
    assert lab.champion() == 2
    assert initializers(lab) == {f"models:/{model}/2"}
    lab.wait_until_steady()

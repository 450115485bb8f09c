"""The story's models: real ones, each what the story needs it to be, and images that a registry takes."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestration.promotion.problems import ProblemError
from testbeds.common.processes import Processes, wait_until
from testbeds.common.services import answers, free_ports
from testbeds.sandbox.images import publish_image
from testbeds.sandbox.services import start_registry
from testbeds.training.models import FAMILIES, IRIS, RECORDED, WINE, Family, TrainedModel, split_data, train
from testbeds.training.publish import RECORDED_REQUESTS, Published, log_model, publish

REPOSITORY = "team/model-source"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real OCI registry."""
    state = tmp_path_factory.mktemp("a registry")
    processes = Processes(state)
    (port,) = free_ports(1)
    service = start_registry(processes, state, port)
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: answers(f"{url}/v2/"), 60, "the registry answers", service)
    yield url
    processes.stop_all()


def get(url: str) -> tuple[bytes, str]:
    """Content and digest header of what the registry has there."""
    request = urllib.request.Request(url, headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read(), answer.headers.get("Docker-Content-Digest", "")


@pytest.fixture(scope="module")
def trained() -> dict[str, TrainedModel]:
    split = split_data(IRIS)
    return {spec.name: train(spec, split) for spec in IRIS.specs}


@pytest.fixture(scope="module")
def published(
    trained: dict[str, TrainedModel], registry: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Published]]:
    """Three of the models in MLflow (a database of its own, no server) and in the registry."""
    import mlflow

    folder = tmp_path_factory.mktemp("mlflow")
    before, where = mlflow.get_tracking_uri(), Path.cwd()
    os.chdir(folder)  # artifacts lie below the working folder
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    split = split_data(IRIS)
    names = ("baseline", "version 1", "version 5")

    def push(model_uri: str, tag: str, faults: Mapping[str, str]) -> str:
        return publish_image(registry, REPOSITORY, tag, {"MODEL_URI": model_uri, **faults})

    yield {name: publish(trained[name], log_model(trained[name], split), push) for name in names}
    mlflow.set_tracking_uri(before)
    os.chdir(where)


def test_the_versions_are_what_the_story_needs(trained: dict[str, TrainedModel]) -> None:
    """All pass the threshold; version 2 beats version 1; 3 and 5 are no worse than 2; 4 is worse."""
    accuracy = {name: model.metrics["accuracy"] for name, model in trained.items()}
    assert all(value >= 0.85 for value in accuracy.values())
    assert accuracy["version 2"] > accuracy["version 1"]
    assert accuracy["version 3"] >= accuracy["version 2"]
    assert accuracy["version 5"] >= accuracy["version 2"]
    assert accuracy["version 4"] < accuracy["version 2"]
    assert all(set(model.metrics) == {"accuracy", "precision", "recall", "f1_score"} for model in trained.values())


def test_the_second_models_versions_pass_its_own_threshold() -> None:
    """Its baseline does not, version 2 is better than version 1, and each answers thirteen numbers with its classes."""
    split = split_data(WINE)
    baseline, first, second = (train(spec, split) for spec in WINE.specs)
    assert baseline.metrics["accuracy"] < 0.95 <= first.metrics["accuracy"] < second.metrics["accuracy"]
    requests = second.recording["requests"]
    assert {len(one["request"]["features"]) for one in requests} == {13}
    assert {one["response"]["class_name"] for one in requests} == {"class_0", "class_1", "class_2"}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model)
def test_only_the_first_of_a_family_is_unregistered(family: Family) -> None:
    """It is the baseline, which the manifest names; versions are numbered as they are trained."""
    assert [spec.registered for spec in family.specs] == [False, *[True] * (len(family.specs) - 1)]
    assert [spec.name for spec in family.specs[1:]] == [f"version {number}" for number in range(1, len(family.specs))]


def test_a_recording_is_the_models_own_answers(trained: dict[str, TrainedModel]) -> None:
    """Recorded requests and responses have the artifact's format, and every class occurs in them."""
    recording = trained["version 2"].recording
    assert recording["version"] == 1
    assert len(recording["requests"]) == RECORDED
    assert {entry["response"]["class_name"] for entry in recording["requests"]} == {
        "setosa",
        "versicolor",
        "virginica",
    }
    assert all(len(entry["request"]["features"]) == 4 for entry in recording["requests"])


def test_the_registry_holds_what_a_promotion_reads(published: dict[str, Published]) -> None:
    """Versions have runs with metrics, signature, recording and image tags, measured on equal datasets."""
    import mlflow

    client: Any = mlflow.MlflowClient()
    digests = set()
    for model in published.values():
        run = client.get_run(model.run_id)
        assert run.info.status == "FINISHED"
        assert run.data.metrics["accuracy"] == pytest.approx(model.metrics["accuracy"])
        (dataset,) = run.inputs.dataset_inputs
        assert {tag.key: tag.value for tag in dataset.tags}["mlflow.data.context"] == "test"
        digests.add(dataset.dataset.digest)
        assert json.loads(mlflow.artifacts.load_text(f"runs:/{model.run_id}/{RECORDED_REQUESTS}"))["requests"]
    assert len(digests) == 1
    version = client.get_model_version(IRIS.model, str(published["version 1"].version))
    assert version.run_id == published["version 1"].run_id
    assert version.tags == {
        "image_tag": published["version 1"].image_tag,
        "image_digest": published["version 1"].image_digest,
    }
    inputs = mlflow.models.get_model_info(f"models:/{IRIS.model}/{version.version}").signature.inputs
    assert inputs.input_types()[0].name == "float64"


def test_the_baseline_is_registered_nowhere(published: dict[str, Published]) -> None:
    """What serves at first is a run's model that has no version."""
    assert published["baseline"].version is None
    assert published["baseline"].image_digest is not None


def test_an_image_that_is_left_out_has_a_tag_and_no_digest(published: dict[str, Published], registry: str) -> None:
    """Version 5 names an image that the registry does not have."""
    missing = published["version 5"]
    assert missing.image_digest is None
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{registry}/v2/{REPOSITORY}/manifests/{missing.image_tag}")


def test_a_published_image_says_which_model_it_serves(published: dict[str, Published], registry: str) -> None:
    """By tag one gets the manifest of that digest, and from it a config with MODEL_URI and a real layer."""
    model = published["version 1"]
    content, digest = get(f"{registry}/v2/{REPOSITORY}/manifests/{model.image_tag}")
    assert digest == model.image_digest
    manifest = json.loads(content)
    config = json.loads(get(f"{registry}/v2/{REPOSITORY}/blobs/{manifest['config']['digest']}")[0])
    assert f"MODEL_URI=models:/{IRIS.model}/{model.version}" in config["config"]["Env"]
    assert config["architecture"] == "amd64"
    layer, _ = get(f"{registry}/v2/{REPOSITORY}/blobs/{manifest['layers'][0]['digest']}")
    assert len(layer) == manifest["layers"][0]["size"]


def test_the_same_image_has_the_same_digest(registry: str) -> None:
    """Publishing again changes nothing; another environment or architecture is another image."""
    environment = {"MODEL_URI": "models:/m/1"}
    first = publish_image(registry, "again", "a" * 40, environment)
    assert publish_image(registry, "again", "a" * 40, environment) == first
    assert publish_image(registry, "again", "a" * 40, environment, architecture="arm64") != first
    assert publish_image(registry, "again", "a" * 40, {"MODEL_URI": "models:/m/2"}) != first


def test_a_refused_push_is_an_error(registry: str) -> None:
    """A repository name that the registry does not take is named in the error."""
    with pytest.raises(ProblemError, match=r"NOT-ALLOWED.*expected success, found status 4"):
        publish_image(registry, "NOT-ALLOWED", "a" * 40, {})

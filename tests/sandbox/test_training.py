"""The story's models are really trained, each is as good as the story needs, and a registry accepts their images."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestration.promotion.problems import ProblemError
from testbeds.common.mlflow_database import lay_out_mlflow
from testbeds.sandbox.images import publish_image
from testbeds.training.models import FAMILIES, IRIS, RECORDED, WINE, Family, TrainedModel, split_data, train
from testbeds.training.publish import RECORDED_REQUESTS, Published, log_model, publish

REPOSITORY = "team/model-source"


def get(url: str) -> tuple[bytes, str]:
    """Return the content at a URL of the registry, and its digest header."""
    request = urllib.request.Request(url, headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read(), answer.headers.get("Docker-Content-Digest", "")


@pytest.fixture(scope="module")
def trained() -> dict[str, TrainedModel]:
    split = split_data(IRIS)
    return {spec.name: train(spec, split) for spec in IRIS.specs}


@pytest.fixture(scope="module")
def published(
    trained: dict[str, TrainedModel], registry_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Published]]:
    """Three of the models, published in the registry and in MLflow (a separate database, without a server)."""
    import mlflow

    folder = tmp_path_factory.mktemp("mlflow")
    previous_uri, previous_folder = mlflow.get_tracking_uri(), Path.cwd()
    os.chdir(folder)  # artifacts lie below the working folder
    lay_out_mlflow(folder / "mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    split = split_data(IRIS)
    names = ("baseline", "version 1", "version 5")

    def push(model_uri: str, tag: str, faults: Mapping[str, str]) -> str:
        return publish_image(registry_url, REPOSITORY, tag, {"MODEL_URI": model_uri, **faults})

    yield {name: publish(trained[name], log_model(trained[name], split), push) for name in names}
    mlflow.set_tracking_uri(previous_uri)
    os.chdir(previous_folder)


def test_the_versions_are_as_good_as_the_story_needs(trained: dict[str, TrainedModel]) -> None:
    """All versions pass the threshold; 2 is better than 1, 3 and 5 are no worse than 2, and 4 is worse than 2."""
    accuracy = {name: model.metrics["accuracy"] for name, model in trained.items()}
    assert all(value >= 0.85 for value in accuracy.values())
    assert accuracy["version 2"] > accuracy["version 1"]
    assert accuracy["version 3"] >= accuracy["version 2"]
    assert accuracy["version 5"] >= accuracy["version 2"]
    assert accuracy["version 4"] < accuracy["version 2"]
    assert all(set(model.metrics) == {"accuracy", "precision", "recall", "f1_score"} for model in trained.values())


def test_the_second_models_versions_pass_its_own_threshold() -> None:
    """The second model's baseline fails its threshold, version 1 passes it, and version 2 is better still."""
    split = split_data(WINE)
    baseline, first, second = (train(spec, split) for spec in WINE.specs)
    assert baseline.metrics["accuracy"] < 0.95 <= first.metrics["accuracy"] < second.metrics["accuracy"]
    requests = second.recording["requests"]
    assert {len(entry["request"]["features"]) for entry in requests} == {13}
    assert {entry["response"]["class_name"] for entry in requests} == {"class_0", "class_1", "class_2"}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model)
def test_only_the_first_of_a_family_is_unregistered(family: Family) -> None:
    """A family's first model is the unregistered baseline, and the others are versions in the order of training."""
    assert [spec.registered for spec in family.specs] == [False, *[True] * (len(family.specs) - 1)]
    assert [spec.name for spec in family.specs[1:]] == [f"version {number}" for number in range(1, len(family.specs))]


def test_a_recording_is_the_models_own_answers(trained: dict[str, TrainedModel]) -> None:
    """A recording has the artifact's format, and its responses include every class."""
    recording = trained["version 2"].recording
    assert recording["version"] == 1
    assert len(recording["requests"]) == RECORDED
    assert {entry["response"]["class_name"] for entry in recording["requests"]} == {
        "setosa",
        "versicolor",
        "virginica",
    }
    assert all(len(entry["request"]["features"]) == 4 for entry in recording["requests"])


def test_mlflow_has_what_a_promotion_reads(published: dict[str, Published]) -> None:
    """Versions have metrics from equal datasets, a signature, a recording, and tags that name their image."""
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


def test_the_baseline_is_not_registered(published: dict[str, Published]) -> None:
    """The baseline is published from its run, without a registered version."""
    assert published["baseline"].version is None
    assert published["baseline"].image_digest is not None


def test_an_unpublished_image_has_a_tag_and_no_digest(published: dict[str, Published], registry_url: str) -> None:
    """Version 5 names an image that the registry does not have."""
    missing = published["version 5"]
    assert missing.image_digest is None
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{registry_url}/v2/{REPOSITORY}/manifests/{missing.image_tag}")


def test_a_published_image_names_the_model_that_it_serves(published: dict[str, Published], registry_url: str) -> None:
    """The tag leads to the manifest of the published digest, its config has MODEL_URI, and its layer can be pulled."""
    model = published["version 1"]
    content, digest = get(f"{registry_url}/v2/{REPOSITORY}/manifests/{model.image_tag}")
    assert digest == model.image_digest
    manifest = json.loads(content)
    config = json.loads(get(f"{registry_url}/v2/{REPOSITORY}/blobs/{manifest['config']['digest']}")[0])
    assert f"MODEL_URI=models:/{IRIS.model}/{model.version}" in config["config"]["Env"]
    assert config["architecture"] == "amd64"
    layer, _ = get(f"{registry_url}/v2/{REPOSITORY}/blobs/{manifest['layers'][0]['digest']}")
    assert len(layer) == manifest["layers"][0]["size"]


def test_the_same_image_has_the_same_digest(registry_url: str) -> None:
    """Publishing an image again gives the same digest; another environment or architecture gives another one."""
    environment = {"MODEL_URI": "models:/m/1"}
    first = publish_image(registry_url, "again", "a" * 40, environment)
    assert publish_image(registry_url, "again", "a" * 40, environment) == first
    assert publish_image(registry_url, "again", "a" * 40, environment, architecture="arm64") != first
    assert publish_image(registry_url, "again", "a" * 40, {"MODEL_URI": "models:/m/2"}) != first


def test_a_refused_push_is_an_error(registry_url: str) -> None:
    """When the registry refuses a repository name, the error names the repository."""
    with pytest.raises(ProblemError, match=r"NOT-ALLOWED.*expected success, found status 4"):
        publish_image(registry_url, "NOT-ALLOWED", "a" * 40, {})

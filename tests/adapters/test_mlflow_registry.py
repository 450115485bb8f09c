"""The model registry: a real MLflow server and the fake of the tests, held to the same contract."""

import math
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import uuid4

import httpx2
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from orchestration.adapters.mlflow_registry import ARTIFACT_CAP, EVALUATIONS, MlflowRegistry
from orchestration.promotion.input_drift import FeatureDrift
from orchestration.promotion.model_version import (
    ColumnInput,
    Dataset,
    ModelVersion,
    Signature,
    TensorInput,
    TrainingRun,
)
from orchestration.promotion.originals import with_originals
from orchestration.promotion.ports import Registry
from orchestration.promotion.problems import DependencyError, InvalidInputError
from orchestration.promotion.served_quality import ServedQuality
from tests.fakes.registry import FakeRegistry

ANY_PATH = re.compile("/")
_DOWNLOAD_URI = "model-versions/get-download-uri"


class World(Protocol):
    """A registry, and what people do who train and register models."""

    @property
    def registry(self) -> Registry: ...

    def run(self, metrics: dict[str, float], dataset: Dataset | None = None) -> str: ...

    def version(self, model: str, run_id: str, tags: dict[str, str] | None = None) -> ModelVersion: ...


@dataclass
class FakeWorld:
    registry: FakeRegistry

    def run(self, metrics: dict[str, float], dataset: Dataset | None = None) -> str:
        run_id = uuid4().hex
        datasets = (dataset,) if dataset else ()
        self.registry.add_run(TrainingRun(run_id, "FINISHED", metrics, datasets, {"team": "edge"}, {"depth": "10"}))
        return run_id

    def version(self, model: str, run_id: str, tags: dict[str, str] | None = None) -> ModelVersion:
        return self.registry.add_version(model, run_id, tags)


@dataclass
class MlflowWorld:
    """Trains and registers through MLflow's own client, so that the adapter has to read what that client writes."""

    registry: MlflowRegistry
    url: str

    def run(self, metrics: dict[str, float], dataset: Dataset | None = None) -> str:
        from mlflow.entities import Dataset as Entity
        from mlflow.entities import DatasetInput, InputTag
        from mlflow.tracking import MlflowClient

        client = MlflowClient(self.url, self.url)
        run_id: str = client.create_run("0", tags={"team": "edge"}).info.run_id
        for name, value in metrics.items():
            client.log_metric(run_id, name, value)
        client.log_param(run_id, "depth", 10)
        if dataset is not None:
            entity = Entity(dataset.name, dataset.digest, "local", "{}", schema=dataset.schema, profile=dataset.profile)
            tags = [InputTag("mlflow.data.context", dataset.context)] if dataset.context else []
            client.log_inputs(run_id, [DatasetInput(entity, tags)])
        client.set_terminated(run_id)
        return run_id

    def version(self, model: str, run_id: str, tags: dict[str, str] | None = None) -> ModelVersion:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        client = MlflowClient(self.url, self.url)
        try:
            client.get_registered_model(model)
        except MlflowException:
            client.create_registered_model(model)
        source = client.get_run(run_id).info.artifact_uri + "/model"
        created = client.create_model_version(model, source, run_id, tags=tags)
        version = self.registry.version(model, int(created.version))
        assert version is not None
        return version


@pytest.fixture(params=["mlflow", "fake"])
def world(request: pytest.FixtureRequest) -> World:
    """The real registry, and then the fake, for the same contract."""
    if request.param == "fake":
        return FakeWorld(FakeRegistry(time=time.time()))
    url: str = request.getfixturevalue("mlflow_url")
    return MlflowWorld(MlflowRegistry(url), url)


@pytest.fixture
def model() -> str:
    """A model's name that no other test uses, with characters that a URL must quote."""
    return f"iris é+%20&{uuid4().hex[:8]}"


def test_an_alias_names_its_version(world: World, model: str) -> None:
    """`version_by_alias` returns the version that the alias was set to last, with run and tags."""
    run_id = world.run({})
    world.version(model, run_id)
    second = world.version(model, run_id, {"image_tag": "abc"})
    world.registry.set_alias(second, "challenger")
    challenger = world.registry.version_by_alias(model, "challenger")
    assert challenger == second
    assert challenger is not None
    assert (challenger.version, challenger.run_id, challenger.tags) == (2, run_id, {"image_tag": "abc"})


def test_the_versions_of_many_models_are_named_at_once(world: World, model: str) -> None:
    """What has no such alias or does not exist is left out, whatever is in a name; an alias alone is not enough."""
    run_id = world.run({})
    with_alias, without, moved = (world.version(f"{model}-{name}", run_id) for name in ("with", "without", "moved"))
    for version in (with_alias, moved, world.version(moved.model, run_id)):
        world.registry.set_alias(version, "challenger")
    world.registry.set_alias(without, "champion")
    models = [with_alias.model, without.model, moved.model, f"{model}-none", "it's", 'a "b"', "c\\", "%"]
    assert world.registry.named_by("challenger", models) == {with_alias.model: 1, moved.model: 2}
    assert world.registry.named_by("challenger", []) == {}


def test_missing_objects_are_none(world: World, model: str) -> None:
    """A missing model, alias, version, run or artifact is None and not an error."""
    registry = world.registry
    assert registry.version_by_alias(model, "challenger") is None
    run_id = world.run({})
    world.version(model, run_id)
    assert registry.version_by_alias(model, "challenger") is None
    assert registry.version(model, 2) is None
    assert registry.version(model, 10**30) is None
    assert registry.training(ModelVersion(model, 9, "0" * 32, None)) is None
    assert registry.training(ModelVersion(model, 9, "../" + run_id, None)) is None
    assert registry.training(ModelVersion(model, 9, None, None)) is None
    assert registry.artifact(run_id, "incumbent/recorded_requests.json") is None
    assert registry.artifact("0" * 32, "a") is None


def test_a_run_is_read_completely(world: World) -> None:
    """Status, metrics, parameters, tags, and data sets with digest, context, statistics and columns are read."""
    dataset = Dataset("iris-test", "0a1b2c3d", "test", '{"num_rows": 150}', '{"mlflow_colspec": []}')
    run_id = world.run({"accuracy": 0.93, "broken": math.nan}, dataset)
    run = world.registry.training(ModelVersion("iris", 1, run_id, None))
    assert run is not None
    assert run.status == "FINISHED"
    assert run.metrics["accuracy"] == 0.93
    assert math.isnan(run.metrics["broken"])
    assert run.datasets == (dataset,)
    assert run.parameters == {"depth": "10"}
    assert run.tags["team"] == "edge"


def test_artifacts_come_back_as_they_were_put(world: World) -> None:
    """Bytes survive, under a path with what an address would quote, and a second put replaces them."""
    run_id, path = world.run({}), "incumbent/iris edge/é+1, 50%.json"
    for content in (b"", bytes(range(256)), b"{}"):
        world.registry.put_artifact(run_id, path, content)
        assert world.registry.artifact(run_id, path) == content


def test_tags_are_added_and_replaced(world: World, model: str) -> None:
    """Writing tags keeps the other tags, and the same value may be written twice."""
    version = world.version(model, world.run({}), {"keep": "1"})
    world.registry.write_tags(version, {"incumbent.edge.state": "waiting", "incumbent.edge.reason": "é\n"})
    world.registry.write_tags(version, {"incumbent.edge.state": "champion"})
    world.registry.write_tags(version, {"incumbent.edge.state": "champion"})
    tagged = world.registry.version(model, 1)
    assert tagged is not None
    assert tagged.tags == {"keep": "1", "incumbent.edge.state": "champion", "incumbent.edge.reason": "é\n"}


def test_versions_are_found_by_how_a_tag_begins(world: World, model: str) -> None:
    """A search covers all models, returns versions with all their tags, and distinguishes upper and lower case."""
    key, run_id = f"incumbent.{uuid4().hex[:8]}-edge.seen_at", world.run({})
    first = world.version(model, run_id, {key: "2026-11-23T16:31:07.000Z", "other": "kept"})
    second = world.version(f"{model} too", run_id, {key: "2026-11-23T16:39:59.999Z"})
    world.version(model, run_id, {key: "2026-11-23T16:40:00.000Z"})
    world.version(model, run_id)
    versions = world.registry.tagged(key, "2026-11-23T16:3")
    assert {(version.model, version.version) for version in versions} == {(first.model, 1), (second.model, 1)}
    assert {version.tags.get("other") for version in versions} == {"kept", None}
    assert len(world.registry.tagged(key, "")) == 3
    assert world.registry.tagged(key, "2026-11-23t16:3") == ()
    assert world.registry.tagged(f"{key}.none", "") == ()


def test_more_versions_than_one_page_are_found(mlflow_url: str, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search reads all pages."""
    monkeypatch.setattr("orchestration.adapters.mlflow_registry._PAGE", 2)
    world = MlflowWorld(MlflowRegistry(mlflow_url), mlflow_url)
    key, run_id = f"tag-{uuid4().hex}", world.run({})
    for _ in range(5):
        world.version(model, run_id, {key: "x"})
    assert sorted(version.version for version in world.registry.tagged(key, "")) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("key", "start"), [("a`b", ""), ("a", "' OR '"), ("a", "100%"), ("a", "_"), ("a", "\\")])
def test_a_search_text_cannot_change_the_filter(key: str, start: str) -> None:
    """Text that would end the quotes or act as a wildcard is refused before the server is asked."""
    with pytest.raises(InvalidInputError):
        MlflowRegistry("http://127.0.0.1:1").tagged(key, start)


def test_an_alias_moves(world: World, model: str) -> None:
    """Setting an alias takes it from the version that had it."""
    run_id = world.run({})
    first, second = world.version(model, run_id), world.version(model, run_id)
    world.registry.set_alias(first, "champion")
    world.registry.set_alias(second, "champion")
    assert world.registry.version_by_alias(model, "champion") == second


def test_writing_to_missing_objects_is_an_error(world: World, model: str) -> None:
    """Writing tags, an alias or an artifact of a version or run that was deleted meanwhile never succeeds silently."""
    gone = ModelVersion(model, 7, None, None)
    with pytest.raises(DependencyError):
        world.registry.write_tags(gone, {"a": "b"})
    with pytest.raises(DependencyError):
        world.registry.set_alias(gone, "champion")
    with pytest.raises(DependencyError):
        world.registry.put_artifact("0" * 32, "a", b"")


def test_ping_answers(world: World) -> None:
    """A registry that is up answers a ping."""
    world.registry.ping()


def test_the_server_tells_its_version(world: World) -> None:
    """It is a version's number, by which a doctor tells what the server can do."""
    assert re.fullmatch(r"3\.[0-9]+\.[0-9]+", world.registry.server_version() or "")


def test_the_server_tells_its_time(world: World) -> None:
    """By it, a doctor finds clocks that differ."""
    at = world.registry.server_time()
    assert at is not None
    assert abs(at - time.time()) < 10


def test_a_server_without_logins_tells_no_rights(world: World, model: str) -> None:
    """Where everyone may write, there is no account to ask about."""
    assert world.registry.may_edit(model) is None


def test_the_newest_version_is_the_one_with_the_highest_number(world: World, model: str) -> None:
    """A model without versions has none; tags and aliases change nothing."""
    assert world.registry.latest_version(model) is None
    run_id = world.run({})
    first = world.version(model, run_id)
    for _ in range(10):
        newest = world.version(model, run_id)
    world.registry.write_tags(first, {"touched": "later"})
    assert world.registry.latest_version(model) == newest


def test_a_runs_artifacts_are_behind_the_proxy(world: World) -> None:
    """A server with --serve-artifacts gives each run a place in its own scheme; a missing run has none."""
    root = world.registry.artifact_root(world.run({}))
    assert root is not None
    assert root.startswith("mlflow-artifacts:/")
    assert world.registry.artifact_root("f" * 32) is None


def test_the_fake_can_be_taken_down() -> None:
    """A fake that is down fails each call like a dead server."""
    registry = FakeRegistry(down=True)
    with pytest.raises(DependencyError):
        registry.ping()
    with pytest.raises(DependencyError):
        registry.version_by_alias("iris", "challenger")
    assert registry.calls == ["ping", "version_by_alias"]


# From here on: what only a real registry can show.


@pytest.fixture
def counting(httpserver: HTTPServer, mlflow_url: str) -> HTTPServer:
    """A proxy in front of MLflow, whose log lists the requests that were made."""

    def forward(request: Request) -> Response:
        with httpx2.Client(timeout=30) as client:
            answer = client.request(
                request.method,
                mlflow_url + request.full_path,
                content=request.get_data(),
                headers={"Content-Type": request.content_type or "application/octet-stream"},
            )
        return Response(answer.content, answer.status_code, {"Content-Type": answer.headers.get("content-type", "")})

    httpserver.expect_request(ANY_PATH).respond_with_handler(forward)
    return httpserver


def test_reading_an_alias_is_one_request(counting: HTTPServer, mlflow_url: str, model: str) -> None:
    """Whether or not the alias exists, and however many versions there are, MLflow is asked once."""
    real = MlflowWorld(MlflowRegistry(mlflow_url), mlflow_url)
    run_id = real.run({})
    versions = [real.version(model, run_id) for _ in range(5)]
    registry = MlflowRegistry(counting.url_for(""))
    assert registry.version_by_alias(model, "challenger") is None
    assert len(counting.log) == 1
    real.registry.set_alias(versions[2], "challenger")
    assert registry.version_by_alias(model, "challenger") == versions[2]
    assert len(counting.log) == 2


def test_the_aliases_of_200_models_are_one_request(counting: HTTPServer, mlflow_url: str, model: str) -> None:
    """And no request's address is longer than what proxies take."""
    real = MlflowWorld(MlflowRegistry(mlflow_url), mlflow_url)
    version = real.version(model, real.run({}))
    real.registry.set_alias(version, "challenger")
    registry = MlflowRegistry(counting.url_for(""))
    assert registry.named_by("challenger", [model, *(f"m{number}" for number in range(199))]) == {model: 1}
    assert len(counting.log) == 1
    assert registry.named_by("challenger", [f"{'a-long-name' * 9}-{number}" for number in range(200)]) == {}
    assert max(len(request.url) for request, _ in counting.log) < 6000
    assert len(counting.log) < 10


def test_a_server_that_cannot_search_for_names_is_asked_for_each(httpserver: HTTPServer) -> None:
    """As MLflow 3.3.2 and 3.10.1 answer, by their source (store/model_registry/sqlalchemy_store.py)."""
    refusal = {"error_code": "INVALID_PARAMETER_VALUE", "message": "Invalid comparator for attribute: IN"}
    httpserver.expect_request(ANY_PATH).respond_with_json(refusal, status=400)
    assert MlflowRegistry(httpserver.url_for("")).named_by("challenger", ["iris"]) is None


def test_an_alias_is_read_while_a_search_leaves_it_out(counting: HTTPServer, mlflow_url: str, model: str) -> None:
    """Aliases never come from a search, whose answers may leave them out (mlflow#16734)."""
    real = MlflowWorld(MlflowRegistry(mlflow_url), mlflow_url)
    real.registry.set_alias(real.version(model, real.run({})), "challenger")
    assert MlflowRegistry(counting.url_for("")).version_by_alias(model, "challenger") is not None
    assert not [request.path for request, _ in counting.log if "search" in request.path]


def test_an_alias_that_can_never_be_is_an_error(mlflow_url: str, model: str) -> None:
    """A policy with an alias that MLflow refuses gets an error, instead of waiting for ever."""
    real = MlflowWorld(MlflowRegistry(mlflow_url), mlflow_url)
    real.version(model, real.run({}))
    with pytest.raises(DependencyError, match="Invalid alias name"):
        real.registry.version_by_alias(model, "no alias")


def test_a_deleted_run_is_none(mlflow_url: str) -> None:
    """A run in MLflow's trash cannot be promoted from."""
    from mlflow.tracking import MlflowClient

    real = MlflowWorld(MlflowRegistry(mlflow_url), mlflow_url)
    run_id = real.run({"accuracy": 1.0})
    MlflowClient(mlflow_url).delete_run(run_id)
    assert real.registry.training(ModelVersion("iris", 1, run_id, None)) is None
    assert real.registry.artifact(run_id, "a") is None


@pytest.fixture
def logged_models(mlflow_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ModelVersion]]:
    """Logs a model as people do, with `log_model` and a signature, and registers it."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.pyfunc.model import PythonModel

    class Echo(PythonModel):
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def] # typed, it would be checked
            return model_input

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(mlflow_url)

    def log(model: str, signature: ModelSignature | None, example: object = None) -> ModelVersion:
        with mlflow.start_run(experiment_id="0"):
            mlflow.pyfunc.log_model(
                name="model",
                python_model=Echo(),
                signature=signature,
                input_example=example,
                pip_requirements=[],
                registered_model_name=model,
            )
        version = MlflowRegistry(mlflow_url).version(model, 1)
        assert version is not None
        return version

    yield log
    mlflow.set_tracking_uri(before)


def test_a_copy_says_in_its_source_which_version_it_was(
    logged_models: Callable[..., ModelVersion], mlflow_url: str, model: str
) -> None:
    """`copy_model_version` keeps the run and names the original, also for a copy of a copy."""
    from mlflow import MlflowClient

    original = logged_models(model, None)
    client = MlflowClient(mlflow_url, mlflow_url)
    client.copy_model_version(f"models:/{model}/1", f"{model}-staging")
    client.copy_model_version(f"models:/{model}-staging/1", f"{model}-prod")
    registry = MlflowRegistry(mlflow_url)
    copy = registry.version(f"{model}-prod", 1)
    assert copy is not None
    assert (copy.run_id, copy.model_id) == (original.run_id, None)
    named = with_originals(registry, copy)
    assert [one.model for one in named.originals] == [f"{model}-staging", model]
    assert named.originals[-1].model_id == original.model_id


def test_tensor_and_column_signatures_are_read(
    logged_models: Callable[..., ModelVersion], mlflow_url: str, model: str
) -> None:
    """A signature that MLflow wrote is read from the MLmodel file, without loading the model."""
    import numpy
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    registry = MlflowRegistry(mlflow_url)
    tensor = ModelSignature(Schema([TensorSpec(numpy.dtype("float64"), (-1, 4))]))
    version = logged_models(model, tensor)
    assert version.model_id is not None
    assert registry.signature(version) == Signature((TensorInput(None, "float64", (-1, 4)),))
    columns = ModelSignature(Schema([ColSpec("double", "sepal length"), ColSpec("string", "note", required=False)]))
    by_column = registry.signature(logged_models(f"{model}-columns", columns))
    assert by_column == Signature((ColumnInput("sepal length", "double", True), ColumnInput("note", "string", False)))


def test_the_last_evaluation_is_read_back(world: World, model: str) -> None:
    """As it was kept, whatever its inputs are called; that of another policy is another."""
    assert world.registry.last_evaluation(model) is None
    first = ServedQuality(model, "iris", 1, "accuracy", 0.9, 0.95, 20, "d1", newest_label=1.5, at=1000.0)
    drift = [FeatureDrift("sepal length (cm) é", "ks", 0.5, 0.001, True)]
    world.registry.record_evaluation(replace(first, compared_inputs=1, drifted_inputs=("sepal length (cm) é",)), drift)
    last = replace(first, value=0.8, rows_digest="d2", at=2000.0, not_compared="no sample")
    assert world.registry.record_evaluation(last, ()).startswith("http")
    world.registry.record_evaluation(replace(last, policy=f"{model}-other", at=3000.0), ())
    assert world.registry.last_evaluation(model) == last


def test_an_unfinished_evaluation_does_not_count(mlflow_url: str, model: str) -> None:
    """A process that dies between two requests leaves a run without an end."""
    from mlflow.tracking import MlflowClient

    registry, client = MlflowRegistry(mlflow_url), MlflowClient(mlflow_url, mlflow_url)
    kept = ServedQuality(model, "iris", 1, "accuracy", 0.9, 0.95, 20, "d1", at=1000.0)
    registry.record_evaluation(kept, ())
    experiment = client.get_experiment_by_name(EVALUATIONS)
    assert experiment is not None
    client.create_run(experiment.experiment_id, tags={"incumbent.policy": model})
    assert registry.last_evaluation(model) == kept


def test_an_evaluation_that_was_changed_is_named(mlflow_url: str, model: str) -> None:
    """Anyone may edit a run's tags; what they wrote is not believed."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(mlflow_url, mlflow_url)
    page = MlflowRegistry(mlflow_url).record_evaluation(
        ServedQuality(model, "iris", 1, "accuracy", 0.9, 0.95, 20, "d1", at=1000.0), ()
    )
    client.set_tag(page.rpartition("/")[2], "incumbent.evaluation", '{"value": "high"}')
    with pytest.raises(DependencyError, match="of an evaluation cannot be read"):
        MlflowRegistry(mlflow_url).last_evaluation(model)


def test_input_examples_are_read_as_mlflow_wrote_them(
    logged_models: Callable[..., ModelVersion], mlflow_url: str, model: str
) -> None:
    """They have the form in which MLflow's own server takes a request; a model without one has None."""
    import numpy
    import pandas

    registry = MlflowRegistry(mlflow_url)
    rows = [[5.1, 3.5], [6.2, 2.9]]
    examples = {"array": numpy.array(rows), "frame": pandas.DataFrame(rows, columns=["a", "b"]), "text": ["hello"]}
    found = {
        name: registry.input_example(logged_models(f"{model}-{name}", None, example))
        for name, example in examples.items()
    }
    frame = {"columns": ["a", "b"], "data": rows}
    assert found == {"array": {"inputs": rows}, "frame": {"dataframe_split": frame}, "text": {"inputs": ["hello"]}}
    assert registry.input_example(logged_models(f"{model}-none", None)) is None


def test_a_model_without_signature_has_none(mlflow_url: str, model: str) -> None:
    """A version without an MLmodel file, or with one without inputs, has no signature."""
    real = MlflowWorld(MlflowRegistry(mlflow_url), mlflow_url)
    run_id = real.run({})
    version = real.version(model, run_id)
    assert real.registry.signature(version) is None
    real.registry.put_artifact(run_id, "model/MLmodel", b"flavors: {}\n")
    assert real.registry.signature(version) is None


def test_a_model_is_where_the_server_says_and_gone_with_its_files(
    logged_models: Callable[..., ModelVersion], mlflow_url: str, model: str
) -> None:
    """A logged model's place is behind the server's proxy; a version without an MLmodel file is nowhere."""
    real = MlflowWorld(MlflowRegistry(mlflow_url), mlflow_url)
    logged = logged_models(model, None)
    location = real.registry.model_location(logged)
    assert location is not None
    assert location.startswith("mlflow-artifacts:/")
    assert location.endswith(f"/models/{logged.model_id}/artifacts")
    run_id = real.run({})
    version = real.version(f"{model}-2", run_id)
    assert real.registry.model_location(version) is None
    real.registry.put_artifact(run_id, "model/MLmodel", b"flavors: {}\n")
    assert (real.registry.model_location(version) or "").endswith(f"/{run_id}/artifacts/model")
    assert real.registry.model_location(ModelVersion(model, 99, None, None)) is None


@pytest.mark.parametrize("source", ["s3://evil/model", "file:///etc", "/etc"])
def test_a_place_outside_the_artifact_proxy_is_told_and_not_looked_at(
    mlflow_url: str, httpserver: HTTPServer, source: str
) -> None:
    """Whoever asks decides about a place that a registered version names; nothing is read there."""
    lookups = {"registered-models/get": {"registered_model": {"name": "iris"}}, _DOWNLOAD_URI: {"artifact_uri": source}}
    for path, answer in lookups.items():
        httpserver.expect_request(f"/api/2.0/mlflow/{path}").respond_with_json(answer)
    registry = MlflowRegistry(httpserver.url_for(""))
    assert registry.model_location(ModelVersion("iris", 1, None, None)) == source
    assert [request.path for request, _ in httpserver.log] == [f"/api/2.0/mlflow/{path}" for path in lookups]


@pytest.mark.parametrize(
    "mlmodel",
    [
        b"- a\n",
        b"a: [\n",
        b"\xff",
        b"signature: {inputs: 'x'}",
        b"signature: {inputs: '[1]'}",
        b"signature: {inputs: '{}'}",
        b"signature: 5",
    ],
)
def test_a_hostile_mlmodel_file_is_an_error(mlflow_url: str, model: str, mlmodel: bytes) -> None:
    """A file that is not in MLflow's form is an error that names it, and neither crashes nor passes (design rule 9)."""
    real = MlflowWorld(MlflowRegistry(mlflow_url), mlflow_url)
    run_id = real.run({})
    version = real.version(model, run_id)
    real.registry.put_artifact(run_id, "model/MLmodel", mlmodel)
    with pytest.raises(DependencyError, match="MLmodel"):
        real.registry.signature(version)


@pytest.mark.parametrize(
    "source",
    [
        *("s3://bucket/model", "file:///etc", "/etc", "mlflow-artifacts://elsewhere:80/x", "mlflow-artifacts:/x?y=z"),
        *("mlflow-artifacts:/x/../y", "mlflow-artifacts:/x/%2e%2e/y", "mlflow-artifacts:/x#y", "mlflow-artifacts:/"),
    ],
)
def test_a_source_outside_the_artifact_proxy_is_not_followed(
    mlflow_url: str, httpserver: HTTPServer, source: str
) -> None:
    """A person who may register a version cannot make the pipeline read other places; the error says what to do."""
    lookups = {"registered-models/get": {"registered_model": {"name": "iris"}}, _DOWNLOAD_URI: {"artifact_uri": source}}
    for path, answer in lookups.items():
        httpserver.expect_request(f"/api/2.0/mlflow/{path}").respond_with_json(answer)
    with pytest.raises(InvalidInputError, match=r"--serve-artifacts.*INCUMBENT_ARTIFACT_ROOTS"):
        MlflowRegistry(httpserver.url_for("")).signature(ModelVersion("iris", 1, None, None))
    assert [request.path for request, _ in httpserver.log] == [f"/api/2.0/mlflow/{path}" for path in lookups]


@pytest.mark.parametrize(
    "place",
    [
        *("s3://models/mlflow-evil/1", "s3://models/mlflow", "s3://models/mlflow/../x", "s3://models/mlflow/a?b"),
        *("gs://models/mlflow/1", "s3://models.evil/mlflow/1", "s3://models/mlflow/%2e%2e/x"),
    ],
)
def test_a_place_beside_those_of_the_setting_is_refused(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """For good, because it would be refused again; nothing there is asked for."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # a client that did ask would look for keys there
    info = {"run_id": "a", "artifact_uri": place}
    httpserver.expect_request("/api/2.0/mlflow/runs/get").respond_with_json({"run": {"info": info}})
    registry = MlflowRegistry(httpserver.url_for(""), ["s3://models/mlflow"])
    with pytest.raises(InvalidInputError, match="INCUMBENT_ARTIFACT_ROOTS"):
        registry.artifact("a", "incumbent/a.json")


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../x", "a//b", "a\\b", "a\nb", "./a", "%2e%2e/x", "%%2E", "a?b", "a#b"]
)
def test_hostile_artifact_paths_are_refused(path: str) -> None:
    """A path that leaves the run's artifacts is refused before the server is asked."""
    registry = MlflowRegistry("http://127.0.0.1:1")
    with pytest.raises(InvalidInputError):
        registry.artifact("a" * 32, path)
    with pytest.raises(InvalidInputError):
        registry.put_artifact("a" * 32, path, b"")


def test_an_artifact_above_the_cap_is_an_error(mlflow_url: str) -> None:
    """A huge artifact is not read to its end."""
    real = MlflowWorld(MlflowRegistry(mlflow_url), mlflow_url)
    run_id = real.run({})
    real.registry.put_artifact(run_id, "huge", bytes(ARTIFACT_CAP))
    real.registry.put_artifact(run_id, "huger", bytes(ARTIFACT_CAP + 1))
    assert real.registry.artifact(run_id, "huge") == bytes(ARTIFACT_CAP)
    with pytest.raises(DependencyError, match="bytes at most"):
        real.registry.artifact(run_id, "huger")


@pytest.mark.parametrize(
    ("listed", "downloads"), [({"file_size": ARTIFACT_CAP + 1}, 0), ({}, 1), ({"file_size": 1}, 1)]
)
def test_an_artifact_of_another_size_than_listed_is_an_error(
    httpserver: HTTPServer, listed: dict[str, int], downloads: int
) -> None:
    """An artifact listed as too large is not downloaded; one that turns out to be too large is refused."""
    info = {"run_id": "a", "artifact_uri": "mlflow-artifacts:/0/a"}
    listing = "/api/2.0/mlflow-artifacts/artifacts"
    httpserver.expect_request("/api/2.0/mlflow/runs/get").respond_with_json({"run": {"info": info}})
    for folder, files in {"0/a": [{"path": "huge", "is_dir": False, **listed}], "0/a/huge": []}.items():
        httpserver.expect_request(listing, query_string={"path": folder}).respond_with_json({"files": files})
    httpserver.expect_request(f"{listing}/0/a/huge").respond_with_data(bytes(ARTIFACT_CAP + 1))
    with pytest.raises(DependencyError, match="bytes at most"):
        MlflowRegistry(httpserver.url_for("")).artifact("a", "huge")
    assert [request.path for request, _ in httpserver.log].count(f"{listing}/0/a/huge") == downloads


def test_long_tag_values_end_in_an_ellipsis(mlflow_url: str, model: str) -> None:
    """A reason longer than MLflow accepts is cut, and still written; a key that is too long is refused."""
    real = MlflowWorld(MlflowRegistry(mlflow_url), mlflow_url)
    version = real.version(model, real.run({}))
    real.registry.write_tags(version, {"reason": "x" * 6000})
    tagged = real.registry.version(model, 1)
    assert tagged is not None
    assert tagged.tags["reason"] == "x" * 4999 + "…"
    with pytest.raises(InvalidInputError):
        real.registry.write_tags(version, {"k" * 251: "x"})


def test_a_version_has_a_page() -> None:
    """The link to a version quotes the model's name."""
    registry = MlflowRegistry("http://mlflow:5000/")
    assert registry.version_url(ModelVersion("a b", 7, None, None)) == "http://mlflow:5000/#/models/a%20b/versions/7"


@pytest.mark.parametrize(("workspace", "ending"), [("team a", "?workspace=team%20a"), ("default", ""), ("", "")])
def test_the_page_of_a_version_is_that_of_its_workspace(
    monkeypatch: pytest.MonkeyPatch, workspace: str, ending: str
) -> None:
    """The link names a workspace as MLflow's own client does (_tracking_service/client.py)."""
    monkeypatch.setenv("MLFLOW_WORKSPACE", workspace)
    url = MlflowRegistry("http://mlflow:5000").version_url(ModelVersion("iris", 7, None, None))
    assert url == f"http://mlflow:5000/#/models/iris/versions/7{ending}"


def test_transient_answers_are_asked_again_a_few_times(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A short outage is bridged silently; neither reads nor writes go on for minutes, whatever `Retry-After` asks for.

    Repeating the write of a tag does no harm. A setting that a person made for MLflow's client is kept.
    """
    alias = "/api/2.0/mlflow/registered-models/alias"
    httpserver.expect_ordered_request(alias).respond_with_data("busy", 503, {"Retry-After": "3600"})
    httpserver.expect_ordered_request(alias).respond_with_json({"model_version": {"name": "iris", "version": "3"}})
    registry = MlflowRegistry(httpserver.url_for(""))
    version = ModelVersion("iris", 3, None, None)
    assert registry.version_by_alias("iris", "challenger") == version
    httpserver.clear()
    httpserver.expect_request(ANY_PATH).respond_with_data("busy", 503, {"Retry-After": "3600"})
    with pytest.raises(DependencyError, match="too many 503"):
        registry.version_by_alias("iris", "challenger")
    assert len(httpserver.log) == 3
    httpserver.clear_log()
    with pytest.raises(DependencyError, match="too many 503"):
        registry.write_tags(version, {"a": "b", "c": "d"})
    assert len(httpserver.log) == 3
    httpserver.clear_log()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(DependencyError, match="too many 503"):
        MlflowRegistry(httpserver.url_for("")).ping()
    assert len(httpserver.log) == 1
    assert capfd.readouterr().out == ""


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the request and never answers is an error that says so."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        registry = MlflowRegistry(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(DependencyError, match="timed out"):
            registry.ping()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, "You are not authenticated", "401 .*You are not authenticated"),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "no"}', "PERMISSION_DENIED: no"),
        (404, "<html>not MLflow</html>", "404 .*not MLflow"),
        (404, '{"error_code": "ENDPOINT_NOT_FOUND"}', "ENDPOINT_NOT_FOUND"),
        (500, "oops", "too many 500"),
        (200, "<html>a login page</html>", "a login page"),
        (200, "[]", "not in a valid JSON format"),
        (200, '{"model_version": 5}', "ParseError"),
        (200, "", "without name or number"),
        (200, '{"model_version": {"name": "iris", "version": "x"}}', "without name or number"),
        (302, "", "302"),
    ],
)
def test_garbage_and_refusals_are_errors(httpserver: HTTPServer, status: int, body: str, message: str) -> None:
    """Neither an error page nor garbage ever counts as "no such alias", and no redirect is followed."""
    httpserver.expect_request(ANY_PATH).respond_with_data(body, status, {"Location": "/elsewhere"})
    registry = MlflowRegistry(httpserver.url_for(""))
    with pytest.raises(DependencyError, match=message):
        registry.version_by_alias("iris", "challenger")
    assert {request.path for request, _ in httpserver.log} == {"/api/2.0/mlflow/registered-models/alias"}


def test_making_the_adapter_imports_no_client() -> None:
    """The adapter can be made without the seconds that importing MLflow takes."""
    program = (
        "import sys; from orchestration.adapters.mlflow_registry import MlflowRegistry;"
        "MlflowRegistry('http://mlflow:5000'); assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_dead_server_is_an_error(free_address: str) -> None:
    """The error for a refused connection names the server, the reason alone, and the setting to check."""
    registry = MlflowRegistry(f"http://{free_address}")
    with pytest.raises(DependencyError, match="MLFLOW_TRACKING_URI"):
        registry.ping()
    with pytest.raises(DependencyError, match="MLFLOW_TRACKING_URI") as caught:
        registry.version_by_alias("iris", "champion")
    assert caught.value.problem.found == "no answer (Connection refused)"


def test_credentials_are_sent_and_never_shown(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """User and password go to the server as basic auth, a token as bearer; no error repeats them."""
    httpserver.expect_request(ANY_PATH).respond_with_handler(
        lambda request: Response(f"refused {request.headers['Authorization']} hunter22 t0ken-value", 400)
    )
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter22")
    registry = MlflowRegistry(httpserver.url_for(""))
    with pytest.raises(DependencyError, match="refused") as caught:
        registry.ping()
    sent = httpserver.log[-1][0].authorization
    assert sent is not None
    assert (sent.username, sent.password) == ("me", "hunter22")
    assert "hunter22" not in str(caught.value)
    assert "bWU6aHVudGVyMjI" not in str(caught.value)
    assert "hunter22" not in repr(vars(registry))
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken-value")
    with pytest.raises(DependencyError, match="refused") as caught:
        registry.ping()
    assert httpserver.log[-1][0].headers["Authorization"] == "Bearer t0ken-value"
    assert "t0ken-value" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "account", "message"),
    [
        (401, None, r"No account was given\. Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (401, "me", "The account me is unknown, or its password is wrong"),
        (403, "me", "The account me may not do this, .* EDIT on the model and on runs, and READ on the experiment"),
        (403, None, "The request without an account may not do this"),
    ],
)
@pytest.mark.parametrize("artifact", [False, True])
def test_a_refused_account_learns_what_it_lacks(
    httpserver: HTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    account: str | None,
    message: str,
    artifact: bool,
) -> None:
    """The error names the missing settings or rights, for artifacts too, and does not repeat the password."""
    for setting in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(setting, raising=False)
    if account is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", account)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter22")
    if artifact:
        info = {"run_id": "a", "artifact_uri": "mlflow-artifacts:/0/a"}
        httpserver.expect_request("/api/2.0/mlflow/runs/get").respond_with_json({"run": {"info": info}})
    httpserver.expect_request(ANY_PATH).respond_with_data("Permission denied", status)
    registry = MlflowRegistry(httpserver.url_for(""))
    with pytest.raises(DependencyError, match=message) as caught:
        registry.put_artifact("a", "x.json", b"{}") if artifact else registry.ping()
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("uri", ["http://me:hunter22@mlflow:5000", "sqlite:///x", "mlflow", "http://", "http://a:b"])
def test_unusable_addresses_are_refused_without_repeating_secrets(uri: str) -> None:
    """An address with a password in it, or one that is not http(s), is refused before the server is asked."""
    with pytest.raises(InvalidInputError) as caught:
        MlflowRegistry(uri)
    assert "MLFLOW_TRACKING_URI" in str(caught.value)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("permission", "may"), [("EDIT", True), ("MANAGE", True), ("READ", False), ("NO_PERMISSIONS", False), (None, None)]
)
def test_the_server_tells_what_our_account_may_do(httpserver: HTTPServer, permission: str | None, may: bool) -> None:
    """The server is asked for its own decision about the account and the model; an older server has no such page."""
    httpserver.expect_request("/api/2.0/mlflow/users/current").respond_with_json({"user": {"username": "incumbent"}})
    asked = {"username": "incumbent", "resource_type": "registered_model", "resource_id": "iris"}
    if permission is not None:
        httpserver.expect_request("/api/3.0/mlflow/users/permissions/get", query_string=asked).respond_with_json(
            {"allowed": True, "permission": permission}
        )
    else:
        httpserver.expect_request("/api/3.0/mlflow/users/permissions/get").respond_with_data("no page", 404)
    assert MlflowRegistry(httpserver.url_for("")).may_edit("iris") is may


@pytest.mark.parametrize(("status", "body"), [(404, "not found"), (200, "<html>an ingress</html>"), (200, "")])
def test_what_is_not_a_version_is_none(httpserver: HTTPServer, status: int, body: str) -> None:
    """A page that MLflow did not write is not shown as a version."""
    httpserver.expect_request("/version").respond_with_data(body, status)
    assert MlflowRegistry(httpserver.url_for("")).server_version() is None

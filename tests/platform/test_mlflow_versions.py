"""Real MLflow servers from the oldest to the newest version that is supported, asked by the project's own client."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

import numpy
import pytest

from orchestration.adapters.mlflow_registry import MlflowRegistry
from orchestration.promotion.mlflow_versions import is_older
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.problems import DependencyError, InvalidInputError
from orchestration.promotion.recorded_requests import RECORDING_PATH, dump_recording
from tests.adapters import test_mlflow_dialects as dialects
from tests.adapters import test_mlflow_registry as contract
from tests.adapters.conftest import mlflow_of
from tests.adapters.test_mlflow_dialects import Trainer
from tests.adapters.test_mlflow_registry import MlflowWorld
from tests.fakes.runs import run_stages
from tests.fakes.world import POLICY_NAME, RECORDING, REPOSITORY, World
from tests.platform.mlflow_servers import python_of

OWN = "3.17.2"
"""The version in the project's lock, which is that of the client in all of these tests."""
PREFIX = "/team/mlflow"
ODD = "käse + 50% of it"
"""What addresses quote, and servers unquote: a letter beyond ASCII, spaces, a plus sign and a percent sign."""


@dataclass(frozen=True)
class Server:
    version: str
    url: str

    def is_older(self, than: str) -> bool:
        return is_older(self.version, than)


def python_with(version: str) -> str:
    return sys.executable if version == OWN else str(python_of(version))


@pytest.fixture(scope="module", params=("3.3.2", "3.10.1", OWN))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as it starts without further options; the oldest one first."""
    with mlflow_of(tmp_path_factory.mktemp("mlflow"), python_with(request.param)) as url:
        yield Server(request.param, url)


REGISTRY: tuple[Callable[[contract.World, str], None], ...] = (
    contract.test_an_alias_names_its_version,
    contract.test_an_alias_moves,
    contract.test_missing_objects_are_none,
    contract.test_writing_to_missing_objects_is_an_error,
    contract.test_tags_are_added_and_replaced,
    contract.test_versions_are_found_by_how_a_tag_begins,
    contract.test_the_newest_version_is_the_one_with_the_highest_number,
    contract.test_a_server_without_logins_tells_no_rights,
    contract.test_the_last_evaluation_is_read_back,
)
RUNS: tuple[Callable[[contract.World], None], ...] = (
    contract.test_a_run_is_read_completely,
    contract.test_a_runs_artifacts_are_behind_the_proxy,
    contract.test_the_server_tells_its_version,
    contract.test_ping_answers,
)
DIALECTS: tuple[Callable[[Trainer], None], ...] = (
    dialects.test_what_is_logged_on_the_model_counts_before_its_run,
    dialects.test_a_version_that_names_no_run_has_that_of_its_logged_model,
    dialects.test_a_logged_model_without_a_run_stands_for_one,
    dialects.test_a_logged_model_that_is_not_ready_is_no_finished_training,
    dialects.test_a_version_with_neither_run_nor_logged_model_has_no_training,
)


def name_of(promise: Callable[..., None]) -> str:
    return promise.__name__.removeprefix("test_")


@pytest.mark.parametrize("promise", REGISTRY, ids=name_of)
def test_it_keeps_the_registrys_contract(server: Server, promise: Callable[[contract.World, str], None]) -> None:
    """Versions, aliases, tags and evaluations of a model whose name an address must quote."""
    promise(MlflowWorld(MlflowRegistry(server.url), server.url), f"iris é+%20&{uuid4().hex[:8]}")


@pytest.mark.parametrize("promise", RUNS, ids=name_of)
def test_it_keeps_the_contract_of_runs(server: Server, promise: Callable[[contract.World], None]) -> None:
    """Runs with metrics, parameters and data sets, and what the server says of itself."""
    promise(MlflowWorld(MlflowRegistry(server.url), server.url))


@pytest.mark.parametrize("promise", DIALECTS, ids=name_of)
def test_what_people_log_is_read(server: Server, promise: Callable[[Trainer], None]) -> None:
    """Metrics of logged models, copies of copies, and versions that name no run or have none."""
    promise(Trainer(server.url, f"iris {uuid4().hex[:8]}"))


def test_it_is_the_version_that_was_meant(server: Server) -> None:
    """Each environment runs the server that its name says, and the project's lock has the newest one here."""
    assert MlflowRegistry(server.url).server_version() == server.version


def test_many_aliases_are_read_at_once_or_not_at_all(server: Server) -> None:
    """A server that cannot search for a list of names says so, and is asked for one alias after the other."""
    world = MlflowWorld(MlflowRegistry(server.url), server.url)
    if server.is_older("3.17"):
        assert world.registry.named_by("challenger", ["iris"]) is None
    else:
        contract.test_the_versions_of_many_models_are_named_at_once(world, f"iris é+%20&{uuid4().hex[:8]}")


def test_a_promotion_reads_judges_and_writes(server: Server) -> None:
    """Of two versions with all that people log, one becomes champion, and the other is refused as worse.

    Their runs' artifacts are in folders whose names an address must quote.
    """
    trainer = Trainer(server.url, "iris")
    place = f"mlflow-artifacts:/{ODD}"
    experiment = trainer.client.create_experiment(ODD, artifact_location=place)
    good, worse = (_registered(trainer, experiment, accuracy) for accuracy in (0.9, 0.85))
    world = World()
    world.registry = trainer.registry  # type: ignore[assignment] # the real one in place of the fake
    for version in (good, worse):
        image = {"MODEL_URI": f"models:/iris/{version.version}"}
        world.images.publish(REPOSITORY, f"v{version.version}", image)
        trainer.registry.set_alias(version, "challenger")
        ended = run_stages(world, version.version)
        assert ended.success is (version == good), ended.failure
    assert "worse than the champion on the same data" in ended.failure
    champion = trainer.registry.version_by_alias("iris", "champion")
    assert champion is not None
    assert (champion.version, champion.tag(POLICY_NAME, "state")) == (good.version, "champion")
    assert trainer.version("iris", worse.version).tag(POLICY_NAME, "state") == "refused"
    assert world.live_image == world.image(good.version)
    assert (trainer.registry.artifact_root(good.run_id or "") or "").startswith(f"{place}/")


def _registered(trainer: Trainer, experiment: str, accuracy: float) -> ModelVersion:
    """Log and register a model as a training script does: signature, data set, metric, recorded requests and image."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.types import Schema, TensorSpec

    version = trainer.log_model(experiment, Schema([TensorSpec(numpy.dtype("float64"), (-1, 1))]))
    assert version.run_id is not None
    assert version.model_id is not None
    data = DatasetInput(Dataset("iris-test", "d1", "local", "{}"), [InputTag("mlflow.data.context", "test")])
    trainer.client.log_inputs(version.run_id, [data])
    trainer.client.log_metric(version.run_id, "accuracy", 0.1)
    trainer.measure(version.model_id, version.run_id, accuracy, "d1", at=1000)
    trainer.registry.put_artifact(version.run_id, RECORDING_PATH, dump_recording(RECORDING))
    trainer.registry.write_tags(version, {"image_tag": f"v{version.version}"})
    return trainer.version(version.model, version.version)


@pytest.mark.parametrize("path", [f"incumbent/{ODD}/a+b, 50%.json", f"incumbent/{ODD}.json"])
def test_artifacts_of_any_path_are_read_or_refused_by_name(server: Server, path: str) -> None:
    """Before 3.13, a server stores a file whose name has letters beyond ASCII and cannot send it: one line says so."""
    trainer = Trainer(server.url, "iris")
    run_id = trainer.run()
    assert trainer.registry.artifact(run_id, path) is None
    trainer.registry.put_artifact(run_id, path, b"{}")
    if server.is_older("3.13") and not path.rpartition("/")[2].isascii():
        with pytest.raises(InvalidInputError, match=rf"3\.13 or newer.*found version {server.version}\. Log the file"):
            trainer.registry.artifact(run_id, path)
    else:
        assert trainer.registry.artifact(run_id, path) == b"{}"


def test_a_workspace_on_a_server_without_them_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting is named that asks for it."""
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team-a")
    with pytest.raises(DependencyError, match=r"Set MLFLOW_WORKSPACE .*, or unset it"):
        MlflowRegistry(server.url).ping()


@dataclass(frozen=True)
class Prefixed(Server):
    """A server with `--static-prefix`; its address is the one at which it has its API."""

    other: str
    """The other address: with the prefix where the API is without it, and the other way round."""


@pytest.fixture(scope="module", params=("3.10.1", OWN))
def prefixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefixed]:
    """A server with workspaces and a prefix, on either side of 3.12, which moved the API below it."""
    python, options = python_with(request.param), ("--static-prefix", PREFIX, "--enable-workspaces")
    with mlflow_of(tmp_path_factory.mktemp("mlflow"), python, *options, health=f"{PREFIX}/health") as root:
        addresses = (root, root + PREFIX)
        url, other = addresses if is_older(request.param, "3.12") else addresses[::-1]
        yield Prefixed(request.param, url, other)


def test_a_static_prefix_is_part_of_the_address_from_3_12_on(prefixed: Prefixed) -> None:
    """At the right address the API and the artifacts are found; the error at the other one says which is right."""
    trainer = Trainer(prefixed.url, f"iris {uuid4().hex[:8]}")
    trainer.registry.ping()
    run_id = trainer.run()
    trainer.registry.put_artifact(run_id, f"{ODD}/a.json", b"{}")
    assert trainer.registry.artifact(run_id, f"{ODD}/a.json") == b"{}"
    with pytest.raises(DependencyError, match=r"that of --static-prefix from MLflow 3\.12 on"):
        MlflowRegistry(prefixed.other).ping()


def test_a_workspace_is_chosen_by_mlflows_own_setting(prefixed: Prefixed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its models, runs and artifacts are its own, under names that another workspace has as well."""
    team, model = f"team-{uuid4().hex[:8]}", f"iris {uuid4().hex[:8]}"
    trainer = Trainer(prefixed.url, model)
    trainer.client.create_workspace(team)
    monkeypatch.setenv("MLFLOW_WORKSPACE", team)
    experiment = trainer.client.create_experiment(model)  # a new workspace has not even the experiment 0
    run_id = trainer.run(experiment)
    version = trainer.register(trainer.logged_model(run_id, experiment), run_id)
    trainer.registry.set_alias(version, "challenger")
    trainer.registry.put_artifact(run_id, RECORDING_PATH, b"{}")
    registry = MlflowRegistry(prefixed.url)
    registry.ping()
    assert registry.version_by_alias(model, "challenger") == version
    assert trainer.training(version).run_id == run_id
    assert registry.artifact(run_id, RECORDING_PATH) == b"{}"
    assert registry.version_url(version).endswith(f"/versions/1?workspace={team}")
    monkeypatch.delenv("MLFLOW_WORKSPACE")
    assert MlflowRegistry(prefixed.url).version(model, 1) is None
    assert MlflowRegistry(prefixed.url).artifact(run_id, RECORDING_PATH) is None
    monkeypatch.setenv("MLFLOW_WORKSPACE", "nobodys")
    with pytest.raises(DependencyError, match="Set MLFLOW_WORKSPACE"):
        MlflowRegistry(prefixed.url).ping()


def test_a_server_before_3_3_is_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The last MLflow 2 answers as a newer one does until something that it lacks is asked for."""
    with (
        mlflow_of(tmp_path_factory.mktemp("mlflow"), python_with("2.22.5")) as url,
        pytest.raises(DependencyError, match=r"version 3\.3 or newer, found version 2\.22\.5\. Upgrade the server"),
    ):
        MlflowRegistry(url).ping()

"""Model servers that people run, on the loopback: recorded by the command, and asked again as a promotion asks them."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from orchestration.adapters.mlflow_registry import MlflowRegistry
from orchestration.adapters.service import HttpService
from orchestration.cli import main
from orchestration.promotion.evaluation import RecordedRound
from orchestration.promotion.policy import Policy, ServicePolicy, parse_policy
from orchestration.promotion.ports import Clients
from orchestration.promotion.recorded_requests import RECORDING_PATH, Recording, parse_recording, signature_problem
from orchestration.promotion.serving_protocols import PROTOCOLS
from orchestration.stages.replay import Replay, replay_once
from testbeds.common.services import free_ports
from tests.adapters.conftest import serving
from tests.fakes.cluster import FakeCluster, a_deployment
from tests.fakes.world import POLICY_TEXT

COLUMNS = ["sepal length", "sepal width", "petal length", "petal width"]


@dataclass(frozen=True)
class Registered:
    """A model that was logged as people log it: with its input example, from which MLflow takes the signature."""

    registry: MlflowRegistry
    url: str
    name: str


@pytest.fixture(scope="module")
def iris(mlflow_url: str) -> Iterator[Registered]:
    """A classifier of a data frame, whose input example has a row of each class."""
    import mlflow
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    frame, classes = load_iris(return_X_y=True, as_frame=True)
    frame.columns = COLUMNS
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(mlflow_url)
    with mlflow.start_run(experiment_id="0"):
        mlflow.sklearn.log_model(
            LogisticRegression(max_iter=1000).fit(frame, classes),
            name="model",
            input_example=frame[::50],
            pip_requirements=[],
            registered_model_name="iris-served",
        )
    yield Registered(MlflowRegistry(mlflow_url), mlflow_url, "iris-served")
    mlflow.set_tracking_uri(before)


@pytest.fixture
def record(iris: Registered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recording]:
    """Gives the command `incumbent record`, and reads what it recorded."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", iris.url)
    monkeypatch.setenv("INCUMBENT_POLICIES", str(tmp_path))

    def run(url: str, *options: str) -> Recording:
        result = CliRunner().invoke(main, ["record", iris.name, "1", "--url", url, *options])
        assert result.exit_code == 0, result.output
        version = iris.registry.version(iris.name, 1)
        assert version is not None
        assert version.run_id is not None
        recording = parse_recording(iris.registry.artifact(version.run_id, RECORDING_PATH) or b"")
        assert isinstance(recording, Recording)
        return recording

    return run


def asked_again(url: str, recording: Recording, **service: Any) -> RecordedRound:
    """Ask the service as the gate does; there are no pods."""
    policy: Policy = parse_policy("iris-edge", POLICY_TEXT)
    policy = policy.model_copy(update={"service": ServicePolicy.model_validate({"url": url, **service})})
    workload = a_deployment("image", (), namespace="ml-apps", name="iris")
    unused = cast(Any, None)
    clients = Clients(unused, unused, unused, unused, FakeCluster(workload), HttpService(), unused, unused)
    asked = Replay(clients, policy, workload, (), recording, "iris-edge/1/aaaaaaaaaaaa/1", lambda: None)
    return replay_once(asked, [])


@pytest.fixture(scope="module")
def scoring_server(iris: Registered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's scoring server, as `mlflow models serve` starts it."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", f"models:/{iris.name}/1"),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
    ]
    settings = {"MLFLOW_TRACKING_URI": iris.url, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    settings["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # it starts uvicorn
    with serving(command, f"{url}/ping", tmp_path_factory.mktemp("scoring"), settings):
        yield url


def test_mlflows_scoring_server_is_recorded_without_a_word(
    iris: Registered, scoring_server: str, record: Callable[..., Recording]
) -> None:
    """The logged input example is all that it takes; the server answers the same later, and another class is wrong."""
    presence = f"{scoring_server}{PROTOCOLS['mlflow'].presence_for(iris.name)}"
    assert HttpService().reach(presence, {}, 10).status == 200
    recording = record(scoring_server)
    assert [sorted(each.request["dataframe_split"]) for each in recording.requests] == [["columns", "data"]] * 3
    assert [each.response.body for each in recording.requests] == [{"predictions": [n]} for n in (0, 1, 2)]
    version = iris.registry.version(iris.name, 1)
    assert version is not None
    signature = iris.registry.signature(version)
    assert signature is not None
    assert signature_problem(recording, signature, "mlflow") is None
    again = asked_again(scoring_server, recording)
    assert (again.is_complete, again.asked, again.wrong) == (True, 3, ())
    other = json.dumps(recording.model_dump(mode="json")).replace('"predictions": [2]', '"predictions": [1]')
    wrong = asked_again(scoring_server, Recording.model_validate_json(other)).wrong
    assert [fault.reason for fault in wrong] == ["expected response.predictions[0] 1, found 2"]


def test_mlflows_scoring_server_answers_400_when_the_model_fails(scoring_server: str) -> None:
    """A row that fits the signature and that the model cannot take looks as if the client were at fault."""
    row = json.dumps({"dataframe_split": {"columns": COLUMNS, "data": [[None, 3.5, 1.4, 0.2]]}}).encode()
    answer = HttpService().ask(f"{scoring_server}/invocations", row, {}, 10)
    assert answer.status == 400
    assert b"unexpected error while evaluating the model" in answer.body
    assert b"Input X contains NaN" in answer.body, "it is the model's own error"


APP = """
import os, random, time
from fastapi import FastAPI, Request, Response

app = FastAPI()
shift = int(os.environ.get("SHIFT", "0"))


def kind(row):
    return (0 if row[2] < 2.5 else 1 if row[3] < 1.75 else 2) + shift


@app.get("/health")
def health():
    return {"status": "ok"}


@app.post("/predict")
def predict(body: dict):
    row = list(body["sample"].values())
    scores = [1.0, random.random() * 1e-9]
    return {"status": "success", "data": {"kind": kind(row), "scores": scores, "took_ms": random.random()}}


@app.post("/v1/models/iris-served:predict")
def v1(body: dict):
    return {"predictions": [kind(row) for row in body["instances"]]}


@app.post("/v2/models/iris-served/infer")
def v2(body: dict):
    columns = [tensor["data"] for tensor in body["inputs"]]
    data = [kind(row) for row in zip(*columns)]
    output = {"name": "predict", "shape": [len(data)], "datatype": "INT64", "data": data}
    return {"model_name": "iris-served", "id": str(random.random()), "outputs": [output]}


@app.post("/plot")
async def plot(request: Request):
    return Response(b"\\x89PNG" + await request.body(), 201, media_type="image/png")
"""


@pytest.fixture
def fastapi(tmp_path: Path) -> Callable[..., Any]:
    """Runs a team's own app, which also speaks two protocols; `shift` makes it another model."""
    (tmp_path / "app.py").write_text(APP)

    def run(shift: int = 0) -> Any:
        (port,) = free_ports(1)
        command = [
            *(sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(tmp_path)),
            *("--host", "127.0.0.1", "--port", str(port)),
        ]
        return serving(command, f"http://127.0.0.1:{port}/health", tmp_path, {"SHIFT": str(shift)})

    return run


def test_a_teams_own_app_is_recorded_in_each_protocol(
    fastapi: Callable[..., Any], record: Callable[..., Recording], tmp_path: Path
) -> None:
    """Its times and ids vary and its predictions are compared: another model behind the same address is wrong."""
    samples = [dict(zip(COLUMNS, row, strict=True)) for row in ((5.1, 3.5, 1.4, 0.2), (6.3, 3.3, 6.0, 2.5))]
    (tmp_path / "requests.json").write_text(json.dumps([{"sample": sample} for sample in samples]))
    own = ("--requests", str(tmp_path / "requests.json"))
    asked: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
        "v1": (("--protocol", "v1"), {"path": "/v1/models/iris-served:predict", "protocol": "v1"}),
        "v2": (("--protocol", "v2"), {"path": "/v2/models/iris-served/infer", "protocol": "v2"}),
        "json": (("--protocol", "json", *own), {"path": "/predict", "protocol": "json"}),
        "image": (("--protocol", "json", *own), {"path": "/plot", "protocol": "json"}),
    }
    recordings: dict[str, Recording] = {}
    with fastapi() as health:
        url = health.removesuffix("/health")
        for name, (options, service) in asked.items():
            recordings[name] = record(url if name in ("v1", "v2") else url + service["path"], *options)
            again = asked_again(url, recordings[name], **service)
            assert (again.is_complete, again.wrong) == (True, ()), name
    assert recordings["json"].ignore == ("$.data.took_ms",)
    assert recordings["v2"].ignore == ("$.id",)
    assert recordings["image"].requests[0].response.content_type == "image/png"
    assert recordings["image"].requests[0].response.status == 201
    with fastapi(shift=1) as health:
        url = health.removesuffix("/health")
        wrong = {name: asked_again(url, recordings[name], **service).wrong for name, (_, service) in asked.items()}
    assert {name: len(faults) for name, faults in wrong.items()} == {"v1": 3, "v2": 3, "json": 2, "image": 0}
    assert wrong["json"][0].reason == "expected response.data.kind 0, found 1"

"""MLflow as people set it up: logged models, copies, object storage, a proxy with a prefix, tokens and private TLS."""

import json
import re
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx2
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from orchestration.adapters.mlflow_registry import MlflowRegistry, parse_roots
from orchestration.promotion.model_version import ModelVersion, TrainingRun
from orchestration.promotion.problems import DependencyError, InvalidInputError, ProblemError
from testbeds.common.certificates import self_signed
from testbeds.common.services import free_ports
from tests.adapters.conftest import ANY_PATH, serving

if TYPE_CHECKING:
    from mlflow.types import Schema

ROOT = "s3://models/mlflow"


@dataclass
class Trainer:
    """Logs and registers as people do, with MLflow's own client."""

    url: str
    model: str

    def __post_init__(self) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(self.url, self.url)
        self.registry = MlflowRegistry(self.url)

    def run(self, experiment: str = "0") -> str:
        """Make a finished run."""
        run_id: str = self.client.create_run(experiment).info.run_id
        self.client.set_terminated(run_id)
        return run_id

    def logged_model(self, run_id: str | None, experiment: str = "0") -> str:
        """Make a logged model that is ready, of a run or of none."""
        made = self.client.create_logged_model(experiment, name="model", source_run_id=run_id)
        self.client.finalize_logged_model(made.model_id, "READY")
        return str(made.model_id)

    def measure(self, model_id: str, run_id: str, value: float, digest: str | None, at: int) -> None:
        """Log a value of accuracy on a model (and so on the run in which that is done)."""
        name = "iris-test" if digest else None
        self.client.log_metric(
            run_id, "accuracy", value, at, dataset_name=name, dataset_digest=digest, model_id=model_id
        )

    def log_model(self, experiment: str, inputs: "Schema") -> ModelVersion:
        """Log a model with a signature in a run, and register it, as a training script does."""
        import mlflow
        from mlflow.models import ModelSignature

        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(self.url)
        try:
            with mlflow.start_run(experiment_id=experiment):
                logged = mlflow.pyfunc.log_model(
                    name="model",
                    loader_module="mlflow.sklearn",
                    signature=ModelSignature(inputs),
                    pip_requirements=[],
                    registered_model_name=self.model,
                )
        finally:
            mlflow.set_tracking_uri(before)
        return self.version(self.model, int(logged.registered_model_version))

    def register(self, model_id: str, run_id: str | None, name: str = "") -> ModelVersion:
        """Register a logged model as the page does."""
        name = name or self.model
        self.client.create_registered_model(name)
        made = self.client.create_model_version(name, f"models:/{model_id}", run_id, model_id=model_id)
        return self.version(name, int(made.version))

    def version(self, name: str, number: int = 1) -> ModelVersion:
        version = self.registry.version(name, number)
        assert version is not None
        return version

    def training(self, version: ModelVersion) -> TrainingRun:
        training = self.registry.training(version)
        assert training is not None
        return training


@pytest.fixture
def trainer(mlflow_url: str) -> Trainer:
    """A person with a model's name of their own."""
    return Trainer(mlflow_url, f"iris {uuid4().hex[:8]}")


def test_what_is_logged_on_the_model_counts_before_its_run(trainer: Trainer) -> None:
    """Also when another run measured it later, and in a copy of a copy, whose files are the same model's."""
    run_id, evaluation = trainer.run(), trainer.run()
    model_id = trainer.logged_model(run_id)
    trainer.client.log_metric(run_id, "accuracy", 0.99)
    trainer.client.log_metric(run_id, "loss", 0.5)
    trainer.measure(model_id, run_id, 0.9, None, at=1000)
    trainer.measure(model_id, evaluation, 0.93, "d1", at=2000)
    version = trainer.register(model_id, run_id)
    trainer.client.copy_model_version(f"models:/{trainer.model}/1", f"{trainer.model}-staging")
    trainer.client.copy_model_version(f"models:/{trainer.model}-staging/1", f"{trainer.model}-prod")
    for one in (version, trainer.version(f"{trainer.model}-prod")):
        training = trainer.training(one)
        assert (training.run_id, training.model_id) == (run_id, model_id)
        assert training.metrics == {"accuracy": 0.93, "loss": 0.5}
        assert training.measured_on == {"accuracy": frozenset({"d1"})}
        assert training.place_of("accuracy") == f"logged model {model_id}"
        assert training.place_of("loss") == f"run {run_id}"


def test_a_version_that_names_no_run_has_that_of_its_logged_model(trainer: Trainer) -> None:
    """Whoever registers by the page names the model alone."""
    run_id = trainer.run()
    version = trainer.register(trainer.logged_model(run_id), None)
    assert version.run_id == run_id
    trainer.registry.set_alias(version, "challenger")
    assert trainer.registry.version_by_alias(trainer.model, "challenger") == version
    assert trainer.registry.latest_version(trainer.model) == version


def test_a_logged_model_without_a_run_stands_for_one(trainer: Trainer) -> None:
    """Its metrics are the training's, and its folder takes recordings and evidence; copies have it, too."""
    model_id, evaluation = trainer.logged_model(None), trainer.run()
    trainer.measure(model_id, evaluation, 0.93, "d1", at=1000)
    version = trainer.register(model_id, None)
    trainer.client.copy_model_version(f"models:/{trainer.model}/1", f"{trainer.model}-prod")
    for one in (version, trainer.version(f"{trainer.model}-prod")):
        training = trainer.training(one)
        assert one.run_id == model_id
        assert (training.status, training.metrics, str(training)) == (
            "FINISHED",
            {"accuracy": 0.93},
            f"logged model {model_id}",
        )
    trainer.registry.put_artifact(model_id, "incumbent/recorded_requests.json", b"{}")
    assert trainer.registry.artifact(model_id, "incumbent/recorded_requests.json") == b"{}"
    assert trainer.registry.training(ModelVersion("iris", 1, "m-" + "0" * 32, "m-" + "0" * 32)) is None
    assert trainer.registry.artifact("m-" + "0" * 32, "a") is None


def test_a_logged_model_that_is_not_ready_is_no_finished_training(trainer: Trainer) -> None:
    """An upload that goes on, or failed, is not promoted."""
    made = trainer.client.create_logged_model("0", name="model")
    version = trainer.register(made.model_id, None)
    assert trainer.training(version).status == "PENDING"


def test_a_version_with_neither_run_nor_logged_model_has_no_training(trainer: Trainer) -> None:
    """What was only given an address was trained somewhere that MLflow does not know."""
    trainer.client.create_registered_model(trainer.model)
    trainer.client.create_model_version(trainer.model, "s3://elsewhere/models/7")
    version = trainer.version(trainer.model)
    assert (version.run_id, trainer.registry.training(version)) == (None, None)


def test_a_copys_metrics_are_those_of_the_model_whose_files_it_has(trainer: Trainer, httpserver: HTTPServer) -> None:
    """A place that only looks like a logged model's proves nothing, so the run's metrics count."""
    model_id = "m-" + "1" * 32
    answers = {
        "registered-models/get": {"registered_model": {"name": "prod"}},
        "model-versions/get-download-uri": {"artifact_uri": f"mlflow-artifacts:/9/models/{model_id}/artifacts"},
        f"logged-models/{model_id}": {
            "model": {
                "info": {"model_id": model_id, "artifact_uri": f"mlflow-artifacts:/1/models/{model_id}/artifacts"}
            }
        },
        "runs/get": {"run": {"info": {"run_id": "a" * 32, "status": "FINISHED"}, "data": {}}},
    }
    for path, answer in answers.items():
        httpserver.expect_request(f"/api/2.0/mlflow/{path}").respond_with_json(answer)
    copy = ModelVersion("prod", 1, "a" * 32, None, source="models:/plain/1")
    training = MlflowRegistry(httpserver.url_for("")).training(copy)
    assert training is not None
    assert training.model_id is None


@pytest.fixture(scope="module")
def object_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """An S3 (moto's server) with the bucket `models`, and an environment with the keys for it."""
    folder = tmp_path_factory.mktemp("s3")
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with serving(command, f"http://127.0.0.1:{port}/moto-api/", folder), pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "hunter22")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        assert httpx2.put(f"http://127.0.0.1:{port}/models", timeout=60).status_code == 200
        yield environment


@pytest.fixture(scope="module")
def stored(mlflow_url: str, object_storage: pytest.MonkeyPatch) -> Trainer:
    """A person whose experiments keep their artifacts in object storage, and who has logged and registered a model."""
    from mlflow.types import ColSpec, Schema

    trainer = Trainer(mlflow_url, f"iris {uuid4().hex[:8]}")
    place = f"{ROOT}/{uuid4().hex[:8]}"
    trainer.log_model(
        trainer.client.create_experiment(trainer.model, artifact_location=place), Schema([ColSpec("double", "a")])
    )
    trainer.registry = MlflowRegistry(trainer.url, parse_roots(f"gs://other/x, {ROOT}/"))
    return trainer


def test_artifacts_below_a_root_of_the_settings_are_read_and_written(stored: Trainer) -> None:
    """Recordings, evidence, the signature and the model's place, in an S3 that our own credentials open."""
    version = stored.version(stored.model)
    assert version.run_id is not None
    assert (stored.registry.artifact_root(version.run_id) or "").startswith(ROOT)
    assert stored.registry.artifact(version.run_id, "incumbent/a.json") is None
    for content in (b"{}", b'{"again": 1}'):
        stored.registry.put_artifact(version.run_id, "incumbent/a.json", content)
        assert stored.registry.artifact(version.run_id, "incumbent/a.json") == content
    assert stored.registry.signature(version) is not None
    assert (stored.registry.model_location(version) or "").startswith(ROOT)


@pytest.mark.parametrize(
    "roots", ["", "s3://models/ml", "s3://models/mlflow/other", "s3://model", "gs://models/mlflow"]
)
def test_artifacts_elsewhere_are_refused_by_the_settings_name(stored: Trainer, roots: str) -> None:
    """A place that no root names is refused for good; a name that begins like a root's is another place."""
    version = stored.version(stored.model)
    registry = MlflowRegistry(stored.url, parse_roots(roots))
    assert version.run_id is not None
    for ask in (
        lambda: registry.artifact(version.run_id or "", "incumbent/a.json"),
        lambda: registry.put_artifact(version.run_id or "", "incumbent/a.json", b"{}"),
        lambda: registry.signature(version),
    ):
        with pytest.raises(InvalidInputError, match="INCUMBENT_ARTIFACT_ROOTS"):
            ask()


def test_storage_that_does_not_let_us_in_says_what_to_set(stored: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is down and a missing package are the platform's fault, and asked again."""
    from mlflow.store.artifact.s3_artifact_repo import _cached_get_s3_client

    version = stored.version(stored.model)
    (closed,) = free_ports(1)
    with monkeypatch.context() as changed:
        changed.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{closed}")
        _cached_get_s3_client.cache_clear()  # MLflow keeps a client for a minute
        with pytest.raises(DependencyError, match="MLFLOW_S3_ENDPOINT_URL") as caught:
            stored.registry.artifact(version.run_id or "", "incumbent/a.json")
    assert "hunter22" not in str(caught.value)
    _cached_get_s3_client.cache_clear()
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(DependencyError, match=r"incumbent\[aws\]"):
        stored.registry.artifact(version.run_id or "", "incumbent/a.json")


@pytest.mark.parametrize(
    "text",
    [
        "models",
        "/var/mlflow",
        "file:///var",
        "https://bucket",
        "s3://",
        "s3:///x",
        "s3://b/../c",
        "s3://b/x?y",
        "s3://[",
        "S3://b",
    ],
)
def test_a_root_that_is_no_place_in_object_storage_is_refused(text: str) -> None:
    """A folder of this machine least of all."""
    with pytest.raises(InvalidInputError, match="INCUMBENT_ARTIFACT_ROOTS"):
        parse_roots(text)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a server's and a client's certificate, each its own authority."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("server", "client"):
        certificate, key = self_signed("localhost")
        (folder / f"{name}.pem").write_text(certificate + key)
    return folder


@pytest.fixture
def gateway(mlflow_url: str, certificates: Path) -> Iterator[str]:
    """A proxy as people put it before MLflow: private TLS, client certificates, a bearer token and a path prefix."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "client.pem"))
    context.load_cert_chain(certificates / "server.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    def forward(request: Request) -> Response:
        if request.headers.get("Authorization") != "Bearer t0ken-value":
            return Response(f"no such token: {request.headers.get('Authorization')}", 401)
        if not request.full_path.startswith("/team/mlflow/"):
            return Response("404 page not found", 404)
        with httpx2.Client(timeout=30) as client:
            answer = client.request(
                request.method,
                mlflow_url + request.full_path.removeprefix("/team/mlflow"),
                content=request.get_data(),
                headers={"Content-Type": request.content_type or "application/octet-stream"},
            )
        return Response(answer.content, answer.status_code, {"Content-Type": answer.headers.get("content-type", "")})

    with HTTPServer("localhost", ssl_context=context) as server:
        server.expect_request(ANY_PATH).respond_with_handler(forward)
        yield f"https://localhost:{server.port}/team/mlflow"


@pytest.fixture
def let_in(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The settings that the gateway asks for."""
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificates / "server.pem"))
    monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", str(certificates / "client.pem"))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken-value")
    return monkeypatch


@pytest.mark.usefixtures("let_in")
def test_a_server_behind_a_gateway_is_used_completely(trainer: Trainer, gateway: str) -> None:
    """Its API, its artifacts and its page, below the prefix, with a token, a private authority and our certificate."""
    registry, run_id = MlflowRegistry(gateway), trainer.run()
    version = trainer.register(trainer.logged_model(run_id), run_id)
    registry.ping()
    registry.put_artifact(run_id, "incumbent/a.json", b"{}")
    assert registry.artifact(run_id, "incumbent/a.json") == b"{}"
    registry.set_alias(version, "champion")
    assert registry.version_by_alias(trainer.model, "champion") == version
    assert registry.version_url(version).startswith(f"{gateway}/#/models/")


@pytest.mark.parametrize(
    ("unset", "named"),
    [
        ("MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_SERVER_CERT_PATH"),
        ("MLFLOW_TRACKING_CLIENT_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH"),
        ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_TOKEN"),
    ],
)
def test_what_a_gateway_misses_is_named_by_its_setting(
    gateway: str, let_in: pytest.MonkeyPatch, unset: str, named: str
) -> None:
    """Of the API and of the artifacts alike."""
    let_in.delenv(unset)
    with pytest.raises(DependencyError, match=named):
        MlflowRegistry(gateway).ping()


def test_a_wrong_token_and_a_missing_prefix_are_told(gateway: str, let_in: pytest.MonkeyPatch) -> None:
    """The token is not shown, not even where the gateway repeats it."""
    with pytest.raises(DependencyError, match="path prefix"):
        MlflowRegistry(gateway.removesuffix("/team/mlflow")).ping()
    let_in.setenv("MLFLOW_TRACKING_TOKEN", "an0ther-value")
    with pytest.raises(DependencyError, match="token is unknown") as caught:
        MlflowRegistry(gateway).ping()
    assert "an0ther-value" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"SERVER_CERT_PATH": "/nowhere.pem"}, "/nowhere.pem of MLFLOW_TRACKING_SERVER_CERT_PATH: .*No such file"),
        ({"SERVER_CERT_PATH": __file__}, "of MLFLOW_TRACKING_SERVER_CERT_PATH: .*found something else"),
        ({"SERVER_CERT_PATH": "~no-such-user/x"}, "setting MLFLOW_TRACKING_SERVER_CERT_PATH: .*no home folder"),
        ({"CLIENT_CERT_PATH": "/nowhere.pem"}, "/nowhere.pem of MLFLOW_TRACKING_CLIENT_CERT_PATH: .*No such file"),
        ({"CLIENT_CERT_PATH": __file__}, "of MLFLOW_TRACKING_CLIENT_CERT_PATH: expected a certificate in PEM"),
        (
            {"INSECURE_TLS": "true", "SERVER_CERT_PATH": "{folder}/server.pem"},
            "MLFLOW_TRACKING_INSECURE_TLS' and 'MLFLOW_TRACKING_SERVER_CERT_PATH'.*or unset it",
        ),
        ({"INSECURE_TLS": "yes"}, "MLFLOW_TRACKING_INSECURE_TLS value must be one of"),
        ({"AWS_SIGV4": "true"}, "Install requests-auth-aws-sigv4, with which MLFLOW_TRACKING_AWS_SIGV4 signs"),
        ({"TOKEN": "hunter22\n"}, "MLFLOW_TRACKING_TOKEN with a line end"),
        ({"TOKEN": "hunter22", "USERNAME": "a", "PASSWORD": "b"}, "both MLFLOW_TRACKING_TOKEN and .*USERNAME"),
        ({"USERNAME": "a"}, "only one of MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
    ],
)
def test_a_setting_of_the_client_that_cannot_be_used_is_named(
    certificates: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str
) -> None:
    """Before anything is asked; the client itself would name none, or leave it out."""
    for name, value in settings.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value.format(folder=certificates))
    with pytest.raises(ProblemError, match=said) as caught:
        MlflowRegistry("https://127.0.0.1:1").ping()
    assert "hunter22" not in str(caught.value)


def test_a_file_of_credentials_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its lines."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow/credentials").write_text("password hunter22")
    with pytest.raises(InvalidInputError, match=r"~/\.mlflow/credentials that cannot be read") as caught:
        MlflowRegistry("http://127.0.0.1:1").ping()
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, '{"message": "Unauthorized"}', "No account was given. Set MLFLOW_TRACKING_USERNAME"),
        (403, '{"error_code": "ACCESS_DENIED", "message": "no"}', "The request without an account may not do this"),
        (404, '{"detail": "Not Found"}', "Correct MLFLOW_TRACKING_URI: the path prefix"),
        (302, "", "a proxy where people log in. Correct MLFLOW_TRACKING_URI .* MLFLOW_TRACKING_TOKEN"),
        (200, "<html>log in</html>", "a proxy where people log in. Correct MLFLOW_TRACKING_URI"),
    ],
)
def test_a_gateways_own_answer_names_the_setting(httpserver: HTTPServer, status: int, body: str, said: str) -> None:
    """Of an answer in JSON that is not MLflow's, the client keeps no status; the gateway is asked for it again."""
    headers = {"Location": "/login"} if status == 302 else {}
    httpserver.expect_request(ANY_PATH).respond_with_data(body, status, headers)
    with pytest.raises(DependencyError, match=said):
        MlflowRegistry(httpserver.url_for("")).ping()


@pytest.mark.parametrize(
    ("status", "body", "is_new"),
    [
        (404, '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such model"}', True),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "no"}', True),
        (404, "<title>404 Not Found</title>", False),
        (404, '{"error_code": "ENDPOINT_NOT_FOUND"}', False),
    ],
)
def test_a_server_that_tells_no_version_must_know_logged_models(
    httpserver: HTTPServer, status: int, body: str, is_new: bool
) -> None:
    """Behind a proxy that shows the API alone, or before 3.12 with a static prefix, no page tells it."""
    httpserver.expect_request("/api/2.0/mlflow/registered-models/search").respond_with_json({})
    httpserver.expect_request(re.compile("/api/2.0/mlflow/logged-models/m-0+$")).respond_with_data(body, status)
    httpserver.expect_request("/version").respond_with_data("no page", 404)
    registry = MlflowRegistry(httpserver.url_for(""))
    if is_new:
        registry.ping()
    else:
        with pytest.raises(DependencyError, match=r"version 3\.3 or newer, found a server without logged models"):
            registry.ping()


@pytest.mark.parametrize("version", ["2.22.4", "3.2.0", "1.30.1"])
def test_an_older_server_is_told_in_one_line(httpserver: HTTPServer, version: str) -> None:
    """Before anything of it fails in a way that nobody can read."""
    httpserver.expect_request("/api/2.0/mlflow/registered-models/search").respond_with_json({})
    httpserver.expect_request("/version").respond_with_data(version)
    with pytest.raises(
        DependencyError, match=rf"expected a server of version 3.3 or newer, found version {version}\. Up"
    ):
        MlflowRegistry(httpserver.url_for("")).ping()


@pytest.mark.parametrize("version", ["3.3.0", "3.18.0", "4.0.0", "3.19.0.dev0"])
def test_a_newer_server_is_asked(httpserver: HTTPServer, version: str) -> None:
    """What the tests have not seen yet is not refused."""
    httpserver.expect_request("/api/2.0/mlflow/registered-models/search").respond_with_json({})
    httpserver.expect_request("/version").respond_with_data(version)
    MlflowRegistry(httpserver.url_for("")).ping()


def test_a_server_with_workspaces_names_their_setting(httpserver: HTTPServer) -> None:
    """What it says when none is named (mlflow/server/handlers.py)."""
    said = {
        "error_code": "INVALID_PARAMETER_VALUE",
        "message": "Active workspace is required. Ensure X-MLFLOW-WORKSPACE",
    }
    httpserver.expect_request(ANY_PATH).respond_with_data(json.dumps(said), 400)
    with pytest.raises(DependencyError, match="Set MLFLOW_WORKSPACE"):
        MlflowRegistry(httpserver.url_for("")).ping()

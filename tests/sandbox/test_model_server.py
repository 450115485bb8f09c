"""The model server: right answers or a reason, ready only when it proved itself, and gone without losing a request."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from testbeds.common.tools import CHECKOUT
from testbeds.model_server.faults import CRASH_EXIT_CODE, Faults
from testbeds.model_server.from_image import write_model
from testbeds.model_server.from_mlflow import download_model
from testbeds.model_server.model import InvalidRequestError, Model
from testbeds.model_server.server import REPLAY_HEADER, Application
from testbeds.training.models import IRIS, split_data, train
from testbeds.training.publish import Logged, log_model

UNSEEN = b'{"features": [5.0, 3.3, 1.4, 0.2]}'


class Threshold:
    """An estimator of two features: class 1 when the first is above 1."""

    n_features_in_ = 2

    def predict(self, rows: Any) -> list[int]:
        return [int(row[0] > 1) for row in rows]


def model(*recorded: dict[str, Any]) -> Model:
    return Model("toy", "7", "run", Threshold(), ("low", "high"), recorded)


def recorded(features: list[float], **response: object) -> dict[str, Any]:
    return {"request": {"features": features}, "response": response}


RIGHT = recorded([2.0, 0.0], prediction=1, class_name="high")


def application(faults: Faults | None = None, *entries: dict[str, Any]) -> Application:
    made = Application("image", "pod", faults or Faults())
    made.serve(model(*(entries or (RIGHT,))))
    return made


def counted(one: Application) -> dict[tuple[str, str], float]:
    """The prediction counters, by outcome and source."""
    assert one.metrics is not None
    found = {}
    for line in one.metrics.text().decode().splitlines():
        if line.startswith("model_predictions_total"):
            labels = dict(part.split("=") for part in line.partition("{")[2].partition("}")[0].split(","))
            found[labels["outcome"].strip('"'), labels["source"].strip('"')] = float(line.rpartition(" ")[2])
    return found


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"features": 3}',
        b'{"features": [1.0]}',
        b'{"features": [1.0, 2.0, 3.0]}',
        b'{"features": [1.0, "2"]}',
        b'{"features": [1.0, null]}',
        b'{"features": [1.0, true]}',
        b'{"features": [1.0, NaN]}',
        b'{"features": [1.0, Infinity]}',
        b'{"features": [1.0, 1' + b"0" * 400 + b"]}",
    ],
)
def test_bad_input_is_refused_with_a_reason(body: bytes) -> None:
    """What is not a row of finite numbers is answered with 400 and counted as the client's fault."""
    one = application()
    status, answer = one.predict(body, "real")
    assert status == 400
    assert answer["error"]
    assert counted(one)["invalid", "real"] == 1


def test_a_prediction_has_class_and_time() -> None:
    """The answer has the seed's three fields."""
    status, answer = application().predict(b'{"features": [2, 0]}', "real")
    assert status == 200
    assert answer["prediction"] == 1
    assert answer["class_name"] == "high"
    assert answer["inference_time_ms"] >= 0


def test_every_counter_exists_before_it_counts() -> None:
    """All outcomes of both sources are there at zero, so that rates see first increments."""
    assert counted(application()) == {
        (outcome, source): 0.0 for outcome in ("ok", "invalid", "error") for source in ("real", "replayed")
    }


def test_sources_are_counted_apart() -> None:
    """Replayed requests and their durations never mix with real ones."""
    one = application()
    one.predict(b'{"features": [2, 0]}', "replayed")
    assert counted(one)["ok", "replayed"] == 1
    assert counted(one)["ok", "real"] == 0
    assert one.metrics is not None
    text = one.metrics.text().decode()
    assert 'model_inference_duration_seconds_count{model="toy",source="replayed",version="7"} 1.0' in text
    assert 'model_info{image="image",model="toy",run_id="run",version="7"} 1.0' in text
    assert 'le="0.25"' in text
    assert "_created" not in text


def test_a_model_that_raises_is_counted_as_an_error() -> None:
    """An exception in the model is a 500 of that version, not the end of the server."""
    one = application()
    assert one.model is not None
    one.model.estimator.predict = None
    status, answer = one.predict(b'{"features": [2, 0]}', "real")
    assert (status, answer) == (500, {"error": "the model failed with TypeError"})
    assert counted(one)["error", "real"] == 1


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (recorded([2.0, 0.0], prediction=0), "expected prediction=0, found 1"),
        (recorded([2.0, 0.0], class_name="low"), "expected class_name='low', found 'high'"),
        (recorded([2.0, 0.0], probability=0.5), "expected probability=0.5, found None"),
        (recorded([2.0], prediction=1), "recorded request 1 was refused"),
    ],
)
def test_a_wrong_recorded_answer_keeps_it_unready(entry: dict[str, Any], reason: str) -> None:
    """A model that no longer answers its recorded requests right is not ready, and says which."""
    status, answer = application(None, entry).health()
    assert status == 503
    assert reason in answer["reason"]


def test_without_a_recording_it_is_not_ready() -> None:
    """No proof is not a proof: the reason says how to make a recording."""
    one = Application("image", "pod", Faults())
    one.serve(model())
    assert one.health()[0] == 503
    assert "incumbent record" in one.health()[1]["reason"]
    assert one.predict(b'{"features": [2, 0]}', "real")[0] == 200


def test_faults_spare_the_recorded_requests() -> None:
    """An image that fails every fifth request becomes ready and answers its recording right, always."""
    one = application(Faults.of({"FAULT_FAIL_EVERY": "5"}))
    assert one.health()[0] == 200
    assert [one.predict(b'{"features": [2, 0]}', "replayed")[0] for _ in range(10)] == [200] * 10
    assert [one.predict(b'{"features": [0, 0]}', "real")[0] for _ in range(10)] == ([200] * 4 + [500]) * 2
    assert counted(one)["error", "real"] == 2


def test_a_delay_shows_in_the_durations() -> None:
    """A slow image is slow in what it measures too."""
    _, answer = application(Faults.of({"FAULT_DELAY_SECONDS": "0.05"})).predict(b'{"features": [0, 0]}', "real")
    assert answer["inference_time_ms"] >= 50


def test_a_leak_holds_what_it_allocates() -> None:
    """A leaking image keeps that many mebibytes a request."""
    faults = Faults.of({"FAULT_ALLOCATE_MB": "2"})
    for _ in range(3):
        faults.on_request()
    assert sum(map(len, faults._leaked)) == 6 * 1024 * 1024


def test_an_image_can_take_memory_before_it_serves() -> None:
    """What a start allocates is held, so that a real limit kills it."""
    faults = Faults.of({"FAULT_ALLOCATE_AT_START_MB": "3"})
    faults.at_start()
    assert sum(map(len, faults._leaked)) == 3 * 1024 * 1024


def test_an_image_can_stay_unready() -> None:
    """FAULT_NEVER_READY plays a version that loads, answers, and never says that it is ready."""
    one = application(Faults.of({"FAULT_NEVER_READY": "1"}))
    assert one.health() == (
        503,
        {"status": "unhealthy", "reason": "this image never becomes ready (FAULT_NEVER_READY)"},
    )
    assert one.predict(b'{"features": [2, 0]}', "real")[0] == 200


def test_one_of_several_can_be_given_faults() -> None:
    """What is set on a running server is that server's alone, holds at once, and what is no fault is refused."""
    one = application(Faults.of({"FAULT_REMOTE": "1"}))
    assert one.set_faults(b'{"FAULT_FAIL_EVERY": "2"}') == (200, {"faults": {"FAULT_FAIL_EVERY": "2"}})
    assert [one.predict(b'{"features": [0, 0]}', "real")[0] for _ in range(4)] == [200, 500] * 2
    assert one.set_faults(b'{"FAULT_FAIL_EVERY": "often"}')[0] == 400
    assert one.set_faults(b"[]")[0] == 400
    assert one.set_faults(b"{}")[0] == 200
    assert one.predict(b'{"features": [0, 0]}', "real")[0] == 200


@dataclass
class Running:
    """A server process, its port, and what it said."""

    process: "subprocess.Popen[str]"
    port: int
    said: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            content = answer.read()
            is_json = answer.headers["Content-Type"] == "application/json"
            return answer.status, json.loads(content) if is_json else content.decode()
        finally:
            connection.close()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; the time only bounds a failure."""
        deadline = time.monotonic() + 90
        while not condition():
            assert self.process.poll() is None, f"the server ended: {self.said}"
            assert time.monotonic() < deadline, f"the server said: {self.said}"
            time.sleep(0.05)

    def ended(self) -> int:
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, Logged]]]:
    """MLflow's database, without a server, with a registered model and one addressed by its run."""
    import mlflow

    folder = tmp_path_factory.mktemp("mlflow")
    before, where = mlflow.get_tracking_uri(), Path.cwd()
    os.chdir(folder)  # artifacts lie below the working folder
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    split = split_data(IRIS)
    yield uri, {spec.name: log_model(train(spec, split), split) for spec in IRIS.specs[:2]}
    mlflow.set_tracking_uri(before)
    os.chdir(where)


@pytest.fixture
def serve(tracking: tuple[str, dict[str, Logged]]) -> Iterator[Callable[..., Running]]:
    """Starts servers on free ports; what still runs at the end is killed."""
    started: list[Running] = []

    def start(model_uri: str, **environment: str) -> Running:
        settings = {"MLFLOW_TRACKING_URI": tracking[0], "MODEL_URI": model_uri, "PORT": "0", **environment}
        process = subprocess.Popen(
            [sys.executable, "-m", "testbeds.model_server"],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "IMAGE": "an-image", "POD_NAME": "a-pod"} | settings,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        running = Running(process, int(first.rpartition(" ")[2] or 0) if first.startswith("listening") else 0, [first])
        threading.Thread(target=running.said.extend, args=(process.stdout,), daemon=True).start()
        started.append(running)
        return running

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def test_it_serves_what_mlflow_has(serve: Callable[..., Running]) -> None:
    """A registered version is loaded, answers, counts, and says which model it is."""
    server = serve(f"models:/{IRIS.model}/1")
    assert server.ask("GET", "/live")[0] == 200
    server.until(lambda: server.ask("GET", "/health") == (200, {"status": "healthy"}))
    status, answer = server.ask("POST", "/predict", b'{"features": [5.1, 3.5, 1.4, 0.2]}')
    assert (status, answer["prediction"], answer["class_name"]) == (200, 0, "setosa")
    server.ask("POST", "/predict", UNSEEN, **{REPLAY_HEADER: "policy/1/abc/1"})
    _, metrics = server.ask("GET", "/metrics")
    labels = f'model="{IRIS.model}",outcome="ok",source="{{}}",version="1"'
    assert f"model_predictions_total{{{labels.format('real')}}} 1.0" in metrics
    assert f"model_predictions_total{{{labels.format('replayed')}}} 1.0" in metrics
    assert 'image="an-image"' in metrics
    assert "process_resident_memory_bytes" in metrics
    assert server.ask("GET", "/nothing")[0] == 404
    assert server.ask("POST", "/nothing", b"")[0] == 404
    assert server.ask("POST", "/faults", b"{}")[0] == 404
    # Only told of, not sent: whoever still writes may not get to read the answer.
    assert server.ask("POST", "/predict", b"x", Content_Length=str(1024 * 1024 + 1))[0] == 413


def test_a_model_that_nobody_registered_is_served(
    serve: Callable[..., Running], tracking: tuple[str, dict[str, Logged]]
) -> None:
    """The baseline is addressed by its run, and says that it is unregistered."""
    server = serve(tracking[1]["baseline"].model_uri)
    server.until(lambda: server.ask("GET", "/health")[0] == 200)
    assert 'model="unregistered"' in server.ask("GET", "/metrics")[1]


def test_an_image_serves_the_model_that_it_carries(
    serve: Callable[..., Running], tracking: tuple[str, dict[str, Logged]], tmp_path: Path
) -> None:
    """With MODEL_DIR the model, its names and its recording come from there; MLflow is neither asked nor imported."""
    import mlflow

    (tmp_path / "downloads").mkdir()
    registry = mlflow.get_registry_uri()
    found = download_model(f"models:/{IRIS.model}/1", tracking[0], tmp_path / "downloads")
    assert mlflow.get_registry_uri() == registry
    write_model(found, tmp_path / "model")
    poisoned = tmp_path / "poisoned" / mlflow.__name__
    poisoned.mkdir(parents=True)
    (poisoned / "__init__.py").write_text("raise SystemExit('MLflow was imported')")
    python_path = f"{poisoned.parent}:{CHECKOUT}"
    server = serve("no such model", MODEL_DIR=str(tmp_path / "model"), PYTHONPATH=python_path, FAULT_REMOTE="1")
    server.until(lambda: server.ask("GET", "/health")[0] == 200)
    assert server.ask("POST", "/predict", UNSEEN)[1]["class_name"] == "setosa"
    labels = f'model="{IRIS.model}",run_id="{found.run_id}",version="1"'
    assert labels in server.ask("GET", "/metrics")[1]
    assert server.ask("POST", "/faults", b'{"FAULT_FAIL_EVERY": "1"}')[0] == 200
    assert server.ask("POST", "/predict", UNSEEN)[0] == 500


def test_an_image_without_its_model_ends_the_server(serve: Callable[..., Running], tmp_path: Path) -> None:
    """A MODEL_DIR that holds nothing cannot be cured by waiting."""
    server = serve("models:/m/1", MODEL_DIR=str(tmp_path))
    assert server.process.wait(90) == 1
    server.ended()


def test_a_drain_finishes_what_runs(serve: Callable[..., Running]) -> None:
    """SIGTERM in the middle of a slow request: it is answered, and the server ends with 0."""
    server = serve(f"models:/{IRIS.model}/1", FAULT_DELAY_SECONDS="1.5")
    server.until(lambda: server.ask("GET", "/health")[0] == 200)
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(server.ask("POST", "/predict", UNSEEN)[0]))
    asking.start()
    time.sleep(0.3)  # the request must be under way; too early, and the test proves less but still passes
    server.process.send_signal(signal.SIGTERM)
    asking.join(60)
    assert answers == [200]
    assert server.ended() == 0


def test_a_model_that_does_not_exist_ends_the_server(serve: Callable[..., Running]) -> None:
    """What trying again cannot cure is an exit with the reason as the last line."""
    server = serve(f"models:/{IRIS.model}/99")
    assert server.process.wait(90) == 1
    server.ended()


def test_a_silent_mlflow_is_waited_for(serve: Callable[..., Running]) -> None:
    """While MLflow does not answer the server stays up and unready: that is not the model's fault."""
    server = serve(f"models:/{IRIS.model}/1", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    server.until(lambda: "does not answer" in server.ask("GET", "/health")[1].get("reason", ""))
    assert server.ask("POST", "/predict", UNSEEN)[0] == 503
    assert server.ask("GET", "/metrics")[0] == 503
    server.process.send_signal(signal.SIGTERM)
    assert server.ended() == 0


def test_an_image_can_crash_at_its_start(serve: Callable[..., Running]) -> None:
    """FAULT_CRASH_AFTER=0 plays a build that cannot run at all."""
    assert serve(f"models:/{IRIS.model}/1", FAULT_CRASH_AFTER="0").process.wait(60) == CRASH_EXIT_CODE


def test_features_need_not_be_floats() -> None:
    """Whole numbers are numbers."""
    assert model().features(b'{"features": [1, 2]}') == [1.0, 2.0]
    with pytest.raises(InvalidRequestError):
        model().features(b'{"features": "12"}')

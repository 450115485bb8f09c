"""The model server answers or says why not, is ready only once proved right, and ends without losing a request."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pytest
from click.testing import CliRunner

from model_server.faults import CRASH_EXIT_CODE, Faults
from model_server.from_image import write_model
from model_server.from_mlflow import download_model
from model_server.model import InvalidRequestError, Model, ModelUnusableError, read_recording
from model_server.server import REPLAY_HEADER, Application, Server
from orchestration.cli import main
from orchestration.promotion.recorded_requests import RecordedAnswer, RecordedRequest, Recording, dump_recording
from testbeds.common.mlflow_database import lay_out_mlflow
from testbeds.common.tools import CHECKOUT
from testbeds.sandbox.cluster.forks import ONE_THREAD
from testbeds.training.models import IRIS, split_data, train
from testbeds.training.publish import Logged, log_model

UNSEEN = b'{"features": [5.0, 3.3, 1.4, 0.2]}'


class Threshold:
    """An estimator of two features that predicts class 1 when the first one is above 1."""

    n_features_in_ = 2

    def predict(self, rows: Any) -> list[int]:
        return [int(row[0] > 1) for row in rows]


def model(*recorded: dict[str, Any]) -> Model:
    return Model("toy", "7", "run", Threshold(), ("low", "high"), recorded)


def recorded(features: list[float], **response: object) -> dict[str, Any]:
    return {"request": {"features": features}, "response": response}


RIGHT = recorded([2.0, 0.0], prediction=1, class_name="high")


def application(faults: Faults | None = None, *entries: dict[str, Any]) -> Application:
    served = Application("image", "pod", faults or Faults())
    served.serve(model(*(entries or (RIGHT,))))
    return served


def predictions_of(server: Application) -> dict[tuple[str, str], float]:
    """Return the prediction counters, by outcome and source."""
    assert server.metrics is not None
    counts = {}
    for line in server.metrics.text().decode().splitlines():
        if line.startswith("model_predictions_total"):
            labels = dict(part.split("=") for part in line.partition("{")[2].partition("}")[0].split(","))
            counts[labels["outcome"].strip('"'), labels["source"].strip('"')] = float(line.rpartition(" ")[2])
    return counts


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
    """A body that is not a row of finite numbers is answered with 400 and counted as the client's fault."""
    server = application()
    status, answer = server.predict(body, "real")
    assert status == 400
    assert answer["error"]
    assert predictions_of(server)["invalid", "real"] == 1


def test_a_prediction_has_its_class_and_duration() -> None:
    """The answer to a valid request has the prediction, its class and the time that it took."""
    status, answer = application().predict(b'{"features": [2, 0]}', "real")
    assert status == 200
    assert answer["prediction"] == 1
    assert answer["class_name"] == "high"
    assert answer["inference_time_ms"] >= 0


def test_every_counter_exists_before_it_counts() -> None:
    """Counters for all outcomes and sources start at zero, so that rates include their first increments."""
    assert predictions_of(application()) == {
        (outcome, source): 0.0 for outcome in ("ok", "invalid", "error") for source in ("real", "replayed")
    }


def test_sources_are_counted_separately() -> None:
    """Replayed requests and their durations are counted separately from real ones."""
    server = application()
    server.predict(b'{"features": [2, 0]}', "replayed")
    assert predictions_of(server)["ok", "replayed"] == 1
    assert predictions_of(server)["ok", "real"] == 0
    assert server.metrics is not None
    text = server.metrics.text().decode()
    assert 'model_inference_duration_seconds_count{model="toy",source="replayed",version="7"} 1.0' in text
    assert 'model_info{image="image",model="toy",run_id="run",version="7"} 1.0' in text
    assert 'le="0.25"' in text
    assert "_created" not in text


def test_a_model_that_raises_is_counted_as_an_error() -> None:
    """An exception in the model is answered with 500 and counted as an error, and the server goes on."""
    server = application()
    assert server.model is not None
    server.model.estimator.predict = None
    status, answer = server.predict(b'{"features": [2, 0]}', "real")
    assert (status, answer) == (500, {"error": "the model failed with TypeError"})
    assert predictions_of(server)["error", "real"] == 1


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (recorded([2.0, 0.0], prediction=0), "expected prediction=0, found 1"),
        (recorded([2.0, 0.0], class_name="low"), "expected class_name='low', found 'high'"),
        (recorded([2.0, 0.0], probability=0.5), "expected probability=0.5, found None"),
        (recorded([2.0], prediction=1), "recorded request 1 was refused"),
    ],
)
def test_a_wrong_answer_to_a_recorded_request_keeps_the_server_unready(entry: dict[str, Any], reason: str) -> None:
    """A model that answers a recorded request wrongly is not ready, and the reason says what was wrong."""
    status, answer = application(None, entry).health()
    assert status == 503
    assert reason in answer["reason"]


def test_what_incumbent_records_is_read(tmp_path: Path) -> None:
    """Of a recording of the pipeline's newest format, the server must give again what is compared; not its times."""
    file = tmp_path / "recorded_requests.json"
    answer = {"prediction": 1, "class_name": "high", "inference_time_ms": 1.5}
    request = RecordedRequest(request={"features": [2.0, 0.0]}, response=RecordedAnswer(body=answer))
    file.write_bytes(dump_recording(Recording(requests=(request,), ignore=("$.inference_time_ms",))))
    entry = dict(read_recording(file)[0])
    assert model(entry).first_wrong_answer() is None
    assert entry["response"] == {"prediction": 1, "class_name": "high"}
    file.write_text('{"version": 3}')
    with pytest.raises(ModelUnusableError, match="expected version 1 or 2, found 3"):
        read_recording(file)


def test_without_a_recording_the_server_is_not_ready() -> None:
    """A model without a recording is served but not ready, and the reason says how to make a recording."""
    server = Application("image", "pod", Faults())
    server.serve(model())
    assert server.health()[0] == 503
    assert "incumbent record" in server.health()[1]["reason"]
    assert server.predict(b'{"features": [2, 0]}', "real")[0] == 200


def test_faults_spare_the_recorded_requests() -> None:
    """An image that fails one real request in five becomes ready and never fails a recorded one."""
    server = application(Faults.of({"FAULT_FAIL_EVERY": "5"}))
    assert server.health()[0] == 200
    assert [server.predict(b'{"features": [2, 0]}', "replayed")[0] for _ in range(10)] == [200] * 10
    assert [server.predict(b'{"features": [0, 0]}', "real")[0] for _ in range(10)] == ([200] * 4 + [500]) * 2
    assert predictions_of(server)["error", "real"] == 2


def test_a_delay_shows_in_the_durations() -> None:
    """An injected delay is part of the duration that the server measures."""
    _, answer = application(Faults.of({"FAULT_DELAY_SECONDS": "0.05"})).predict(b'{"features": [0, 0]}', "real")
    assert answer["inference_time_ms"] >= 50


def test_a_leak_holds_what_it_allocates() -> None:
    """A leaking image keeps the given number of mebibytes per request."""
    faults = Faults.of({"FAULT_ALLOCATE_MB": "2"})
    for _ in range(3):
        faults.on_request()
    assert sum(map(len, faults._leaked)) == 6 * 1024 * 1024


def test_an_image_can_take_memory_before_it_serves() -> None:
    """Memory that the image allocates at its start is kept, so that a real limit kills the server."""
    faults = Faults.of({"FAULT_ALLOCATE_AT_START_MB": "3"})
    faults.at_start()
    assert sum(map(len, faults._leaked)) == 3 * 1024 * 1024


def test_an_image_can_stay_unready() -> None:
    """With FAULT_NEVER_READY the server loads its model and answers requests, but never reports that it is ready."""
    server = application(Faults.of({"FAULT_NEVER_READY": "1"}))
    assert server.health() == (
        503,
        {"status": "unhealthy", "reason": "this image never becomes ready (FAULT_NEVER_READY)"},
    )
    assert server.predict(b'{"features": [2, 0]}', "real")[0] == 200


def test_faults_can_be_set_on_a_running_server() -> None:
    """Faults that are set on a running server take effect at once, and invalid ones are refused."""
    server = application(Faults.of({"FAULT_REMOTE": "1"}))
    assert server.set_faults(b'{"FAULT_FAIL_EVERY": "2"}') == (200, {"faults": {"FAULT_FAIL_EVERY": "2"}})
    assert [server.predict(b'{"features": [0, 0]}', "real")[0] for _ in range(4)] == [200, 500] * 2
    assert server.set_faults(b'{"FAULT_FAIL_EVERY": "often"}')[0] == 400
    assert server.set_faults(b"[]")[0] == 400
    assert server.set_faults(b"{}")[0] == 200
    assert server.predict(b'{"features": [0, 0]}', "real")[0] == 200


def test_it_keeps_the_contract_until_it_fails(tmp_path: Path) -> None:
    """`incumbent check-server` passes on it line by line, and then names the one line that a fault breaks."""
    served = application(Faults(remote=True))
    server = Server(("127.0.0.1", 0), served)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    requests = tmp_path / "requests.json"
    requests.write_bytes(b'[{"features": [3.0, 0.0]}, {"features": [0.0, 0.0]}]')

    def check() -> tuple[int, list[list[str]]]:
        """Return the exit code, and each check's outcome and name."""
        url = f"http://127.0.0.1:{server.server_port}"
        result = CliRunner().invoke(main, ["check-server", url, "--requests", str(requests)])
        checks, _, _ = result.stdout.partition("What a policy can use")
        return result.exit_code, [line.split()[:2] for line in checks.splitlines() if re.match(r"  \w", line)]

    try:
        code, checks = check()
        assert code == 0, checks
        assert len(checks) == 11
        assert {outcome for outcome, _ in checks} == {"ok"}
        served.set_faults(b'{"FAULT_FAIL_EVERY": "1"}')
        code, checks = check()
        assert code == 1
        assert [name for outcome, name in checks if outcome == "failed"] == ["answers"]
    finally:
        server.shutdown()
        server.server_close()


class Process(Protocol):
    """What the tests do with a server's process; those of `subprocess` can do it, too."""

    def poll(self) -> int | None: ...
    def wait(self, timeout: float) -> int: ...
    def send_signal(self, number: int) -> None: ...
    def kill(self) -> None: ...


class Forked:
    """A process that the parent of a cluster's pods has forked."""

    def __init__(self, parent: "ForkParent", key: str) -> None:
        self._parent, self._key = parent, key

    def poll(self) -> int | None:
        return self._parent.exit_code(self._key, 0)

    def wait(self, timeout: float) -> int:
        code = self._parent.exit_code(self._key, timeout)
        assert code is not None, f"the server still runs after {timeout:g} s"
        return code

    def send_signal(self, number: int) -> None:
        self._parent.tell(op="signal", id=self._key, signal=int(number))

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkParent:
    """The parent of a cluster's pods, which imports once what all servers need; here it has no cluster around it."""

    def __init__(self) -> None:
        self._own, parent_end = socket.socketpair()
        # These servers read MLflow's database themselves.
        imports = "import mlflow.store.tracking.sqlalchemy_store; from testbeds.sandbox.cluster import fork_parent"
        command = [
            sys.executable,
            "-c",
            f"{imports}; fork_parent.main()",
            str(parent_end.fileno()),
            str(os.getpid()),
            "preload",
        ]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), **ONE_THREAD}
        self._process = subprocess.Popen(command, pass_fds=[parent_end.fileno()], env=environment)
        parent_end.close()
        self._lines = self._own.makefile("r", encoding="utf-8")
        self._codes: dict[str, int] = {}
        self._changed = threading.Condition()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def start(self, environment: Mapping[str, str], log: Path) -> Forked:
        self.tell(op="start", id=str(log), argv=[], env=dict(environment), log=str(log), folder=str(log.parent))
        return Forked(self, str(log))

    def tell(self, **message: object) -> None:
        self._own.sendall(json.dumps(message).encode() + b"\n")

    def exit_code(self, key: str, seconds: float) -> int | None:
        """Wait that long at most for a process to end; None while it runs."""
        with self._changed:
            self._changed.wait_for(lambda: key in self._codes, seconds)
            return self._codes.get(key)

    def close(self) -> None:
        """Hang up, which ends it; the kernel ends its children with it."""
        self._own.shutdown(socket.SHUT_RDWR)
        self._listener.join()
        self._lines.close()
        self._own.close()
        self._process.wait()

    def _listen(self) -> None:
        for message in map(json.loads, self._lines):
            if message["op"] == "exited":
                with self._changed:
                    self._codes[message["id"]] = message["code"]
                    self._changed.notify_all()


@dataclass
class Running:
    """A server process, its port, and what it prints."""

    process: Process
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    @cached_property
    def port(self) -> int:
        """The port at which it listens, which it says first."""
        self.until(lambda: self.output.startswith("listening on port ") and "\n" in self.output)
        return int(self.output.partition("\n")[0].rpartition(" ")[2])

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
        """Wait until a condition holds; the time limit only matters when it never does."""
        deadline = time.monotonic() + 240
        while not condition():
            assert self.process.poll() is None, f"the server ended: {self.output}"
            assert time.monotonic() < deadline, f"the server printed: {self.output}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, Logged]]]:
    """MLflow's database, without a server, with a registered model and one that is addressed by its run."""
    import mlflow

    folder = tmp_path_factory.mktemp("mlflow")
    previous_uri, previous_folder = mlflow.get_tracking_uri(), Path.cwd()
    os.chdir(folder)  # artifacts lie below the working folder
    lay_out_mlflow(folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    split = split_data(IRIS)
    yield uri, {spec.name: log_model(train(spec, split), split) for spec in IRIS.specs[:2]}
    mlflow.set_tracking_uri(previous_uri)
    os.chdir(previous_folder)


@pytest.fixture(scope="module")
def fork_parent() -> Iterator[ForkParent]:
    parent = ForkParent()
    yield parent
    parent.close()


@pytest.fixture
def environment(tracking: tuple[str, dict[str, Logged]]) -> dict[str, str]:
    """The environment of a server at a free port, but for its model."""
    place = {"PYTHONPATH": str(CHECKOUT), "PORT": "0", "IMAGE": "an-image", "POD_NAME": "a-pod"}
    return {**os.environ, **place, "MLFLOW_TRACKING_URI": tracking[0]}


@pytest.fixture
def serve(environment: dict[str, str], fork_parent: ForkParent, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """A function that starts servers as the sandbox does; those that still run at the end are killed."""
    started: list[Process] = []

    def start(model_uri: str, **settings: str) -> Running:
        log = tmp_path / f"server {len(started)}.log"
        process = fork_parent.start({**environment, "MODEL_URI": model_uri, **settings}, log)
        started.append(process)
        return Running(process, log)

    yield start
    for process in started:
        process.kill()
        process.wait(60)


@pytest.fixture
def serve_cold(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """A function that starts servers as an image does, with nothing imported; at the end they are killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(model_uri: str, **settings: str) -> Running:
        log = tmp_path / f"server {len(started)}.log"
        command = [sys.executable, "-m", "model_server"]
        with log.open("wb") as output:
            process = subprocess.Popen(command, env={**environment, "MODEL_URI": model_uri, **settings}, stdout=output)
        started.append(process)
        return Running(process, log)

    yield start
    for process in started:
        process.kill()
        process.wait(60)


def test_a_registered_version_is_served(serve: Callable[..., Running]) -> None:
    """The server loads a registered version, answers with it, counts requests, and reports which model it serves."""
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
    # The body is announced but not sent, because a client that is still writing may not read the answer.
    assert server.ask("POST", "/predict", b"x", Content_Length=str(1024 * 1024 + 1))[0] == 413


def test_an_unregistered_model_is_served(
    serve: Callable[..., Running], tracking: tuple[str, dict[str, Logged]]
) -> None:
    """The baseline, which is addressed by its run, is served and reports that it is unregistered."""
    server = serve(tracking[1]["baseline"].model_uri)
    server.until(lambda: server.ask("GET", "/health")[0] == 200)
    assert 'model="unregistered"' in server.ask("GET", "/metrics")[1]


def test_an_image_serves_the_model_that_it_contains(
    serve_cold: Callable[..., Running], tracking: tuple[str, dict[str, Logged]], tmp_path: Path
) -> None:
    """With MODEL_DIR the server takes model, names and recording from that folder, and does not even import MLflow."""
    import mlflow

    (tmp_path / "downloads").mkdir()
    registry = mlflow.get_registry_uri()
    downloaded = download_model(f"models:/{IRIS.model}/1", tracking[0], tmp_path / "downloads")
    assert mlflow.get_registry_uri() == registry
    write_model(downloaded, tmp_path / "model")
    poisoned = tmp_path / "poisoned" / mlflow.__name__
    poisoned.mkdir(parents=True)
    (poisoned / "__init__.py").write_text("raise SystemExit('MLflow was imported')")
    python_path = f"{poisoned.parent}:{CHECKOUT}"
    server = serve_cold("no such model", MODEL_DIR=str(tmp_path / "model"), PYTHONPATH=python_path, FAULT_REMOTE="1")
    server.until(lambda: server.ask("GET", "/health")[0] == 200)
    assert server.ask("POST", "/predict", UNSEEN)[1]["class_name"] == "setosa"
    labels = f'model="{IRIS.model}",run_id="{downloaded.run_id}",version="1"'
    assert labels in server.ask("GET", "/metrics")[1]
    assert server.ask("POST", "/faults", b'{"FAULT_FAIL_EVERY": "1"}')[0] == 200
    assert server.ask("POST", "/predict", UNSEEN)[0] == 500


def test_an_image_without_its_model_ends_the_server(serve: Callable[..., Running], tmp_path: Path) -> None:
    """The server ends with an error when MODEL_DIR contains no model, since waiting would not help."""
    assert serve("models:/m/1", MODEL_DIR=str(tmp_path)).process.wait(90) == 1


def test_a_drain_finishes_requests_under_way(serve: Callable[..., Running]) -> None:
    """After SIGTERM a slow request that is under way is still answered, and the server ends with 0."""
    server = serve(f"models:/{IRIS.model}/1", FAULT_DELAY_SECONDS="1.5")
    server.until(lambda: server.ask("GET", "/health")[0] == 200)
    answers: list[int] = []
    client = threading.Thread(target=lambda: answers.append(server.ask("POST", "/predict", UNSEEN)[0]))
    client.start()
    time.sleep(0.3)  # the request must be under way; too early, and the test proves less but still passes
    server.process.send_signal(signal.SIGTERM)
    client.join(60)
    assert answers == [200]
    assert server.process.wait(60) == 0


def test_a_model_that_does_not_exist_ends_the_server(serve: Callable[..., Running]) -> None:
    """The server ends with an error when MLflow does not have the model, since trying again would not help."""
    assert serve(f"models:/{IRIS.model}/99").process.wait(90) == 1


def test_the_server_waits_for_mlflow(serve: Callable[..., Running]) -> None:
    """While MLflow does not answer, the server stays up but unready, because that is not the model's fault."""
    server = serve(f"models:/{IRIS.model}/1", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    server.until(lambda: "does not answer" in server.ask("GET", "/health")[1].get("reason", ""))
    assert server.ask("POST", "/predict", UNSEEN)[0] == 503
    assert server.ask("GET", "/metrics")[0] == 503
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0


def test_an_image_can_crash_at_its_start(serve: Callable[..., Running]) -> None:
    """With FAULT_CRASH_AFTER=0 the server crashes at once, like a build that cannot run at all."""
    assert serve(f"models:/{IRIS.model}/1", FAULT_CRASH_AFTER="0").process.wait(60) == CRASH_EXIT_CODE


def test_features_need_not_be_floats() -> None:
    """Whole numbers are accepted as features, and a text of digits is not."""
    assert model().features(b'{"features": [1, 2]}') == [1.0, 2.0]
    with pytest.raises(InvalidRequestError):
        model().features(b'{"features": "12"}')

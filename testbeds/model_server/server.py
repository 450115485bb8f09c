"""The HTTP server around a model: ready only when the recorded requests are answered right, drained on SIGTERM.

Standard library only, because start-up is what a rollout waits for: the imports of MLflow and scikit-learn are its
whole cost. A model that the image carries (`MODEL_DIR`) needs no MLflow.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from testbeds.model_server.faults import Faults, InjectedError
from testbeds.model_server.from_image import read_model
from testbeds.model_server.from_mlflow import RegistryUnavailableError, fetch_model
from testbeds.model_server.metrics import Metrics
from testbeds.model_server.model import InvalidRequestError, Model, ModelUnusableError

REPLAY_HEADER = "X-Incumbent-Replay"
_BODY_LIMIT = 1024 * 1024
_DRAIN_SECONDS = 20.0
_SETTLE_SECONDS = 0.2
_RETRY_SECONDS = 1.0
_FETCH_SECONDS = "10"


class Application:
    """What the server knows: its model once it is loaded, why it is not ready, and how many requests run."""

    def __init__(self, image: str, pod: str, faults: Faults) -> None:
        self.image = image
        self.pod = pod
        self.faults = faults
        self.model: Model | None = None
        self.metrics: Metrics | None = None
        self.not_ready_because: str | None = "the model is being loaded"
        self._recorded: frozenset[tuple[float, ...]] = frozenset()
        self._running = 0
        self._changed = threading.Condition()

    def serve(self, model: Model) -> None:
        """Take the model into service; ready if it answers its recorded requests right."""
        self.metrics = Metrics(model=model.name, version=model.version, image=self.image, run_id=model.run_id)
        self._recorded = frozenset(tuple(map(float, entry["request"].get("features", ()))) for entry in model.recorded)
        self.model = model
        self.not_ready_because = self.faults.never_ready_because or model.first_wrong_answer()

    def predict(self, body: bytes, source: str) -> tuple[int, dict[str, Any]]:
        """Status and body of the answer to one prediction request, which is counted."""
        if self.model is None or self.metrics is None:
            return 503, {"error": self.not_ready_because}
        began = time.perf_counter()
        try:
            features = self.model.features(body)
        except InvalidRequestError as error:
            self.metrics.count("invalid", source, None)
            return 400, {"error": str(error)}
        try:
            if tuple(features) not in self._recorded:
                self.faults.on_request()
            answer = self.model.predict(features)
        except InjectedError as error:
            self.metrics.count("error", source, time.perf_counter() - began)
            return 500, {"error": str(error)}
        except Exception as error:  # noqa: BLE001  whatever a model raises is an error of that model, and is counted
            self.metrics.count("error", source, time.perf_counter() - began)
            print(f"prediction failed: {type(error).__name__}: {error}", flush=True)
            return 500, {"error": f"the model failed with {type(error).__name__}"}
        seconds = time.perf_counter() - began
        self.metrics.count("ok", source, seconds)
        return 200, {**answer, "inference_time_ms": round(seconds * 1000, 3)}

    def set_faults(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Give this one server other faults than its image has: `{"FAULT_FAIL_EVERY": "5"}`."""
        try:
            wanted = json.loads(body)
            self.faults = Faults.of({**wanted, "FAULT_REMOTE": "1"})
        except (ValueError, TypeError) as error:
            return 400, {"error": f"expected an object of faults: {error}"}
        return 200, {"faults": wanted}

    def health(self) -> tuple[int, dict[str, Any]]:
        reason = self.not_ready_because
        if reason is None:
            return 200, {"status": "healthy"}
        return 503, {"status": "unhealthy", "reason": reason}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count a request as running, so that a drain waits for it."""
        with self._changed:
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def drain(self) -> bool:
        """Wait until nothing runs; False when something still does after the time a drain has."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running == 0, _DRAIN_SECONDS)


class Handler(BaseHTTPRequestHandler):
    """One connection; the server below it holds the application."""

    protocol_version = "HTTP/1.1"
    timeout = 75
    wbufsize = -1  # headers and body leave in one packet
    disable_nagle_algorithm = True
    server: "Server"

    def do_GET(self) -> None:
        application = self.server.application
        path = self.path.partition("?")[0]
        with application.running():
            if path == "/health":
                self._answer(*application.health())
            elif path == "/live":
                self._answer(200, {"status": "alive"})
            elif path == "/metrics" and application.metrics is not None:
                self._send(200, "text/plain; version=0.0.4; charset=utf-8", application.metrics.text())
            elif path == "/metrics":
                self._answer(503, {"error": application.not_ready_because})
            else:
                self._answer(404, {"error": f"no such path: {path}"})

    def do_POST(self) -> None:
        application = self.server.application
        path = self.path.partition("?")[0]
        length = self.headers.get("Content-Length", "")
        if path not in (("/predict", "/faults") if application.faults.remote else ("/predict",)):
            self.close_connection = True
            self._answer(404, {"error": f"no such path: {path}"})
        elif not length.isdigit():
            self.close_connection = True
            self._answer(411, {"error": "a request needs a Content-Length"})
        elif int(length) > _BODY_LIMIT:
            self.close_connection = True
            self._answer(413, {"error": f"a request may have {_BODY_LIMIT} bytes"})
        elif path == "/faults":
            self._answer(*application.set_faults(self.rfile.read(int(length))))
        else:
            with application.running():
                source = "replayed" if self.headers.get(REPLAY_HEADER) else "real"
                self._answer(*application.predict(self.rfile.read(int(length)), source))

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        application = self.server.application
        if self.server.draining:
            self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Served-By", application.pod)
        if application.model is not None:
            self.send_header("X-Model-Version", application.model.version)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Requests are counted, not logged."""


class Server(ThreadingHTTPServer):
    daemon_threads = True  # an idle keep-alive connection must not hold up the exit
    block_on_close = False
    request_queue_size = 256
    draining = False

    def __init__(self, address: tuple[str, int], application: Application) -> None:
        self.application = application
        super().__init__(address, Handler)


def main(environ: Mapping[str, str]) -> int:
    """Serve what lies in `MODEL_DIR`, or else `MODEL_URI`, on `HOST`:`PORT` until SIGTERM; the exit code.

    0 after a drain, 1 when the model cannot be served or a drain took too long. While MLflow does not answer the
    server stays unready and asks again: that is not the model's fault.
    """
    faults = Faults.of(environ)
    faults.at_start()
    # The loader and the signals meet in `sigwait`: no handler runs in the middle of anything.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    # A retry of this server's own says what it waits for; MLflow's would be silent for minutes.
    os.environ.update(
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="1",
        MLFLOW_HTTP_REQUEST_TIMEOUT=_FETCH_SECONDS,
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
    )
    application = Application(environ.get("IMAGE", ""), environ.get("POD_NAME", ""), faults)
    server = Server((environ.get("HOST", "127.0.0.1"), int(environ.get("PORT", "8080"))), application)
    print(f"listening on port {server.server_port}", flush=True)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    failed: list[str] = []
    threading.Thread(target=_load, args=(application, environ, failed), daemon=True).start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    if failed:
        print(f"fatal: {failed[0]}", flush=True)
        return 1
    application.not_ready_because = "the server is shutting down"
    server.draining = True
    time.sleep(_SETTLE_SECONDS)  # connections that were opened just now still get their answer
    server.shutdown()
    server.server_close()
    drained = application.drain()
    print("drained" if drained else f"requests still ran {_DRAIN_SECONDS:g} s after SIGTERM", flush=True)
    return 0 if drained else 1


def _load(application: Application, environ: Mapping[str, str], failed: list[str]) -> None:
    try:
        while True:
            try:
                model = _read(environ)
                break
            except RegistryUnavailableError as error:
                application.not_ready_because = str(error)
                print(f"waiting: {error}", flush=True)
                time.sleep(_RETRY_SECONDS)
        application.serve(model)
        print(f"not ready: {application.not_ready_because}" if application.not_ready_because else "ready", flush=True)
    except ModelUnusableError as error:
        failed.append(str(error))
    except Exception as error:  # noqa: BLE001  the process ends with it, and its last line says why
        failed.append(f"{type(error).__name__}: {error}")
    if failed:
        os.kill(os.getpid(), signal.SIGTERM)


def _read(environ: Mapping[str, str]) -> Model:
    if "MODEL_DIR" in environ:
        return read_model(Path(environ["MODEL_DIR"]))
    return fetch_model(environ.get("MODEL_URI", ""), environ.get("MLFLOW_TRACKING_URI", ""))

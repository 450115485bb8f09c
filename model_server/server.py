"""The HTTP server around a model: ready only if it answers the recorded requests correctly, drained on SIGTERM.

It uses only the standard library, because a rollout waits for it to start: importing MLflow and scikit-learn is all
that takes time. A model inside the image (`MODEL_DIR`) does not need MLflow.
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

from model_server.faults import Faults, InjectedError
from model_server.from_image import read_model
from model_server.from_mlflow import RegistryUnavailableError, fetch_model
from model_server.metrics import Metrics
from model_server.model import InvalidRequestError, Model, ModelUnusableError

REPLAY_HEADER = "X-Incumbent-Replay"
_BODY_LIMIT = 1024 * 1024
_DRAIN_SECONDS = 20.0
_SETTLE_SECONDS = 0.2
_RETRY_SECONDS = 1.0
_FETCH_SECONDS = "10"


class Application:
    """The server's state: its model once that is loaded, why it is not ready, and how many requests are running."""

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
        """Start serving the model; the server is ready if the model answers its recorded requests correctly."""
        self.metrics = Metrics(model=model.name, version=model.version, image=self.image, run_id=model.run_id)
        self._recorded = frozenset(tuple(map(float, entry["request"].get("features", ()))) for entry in model.recorded)
        self.model = model
        self.not_ready_because = self.faults.never_ready_because or model.first_wrong_answer()

    def predict(self, body: bytes, source: str) -> tuple[int, dict[str, Any]]:
        """Answer one prediction request, and count it.

        Returns:
            The answer's status and body.
        """
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
        except Exception as error:  # noqa: BLE001  anything that a model raises is counted as its error
            self.metrics.count("error", source, time.perf_counter() - began)
            print(f"prediction failed: {type(error).__name__}: {error}", flush=True)
            return 500, {"error": f"the model failed with {type(error).__name__}"}
        seconds = time.perf_counter() - began
        self.metrics.count("ok", source, seconds)
        return 200, {**answer, "inference_time_ms": round(seconds * 1000, 3)}

    def set_faults(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Replace the faults of this one server, for example with `{"FAULT_FAIL_EVERY": "5"}`.

        Returns:
            The answer's status and body.
        """
        try:
            wanted = json.loads(body)
            self.faults = Faults.of({**wanted, "FAULT_REMOTE": "1"})
        except (ValueError, TypeError) as error:
            return 400, {"error": f"expected an object of faults ({error})"}
        return 200, {"faults": wanted}

    def health(self) -> tuple[int, dict[str, Any]]:
        """Status and body of `/health`: 200 only while the server is ready."""
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
        """Wait until no request is running.

        Returns:
            False if requests are still running after `_DRAIN_SECONDS`.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._running == 0, _DRAIN_SECONDS)


class Handler(BaseHTTPRequestHandler):
    """One connection; the server holds the application."""

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
            self._answer(413, {"error": f"a request may have at most {_BODY_LIMIT} bytes"})
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
    daemon_threads = True  # an idle keep-alive connection must not delay the exit
    block_on_close = False
    request_queue_size = 256
    draining = False

    def __init__(self, address: tuple[str, int], application: Application) -> None:
        self.application = application
        super().__init__(address, Handler)


def main(environ: Mapping[str, str]) -> int:
    """Serve the model in `MODEL_DIR`, or else the one that `MODEL_URI` names, on `HOST`:`PORT` until SIGTERM.

    While MLflow does not answer, the server stays unready and asks again, because that is not the model's fault.

    Returns:
        The exit code: 0 after a complete drain, 1 if the model cannot be served or requests outlived the drain.
    """
    faults = Faults.of(environ)
    faults.at_start()
    # Signals, and a failed loader, are waited for by `sigwait`, so no signal handler interrupts other code.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    # This server's own retries say what they wait for; those of MLflow's client would be silent for minutes.
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
    time.sleep(_SETTLE_SECONDS)  # connections opened just before still get an answer
    server.shutdown()
    server.server_close()
    drained = application.drain()
    print("drained" if drained else f"requests were still running {_DRAIN_SECONDS:g} s after SIGTERM", flush=True)
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
    except Exception as error:  # noqa: BLE001  the process ends, and its last line says why
        failed.append(f"{type(error).__name__}: {error}")
    if failed:
        os.kill(os.getpid(), signal.SIGTERM)


def _read(environ: Mapping[str, str]) -> Model:
    if "MODEL_DIR" in environ:
        return read_model(Path(environ["MODEL_DIR"]))
    return fetch_model(environ.get("MODEL_URI", ""), environ.get("MLFLOW_TRACKING_URI", ""))

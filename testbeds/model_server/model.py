"""The model behind the server: fetched from MLflow with its recorded requests, and asked for predictions."""

import json
import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RECORDED_REQUESTS = "incumbent/recorded_requests.json"
# What MLflow's client calls an answer that it could not get; everything else is an answer.
_NO_ANSWER = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}


class InvalidRequestError(Exception):
    """A request that no model can answer; its text says why."""


class RegistryUnavailableError(Exception):
    """MLflow did not answer: worth trying again."""


class ModelUnusableError(Exception):
    """MLflow answered, and what it has cannot be served: trying again changes nothing."""


@dataclass(frozen=True)
class Model:
    """A model as it is served."""

    name: str
    """The registered model; `unregistered` for a model that is addressed by its run."""
    version: str
    run_id: str
    estimator: Any
    class_names: tuple[str, ...]
    recorded: tuple[Mapping[str, Any], ...]
    """Entries with `request`, `response` and perhaps `tolerance`; empty when the run has no recording."""

    def features(self, body: bytes) -> list[float]:
        """The feature row of a request.

        Raises:
            InvalidRequestError: the body is not `{"features": [numbers]}` with as many as the model takes.
        """
        wanted = int(self.estimator.n_features_in_)
        try:
            request = json.loads(body)
        except ValueError as error:  # also text that is not UTF-8
            raise InvalidRequestError("the body is not JSON") from error
        row = request.get("features") if isinstance(request, dict) else None
        if not isinstance(row, list) or len(row) != wanted:
            raise InvalidRequestError(f'expected {{"features": [{wanted} numbers]}}')
        for index, value in enumerate(row):
            if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
                raise InvalidRequestError(f"feature {index} is not a finite number")
        return [float(value) for value in row]

    def predict(self, features: list[float]) -> dict[str, Any]:
        """The answer to one feature row, without its time."""
        import numpy

        prediction = int(self.estimator.predict(numpy.asarray([features]))[0])
        names = self.class_names
        return {
            "prediction": prediction,
            "class_name": names[prediction] if 0 <= prediction < len(names) else str(prediction),
        }

    def first_wrong_answer(self) -> str | None:
        """What is wrong with this model's answers to its recorded requests; None when all are right."""
        if not self.recorded:
            return f"run {self.run_id} has no {RECORDED_REQUESTS}; make it with `incumbent record`"
        for number, entry in enumerate(self.recorded, start=1):
            try:
                answer = self.predict(self.features(json.dumps(entry["request"]).encode()))
            except InvalidRequestError as error:
                return f"recorded request {number} is refused: {error}"
            for name, expected in entry["response"].items():
                if not _same(expected, answer.get(name), float(entry.get("tolerance", 0.0))):
                    return f"recorded request {number}: expected {name}={expected!r}, answered {answer.get(name)!r}"
        return None


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


def _same(expected: object, found: object, tolerance: float) -> bool:
    numbers = (int, float)
    if isinstance(expected, bool) or not isinstance(expected, numbers) or not isinstance(found, numbers):
        return expected == found
    return math.isclose(expected, found, rel_tol=0.0, abs_tol=tolerance)


def preload() -> None:
    """Import what takes seconds, so that a process forked from this one starts at once."""
    import mlflow.artifacts
    import mlflow.sklearn
    import numpy
    import sklearn.ensemble
    import skops.io  # type: ignore[import-untyped]

    assert all((mlflow.artifacts, mlflow.sklearn, numpy, sklearn.ensemble, skops.io))


def fetch_model(uri: str, tracking_uri: str) -> Model:
    """The model of `models:/<name>/<version>` or `runs:/<run>/<path>`, with its run's recorded requests.

    Raises:
        RegistryUnavailableError: MLflow did not answer.
        ModelUnusableError: it answered, and there is no such model, or none that can be served.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    began = time.monotonic()
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    try:
        model = _fetch(uri, mlflow.MlflowClient())
    except MlflowException as error:
        if error.error_code in _NO_ANSWER:
            raise RegistryUnavailableError(f"MLflow does not answer for {uri} ({error.error_code})") from error
        raise ModelUnusableError(f"{uri}: {error.message}") from error
    print(f"loaded {uri} (run {model.run_id}) in {time.monotonic() - began:.1f} s", flush=True)
    return model


def _fetch(uri: str, client: Any) -> Model:
    import mlflow

    scheme, _, rest = uri.partition(":/")
    name, _, version = rest.partition("/")
    if scheme == "models" and version.isdigit():
        run_id = client.get_model_version(name, version).run_id
    elif scheme == "runs" and version:
        run_id, name, version = name, "unregistered", "none"
    else:
        raise ModelUnusableError(f"MODEL_URI is {uri!r}, not models:/<name>/<version> or runs:/<run>/<path>")
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)
        metadata = mlflow.models.Model.load(path).metadata or {}
        estimator = mlflow.sklearn.load_model(path)
        recorded = _recorded_requests(run_id, folder, client)
    return Model(name, version, run_id, estimator, tuple(metadata.get("class_names", ())), recorded)


def _recorded_requests(run_id: str, folder: str, client: Any) -> tuple[Mapping[str, Any], ...]:
    directory, _, name = RECORDED_REQUESTS.rpartition("/")
    if RECORDED_REQUESTS not in {artifact.path for artifact in client.list_artifacts(run_id, directory)}:
        return ()
    with open(client.download_artifacts(run_id, RECORDED_REQUESTS, folder), "rb") as file:  # noqa: PTH123  a str
        content = json.load(file)
    if content.get("version") != 1:
        raise ModelUnusableError(f"{name} of run {run_id} has version {content.get('version')!r}, not 1")
    return tuple(content["requests"])

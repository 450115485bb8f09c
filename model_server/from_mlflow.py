"""A model from MLflow, with the recorded requests of its run."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_server.model import RECORDED_REQUESTS, Model, ModelUnusableError, read_recording

# The error codes of MLflow's client that mean that no answer came; all others are answers.
_NO_ANSWER = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}


class RegistryUnavailableError(Exception):
    """MLflow did not answer: worth trying again."""


@dataclass(frozen=True)
class Downloaded:
    """A model's files."""

    name: str
    """The registered model; `unregistered` for a model addressed by its run."""
    version: str
    run_id: str
    folder: Path
    """Holds `MLmodel` and the files that it names."""
    recording: Path | None
    """None if the run has no recording."""


def preload() -> None:
    """Import the slow libraries, so that a process forked from this one starts at once."""
    import mlflow.artifacts
    import mlflow.sklearn
    import numpy
    import sklearn.ensemble
    import skops.io  # type: ignore[import-untyped]

    assert all((mlflow.artifacts, mlflow.sklearn, numpy, sklearn.ensemble, skops.io))


def fetch_model(uri: str, tracking_uri: str) -> Model:
    """Fetch a model with its run's recorded requests.

    Args:
        uri: `models:/<name>/<version>` or `runs:/<run>/<path>`.
        tracking_uri: MLflow's address.

    Raises:
        RegistryUnavailableError: MLflow did not answer.
        ModelUnusableError: MLflow has no such model, or the model cannot be served.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder:
            downloaded = download_model(uri, tracking_uri, Path(folder))
            metadata = mlflow.models.Model.load(downloaded.folder).metadata or {}
            recorded = () if downloaded.recording is None else read_recording(downloaded.recording)
            estimator = mlflow.sklearn.load_model(str(downloaded.folder))
    except MlflowException as error:
        if error.error_code in _NO_ANSWER:
            raise RegistryUnavailableError(f"MLflow does not answer for {uri} ({error.error_code})") from error
        raise ModelUnusableError(f"{uri}: {error.message}") from error
    print(f"loaded {uri} (run {downloaded.run_id}) in {time.monotonic() - began:.1f} s", flush=True)
    names = tuple(metadata.get("class_names", ()))
    return Model(downloaded.name, downloaded.version, downloaded.run_id, estimator, names, recorded)


def download_model(uri: str, tracking_uri: str, folder: Path) -> Downloaded:
    """Download a model's files, and its run's recording, into a folder.

    Args:
        uri: `models:/<name>/<version>` or `runs:/<run>/<path>`.
        tracking_uri: MLflow's address.
        folder: where the files go.

    Raises:
        ModelUnusableError: the URI has neither form.
        MlflowException: MLflow has no such model, or did not answer.
    """
    import mlflow

    client: Any = mlflow.MlflowClient(tracking_uri, tracking_uri)
    scheme, _, rest = uri.partition(":/")
    name, _, version = rest.partition("/")
    where = uri
    if scheme == "models" and version.isdigit():
        run_id = client.get_model_version(name, version).run_id
        # Downloading `models:/` would ask the registry of this process, whatever addresses are passed.
        where = client.get_model_version_download_uri(name, version)
    elif scheme == "runs" and version:
        run_id, name, version = name, "unregistered", "none"
    else:
        raise ModelUnusableError(f"MODEL_URI: expected models:/<name>/<version> or runs:/<run>/<path>, found {uri!r}")
    path = mlflow.artifacts.download_artifacts(
        where, dst_path=str(folder), tracking_uri=tracking_uri, registry_uri=tracking_uri
    )
    return Downloaded(name, version, run_id, Path(path), _recording(run_id, folder, client))


def _recording(run_id: str, folder: Path, client: Any) -> Path | None:
    directory = RECORDED_REQUESTS.rpartition("/")[0]
    if RECORDED_REQUESTS not in {artifact.path for artifact in client.list_artifacts(run_id, directory)}:
        return None
    return Path(client.download_artifacts(run_id, RECORDED_REQUESTS, str(folder)))

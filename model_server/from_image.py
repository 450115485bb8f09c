"""A model inside an image, served without MLflow and without a network."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from model_server.from_mlflow import Downloaded
from model_server.model import Model, ModelUnusableError, read_recording

_DESCRIPTION = "model.json"
_RECORDING = "recorded_requests.json"


def write_model(downloaded: Downloaded, folder: Path) -> None:
    """Write a downloaded model into a new folder for `read_model`: MLflow's own files, the recording and a description.

    Raises:
        ModelUnusableError: it is not a scikit-learn model saved by skops.
    """
    import mlflow

    logged: Any = mlflow.models.Model.load(downloaded.folder)
    flavor = logged.flavors.get("sklearn", {})
    if flavor.get("serialization_format") != "skops":
        raise ModelUnusableError(
            f"run {downloaded.run_id}: expected a scikit-learn model saved by skops, found {flavor}"
        )
    description = {
        "name": downloaded.name,
        "version": downloaded.version,
        "run_id": downloaded.run_id,
        "class_names": list((logged.metadata or {}).get("class_names", ())),
        "file": flavor["pickled_model"],
        "trusted_types": flavor.get("skops_trusted_types") or [],
    }
    folder.mkdir()
    for name in ("MLmodel", flavor["pickled_model"]):
        shutil.copyfile(downloaded.folder / name, folder / name)
    if downloaded.recording is not None:
        shutil.copyfile(downloaded.recording, folder / _RECORDING)
    (folder / _DESCRIPTION).write_text(json.dumps(description, indent=2, sort_keys=True), encoding="utf-8")


def read_model(folder: Path) -> Model:
    """Read the model that `write_model` put into a folder.

    Raises:
        ModelUnusableError: the folder holds no model that can be served.
    """
    from skops.io import load  # type: ignore[import-untyped]

    began = time.monotonic()
    try:
        known = json.loads((folder / _DESCRIPTION).read_bytes())
        recording = folder / _RECORDING
        recorded = read_recording(recording) if recording.exists() else ()
        estimator = load(folder / known["file"], trusted=known["trusted_types"])
    except (OSError, ValueError, KeyError) as error:
        raise ModelUnusableError(f"{folder}: {type(error).__name__}: {error}") from error
    print(f"loaded {folder} (run {known['run_id']}) in {time.monotonic() - began:.1f} s", flush=True)
    names = tuple(known["class_names"])
    return Model(known["name"], known["version"], known["run_id"], estimator, names, recorded)

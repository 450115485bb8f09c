"""`python -m model_server.storage_initializer ADDRESS FOLDER`: fetch a model before its server starts.

KServe runs it as the init container of an InferenceService whose `storageUri` is an address of MLflow, where a
ClusterStorageContainer names it for the prefix `models:/`. The server then serves `MODEL_DIR`, which is FOLDER/model.
"""

import os
import sys
import tempfile
from pathlib import Path

from model_server.from_image import write_model
from model_server.from_mlflow import download_model
from model_server.model import ModelUnusableError


def main(address: str, folder: Path, tracking_uri: str) -> int:
    """Write the model at an address into FOLDER/model; return the process's exit code."""
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as downloads:
        try:
            write_model(download_model(address, tracking_uri, Path(downloads)), folder / "model")
        except (ModelUnusableError, MlflowException) as error:
            print(f"{address}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), os.environ["MLFLOW_TRACKING_URI"]))

"""`python -m testbeds.training`: train the testbeds' models and publish them; a file gets one JSON line per model."""

import argparse
import os
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

from testbeds.training.models import FAMILIES, split_data, train
from testbeds.training.publish import Push, log_model, publish


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m testbeds.training", description=__doc__)
    parser.add_argument("--mlflow-uri", required=True)
    parser.add_argument(
        "--registry-url", required=True, help="address of the OCI registry, such as http://127.0.0.1:5000"
    )
    parser.add_argument(
        "--images",
        choices=("notes", "layered"),
        default="notes",
        help="notes: images with only a note, for the sandbox; layered: with server, libraries and model, for clusters",
    )
    parser.add_argument(
        "--baseline",
        action="append",
        required=True,
        metavar="MODEL=REPOSITORY:TAG",
        help="the image in a model's manifest, without the registry; its versions go into the same repository",
    )
    parser.add_argument("--wait", type=float, default=240.0, help="seconds to wait for MLflow to answer")
    parser.add_argument("--results", type=Path, required=True, help="file that gets one line per model")
    options = parser.parse_args()
    # Otherwise MLflow's clients print addresses of pages and progress bars.
    os.environ.update(MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true", MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false")

    # Fitting takes as long as MLflow takes to start, so both happen at the same time.
    splits = [split_data(family) for family in FAMILIES]
    trained = [(train(spec, split), split) for split in splits for spec in split.family.specs]
    trained.sort(key=lambda pair: pair[0].spec.registered)  # baselines first, because pods wait for their images
    import mlflow.sklearn

    _wait_for_mlflow(options.mlflow_uri, options.wait)
    mlflow.set_tracking_uri(options.mlflow_uri)
    baselines = dict(baseline.split("=", 1) for baseline in options.baseline)
    make_push = _push_layered if options.images == "layered" else _push_notes
    for model, split in trained:
        repository, _, baseline = baselines[split.family.model].rpartition(":")
        logged = log_model(model, split)
        done = publish(model, logged, make_push(options, repository), tag=None if model.spec.registered else baseline)
        with options.results.open("a", encoding="utf-8") as results:
            results.write(f"{done.as_json()}\n")


def _push_notes(options: argparse.Namespace, repository: str) -> Push:
    from testbeds.sandbox.images import publish_image

    return lambda model_uri, tag, faults: publish_image(
        options.registry_url, repository, tag, {"MODEL_URI": model_uri, **faults}
    )


def _push_layered(options: argparse.Namespace, repository: str) -> Push:
    from testbeds.homelab.images import publish_model

    return lambda model_uri, tag, faults: publish_model(
        options.mlflow_uri, options.registry_url, model_uri, tag, faults, repository=repository
    )


def _wait_for_mlflow(uri: str, seconds: float) -> None:
    """Wait until MLflow accepts the account in the environment, which may be created after this process has started.

    Raises:
        SystemExit: MLflow did not answer in time.
    """
    url = f"{uri}/api/2.0/mlflow/experiments/search?max_results=1"
    login = ":".join(os.environ.get(f"MLFLOW_TRACKING_{part}", "") for part in ("USERNAME", "PASSWORD"))
    asked = urllib.request.Request(url, headers={"Authorization": f"Basic {b64encode(login.encode()).decode()}"})
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(asked, timeout=5).close()
            return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"MLflow: expected an answer at {url} within {seconds:g} s, found {error}") from error
            time.sleep(0.2)


if __name__ == "__main__":
    main()

"""The command that trains the testbeds' models and publishes them; each testbed says what its images are made of."""

import argparse
import os
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from testbeds.training.models import FAMILIES, split_data, train
from testbeds.training.publish import Push, log_model, publish

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Destination:
    """Where the images of a model go, and where their models come from."""

    mlflow_url: str
    registry_url: str
    repository: str
    """The image's name in the registry."""


def train_and_publish(program: str, make_push: Callable[[Destination], Push]) -> None:
    """Run the command: train all models, log them to MLflow and push their images.

    Args:
        program: the module that is run, for the help text.
        make_push: makes the function that pushes a model's images to a destination.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=__doc__)
    parser.add_argument("--mlflow-uri", required=True)
    parser.add_argument("--registry-url", required=True, help="OCI registry, such as http://127.0.0.1:5000")
    parser.add_argument(
        "--baseline",
        action="append",
        required=True,
        metavar="MODEL=REPOSITORY:TAG",
        help="the image that a model's manifest names, without the registry; its versions go to the same repository",
    )
    parser.add_argument("--wait", type=float, default=240.0, help="seconds to wait for MLflow to answer")
    parser.add_argument("--results", type=Path, required=True, help="file that gets one JSON line per model")
    options = parser.parse_args()
    # MLflow's clients would print addresses of pages and progress bars in between.
    os.environ.update(MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true", MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false")

    # Fitting takes as long as MLflow's start, so both go on at the same time.
    splits = [split_data(family) for family in FAMILIES]
    trained = [(train(spec, split), split) for split in splits for spec in split.family.specs]
    trained.sort(key=lambda pair: pair[0].spec.registered)  # the baselines first: pods ask for their images
    import mlflow.sklearn

    _wait_for_mlflow(options.mlflow_uri, options.wait)
    mlflow.set_tracking_uri(options.mlflow_uri)
    baselines = dict(pair.split("=", 1) for pair in options.baseline)
    for model, split in trained:
        repository, _, baseline_tag = baselines[split.family.model].rpartition(":")
        push = make_push(Destination(options.mlflow_uri, options.registry_url, repository))
        published = publish(model, log_model(model, split), push, tag=None if model.spec.registered else baseline_tag)
        with options.results.open("a", encoding="utf-8") as results:
            results.write(f"{published.as_json()}\n")


def _wait_for_mlflow(uri: str, seconds: float) -> None:
    """Wait until MLflow answers to the environment's account, which may be made after this process has started."""
    url = f"{uri}/api/2.0/mlflow/experiments/search?max_results=1"
    login = ":".join(os.environ.get(f"MLFLOW_TRACKING_{part}", "") for part in ("USERNAME", "PASSWORD"))
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {b64encode(login.encode()).decode()}"})
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"MLflow: expected an answer at {url} within {seconds:g} s, found {error}") from error
            time.sleep(_POLL_SECONDS)

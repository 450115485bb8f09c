"""Publishing a trained model: run, model, recording and version in MLflow, and an image in the OCI registry."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from testbeds.training.models import Split, TrainedModel

RECORDED_REQUESTS = "incumbent/recorded_requests.json"
Push = Callable[[str, str, Mapping[str, str]], str]
"""Pushes an image of a model: its `MODEL_URI`, a tag, and the faults that it gets; returns the image's digest."""
# Without these, MLflow finds the requirements by loading the model in a new process, which takes 15 s.
_REQUIREMENTS = ["mlflow-skinny", "scikit-learn", "skops"]
# skops loads only trusted types; a RandomForestClassifier needs these beyond skops's own list.
_TRUSTED_TYPES = ["sklearn.tree._tree.Tree", "numpy.dtype"]


@dataclass(frozen=True)
class Logged:
    """A model in MLflow: its run, and its version when it is registered."""

    model: str
    name: str
    run_id: str
    version: int | None
    model_uri: str
    """The value of `MODEL_URI` in its image."""


@dataclass(frozen=True)
class Published:
    """A logged model with its image."""

    model: str
    """The registered model whose version it is, or would be if it were registered."""
    name: str
    run_id: str
    version: int | None
    image_tag: str
    image_digest: str | None
    """None when the image was left unpublished on purpose."""
    metrics: dict[str, float]

    def as_json(self) -> str:
        """Write it as a line of the results."""
        return json.dumps(asdict(self))


def log_model(trained: TrainedModel, split: Split) -> Logged:
    """Log one run with parameters, metrics, dataset, signed model and recording; register it unless it is a baseline.

    MLflow's tracking URI must be set. The dataset is the test data; its digest is equal for all models, and so their
    metrics can be compared.
    """
    import mlflow
    from mlflow.data.numpy_dataset import from_numpy

    spec, family = trained.spec, split.family
    mlflow.set_experiment(family.experiment)
    with mlflow.start_run(run_name=spec.name) as run:
        mlflow.log_params(spec.parameters)
        dataset = from_numpy(split.test_features, targets=split.test_labels, name=f"{family.data}-test")
        mlflow.log_input(dataset, context="test")
        logged = mlflow.sklearn.log_model(
            trained.estimator,
            name="model",
            signature=mlflow.models.infer_signature(
                split.test_features, trained.estimator.predict(split.test_features)
            ),
            pip_requirements=_REQUIREMENTS,
            skops_trusted_types=_TRUSTED_TYPES,
            metadata={"class_names": list(split.class_names)},
        )
        mlflow.log_metrics(trained.metrics)
        mlflow.log_dict(trained.recording, RECORDED_REQUESTS)
    run_id = run.info.run_id
    if not spec.registered:
        return Logged(family.model, spec.name, run_id, None, f"runs:/{run_id}/model")
    version = mlflow.register_model(logged.model_uri, family.model).version
    return Logged(family.model, spec.name, run_id, int(version), f"models:/{family.model}/{version}")


def publish(trained: TrainedModel, logged: Logged, push: Push, *, tag: str | None = None) -> Published:
    """Push the model's image, and write `image_tag` and `image_digest` on its version.

    A build would take the commit id of the model's source as the tag. Here the tag is made from the image's environment
    unless it is given, so that it is stable.
    """
    faults = trained.spec.environment
    environment = {"MODEL_URI": logged.model_uri, **faults}
    image_tag = tag or hashlib.sha1(json.dumps(environment, sort_keys=True).encode()).hexdigest()
    digest = push(logged.model_uri, image_tag, faults) if trained.spec.published else None
    if logged.version is not None:
        tags = {"image_tag": image_tag, **({"image_digest": digest} if digest else {})}
        _write_tags(logged.model, logged.version, tags)
    return Published(logged.model, logged.name, logged.run_id, logged.version, image_tag, digest, trained.metrics)


def _write_tags(model: str, version: int, tags: dict[str, str]) -> None:
    import mlflow

    client: Any = mlflow.MlflowClient()
    for key, value in tags.items():
        client.set_model_version_tag(model, str(version), key, value)

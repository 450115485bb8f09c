"""The testbeds' models: what each model is for, and the forests themselves.

All models of a family are measured on one stratified split, so that their accuracies can be compared. On the
unstratified splits of the usual examples nearly every forest reaches 1.0, which leaves nothing to improve.
"""

from dataclasses import dataclass, field
from typing import Any

_SPLIT_SEED = 7
_TEST_SHARE = 0.3
_RANDOM_STATE = 42
RECORDED = 10
"""Requests that are recorded with each model."""


@dataclass(frozen=True)
class ModelSpec:
    """One model to train: its forest's size, and the faults that its image gets."""

    name: str
    """`baseline`, or the version's name in the story."""
    n_estimators: int
    max_depth: int
    registered: bool = True
    published: bool = True
    """Whether its image is pushed; without an image, a version is refused when its time is over."""
    environment: dict[str, str] = field(default_factory=dict)
    """More environment variables of its image."""

    @property
    def parameters(self) -> dict[str, int]:
        return {"n_estimators": self.n_estimators, "max_depth": self.max_depth, "random_state": _RANDOM_STATE}


@dataclass(frozen=True)
class Family:
    """A registered model, its data, and the versions that are trained."""

    model: str
    experiment: str
    data: str
    """scikit-learn's name of the data: `load_<data>`."""
    specs: tuple[ModelSpec, ...]
    """The first is the baseline: it serves from the beginning, and is not registered."""


# Small forests suffice, and answer quickly: of 100 trees, each request takes 10 ms of a processor.
_STORY = (
    # It serves from the beginning, and is not registered.
    ModelSpec("baseline", n_estimators=3, max_depth=1, registered=False),
    ModelSpec("version 1", n_estimators=3, max_depth=2),
    ModelSpec("version 2", n_estimators=5, max_depth=10),  # truly better than version 1 on the same test data
    # As good on paper, but its image is slow and fails every fifth request that was not recorded.
    ModelSpec(
        "version 3",
        n_estimators=7,
        max_depth=10,
        environment={"FAULT_FAIL_EVERY": "5", "FAULT_DELAY_SECONDS": "1.2"},
    ),
    ModelSpec("version 4", n_estimators=5, max_depth=1),  # above the threshold, worse than version 2
    ModelSpec("version 5", n_estimators=8, max_depth=10, published=False),
    ModelSpec("version 6", n_estimators=100, max_depth=10),  # left for a promotion by hand
)
IRIS = Family("iris-classifier", "iris-classification", "iris", _STORY)
WINE = Family(
    "wine-quality",
    "wine-classification",
    "wine",
    (
        ModelSpec("baseline", n_estimators=3, max_depth=1, registered=False),
        ModelSpec("version 1", n_estimators=10, max_depth=2),
        ModelSpec("version 2", n_estimators=8, max_depth=10),  # better than version 1 on the same test data
    ),
)
FAMILIES = (IRIS, WINE)


@dataclass(frozen=True)
class TrainedModel:
    """A fitted forest with its metrics on the test data."""

    spec: ModelSpec
    estimator: Any
    metrics: dict[str, float]
    recording: dict[str, Any]
    """The content of `incumbent/recorded_requests.json`."""


@dataclass(frozen=True)
class Split:
    """A family's data, split the same way each time."""

    family: Family
    class_names: tuple[str, ...]
    train_features: Any
    test_features: Any
    train_labels: Any
    test_labels: Any


def split_data(family: Family) -> Split:
    """Load a family's data and split it."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    loaded = getattr(datasets, f"load_{family.data}")()
    labels = loaded.target
    parts = train_test_split(loaded.data, labels, test_size=_TEST_SHARE, random_state=_SPLIT_SEED, stratify=labels)
    return Split(family, tuple(map(str, loaded.target_names)), *parts)


def train(spec: ModelSpec, split: Split) -> TrainedModel:
    """Fit one model, and measure it on the test data."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    estimator = RandomForestClassifier(**spec.parameters)
    estimator.fit(split.train_features, split.train_labels)
    predicted = estimator.predict(split.test_features)
    precision, recall, f1_score, _ = precision_recall_fscore_support(
        split.test_labels, predicted, average="macro", zero_division=0
    )
    metrics = {
        "accuracy": float(accuracy_score(split.test_labels, predicted)),
        "precision": float(precision),
        "recall": float(recall),
        "f1_score": float(f1_score),
    }
    requests = [
        {
            "request": {"features": [float(value) for value in row]},
            "response": {"prediction": int(label), "class_name": split.class_names[int(label)]},
            "tolerance": 1e-6,
        }
        for row, label in zip(split.test_features[:RECORDED], predicted[:RECORDED], strict=True)
    ]
    return TrainedModel(spec, estimator, metrics, {"version": 1, "requests": requests})

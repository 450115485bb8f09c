"""The model inside the images that do not use MLflow: a linear classifier, from the weights that training exported."""

import json
from collections.abc import Sequence
from pathlib import Path

_WEIGHTS = Path("weights.json")


def load() -> list[list[float]]:
    """Read a row of weights for each class; each row's last value is the intercept."""
    return list(json.loads(_WEIGHTS.read_text(encoding="utf-8")))


def classify(weights: list[list[float]], row: Sequence[float]) -> int:
    """Return the class of one flower."""
    scores = [sum(w * x for w, x in zip(of_class, (*row, 1.0), strict=True)) for of_class in weights]
    return scores.index(max(scores))

"""How good the served model is: its answers to labelled rows, measured as in training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestration.promotion.json_paths import PathPattern, format_pattern, values_at
from orchestration.promotion.problems import InvalidInputError, Problem

_ACCURACY, _WEIGHTED = "accuracy_score", {"average": "weighted", "zero_division": 0}
_SCORES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "accuracy": (_ACCURACY, {}),
    "accuracy_score": (_ACCURACY, {}),
    "f1": ("f1_score", _WEIGHTED),
    "f1_score": ("f1_score", _WEIGHTED),
    "precision": ("precision_score", _WEIGHTED),
    "precision_score": ("precision_score", _WEIGHTED),
    "recall": ("recall_score", _WEIGHTED),
    "recall_score": ("recall_score", _WEIGHTED),
    "mae": ("mean_absolute_error", {}),
    "mean_absolute_error": ("mean_absolute_error", {}),
    "mse": ("mean_squared_error", {}),
    "mean_squared_error": ("mean_squared_error", {}),
    "rmse": ("root_mean_squared_error", {}),
    "root_mean_squared_error": ("root_mean_squared_error", {}),
    "r2": ("r2_score", {}),
    "r2_score": ("r2_score", {}),
}
_ERRORS = {"mean_absolute_error", "mean_squared_error", "root_mean_squared_error"}
KEPT = 0.95
"""The part of the training metric that a served champion keeps, or an alert fires."""
METRICS = tuple(_SCORES)
"""The metrics that can be measured of the served model: scikit-learn's, by the names that MLflow gives them.

Those of several classes are weighted by the classes' frequency, as MLflow's autologging has them.
"""
_CLASSES = {_ACCURACY, "f1_score", "precision_score", "recall_score"}


@dataclass(frozen=True)
class ServedQuality:
    """What one evaluation of the served champion found."""

    policy: str
    model: str
    version: int
    metric: str
    value: float
    baseline: float
    """The same metric of the training run."""
    rows: int
    rows_digest: str
    newest_label: float | None = None
    """When the newest row was labelled, in seconds since the epoch; None when the table has no times."""
    compared_inputs: int = 0
    """How many inputs were compared with the training sample."""
    drifted_inputs: tuple[str, ...] = ()
    """Those that differ significantly from it."""
    not_compared: str = ""
    """Why no input was compared; empty when some were."""
    at: float = 0.0
    """When it was measured, in seconds since the epoch."""

    @property
    def part_of_baseline(self) -> float | None:
        """How good it still is as a part of the training metric, below 1 when it is worse.

        Errors, of which less is better, are turned over: twice the error is 0.5, and any error is 0 of none. None for
        another baseline of 0 or less, of which nothing can be a part.
        """
        if is_error(self.metric):
            return self.baseline / self.value if self.value > 0 else 1.0
        return self.value / self.baseline if self.baseline > 0 else None

    @property
    def keeps_baseline(self) -> bool:
        """Whether it is good enough: `KEPT` of the baseline, or the baseline itself where that has no parts."""
        part = self.part_of_baseline
        return self.value >= self.baseline if part is None else part >= KEPT


def is_error(metric: str) -> bool:
    """Whether less of a metric is better; a name that is none of `METRICS` is taken for one of which more is."""
    return _SCORES.get(metric, ("", {}))[0] in _ERRORS


def prediction_of(answer: Any, places: Sequence[PathPattern]) -> Any:
    """Return the one prediction in an answer to a request of one row.

    Args:
        answer: The answer's JSON.
        places: Where predictions may be; the first place that is there counts.

    Raises:
        ValueError: there is none, or not one number, text or truth value.
    """
    for place in places:
        for value in values_at(answer, place):
            while isinstance(value, list) and len(value) == 1:
                value = value[0]
            if isinstance(value, bool | int | float | str):
                if not _is_usable(value):
                    raise ValueError(f"expected a finite number at {format_pattern(place)}, found {value!r:.40}")
                return value
            raise ValueError(f"expected one prediction at {format_pattern(place)}, found {type(value).__name__}")
    raise ValueError(f"expected a prediction at {' or '.join(map(format_pattern, places))}, found none")


def score(metric: str, labels: Sequence[Any], predictions: Sequence[Any]) -> float:
    """Measure predictions by their labels, with scikit-learn.

    Args:
        metric: One of `METRICS`.
        labels: What each prediction should have been.
        predictions: As many predictions.

    Raises:
        InvalidInputError: labels and predictions are not of one kind, such as names of classes and their numbers, or
            too large to be measured.
    """
    import numpy
    from sklearn import metrics

    if unusable := [value for value in labels if not _is_usable(value)]:
        raise _unmeasurable(metric, "labels that are finite", f"a label such as {unusable[0]!r:.40}")
    name, options = _SCORES[metric]
    kinds = {_kind(value) for value in (*labels, *predictions)}
    if len(kinds) > 1 or (name not in _CLASSES and kinds != {"number"}):
        shown = f"labels such as {labels[0]!r} and predictions such as {predictions[0]!r}"
        expected = (
            "labels and predictions of one kind" if name in _CLASSES else "labels and predictions that are numbers"
        )
        raise _unmeasurable(metric, expected, shown)
    # Classes are compared as texts: a JSON number may come back as 1 or as 1.0.
    by_kind = _class_name if name in _CLASSES else float
    with numpy.errstate(over="ignore"):  # found below
        found = float(getattr(metrics, name)([*map(by_kind, labels)], [*map(by_kind, predictions)], **options))
    if not math.isfinite(found):
        raise _unmeasurable(metric, "labels and predictions whose metric is a number", f"{found:g}")
    return found


def _unmeasurable(metric: str, expected: str, found: str) -> InvalidInputError:
    next_step = "Say where the answer has the prediction (evaluation.prediction in the policy), or name another label."
    return InvalidInputError(Problem(f"metric {metric} of the labelled rows", expected, found, next_step))


def _is_usable(value: Any) -> bool:
    """Whether a label or a prediction is a text, or a number that can be computed with."""
    try:
        return isinstance(value, str) or math.isfinite(float(value))
    except (OverflowError, TypeError, ValueError):  # an integer of hundreds of digits; a list
        return False


def _kind(value: Any) -> str:
    return "text" if isinstance(value, str) else "number"


def _class_name(value: Any) -> str:
    return value if isinstance(value, str) else f"{float(value):g}"

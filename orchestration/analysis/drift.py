"""A drift alert: a model's quality now, below its baseline."""

import math
from dataclasses import dataclass

from orchestration.analysis.alert import read_label


@dataclass(frozen=True)
class Drift:
    """What fired, by its labels and annotations."""

    model: str
    current: float | None
    """The metric now; None when the alert has no finite number."""
    baseline: float | None

    @property
    def is_confirmed(self) -> bool:
        """Whether its own numbers say that the model is worse than its baseline."""
        return self.current is not None and self.baseline is not None and self.current < self.baseline

    def __str__(self) -> str:
        """The two numbers in words."""
        return f"accuracy {_shown(self.current)} now, baseline {_shown(self.baseline)}"


def drift_of(model: str, current: str, baseline: str) -> Drift:
    """Return the drift of these texts."""
    return Drift(read_label(model), _number(current), _number(baseline))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _shown(number: float | None) -> str:
    return "not stated" if number is None else f"{number:g}"

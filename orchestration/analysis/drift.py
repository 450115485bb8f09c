"""A drift alert: a model's quality now, compared with its baseline."""

import math
import re
from dataclasses import dataclass

from orchestration.analysis.alert import read_label
from orchestration.promotion.served_quality import is_error


@dataclass(frozen=True)
class Drift:
    """What fired, by its labels and annotations."""

    model: str
    current: float | None
    """The metric now; None when the alert has no finite number."""
    baseline: float | None
    policy: str = ""
    """The one policy that it is about; empty for all policies of the model."""
    version: int | None = None
    """The version that was measured; None when the alert does not say which."""

    def is_confirmed(self, metric: str) -> bool:
        """Whether its own numbers say that the model is worse than its baseline; of errors, more is worse."""
        if self.current is None or self.baseline is None:
            return False
        return self.current > self.baseline if is_error(metric) else self.current < self.baseline

    def said(self, metric: str) -> str:
        """Return the two numbers of a metric in words."""
        return f"{metric} {_shown(self.current)} now, baseline {_shown(self.baseline)}"


def drift_of(model: str, current: str, baseline: str, policy: str = "", version: str = "") -> Drift:
    """Return the drift of these texts."""
    number = int(version) if re.fullmatch(r"[0-9]{1,18}", version) else None
    return Drift(read_label(model), _number(current), _number(baseline), read_label(policy), number)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _shown(number: float | None) -> str:
    return "not stated" if number is None else f"{number:g}"

"""Whether a model is asked about something else than it was trained on: one statistical test for each input."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SIGNIFICANT = 0.01
"""The chance, over all inputs of a model together, to call unchanged inputs drifted."""
FEWEST = 20
"""Values that each side needs; fewer prove nothing."""


@dataclass(frozen=True)
class FeatureDrift:
    """How one input of recent rows differs from that of the training sample."""

    name: str
    test: str
    """`ks` (two-sample Kolmogorov-Smirnov) for numbers, `chi2` (Pearson's, of a contingency table) for the rest."""
    statistic: float
    p_value: float
    drifted: bool
    """Whether the difference is significant, with the level divided by the number of inputs (Bonferroni)."""


def input_drift(
    columns: Sequence[str], recent: Sequence[Sequence[Any]], sample: Sequence[Sequence[Any]]
) -> tuple[FeatureDrift, ...]:
    """Compare recent inputs with a training sample, input by input.

    Args:
        columns: The inputs' names.
        recent: The recent values of each of them.
        sample: The values of each of them in the training sample.

    Returns:
        One result for each input that has enough values on both sides, by descending significance.
    """
    pairs = [(name, _present(now), _present(before)) for name, now, before in zip(columns, recent, sample, strict=True)]
    usable = [pair for pair in pairs if min(len(pair[1]), len(pair[2])) >= FEWEST]
    found = []
    for name, now, before in usable:
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (*now, *before))
        statistic, p_value = _ks(now, before) if numeric else _chi2(now, before)
        test = "ks" if numeric else "chi2"
        found.append(FeatureDrift(name, test, statistic, p_value, p_value < SIGNIFICANT / len(usable)))
    return tuple(sorted(found, key=lambda each: (each.p_value, each.name)))


def _present(values: Sequence[Any]) -> list[Any]:
    return [value for value in values if value is not None and value == value]  # NaN differs from itself


def _ks(now: list[float], before: list[float]) -> tuple[float, float]:
    from scipy.stats import ks_2samp

    result = ks_2samp(now, before)
    return float(result.statistic), float(result.pvalue)


def _chi2(now: list[Any], before: list[Any]) -> tuple[float, float]:
    from scipy.stats import chi2_contingency

    counts = [Counter(map(str, side)) for side in (now, before)]
    categories = sorted(counts[0] | counts[1])
    if len(categories) < 2:
        return 0.0, 1.0
    result = chi2_contingency([[side[name] for name in categories] for side in counts])
    return float(result.statistic), float(result.pvalue)

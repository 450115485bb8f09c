"""Whether two answers of a model are the same: what may differ, by how much, and what is not compared at all."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from orchestration.promotion.json_paths import Path, PathPattern, below, format_path

RELATIVE = 1e-5
ABSOLUTE = 1e-6
"""By how much a recorded number may differ unless something else is said.

A model that computes in 32 bits (epsilon 1.2e-7, IEEE 754) gives other last digits on a CPU that sums in another order.
Around 80 epsilons of the number itself, as `numpy.allclose` allows, and around 8 for what cancels out near zero, which
is less than the 1e-5 of `torch.testing.assert_close`.
"""
_SHOWN = 120
"""How many characters of a wrong answer a reason repeats, since it goes into tags and tables."""

Margin = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]


class Tolerance(BaseModel):
    """By how much numbers may differ, as `math.isclose` counts it.

    `relative` is a share of the larger number; it is not allowed between two integers, which are classes, counts or
    ids. `absolute` is in the number's own unit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    relative: Margin = RELATIVE
    absolute: Margin = ABSOLUTE

    def __str__(self) -> str:
        parts = [f"{self.relative:g} of its value"] * (self.relative > 0) + [f"{self.absolute:g}"] * (self.absolute > 0)
        return " or ".join(parts)

    @property
    def is_exact(self) -> bool:
        """Whether nothing may differ."""
        return not self.relative and not self.absolute


@dataclass(frozen=True)
class Rules:
    """How the answers below one place are compared."""

    tolerance: Tolerance
    fields: tuple[tuple[PathPattern, Tolerance], ...] = ()
    """Other tolerances, by where they apply; the last one that names a place counts there."""
    ignore: tuple[PathPattern, ...] = ()
    """Where nothing is compared."""

    @property
    def ignored(self) -> bool:
        """Whether this very place is not compared."""
        return () in self.ignore

    def at(self, step: str | int) -> "Rules":
        """The rules for one member of the object, or one element of the list, that is here."""
        if not self.fields and not self.ignore:
            return self
        reached = [(rest, own) for pattern, own in self.fields for rest in below([pattern], step)]
        tolerance = next((own for rest, own in reversed(reached) if not rest), self.tolerance)
        return Rules(tolerance, tuple(each for each in reached if each[0]), below(self.ignore, step))


def difference(expected: object, actual: object, rules: Rules, path: Path = ()) -> str | None:
    """Why an answer is not the expected one; None when it has everything that is expected.

    An object may have more members than expected. A list must have the same length. A bool is not a number, and NaN
    equals NaN.
    """
    if rules.ignored:
        return None
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key, value in expected.items():
            inner, there = rules.at(key), (*path, key)
            if inner.ignored:
                continue
            if key not in actual:
                return f"expected a field {_named(there)}, found none"
            reason = difference(value, actual[key], inner, there)
            if reason:
                return reason
        return None
    if isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return f"expected {_named(path)} with {len(expected)} elements, found {len(actual)}"
        reasons = (
            difference(*pair, rules.at(index), (*path, index))
            for index, pair in enumerate(zip(expected, actual, strict=True))
        )
        return next((reason for reason in reasons if reason), None)
    if is_same(expected, actual, rules.tolerance):
        return None
    may_differ = isinstance(expected, float) and not rules.tolerance.is_exact
    margin = f" within {rules.tolerance}" if may_differ else ""
    return f"expected {_named(path)} {shown(expected)}{margin}, found {shown(actual)}"


def varying(answers: Sequence[Any], rules: Rules, path: Path = ()) -> list[Path]:
    """Find where answers to one request differ from the first of them; a list of which all elements do is one place."""
    first = answers[0]
    if rules.ignored:
        return []
    if all(isinstance(answer, dict) for answer in answers):
        found: list[Path] = []
        for key in dict.fromkeys(key for answer in answers for key in answer):
            there = (*path, key)
            if all(key in answer for answer in answers):
                found += varying([answer[key] for answer in answers], rules.at(key), there)
            elif not rules.at(key).ignored:
                found.append(there)
        return found
    if all(isinstance(answer, list) and len(answer) == len(first) for answer in answers) and first:
        found = [
            place
            for index in range(len(first))
            for place in varying([answer[index] for answer in answers], rules.at(index), (*path, index))
        ]
        return [path] if set(found) == {(*path, index) for index in range(len(first))} else found
    return [] if all(difference(first, answer, rules) is None for answer in answers) else [path]


def is_number(value: object) -> bool:
    """Whether a JSON value is a number; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_same(expected: Any, actual: Any, tolerance: Tolerance) -> bool:
    """Whether two values without anything below them are the same; numbers are counted in decimal: 0.8 - 0.7 is 0.1."""
    if not is_number(expected) or not is_number(actual):
        return type(expected) is type(actual) and bool(expected == actual)
    if expected == actual:
        return True
    left, right = Decimal(str(expected)), Decimal(str(actual))
    if left.is_nan() or right.is_nan():
        return left.is_nan() and right.is_nan()
    if not left.is_finite() or not right.is_finite():
        return False
    relative = 0.0 if isinstance(expected, int) and isinstance(actual, int) else tolerance.relative
    margin = max(Decimal(str(relative)) * max(abs(left), abs(right)), Decimal(str(tolerance.absolute)))
    return abs(left - right) <= margin


def shown(value: object) -> str:
    """The beginning of an answer or of a part of it, as a reason repeats it."""
    text = value[: 4 * _SHOWN].decode("utf-8", "replace") if isinstance(value, bytes) else json.dumps(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _named(path: Path) -> str:
    return format_path(path, "response")

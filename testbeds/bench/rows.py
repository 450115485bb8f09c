"""What a benchmark measured: rows against a control, and curves over something that grows."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Against = Literal["nothing", "more than the control", "times the control"]


@dataclass(frozen=True)
class Goal:
    """The most that a row's median may be."""

    at_most: float
    against: Against = "nothing"
    """What is compared: the median itself, its difference from the control's, or its ratio to the control's."""


@dataclass(frozen=True)
class Row:
    """The samples of one measurement, with those of its control from the same minutes."""

    name: str
    unit: str
    samples: tuple[float, ...]
    goal: Goal
    load: float
    """The machine's load average over a minute, when the row was complete."""
    control: str = ""
    controls: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.samples or (self.goal.against != "nothing" and not self.controls):
            raise ValueError(f"{self.name}: nothing was measured")

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def reached(self) -> float:
        """What the goal is compared with."""
        if self.goal.against == "more than the control":
            return self.median - statistics.median(self.controls)
        if self.goal.against == "times the control":
            return self.median / statistics.median(self.controls)
        return self.median

    @property
    def holds(self) -> bool:
        """Whether the goal is reached."""
        return self.reached <= self.goal.at_most

    def as_json(self) -> dict[str, Any]:
        """Return the row with all samples, as the results keep it."""
        return {
            "name": self.name,
            "unit": self.unit,
            "n": len(self.samples),
            "median": self.median,
            "p95": p95(self.samples),
            "samples": list(self.samples),
            "control": self.control,
            "controls": list(self.controls),
            "goal": {"at_most": self.goal.at_most, "against": self.goal.against},
            "reached": self.reached,
            "holds": self.holds,
            "load": self.load,
        }


@dataclass(frozen=True)
class Curve:
    """How long one thing takes while something else grows; it should not grow along."""

    name: str
    what: str
    """What grows, with its unit: the label of the axis."""
    points: tuple[tuple[float, tuple[float, ...]], ...]
    """The sizes in rising order, each with its samples in seconds."""
    limit: float = 0.0
    """The most that the largest may take, in seconds; 0 where only the growth counts."""

    @property
    def growth(self) -> float:
        """The median at the largest size in medians of the smallest; 1 is flat."""
        return statistics.median(self.points[-1][1]) / statistics.median(self.points[0][1])

    def as_json(self) -> dict[str, Any]:
        """Return the curve with all samples, as the results keep it."""
        points = [
            {"size": size, "median": statistics.median(samples), "p95": p95(samples), "samples": list(samples)}
            for size, samples in self.points
        ]
        return {"name": self.name, "what": self.what, "limit": self.limit, "growth": self.growth, "points": points}


def p95(samples: Sequence[float]) -> float:
    """Return the smallest sample that 95 % of them do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]


def row_lines(rows: Sequence[Row]) -> list[str]:
    """Return the rows as lines of text under a header."""
    cells = [("what", "n", "median", "p95", "control", "reached", "goal", "", "load")]
    for row in rows:
        control = f"{statistics.median(row.controls):.3g} {row.unit}" if row.controls else ""
        unit = "times" if row.goal.against == "times the control" else row.unit
        against = {"more than the control": " more", "times the control": ""}.get(row.goal.against, "")
        cells.append(
            (
                row.name,
                str(len(row.samples)),
                f"{row.median:.3g} {row.unit}",
                f"{p95(row.samples):.3g} {row.unit}",
                control,
                f"{row.reached:.3g} {unit}{against}",
                f"<= {row.goal.at_most:g}",
                "holds" if row.holds else "missed",
                f"{row.load:.1f}",
            )
        )
    return _aligned(cells)


def curve_lines(curves: Sequence[Curve]) -> list[str]:
    """Return the curves as lines of text under a header, a line for each size."""
    cells = [("what", "size", "median", "p95", "times the smallest")]
    for curve in curves:
        smallest = statistics.median(curve.points[0][1])
        for size, samples in curve.points:
            middle = statistics.median(samples)
            name = f"{curve.name} ({curve.what})"
            cells.append((name, f"{size:g}", f"{middle:.3f} s", f"{p95(samples):.3f} s", f"{middle / smallest:.2f}"))
    return _aligned(cells)


def _aligned(cells: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]

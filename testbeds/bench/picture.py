"""The curves as one SVG for the documentation."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from testbeds.bench.rows import Curve, p95


def draw(curves: Sequence[Curve], file: Path) -> None:
    """Draw each curve into a panel of its own: medians as a line, and the range up to the 95th percentile."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Text stays text, and the same curves make the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "incumbent", "font.family": "sans-serif"}):
        figure = Figure(figsize=(4.2 * len(curves), 3.2), layout="constrained")
        panels = figure.subplots(1, len(curves), squeeze=False)[0]
        for panel, curve in zip(panels, curves, strict=True):
            sizes = [size for size, _ in curve.points]
            medians = [statistics.median(samples) for _, samples in curve.points]
            worst = [p95(samples) for _, samples in curve.points]
            panel.plot(sizes, medians, marker="o", color="#2f6fab")
            panel.fill_between(sizes, medians, worst, color="#2f6fab", alpha=0.15, linewidth=0)
            panel.set(xscale="log", xlabel=curve.what, ylabel=f"{curve.name}, in seconds", title=curve.name)
            panel.set_ylim(bottom=0)
            panel.grid(alpha=0.3)
        figure.savefig(file, format="svg", metadata={"Date": None})

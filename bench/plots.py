"""The plots of docs/benchmarks.md, as small SVG files. The same results give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bench.figures import BY_NAME
from bench.results import Results, Series

STYLE: Any = {
    "svg.hashsalt": "kernelsecret",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
}
OURS, OTHER, GOAL = "#1f6feb", "#8b949e", "#cf222e"
LEAST = 0.001
"""Share of a goal that is still drawn on a logarithmic axis."""


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot, drawn where all its series are there."""

    name: str
    title: str
    needs: tuple[str, ...]
    draw: Callable[[Axes, Mapping[str, Series], Results], None]


def _shares(axes: Axes, _series: Mapping[str, Series], results: Results) -> None:
    names, shares = [], []
    for figure in reversed(results.figures):
        share = BY_NAME[figure.name].share_of_goal(figure.value)
        if share is not None:
            names.append(figure.name)
            shares.append(max(share, LEAST) * 100)
    axes.barh(names, shares, color=[OURS if share <= 100 else GOAL for share in shares])
    axes.axvline(100, color=GOAL, linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("percent of what the goal allows")
    axes.grid(axis="y", visible=False)


def _percentiles(axes: Axes, lines: Sequence[tuple[Series, str, str]], goals: Sequence[tuple[float, str]]) -> None:
    for series, label, colour in lines:
        axes.plot(series.y, series.x, color=colour, label=label)
    for limit, label in goals:
        axes.axvline(limit, color=GOAL, linewidth=1, linestyle=":", label=label)
    axes.set_xscale("log")
    axes.set_xlabel("ms")
    axes.set_ylabel("percent")
    axes.legend(frameon=False)


def _rotation(axes: Axes, series: Mapping[str, Series], _results: Results) -> None:
    lines = [(series["rotation_1_ms"], "1 volume", OURS), (series["rotation_250_ms"], "last of 250 volumes", OTHER)]
    _percentiles(axes, lines, [(20, "goal p50"), (100, "goal p99")])


def _visible(axes: Axes, series: Mapping[str, Series], _results: Results) -> None:
    _percentiles(axes, [(series["visible_of_1000_ms"], "pods", OURS)], [(100, "goal for the last")])


def _reads(axes: Axes, series: Mapping[str, Series], _results: Results) -> None:
    for name, label, colour in (("read_served_us", "from BPF maps", OURS), ("read_tmpfs_us", "tmpfs", OTHER)):
        axes.plot(series[name].x, series[name].y, marker="o", color=colour, label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("KB")
    axes.set_ylabel("us: open, read to the end, close")
    axes.legend(frameon=False)


def _memory(axes: Axes, series: Mapping[str, Series], _results: Results) -> None:
    line = series["kernel_kb"]
    axes.plot(line.x, [kb / 1024 for kb in line.y], marker=".", color=OURS, label="measured")
    axes.plot(line.x, [pods * 64 / 1024 for pods in line.x], color=GOAL, linestyle=":", label="goal")
    axes.set_xlabel("pods with four files of 1 KB")
    axes.set_ylabel("MB of kernel memory added")
    axes.legend(frameon=False)


def _half_load(axes: Axes, series: Mapping[str, Series], _results: Results) -> None:
    _percentiles(axes, [(series["webhook_half_load_ms"], "reviews of 20 KB", OURS)], [(5, "goal p99")])


PLOTS = (
    Plot("goals", "How much of what its goal allows each figure takes", (), _shares),
    Plot(
        "rotation",
        "From the source's change to a reader's first new byte",
        ("rotation_1_ms", "rotation_250_ms"),
        _rotation,
    ),
    Plot("visible", "When 1,000 pods show a value that they share", ("visible_of_1000_ms",), _visible),
    Plot("reads", "Reading a file", ("read_served_us", "read_tmpfs_us"), _reads),
    Plot("memory", "Kernel memory by pods", ("kernel_kb",), _memory),
    Plot("webhook", "Reviews at half of what one core can answer", ("webhook_half_load_ms",), _half_load),
)


def draw(results: Results, series: Mapping[str, Series], folder: Path) -> list[str]:
    """Draw what there is data for; the names of those drawn."""
    drawn = []
    for plot in PLOTS:
        if not all(name in series for name in plot.needs):
            continue
        with mpl.rc_context(STYLE):
            canvas = Canvas(figsize=(6.4, 3.2), layout="constrained")
            axes = canvas.add_subplot()
            plot.draw(axes, series, results)
            axes.set_title(plot.title, fontsize=10)
            canvas.savefig(folder / f"{plot.name}.svg", metadata={"Date": None})
        drawn.append(plot.name)
    return drawn

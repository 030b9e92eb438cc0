"""The plot of `benchmarks.speed.scaling`: time and memory of each step against passages, on log axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

PANELS = (("seconds", 1.0, "seconds"), ("peak_anonymous_bytes", 1e-6, "highest anonymous memory, MB"))
LABEL_DISTANCE = 0.036
"""Between the labels of two lines, as a share of the panel's height."""


def draw(content: dict, path: Path) -> None:
    """Write the plot of a benchmark's results."""
    figure, panels = plt.subplots(1, len(PANELS), figsize=(15, 8), layout="constrained")
    colours = plt.get_cmap("tab10").colors
    for axes, (name, unit, what) in zip(panels, PANELS, strict=True):
        ends = []
        for number, entry in enumerate(content["steps"].values()):
            runs = sorted(entry["runs"].values(), key=lambda run: run["passages"])
            points = [(run["passages"], run[name] * unit) for run in runs if run[name] > 0]
            if points:
                colour, style = colours[number % len(colours)], "-" if number < len(colours) else "--"
                axes.plot(*zip(*points, strict=True), style, marker="o", markersize=3, color=colour)
                ends.append((*points[-1], entry["what"], colour))
        axes.set(xscale="log", yscale="log", xlabel="passages", title=what)
        axes.grid(True, which="major", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        _guide(axes)
        _label(axes, ends)
    figure.suptitle(
        f"Every step of the chain against the size of the corpus ({content['machine']}; real passages up to "
        f"{content['real_passages']:,}, synthetic beyond)"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _guide(axes: Axes) -> None:
    """A dotted line of slope 1, from the lower left corner."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    end = min(right, left * high / low)
    axes.plot([left, end], [low, low * end / left], ":", color="0.6", zorder=0)
    above = "bottom" if end == right else "top"
    axes.annotate("slope 1 ", (end, low * end / left), color="0.5", fontsize=8, ha="right", va=above)
    axes.set(xlim=(left, right), ylim=(low, high))


def _label(axes: Axes, ends: Sequence[tuple[float, float, str, tuple[float, ...]]]) -> None:
    """Name each line to the right of its end, labels moved apart where lines end close together."""
    ordered = sorted(ends, key=lambda end: end[1])
    low, high = np.log(axes.get_ylim())
    wanted = np.array([(np.log(y) - low) / (high - low) for _, y, _, _ in ordered])
    places = _apart(wanted, LABEL_DISTANCE)
    for (x, y, what, colour), place in zip(ordered, places, strict=True):
        axes.annotate(
            what,
            (x, y),
            xytext=(1.04, place),
            textcoords="axes fraction",
            color=colour,
            va="center",
            fontsize=9,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2},
        )


def _apart(places: np.ndarray, distance: float) -> np.ndarray:
    """Ascending places moved as little as a few sweeps find, until neighbours are `distance` apart."""
    places = places.copy()
    for _ in range(500):
        gaps = np.diff(places)
        short = np.maximum(distance - gaps, 0) / 2
        if not (short > 1e-4).any():
            break
        places[:-1] -= short
        places[1:] += short
    return places

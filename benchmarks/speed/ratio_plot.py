"""Ratios of speeds, drawn: one line each, with its interval and its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple


class RatioLine(NamedTuple):
    """How many times faster ours was than a peer (`median`, `low`, `high`), and how many times it was to be."""

    label: str
    ratio: Mapping[str, float]
    target: float | None
    colour: str


def draw_ratios(panel: Any, lines: Sequence[RatioLine], what: str) -> None:
    """Medians, intervals and targets; `what` is measured, the peer's stands below ours."""
    for y, line in enumerate(lines):
        panel.plot([line.ratio["low"], line.ratio["high"]], [y, y], color=line.colour, linewidth=1.5)
        panel.plot(line.ratio["median"], y, "o", color=line.colour, markersize=6)
        if line.target is not None:
            panel.plot(line.target, y, "|", color="black", markersize=10)
    panel.set_yticks(range(len(lines)), [line.label for line in lines], fontsize=8)
    panel.invert_yaxis()
    panel.axvline(1, color="grey", linewidth=0.8)
    panel.set_xlim(left=0)
    panel.set_xlabel(f"{what}, corpusmith's / the peer's (median, 95% interval; bars mark the targets)", fontsize=9)
    panel.grid(axis="x", color="#dddddd", linewidth=0.6)
    panel.spines[["top", "right", "left"]].set_visible(False)


def can_draw(path: Path) -> bool:
    """Whether the results in `path` can be drawn here; says so where they cannot."""
    if find_spec("matplotlib") is None:
        print(f"matplotlib is not installed: {path.with_suffix('.png')} is not drawn")
        return False
    return True

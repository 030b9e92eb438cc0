"""The results of the comparison of training, drawn: losses over real tokens, case by case, and ratios of speeds.

python -m benchmarks.speed.pretrain_plot benchmarks/results/pretrain.json
"""

from __future__ import annotations

import json
import sys
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks.speed.ratio_plot import RatioLine, can_draw, draw_ratios

COLOURS = ("#0b6e4f", "#c44536", "#3d5a98")
"""Ours, then the peers in their order."""

COLUMNS = 4


def draw(path: Path) -> None:
    """Draw the results in `path` into a PNG of the same name; without matplotlib, say so."""
    if not can_draw(path):
        return
    from matplotlib.figure import Figure

    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    rows = ceil(len(cases) / COLUMNS)
    ratios = sum(len(case["systems"]) - 1 for case in cases.values())
    height = 2.6 * rows + 0.6 + 0.27 * ratios
    figure = Figure(figsize=(13, height), layout="constrained", dpi=120)
    upper, lower = figure.subfigures(2, 1, height_ratios=(2.6 * rows, 0.6 + 0.27 * ratios))
    panels = list(upper.subplots(rows, COLUMNS, squeeze=False).flat)
    for panel, (name, case) in zip(panels, cases.items(), strict=False):
        draw_curves(panel, name, case)
    for panel in panels[len(cases) :]:
        panel.set_visible(False)
    draw_ratios(lower.subplots(), ratio_lines(cases), "real tokens a second")
    figure.savefig(path.with_suffix(".png"))


def draw_curves(panel: Any, name: str, case: dict[str, Any]) -> None:
    """The loss of each step of every system over the real tokens it had seen."""
    for colour, (system, entry) in zip(COLOURS, case["systems"].items(), strict=False):
        if "curve" in entry:
            thousands = [tokens / 1000 for tokens in entry["curve"]["tokens"]]
            panel.plot(thousands, entry["curve"]["loss"], color=colour, linewidth=1.2, label=system)
    panel.set_title(name, fontsize=10)
    panel.set_xlabel("thousand real tokens", fontsize=8)
    panel.set_ylabel("training loss", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.legend(fontsize=7, frameon=False)
    panel.spines[["top", "right"]].set_visible(False)


def ratio_lines(cases: dict[str, Any]) -> list[RatioLine]:
    """One line for each case and peer."""
    return [
        RatioLine(
            f"{name}: {system}",
            entry["ours_is_faster_by"],
            case["targets"].get(system, {}).get("at_least"),
            colour,
        )
        for name, case in cases.items()
        for colour, (system, entry) in zip(COLOURS, case["systems"].items(), strict=False)
        if "ours_is_faster_by" in entry
    ]


if __name__ == "__main__":
    draw(Path(sys.argv[1]))

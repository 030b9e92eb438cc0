"""The results of the comparison of encoding, drawn: ratios of speeds over fidelity, mix by mix.

python -m benchmarks.speed.encode_plot benchmarks/results/encode.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.speed.ratio_plot import RatioLine, can_draw, draw_ratios

COLOURS = {"sentences": "#0b6e4f", "abstracts": "#3d5a98"}


def draw(path: Path) -> None:
    """Draw the results in `path` into a PNG of the same name; without matplotlib, say so."""
    if not can_draw(path):
        return
    from matplotlib.figure import Figure

    lines = []
    for mix, entry in json.loads(path.read_text(encoding="utf-8"))["mixes"].items():
        targets = {target["peer"]: target["at_least"] for target in entry["targets"].values()}
        for name, system in entry["systems"].items():
            if "ours_is_faster_by" in system:
                label = f"{mix}: {name} (cosine {system['cosine']['mean']:.4f})"
                lines.append(RatioLine(label, system["ours_is_faster_by"], targets.get(name), COLOURS[mix]))
    figure = Figure(figsize=(11, 1 + 0.32 * len(lines)), layout="constrained", dpi=120)
    draw_ratios(figure.subplots(), lines, "texts a second")
    figure.savefig(path.with_suffix(".png"))


if __name__ == "__main__":
    draw(Path(sys.argv[1]))

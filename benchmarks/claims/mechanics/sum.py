"""A sum at work: what each of its terms promises holds, where there is a check for it."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import numpy as np

from corpusmith.model.encoder import Encoder
from corpusmith.objective.sum import Sum


def check(objective: Sum, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """The figures of every term's own check, named after the term, and the weight that each loss has."""
    figures: dict[str, float | bool] = {"holds": True}
    for kind, weight, term in zip(objective.kinds, objective.weights, objective.members, strict=True):
        figures[f"{kind}.weight"] = weight
        name = f"benchmarks.claims.mechanics.{kind}"
        if find_spec(name) is not None:
            found = import_module(name).check(term, encoder, rng)
            figures |= {f"{kind}.{figure}": value for figure, value in found.items()}
            figures["holds"] = bool(figures["holds"]) and bool(found["holds"])
    return figures

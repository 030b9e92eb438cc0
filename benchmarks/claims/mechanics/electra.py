"""Replaced tokens are found: F1 far above what calling every token replaced, or every one original, would give."""

from __future__ import annotations

import numpy as np
import torch
from benchmarks.claims.mechanics.vectors import sample

from corpusmith.model.encoder import Encoder
from corpusmith.objective.electra import Electra


@torch.no_grad()
def check(objective: Electra, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """`f1` of the replaced tokens of a sample (always-original has 0), `f1_always_replaced`, `accuracy`, and
    `accuracy_always_original`; it holds where F1 is half as much again as that of
    always-replaced and accuracy beats always-original."""
    examples = sample(len(objective.rows), rng)
    inputs = objective.collate(examples, rng).inputs
    states = objective.generator(encoder, inputs.generator.masked.packed.to(next(encoder.parameters()).device))
    changed = objective.generator.fill_in(encoder, states, inputs.generator)
    logits, replaced = objective.detect(encoder, changed, inputs)
    found = logits > 0
    share = float(replaced.float().mean())
    f1 = 2 * float((found & replaced).sum()) / max(1.0, float(found.sum() + replaced.sum()))
    always = 2 * share / (1 + share)
    accuracy = float((found == replaced).float().mean())
    return {
        "f1": f1,
        "f1_always_replaced": always,
        "accuracy": accuracy,
        "accuracy_always_original": 1 - share,
        "holds": f1 > 1.5 * always and accuracy > 1 - share,
    }

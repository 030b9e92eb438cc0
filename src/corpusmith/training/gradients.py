"""From batches to a loss and gradients, however they are cut into micro-batches.

A batch's loss is a mean over units (masked tokens, pairs). Cut into parts, each part's mean is weighed by its units,
so the sum of gradients divided by all units is the gradient of the whole batch: neither the loss nor the update
depends on how much memory there was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from corpusmith.model.encoder import Encoder
from corpusmith.objective.base import Batch, Objective


@dataclass(frozen=True, slots=True)
class BatchLoss:
    """`loss` and `parts`, means over `weight` units; `tokens` and `flops` (forward and backward) they cost."""

    loss: float
    parts: dict[str, float]
    weight: float
    tokens: int
    flops: float


def accumulate(encoder: Encoder, objective: Objective, batches: Iterable[Batch], *, backward: bool = True) -> BatchLoss:
    """The loss over all `batches`; with `backward`, gradients summed over units are added to the parameters'."""
    loss = weight = flops = 0.0
    parts: dict[str, float] = {}
    tokens = 0
    for batch in batches:
        found = objective.loss(encoder, batch)
        if backward:
            (found.total * found.weight).backward()
        loss += float(found.total.detach()) * found.weight
        for name, value in found.parts.items():
            parts[name] = parts.get(name, 0.0) + value * found.weight
        weight += found.weight
        tokens += batch.tokens
        flops += objective.flops(encoder, batch)
    units = weight or 1.0
    return BatchLoss(loss / units, {name: value / units for name, value in parts.items()}, weight, tokens, flops)

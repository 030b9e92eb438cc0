"""How well models inside the model do what the inner objective of a nested one asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.model.nested import EncoderView, SharedRun
from corpusmith.model.packed import PackedBatch
from corpusmith.objective.base import Batch
from corpusmith.objective.composite import Nested, Size

EXAMPLES = 64


class TrailingView(EncoderView):
    """A view that keeps the last dimensions instead of the first."""

    def __call__(self, packed: PackedBatch) -> torch.Tensor:
        """States `[T, D]`, zero before the last `dimension`s."""
        states = self.run.states(self._calls, packed, self.layers).clone()
        self._calls += 1
        states[:, : states.shape[1] - self.dimension] = 0
        return states


def sample(objective: Nested, rng: np.random.Generator) -> Batch:
    """A batch of the inner objective."""
    number = len(objective.lengths())
    return objective.inner.collate(rng.choice(number, min(number, EXAMPLES), replace=False), rng)


@torch.no_grad()
def loss_at(
    objective: Nested, encoder: Encoder, batch: Batch, size: Size, view: type[EncoderView] = EncoderView
) -> float:
    """The inner objective's loss at this size; at 0 dimensions that of a model that says nothing."""
    made = view(SharedRun(encoder, [size[0]]), *size)
    return float(objective.inner.loss(cast("Encoder", made), batch).total)


def kept(objective: Nested, encoder: Encoder, batch: Batch, sizes: Sequence[Size]) -> list[float]:
    """For each size, how much of what the whole model gains over saying nothing it gains too; 1 is as much."""
    blind, whole = (loss_at(objective, encoder, batch, (objective.layers, d)) for d in (0, objective.width))
    return [(blind - loss_at(objective, encoder, batch, size)) / max(blind - whole, 1e-9) for size in sizes]

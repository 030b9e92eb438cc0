"""Matryoshka: the leading dimensions of every vector are a good vector themselves.

Another objective's loss L, contrastive learning for instance, is asked of the vectors cut to each of several widths:

    L_M = sum_{d in D} c_d L( v[:d] ),        v[:d] pooled, cut, then normalised where the checkpoint's vectors are

| input                                  | what it is                                   |
|----------------------------------------|----------------------------------------------|
| whatever the inner objective needs     | passages, pairs or links of `TrainingData`   |

Shapes: states `[T, D]`, computed once; each loss reads them with zeros behind dimension d (`model/nested.py`).
What is dropped after training is what the inner objective drops. `search.dimension` uses the cut vectors.

Where we depart from the paper or it is silent:
- The paper names the widths 8, 16, ... of one model; unless told otherwise we take the whole width and the four powers
  of two below it, with weights of 1 as there.
- It cuts one vector an example. Around `retromae` or `masked_language` all token states are cut alike, so that the
  masked-language head names hidden words from the leading dimensions too (as Starbucks' pretraining does).
- A batch that the inner objective would encode in pieces, and again in the backward pass, is encoded in one piece.

Example:
    >>> objective = build_objective(MatryoshkaConfig(objective=ContrastiveConfig()), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=5), folder, seed=0)

Relations: `matryoshka_2d` and `starbucks` cut layers as well.

Citation: Kusupati, Bhatt, Rege, Wallingford, Sinha, Ramanujan, Howard-Snyder, Chen, Kakade, Jain, Farhadi (2022),
"Matryoshka Representation Learning", NeurIPS, section 3, equation 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from corpusmith.model.encoder import Encoder
from corpusmith.objective.base import Batch, Loss
from corpusmith.objective.composite import Nested, widths_below
from corpusmith.objective.config import MatryoshkaConfig
from corpusmith.objective.data import TrainingData

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint

HALVINGS = 4
"""Widths below the whole one, where the options name none."""


class Matryoshka(Nested):
    """An objective asked of the leading dimensions; see the module's text."""

    def __init__(self, config: MatryoshkaConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(config.objective, data, checkpoint, seed)
        dimensions = config.dimensions or (self.width, *widths_below(self.width, HALVINGS))
        self.sizes = self.checked([(self.layers, dimension) for dimension in dimensions], "matryoshka.dimensions")
        self.weights = config.weights or (1.0,) * len(dimensions)
        self.asked = len(self.sizes)

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """The weighted sum over widths; the inner objective's own parts are those at the largest."""
        _, losses = self.losses(encoder, batch, self.sizes)
        total = torch.stack([weight * loss.total for weight, loss in zip(self.weights, losses, strict=True)]).sum()
        parts = {
            f"dimension_{dimension}": float(loss.total.detach())
            for (_, dimension), loss in zip(self.sizes, losses, strict=True)
        }
        widest = losses[self.sizes.index(max(self.sizes))]
        return Loss(total, widest.weight, parts | widest.parts)

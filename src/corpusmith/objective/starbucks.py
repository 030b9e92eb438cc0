"""Starbucks: a fixed list of models inside the model, from small to large, all trained at every step.

For pairs S of a number of layers l and of leading dimensions d, the last of them the whole model (N, D), another
objective's loss L is asked of each, and each is drawn to the whole model's ranking of the batch:

    L_S = sum_{(l, d) in S} L( v_l[:d] ) + alignment * sum_{(l, d) in S, not the last} KL( P_N || P_{l,d} )

    P_{l,d}(j | i) = softmax_j( v_l[:d](q_i) . v_l[:d](p_j) / t )

Around `contrastive` this is Starbucks representation learning, and P ranks all passages of the batch for each query.
Around `masked_language` or `retromae` it is the pretraining that goes before it, "SMAE": the hidden words are named,
and the passage rebuilt, from the leading d dimensions after l layers, with one head and one decoder for all sizes.

| input                                  | what it is                                   |
|----------------------------------------|----------------------------------------------|
| whatever the inner objective needs     | passages, pairs or links of `TrainingData`   |

Shapes: states `[T, D]` after each l, from one run (`model/nested.py`); P of B texts `[B, C]`.
What is dropped after training is what the inner objective drops. `search.layers` and `search.dimension` use a size.

Where we depart from the paper or it is silent:
- The paper's sizes are those of BERT-base, (2, 32), (4, 64), ... (12, 768). Unless told otherwise we spread up to six
  depths evenly, with powers of two below the whole width; for BERT-base that is the paper's list.
- Losses are added in pretraining too, where the authors take their mean: AdamW does not see the difference.
- In pretraining there is no alignment, as in the paper; where it is asked for, or the inner objective does not tell
  queries from passages, P ranks all other texts of the batch for each.
- The authors' pretraining decoder is given the vector through the head's first map; RetroMAE's decoder here is given
  the vector itself, with zeros behind dimension d.

Example:
    >>> pretraining = StarbucksConfig(objective=RetroMAEConfig())
    >>> objective = build_objective(StarbucksConfig(sizes=((2, 64), (4, 128), (6, 384))), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=5), folder, seed=0)

Relations: `matryoshka_2d` draws a size for each step instead; `matryoshka` cuts widths alone.

Citation: Zhuang, Wang, Zheng, Koopman, Zuccon (2024), "Starbucks: Improved Training for 2D Matryoshka Embeddings",
and the authors' published training code for what the losses are computed from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from corpusmith.errors import ModelError
from corpusmith.model.encoder import Encoder
from corpusmith.model.nested import SharedRun
from corpusmith.objective.base import Batch, Loss
from corpusmith.objective.composite import Nested, Size, divergence, widths_below
from corpusmith.objective.config import StarbucksConfig
from corpusmith.objective.data import TrainingData

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint

DEPTHS = 6
"""Sizes, where the options name none and the model has the layers for it."""


class Starbucks(Nested):
    """An objective asked of a fixed list of sizes; see the module's text."""

    def __init__(self, config: StarbucksConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(config.objective, data, checkpoint, seed)
        self.config = config
        self.sizes = self.checked(config.sizes or spread(self.layers, self.width), "starbucks.sizes")
        if self.sizes[-1] != (self.layers, self.width):
            raise ModelError(
                f"the last of starbucks.sizes is the whole model, [{self.layers}, {self.width}]; "
                f"given is {list(self.sizes[-1])}."
            )
        self.asked = len(self.sizes)
        self.divisible = self.inner.divisible and config.alignment_weight == 0  # texts are ranked among all of a batch

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """All sizes' losses and alignments, added; the inner objective's own parts are those of the whole model."""
        run, losses = self.losses(encoder, batch, self.sizes)
        total = torch.stack([loss.total for loss in losses]).sum()
        parts = {
            f"layers_{layers}_dimension_{dimension}": float(loss.total.detach())
            for (layers, dimension), loss in zip(self.sizes, losses, strict=True)
        }
        if self.config.alignment_weight > 0 and len(self.sizes) > 1:
            wanted = self.similarities(run, batch, self.sizes[-1])
            aligned = torch.stack(
                [divergence(self.similarities(run, batch, size), wanted) for size in self.sizes[:-1]]
            ).sum()
            parts["alignment"] = float(aligned.detach())
            total = total + self.config.alignment_weight * aligned
        return Loss(total, losses[-1].weight, parts | losses[-1].parts)

    def similarities(self, run: SharedRun, batch: Batch, size: Size) -> torch.Tensor:
        """Over the temperature, `[B, C]` of B queries to C passages; where the batch tells no queries from passages,
        `[B, B - 1]` of each text to the others."""
        layers, dimension = size
        vectors = run.vectors(layers, self.pooling)[:, :dimension]
        vectors = (F.normalize(vectors, dim=-1) if self.normalize else vectors) / self.config.alignment_temperature**0.5
        if batch.borders:
            return vectors[: batch.borders[0]] @ vectors[batch.borders[0] :].T
        others = ~torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
        return (vectors @ vectors.T)[others].reshape(len(vectors), len(vectors) - 1)


def spread(layers: int, width: int) -> list[Size]:
    """Up to six depths, evenly spread, each with a power of two below the width; the last is the whole model."""
    widths = [width, *widths_below(width, min(DEPTHS, layers) - 1)][::-1]
    depths = [round(layers * number / len(widths)) for number in range(1, len(widths) + 1)]
    return list(zip(depths, widths, strict=True))

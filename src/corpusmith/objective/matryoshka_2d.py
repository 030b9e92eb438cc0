"""Two-dimensional Matryoshka (2DMSE): lower layers, and the leading dimensions of their vectors, are good models too.

For each step a layer n below the last one, N, and a width d below the whole one, D, are drawn. Another objective's loss
L is asked of the four models that they make, and the lower layer's vectors are drawn to the last one's:

    L_2D = L(v_N) + L(v_N[:d]) + L(v_n) + L(v_n[:d]) + alignment * KL( softmax(v_N / t) || softmax(v_n / t) )

The divergence takes the coordinates of a vector, pooled and not normalised, as logits; it is a mean over the batch's
texts, and does not move v_N.

| input                                  | what it is                                   |
|----------------------------------------|----------------------------------------------|
| whatever the inner objective needs     | passages, pairs or links of `TrainingData`   |

Shapes: states `[T, D]` after n and after N layers, from one run (`model/nested.py`); vectors `[B, D]`.
What is dropped after training is what the inner objective drops. `search.layers` and `search.dimension` use the rest.

Where we depart from the paper or it is silent:
- n is drawn from 1 to N - 1 evenly, d from the list of widths; both from what the batch is seeded with, so that all
  parts of one batch, and all evaluations on examples held out, have the same.
- The four losses weigh the same. t is 0.3, as in the implementation of sentence-transformers.
- Where norms stand first, the last norm is put behind layer n too, as in a model of n layers.

Example:
    >>> objective = build_objective(Matryoshka2dConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=5), folder, seed=0)

Relations: `matryoshka` cuts widths alone; `starbucks` takes a fixed list of sizes instead of drawn ones.

Citation: Li, Li, Li, Xie, Li (2024), "2D Matryoshka Sentence Embeddings", sections 3.2 to 3.4; the alignment's
temperature after Reimers, Gurevych and others, sentence-transformers, `AdaptiveLayerLoss`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from corpusmith.errors import ModelError
from corpusmith.model.encoder import Encoder
from corpusmith.objective.base import Batch, Loss
from corpusmith.objective.composite import Nested, beside, divergence, widths_below
from corpusmith.objective.config import Matryoshka2dConfig
from corpusmith.objective.data import TrainingData

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint

HALVINGS = 4
"""Widths below the whole one, where the options name none."""


@dataclass(frozen=True, slots=True)
class SizedInputs:
    """The inner objective's inputs, and the layer and the width that were drawn."""

    inner: Any
    layers: int
    dimension: int


class Matryoshka2d(Nested):
    """An objective asked of a drawn layer and width; see the module's text."""

    asked = 4

    def __init__(self, config: Matryoshka2dConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(config.objective, data, checkpoint, seed)
        self.config = config
        self.divisible = self.inner.divisible and config.alignment == 0  # a mean over texts, whatever the loss is over
        self.dimensions = list(config.dimensions or widths_below(self.width, HALVINGS))
        if self.layers < 2 or not 0 < max(self.dimensions, default=0) < self.width:
            raise ModelError(
                f"matryoshka_2d draws from the layers below the last and from widths below the whole; the model has "
                f"{self.layers} layers and {self.width} dimensions, asked for are {self.dimensions}."
            )

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """The inner objective's batch, with a layer and a width."""
        drawn = beside(rng, 0x2D)
        layers, dimension = int(drawn.integers(1, self.layers)), int(drawn.choice(self.dimensions))
        batch = self.inner.collate(examples, rng)
        return replace(batch, inputs=SizedInputs(batch.inputs, layers, dimension))

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """The four losses and the alignment, added; the inner objective's own parts are those of the whole model."""
        layers, dimension = batch.inputs.layers, batch.inputs.dimension
        sizes = [(self.layers, self.width), (self.layers, dimension), (layers, self.width), (layers, dimension)]
        run, losses = self.losses(encoder, _inner(batch), sizes)
        whole, narrow, shallow, small = (loss.total for loss in losses)
        names = ("whole", "narrow", "shallow", "shallow_and_narrow")
        parts = {name: float(loss.total.detach()) for name, loss in zip(names, losses, strict=True)}
        total = whole + narrow + shallow + small
        if self.config.alignment > 0:
            wanted, given = (run.vectors(number, self.pooling) for number in (self.layers, layers))
            aligned = divergence(given / self.config.alignment_temperature, wanted / self.config.alignment_temperature)
            parts["alignment"] = float(aligned.detach())
            total = total + self.config.alignment * aligned
        return Loss(total, losses[0].weight, parts | losses[0].parts)

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """As of any nested objective, four times asked."""
        return super().flops(encoder, _inner(batch))


def _inner(batch: Batch) -> Batch:
    """The batch as the inner objective collated it."""
    return replace(batch, inputs=batch.inputs.inner)

"""Two-stage pretraining of a grown model: first parts of it from below, then the whole.

For a first share of the steps, each step draws one of the sub-models

    M_l = the first l layers,      l = n, 2 n, ... and all layers,

with one masked-language head for all of them, and another objective's loss is asked of it. Only the n top layers of the
sub-model learn by it, and the head; what lies below runs forward without gradient. After that the whole model is
trained as ever:

    L = L_inner(M_l), layers below l - n fixed      in the first share of the steps
    L = L_inner(M)                                  from then on

A grown model's lower layers are good already, and its upper ones copies; the first stage costs a step a part of what
the whole would, and leaves upper layers that fit what comes from below.

| input                                  | what it is                                   |
|----------------------------------------|----------------------------------------------|
| whatever the inner objective needs     | passages, pairs or links of `TrainingData`   |

Shapes: states `[T, D]` after l layers (`model/nested.py`).
What is dropped after training is what the inner objective drops.

Where we depart from the paper or it is silent:
- The paper says which layers and which head are updated and not what becomes of the embeddings. They are trained with
  the smallest sub-model, which nothing lies below, and through the head, which shares them; in other steps they are
  fixed from below.
- Its stages are 5 of 40 epochs and the rest, with n = 3 of 12 layers; here an eighth of the steps, and a quarter of
  the layers, whatever they are.
- Where the number of layers is no multiple of n, the last sub-model is the whole, with fewer layers that learn.
- Sub-models are drawn evenly, from what the batch is seeded with, so that all parts of one batch have the same.
- Where norms stand first, the last norm is put behind layer l too, and learns with every sub-model.

Example:
    >>> objective = build_objective(SubstructuresConfig(), data, grown, seed=0)
    >>> train(grown.encoder, objective, TrainingConfig(), BudgetConfig(minutes=5), folder, seed=0)

Relations: `matryoshka_2d` and `starbucks` ask lower layers for the loss to the end, and let all below them learn.

Citation: Chen, Yin, Shang, Jiang, Qin, Wang, Wang, Chen, Liu, Liu (2022), "bert2BERT: Towards Reusable Pretrained
Language Models", ACL, section 3.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from corpusmith.errors import ModelError
from corpusmith.model.encoder import Encoder
from corpusmith.model.nested import SharedRun
from corpusmith.objective.base import Batch, Loss
from corpusmith.objective.composite import Nested, beside
from corpusmith.objective.config import SubstructuresConfig
from corpusmith.objective.data import TrainingData

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint

KEY = 0x5B
"""What sub-models are drawn by, beside the batch's own seed."""


@dataclass(frozen=True, slots=True)
class PartialInputs:
    """The inner objective's inputs, how many layers run, and how many of these are fixed."""

    inner: Any
    layers: int
    frozen: int


class Substructures(Nested):
    """An objective asked of parts of the model from below, then of the whole; see the module's text.

    Attributes:
        borders: numbers of layers: 0 and those of the sub-models, ascending; each one's layers above the one before it
            learn.

    Raises:
        ModelError: the model has no more layers than are to learn at a time.
    """

    def __init__(self, config: SubstructuresConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(config.objective, data, checkpoint, seed)
        top_layers = max(1, self.layers // 4) if config.top_layers is None else config.top_layers
        if top_layers >= self.layers:
            raise ModelError(
                f"{top_layers} layers are to learn at a time, and the model has {self.layers} in all, so there is no "
                "smaller part to train first; set substructures.top_layers to fewer, or train the model as it is."
            )
        self.first_share = config.first_share
        self.borders = [*range(0, self.layers, top_layers), self.layers]

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """The inner objective's batch, with the part of the model that it is for."""
        layers, frozen = self.layers, 0
        if self.progress < self.first_share:
            drawn = int(beside(rng, KEY).integers(1, len(self.borders)))
            layers, frozen = self.borders[drawn], self.borders[drawn - 1]
        batch = self.inner.collate(examples, rng)
        return replace(batch, inputs=PartialInputs(batch.inputs, layers, frozen))

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """The inner objective's of this part of the model."""
        layers, frozen = batch.inputs.layers, batch.inputs.frozen
        view = SharedRun(encoder, [layers], frozen).view(layers, self.width)
        loss = self.inner.loss(cast("Encoder", view), _inner(batch))
        return replace(loss, parts={"layers": float(layers)} | loss.parts)

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The part's: forward through all of its layers, backward through those that learn, and what the inner
        objective does beside it."""
        lengths, layers = batch.lengths.tolist(), batch.inputs.layers
        view = SharedRun(encoder, ()).view(layers, self.width)
        beside_it = self.inner.flops(cast("Encoder", view), _inner(batch))
        forward, fixed = encoder.flops(lengths, layers), encoder.flops(lengths, batch.inputs.frozen)
        return 3 * forward - 2 * fixed + beside_it


def _inner(batch: Batch) -> Batch:
    """The batch as the inner objective collated it."""
    return replace(batch, inputs=batch.inputs.inner)

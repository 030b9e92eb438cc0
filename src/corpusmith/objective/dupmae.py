"""DupMAE (RetroMAE v2): RetroMAE, and a second task for the tokens' states: together they name the passage's words.

To RetroMAE's two losses (see `retromae`) comes a third. The head gives every ordinary token's hidden state h_i logits
over the vocabulary; the passage takes the largest of each word's, and one softmax over these must give probability to
every distinct token of the passage, hidden or not:

    mu(x)[w] = max_i head(h_i)[w]                                          over x's ordinary tokens
    L        = L_RetroMAE - bag_weight/T' sum_x sum_{w in set(x)} log softmax( mu(x) )[w]

T' are all ordinary tokens of the batch.

| input           | shape   | what it is                               |
|-----------------|---------|------------------------------------------|
| `data.passages` | N texts | token shards                             |
| `data.rows`     | [n]     | those that may be trained on             |

Shapes: h `[T, D]` packed, mu `[B, V]`; of the logits `[T', V]` those of a few passages are held at a time.
The decoder is dropped after training; the head is kept where the checkpoint had one.

Where we depart from the paper or it is silent:
- The paper searches with two vectors laid end to end: the state at [CLS], reduced by a linear map, and the largest
  entries of mu. Only the first is kept here, as the checkpoint's own vector in its own size: an index holds one dense
  vector a passage, and exact words have an index of their own. The linear map, which the paper learns in fine-tuning,
  is left out with it.
- Where the vector is the mean of h, the third loss reaches it directly, since it shapes what is averaged; where it is
  the state at [CLS], only through the layers that both share.
- The paper adds the losses; so does `bag_weight` = 1. It does not say what the third is divided by: here by all
  ordinary tokens, as the second, so that parts of a batch add up to it. Special tokens take no part in mu, nor in the
  set.
- For the rest, what `retromae` says.

Example:
    >>> objective = build_objective(DupMAEConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: `bag_of_words` asks the same of the passage's vector, and has no decoder.

Citation: Liu, Xiao, Shao, Cao (2023), "RetroMAE-2: Duplex Masked Auto-Encoder For Pre-Training Retrieval-Oriented
Language Models", ACL, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import PackedBatch
from corpusmith.objective.bag_of_words import bag_of_words_loss, bags_of
from corpusmith.objective.base import Batch, Loss
from corpusmith.objective.config import DupMAEConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.masked_language import head_flops
from corpusmith.objective.retromae import RetroInputs, RetroMAE

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


class DupMAE(RetroMAE):
    """DupMAE pretraining; see the module's text."""

    def __init__(self, config: DupMAEConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(config, data, checkpoint, seed)
        self.bag_weight = config.bag_weight

    def loss_of(self, encoder: Encoder, hidden: torch.Tensor, packed: PackedBatch, inputs: RetroInputs) -> Loss:
        """RetroMAE's loss, and that of the words that the tokens' states name together."""
        loss = super().loss_of(encoder, hidden, packed, inputs)
        ids, lengths = inputs.original.ids.numpy(), inputs.original.lengths.numpy()
        bags = bags_of(ids, lengths, self.masking.is_ordinary)
        bag = bag_of_words_loss(encoder, self.head, hidden[inputs.places.to(hidden.device)], bags)
        parts = loss.parts | {"bag": float(bag.detach())}
        return Loss(loss.total + self.bag_weight * bag, loss.weight, parts)

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """RetroMAE's, and the head's on all ordinary tokens once more."""
        return super().flops(encoder, batch) + head_flops(encoder, len(batch.inputs.targets))

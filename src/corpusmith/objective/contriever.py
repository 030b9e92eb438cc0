"""Contriever: two random crops of a passage have near vectors, against the crops of thousands of other passages.

From each passage two runs of tokens are drawn independently of each other, of random place and length, and each token
of them is left out with a small probability. The encoder reads one, the momentum encoder the other; the momentum
encoder's vectors of earlier batches wait in a queue as negatives (`queue`):

    L = - 1/B sum_i log [ exp (v(x_i) . k(y_i) / temperature) / sum_{c in C_i} exp (v(x_i) . c / temperature) ]
    k <- momentum * k + (1 - momentum) * v         all weights of the momentum encoder, after every step

| input            | shape   | what it is                               |
|------------------|---------|------------------------------------------|
| `data.passages`  | N texts | token shards                             |
| `data.rows`      | [n]     | those that may be trained on             |
| `data.documents` | [N]     | each passage's document                  |

Shapes: x and y are B sequences each; v(x), k(y) `[B, D]`, the queue `[K, D]`. Momentum encoder and queue are dropped
after training.

Where we depart from the paper or it is silent:
- The other keys of the batch are negatives too, not the queue alone, and the queue begins empty: a run of minutes has
  ended before a queue of 131,072 is full.
- A smaller queue and a faster momentum encoder, for the same reason.
- Texts of the same document are no negatives, neither in the batch nor in the queue.
- v is whatever the checkpoint uses as its vector; the paper takes the mean, which it usually is.

Example:
    >>> objective = build_objective(ContrieverConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: with a queue of 1 and momentum 0 this is independent cropping against the batch alone, the worked example of
docs/objectives.md; LaPraDoR keeps its queue exact instead of nearly so.

Citation: Izacard, Caron, Hosseini, Riedel, Bojanowski, Joulin, Grave (2022), "Unsupervised Dense Information Retrieval
with Contrastive Learning", TMLR, section 3; He, Fan, Wu, Xie, Girshick (2020), "Momentum Contrast for Unsupervised
Visual Representation Learning", CVPR, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from corpusmith.model.encoder import Encoder
from corpusmith.objective.base import Batch, PassageObjective
from corpusmith.objective.config import ContrieverConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.queue import QueueObjective
from corpusmith.objective.spans import delete_tokens, draw_crop

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


class Contriever(QueueObjective, PassageObjective):
    """Independent cropping with momentum contrast; see the module's text."""

    config: ContrieverConfig

    def __init__(self, config: ContrieverConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(config, data, checkpoint)

    def lengths(self) -> np.ndarray:
        """`int64[N]` tokens of two crops of mean length."""
        config = self.config
        share = (config.shortest_crop + config.longest_crop) / 2 * (1 - config.deletion_rate)
        return 2 * self.clipped(np.ceil(self.data.passages.lengths[self.rows] * share).astype(np.int64))

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Draw two crops of each passage and delete tokens from them."""
        rows = self.rows[np.asarray(examples, dtype=np.int64)]
        first, second = ([self._crop(self.data.passages[row], rng) for row in rows] for _ in range(2))
        return self.sides_of(first, second, self.data.documents[rows])

    def _crop(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        crop = draw_crop(ids, self.config.shortest_crop, self.config.longest_crop, rng)
        return delete_tokens(crop, self.config.deletion_rate, rng)

    def after_step(self, encoder: Encoder) -> None:
        """The keys enter the queue, and the momentum encoder follows."""
        self.enqueue_latest()
        self.follow(encoder, self.config.momentum)

"""SimCSE: a passage read twice under different dropout is its own paraphrase.

Each passage x goes through the encoder twice, and dropout makes two vectors v and v' of it. They should be near each
other, and far from those of the other passages of the batch:

    s(x, y)  = v(x) . v'(y) / temperature
    L        = - 1/B sum_i log [ exp s(x_i, x_i) / sum_{x_j in C_i} exp s(x_i, x_j) ]

with C_i the passages of the batch without others of x_i's document and without copies of x_i (`info_nce`).

| input           | shape   | what it is                               |
|-----------------|---------|------------------------------------------|
| `data.passages` | N texts | token shards                             |
| `data.rows`     | [n]     | those that may be trained on             |

Shapes: the B passages lie twice in one packed batch of 2B sequences; v and v' are `[B, D]`. Nothing is dropped after
training: there are no parameters beside the encoder's.

Where we depart from the paper or it is silent:
- The texts are passages, which is what search encodes, and not single sentences.
- v is whatever the checkpoint uses as its vector, without the extra layer that the paper has in training.
- Other passages of the document are no negatives; the paper's sentences have no documents.
- Dropout stands behind the embeddings and the parts of each layer, not inside the attention's weights.

Held-out losses are computed without dropout: both readings are then the same, and the loss tells only how well
passages are told apart.

Example:
    >>> objective = build_objective(SimCSEConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=5), folder, seed=0)

Relations: Contriever takes two crops where this takes two readings; both need nothing but passages.

Citation: Gao, Yao, Chen (2021), "SimCSE: Simple Contrastive Learning of Sentence Embeddings", EMNLP, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from corpusmith.objective.base import Batch, PassageObjective
from corpusmith.objective.config import SimCSEConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.info_nce import InfoNCEObjective, excluded_candidates

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


class SimCSE(InfoNCEObjective, PassageObjective):
    """Unsupervised SimCSE; see the module's text."""

    def __init__(self, config: SimCSEConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        self.config = config
        self.dropout = config.dropout

    def lengths(self) -> np.ndarray:
        """`int64[N]` tokens of each passage, twice."""
        return 2 * super().lengths()

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Lay the passages twice end to end."""
        rows = self.rows[np.asarray(examples, dtype=np.int64)]
        passages = [self.data.passages[row] for row in rows]
        return self.batch_of(passages, passages, excluded_candidates(passages, self.data.documents[rows], len(rows)))

"""LaPraDoR's iterative contrastive learning: each side is trained in its turn, against exact vectors of the other.

Pairs are those of the inverse cloze task: a sentence, and the passage without it. For `turn` steps the encoder is
trained on the sentences, while the passages are encoded by a copy that does not change; so all their vectors that have
been computed in this turn are still exact, and serve as negatives (`queue`). Then the copy takes the encoder's weights,
the queue begins anew, and for as many steps the encoder is trained on the passages and the queue holds sentences:

    L = - 1/B sum_i log [ exp (v(x_i) . k(y_i) / temperature) / sum_{c in C_i} exp (v(x_i) . c / temperature) ]
    k <- v,  Q <- {}                                                                        after each turn

where (x, y) are (sentence, passage) in one turn and (passage, sentence) in the next.

| input            | shape   | what it is                               |
|------------------|---------|------------------------------------------|
| `data.passages`  | N texts | token shards                             |
| `data.rows`      | [n]     | those that may be trained on             |
| `data.documents` | [N]     | each passage's document                  |

Shapes: v(x), k(y) `[B, D]`, the queue `[K, D]`. The copy and the queue are dropped after training.

Where we depart from the paper or it is silent:
- The paper trains two encoders in turns; one model searches here, so the other side's encoder is a copy of the one
  encoder, as it was when the turn began.
- Pairs differ by the cut alone; the paper drops activations besides ("dropout as positive instance").
- Texts of the same document are no negatives.
- The paper's other half, the product of dense and lexical scores, is the fusion "product" of search.

Example:
    >>> objective = build_objective(LaPraDoRConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: `ict` with its ICT share alone is the same without turns and queue; Contriever's queue is only nearly exact,
but it lasts.

Citation: Xu, Guo, Duan, McAuley (2022), "LaPraDoR: Unsupervised Pretrained Dense Retriever for Zero-Shot Text
Retrieval", Findings of ACL (ICoL).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from corpusmith.errors import CorpusError
from corpusmith.model.encoder import Encoder
from corpusmith.objective.base import Batch
from corpusmith.objective.config import LaPraDoRConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.queue import QueueObjective
from corpusmith.objective.spans import SentenceSpans, headings

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


class LaPraDoR(QueueObjective):
    """Iterative contrastive learning on inverse cloze pairs; see the module's text.

    Raises:
        CorpusError: there is no passage with at least two tokens.
    """

    config: LaPraDoRConfig
    steps: torch.Tensor

    def __init__(self, config: LaPraDoRConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(config, data, checkpoint)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.rows = data.rows[data.passages.lengths[data.rows] >= 2]
        if len(self.rows) == 0:
            raise CorpusError("there is no passage of at least two tokens to train on; add documents.")
        self.headings = headings(data.passages, data.documents, self.rows)
        self.sentences = SentenceSpans(self.tokenizer, config.shortest_query, config.longest_query)
        rng = np.random.default_rng([seed, 0x1C7])
        self.query_tokens = self.sentences.mean_length(data.passages, self.rows, self.headings, rng)

    @property
    def swapped(self) -> bool:
        """Whether it is the passages' turn to be trained."""
        return int(self.steps) // self.config.turn % 2 == 1

    def lengths(self) -> np.ndarray:
        """`int64[N]` tokens of a sentence of mean length and of the passage without it."""
        passages = self.clipped(self.data.passages.lengths[self.rows])
        rest = np.maximum(passages - (1 - self.config.keep_rate) * self.query_tokens, 3)
        return np.ceil(rest + min(self.query_tokens + 2, self.max_tokens)).astype(np.int64)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Cut a sentence out of each passage."""
        numbers = np.asarray(examples, dtype=np.int64)
        rows, begins = self.rows[numbers], self.headings[numbers]
        pairs = [
            self.sentences.cut(self.data.passages[row], int(begin), self.config.keep_rate, rng)
            for row, begin in zip(rows, begins, strict=True)
        ]
        return self.sides_of([query for query, _ in pairs], [rest for _, rest in pairs], self.data.documents[rows])

    def after_step(self, encoder: Encoder) -> None:
        """The keys enter the queue; after the last step of a turn the sides change."""
        self.enqueue_latest()
        self.steps.add_(1)
        if int(self.steps) % self.config.turn == 0:
            self.follow(encoder, momentum=0.0)
            self.empty_queue()

"""Reranking: a cross-encoder learns to put a query's own passage first among those mined for it.

The encoder reads the query together with each passage of a list, the positive and K mined negatives, and a linear head
gives each pair a score; the list's softmax must find the positive:

    s(q, d) = u . h_0 + c,      h = encoder([CLS] q [SEP] d [SEP])
    L       = - 1/B sum_i log [ exp s(q_i, d_i) / ( exp s(q_i, d_i) + sum_k exp s(q_i, n_ik) ) ]

| input                | shape   | what it is                                              |
|----------------------|---------|---------------------------------------------------------|
| `pairs.queries`      | N texts | token shards                                            |
| `pairs.positives`    | N texts | token shards                                            |
| `pairs.negatives`    | [N, M]  | rows of `data.passages`, -1 where there are fewer       |
| `pairs.documents`    | [N]     | document of the positive, negative where unknown        |

Shapes: all pairs of a batch are one packed batch, each query's own list in a row; scores `[B + negatives]`. A list
serves its own query alone, so a batch may be cut. u and c are kept beside the model: `retrieval/rerank.py` searches
with them. Where the model has none from here but from PROP, these are gone on with.

Where we depart from the paper or it is silent:
- Negatives come from the ranking that mined the pairs (fused BM25 and dense), as many as there are; passages of the
  positive's own document are none. A query without any has nothing to learn and does not count.
- It is made for judged pairs. In pairs made from the corpus the query's words are taken out of the positive alone, and
  an encoder that reads both texts sees that at once.

Example:
    >>> objective = build_objective(RerankingConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: the contrastive objective asks the same of two vectors that know nothing of each other, against all passages
of the batch. The model is a cross-encoder afterwards: its vectors are not trained, search should not use them, and
what training watches says nothing of it (switch `training.keep_best` off).

Citation: Nogueira, Cho (2019), "Passage Re-ranking with BERT" (the model); Gao, Dai, Callan (2021), "Rethink Training
of BERT Rerankers in Multi-Stage Retrieval Pipeline", section 3 (the loss over a query's own mined list).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from corpusmith.errors import CorpusError
from corpusmith.model.cross_encoder import ScoreHead, join, joined_lengths
from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import PackedBatch, pack
from corpusmith.objective.base import Batch, Loss, Objective
from corpusmith.objective.config import RerankingConfig
from corpusmith.objective.data import PairSet, TrainingData, draw_negatives

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class RerankingInputs:
    """`packed`: the lists of all queries, the positive first; `listed`: bool `[B, 1 + K]`, what each list holds."""

    packed: PackedBatch
    listed: torch.Tensor


class Reranking(Objective):
    """Softmax over each query's list; see the module's text."""

    continues = ("prop",)
    sorted_by_length = False
    learning_rate = 2e-5
    batch_tokens = 16384

    def __init__(self, config: RerankingConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        if data.pairs is None or len(data.pairs) == 0 or not (data.pairs.negatives >= 0).any():
            raise CorpusError(
                "reranking needs pairs with mined negatives and the corpus yielded none; add documents with titles or "
                "several passages, set pairs.candidates above 0, or remove the reranking stage from the recipe."
            )
        self.config = config
        self.pairs: PairSet = data.pairs
        self.score = ScoreHead(checkpoint.encoder.config, torch.Generator().manual_seed(seed))

    def lengths(self) -> np.ndarray:
        """`int64[N]` tokens of a query's list, negatives at their mean length: which are drawn is not yet known."""
        pairs = self.pairs
        queries, available = pairs.queries.lengths, pairs.negatives >= 0
        passages = self.data.passages.lengths[np.where(available, pairs.negatives, 0)]
        joined = np.where(available, joined_lengths(queries[:, None], passages, self.max_tokens), 0)
        found = available.sum(axis=1)
        drawn = joined.sum(axis=1) * np.minimum(found, self.config.negatives) / np.maximum(found, 1)
        return joined_lengths(queries, pairs.positives.lengths, self.max_tokens) + np.ceil(drawn).astype(np.int64)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Draw negatives and join each query with its list."""
        pairs, numbers = self.pairs, np.asarray(examples, dtype=np.int64)
        rows = self._negatives(numbers)
        columns = draw_negatives(rows, self.config.negatives, rng)
        rows = np.where(columns >= 0, np.take_along_axis(rows, columns.clip(0), axis=1), -1)
        sequences = []
        for number, negatives in zip(numbers, rows, strict=True):
            passages = [pairs.positives[number], *(self.data.passages[row] for row in negatives if row >= 0)]
            query = pairs.queries[number]
            sequences += [join(query, passage, self.tokenizer, self.max_tokens) for passage in passages]
        listed = np.column_stack([np.ones(len(numbers), dtype=bool), rows >= 0])
        lengths = np.array([len(sequence) for sequence in sequences])
        return Batch(lengths, RerankingInputs(pack(sequences), torch.from_numpy(listed)))

    def _negatives(self, numbers: np.ndarray) -> np.ndarray:
        """`int64[B, M]` rows of the negatives of these pairs, -1 where there are fewer."""
        rows, documents = self.pairs.negatives[numbers], self.pairs.documents[numbers][:, None]
        is_own = (self.data.documents[rows.clip(0)] == documents) & (documents >= 0)
        return np.where(is_own, -1, rows)

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """Mean cross-entropy of finding the positive in its list."""
        inputs: RerankingInputs = batch.inputs
        packed = inputs.packed.to(next(encoder.parameters()).device)
        scores = self.score(encoder(packed), packed)
        listed = inputs.listed.to(scores.device)
        lists = torch.full(listed.shape, -torch.inf, device=scores.device).masked_scatter(listed, scores)
        lists = lists[listed.sum(dim=1) > 1]
        if len(lists) == 0:
            return Loss(scores.sum() * 0, 0.0, {"accuracy": 0.0})
        total = F.cross_entropy(lists, torch.zeros(len(lists), dtype=torch.int64, device=lists.device))
        with torch.no_grad():
            first = float((lists.argmax(dim=1) == 0).float().mean())
        return Loss(total, float(len(lists)), {"accuracy": first})

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The encoder's and the score's."""
        return super().flops(encoder, batch) + 3 * 2.0 * encoder.config.hidden_size * len(batch.lengths)

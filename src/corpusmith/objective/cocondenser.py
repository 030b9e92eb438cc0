"""coCondenser: Condenser on two spans of each document, whose vectors must also find each other.

From each of the batch's n documents two spans are drawn at random that do not overlap: 2n spans, s and its partner s'.
All are read with tokens hidden, and Condenser's loss (see `condenser`) is taken on them. Besides, a span's vector v
must lie nearer to its partner's than to those of all other documents' spans:

    L = L_Condenser - 1/2n sum_s log [ exp(v_s . v_s' / temperature) / sum_{t != s} exp(v_s . v_t / temperature) ]

v is of unit length where the checkpoint's vectors are.

| input            | shape   | what it is                                                  |
|------------------|---------|-------------------------------------------------------------|
| `data.passages`  | N texts | token shards                                                |
| `data.rows`      | [n]     | those that may be trained on                                |
| `data.documents` | [N]     | document of each passage, ascending                         |

An example is a document; its text is its passages that may be trained on, laid end to end. Every span is every other
one's negative, so a batch is never cut into micro-batches. Larger batches are encoded in pieces whose activations are
recomputed in the backward pass, as the paper does (gradient caching): held are the vectors and the states of the
hidden tokens, and the loss is the same.

Where we depart from the paper or it is silent:
- v is whatever the checkpoint uses as its vector, as in `condenser`; inner products are divided by a temperature,
  since between vectors of unit length they would hardly tell spans apart. The paper takes them as they are.
- The two spans do not overlap; the paper does not say. Both have `span_tokens` tokens, or half of the document where
  that is less; documents of fewer than eight tokens are left out.
- Passages carry their headings, and neighbours may share a sentence: so do spans that go across a passage's border.
- The paper begins with a model that Condenser has trained, head included. Here two stages of one recipe do that; the
  head's layers begin anew.

Example:
    >>> objective = build_objective(CoCondenserConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: independent cropping (Contriever) is the contrast alone, its spans drawn from one passage and free to
overlap; `contrastive` takes pairs that headings, titles or people make.

Citation: Gao, Callan (2022), "Unsupervised Corpus Aware Language Model Pre-training for Dense Passage Retrieval",
ACL, sections 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from corpusmith.errors import CorpusError
from corpusmith.model.encoder import Encoder
from corpusmith.objective.base import Batch, Loss
from corpusmith.objective.condenser import Condenser
from corpusmith.objective.config import CoCondenserConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.masked_language import MaskedInputs
from corpusmith.objective.pieces import of_each, runs

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint

FEWEST_TOKENS = 4
"""A span of fewer tokens says nothing."""


class CoCondenser(Condenser):
    """coCondenser pretraining; see the module's text.

    Attributes:
        bounds: `int64[documents, 2]`, the first token of each document and its end, counted through all `rows`.

    Raises:
        CorpusError: there are not two documents with enough tokens.
    """

    divisible = False
    sorted_by_length = False
    batch_tokens = 16384

    def __init__(self, config: CoCondenserConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(config, data, checkpoint, seed)
        self.config = config
        self.row_ends = np.cumsum(data.passages.lengths[self.rows])
        last = np.append(np.flatnonzero(np.diff(data.documents[self.rows])), len(self.rows) - 1)
        ends = self.row_ends[last]
        bounds = np.stack([np.append(0, ends[:-1]), ends], axis=1)
        self.bounds = bounds[bounds[:, 1] - bounds[:, 0] >= 2 * FEWEST_TOKENS]
        if len(self.bounds) < 2:
            raise CorpusError(
                f"coCondenser contrasts documents and found {len(self.bounds)} with at least {2 * FEWEST_TOKENS} "
                "tokens; add documents, or train with 'condenser', which takes passages one by one."
            )

    def lengths(self) -> np.ndarray:
        """`int64[documents]` tokens of the two spans of each document, special tokens included."""
        return 2 * (self._span_lengths(self.bounds) + 2)

    def _span_lengths(self, bounds: np.ndarray) -> np.ndarray:
        longest = min(self.config.span_tokens, self.max_tokens - 2)
        return np.minimum((bounds[:, 1] - bounds[:, 0]) // 2, longest)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Draw two spans of each document, which follow each other in the batch, and hide tokens."""
        spans = self._draw(self.bounds[np.asarray(examples)], rng)
        sequences = [self.tokenizer.with_specials(self._tokens(a, b), self.max_tokens) for a, b in spans.tolist()]
        lengths = np.array([len(sequence) for sequence in sequences])
        draws = rng.random((int(lengths.sum()), 3))
        borders = np.concatenate([[0], np.cumsum(lengths)])
        pieces = tuple(
            self.hide(sequences[a:b], draws[borders[a] : borders[b]])
            for a, b in runs(lengths, self.config.recompute_above)
        )
        return Batch(lengths, pieces)

    def _draw(self, bounds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`int64[2n, 2]`: first token and end of two spans of each document that do not overlap, in their order."""
        lengths = self._span_lengths(bounds)
        free = bounds[:, 1] - bounds[:, 0] - 2 * lengths
        offsets = np.sort((rng.random((len(bounds), 2)) * (free + 1)[:, None]).astype(np.int64), axis=1)
        starts = bounds[:, :1] + offsets + lengths[:, None] * np.arange(2)
        return np.stack([starts, starts + lengths[:, None]], axis=2).reshape(-1, 2)

    def _tokens(self, start: int, end: int) -> np.ndarray:
        """The tokens from `start` to `end`, counted through all `rows`."""
        first, last = np.searchsorted(self.row_ends, [start, end - 1], side="right")
        before = int(self.row_ends[first - 1]) if first else 0
        found = np.concatenate([self.data.passages[row] for row in self.rows[first : last + 1]])
        return found[start - before : end - before]

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """Condenser's loss, and the mean cross-entropy of a span's own partner among all other spans."""
        pieces: tuple[MaskedInputs, ...] = batch.inputs
        vectors, late, rebuilt = of_each(lambda piece: self.states(encoder, piece), pieces)
        naming = self.naming_loss(encoder, late, rebuilt, torch.cat([piece.targets for piece in pieces]))
        vectors = F.normalize(vectors, dim=-1) if self.normalize else vectors
        places = torch.arange(len(vectors), device=vectors.device)
        logits = (vectors @ vectors.T / self.config.temperature).masked_fill(places[:, None] == places, -torch.inf)
        partners = places ^ 1
        contrast = F.cross_entropy(logits, partners)
        accuracy = float((logits.detach().argmax(dim=1) == partners).float().mean())
        parts = naming.parts | {"contrast": float(contrast.detach()), "accuracy": accuracy}
        return Loss(naming.total + contrast, float(len(vectors)), parts)

"""RetroMAE: a weak decoder rebuilds the passage from its vector, so the vector must say what the passage says.

The encoder reads the passage x with a share of its tokens hidden and gives hidden states h and, pooled, the passage's
vector v. It answers for the hidden tokens as in masked language modelling. A decoder of one layer must then name
*every* token of the passage, from v and a random part of the others ("enhanced decoding"): two streams of inputs,

    H1_i = norm(v + p_i)                                  queries: the vector at each position
    H2_0 = norm(v),   H2_i = norm(e(x_i) + p_i)           context: the vector, then the tokens themselves
    A    = norm(H1 + Attention(H1 W_Q, H2 W_K, H2 W_V; S))
    O    = norm(A + FeedForward(A))

where position i may look at S_i: position 0 always, itself never, each other position with probability
`visible_rate`, drawn anew for every position. With `visible = "pmi"` the probability depends on the token j that is
looked at: the passage's tokens are ranked by how much they tell about their neighbours (their mean positive pointwise
mutual information with them over the corpus), and what ranks higher is seen less, down from twice `visible_rate` (or 1)
to nothing (or what is left) at the same rate overall, so that the vector must say what the context no longer tells. The
loss is the sum of the two,

    L = - 1/(r T') sum_{i hidden} log softmax( head(h_i) )[x_i]  -  1/T' sum_i log softmax( head(O_i) )[x_i],

the second over all T' ordinary tokens; r is the masking rate, so the first is a mean over the hidden tokens. One head
serves both, tied to the token embedding e.

| input           | shape   | what it is                               |
|-----------------|---------|------------------------------------------|
| `data.passages` | N texts | token shards                             |
| `data.rows`     | [n]     | those that may be trained on             |

Shapes: h `[T, D]` packed, v `[B, D]`, H1, H2, A, O `[T, D]`, S `[B, L, L]` with L the longest passage.
The decoder, its positions and norms are dropped after training; the head is kept where the checkpoint had one.

Where we depart from the paper or it is silent:
- v is whatever the checkpoint uses as its vector, the mean of h for MiniLM and its like, where the paper takes the
  state at [CLS]: what is trained must be what is searched with. It is not normalised here.
- S is drawn token by token rather than in a fixed number; e is the embedding without the encoder's own positions,
  and p belongs to the decoder, so that encoders with rotary positions can be trained as well.
- Whole words are hidden, as in the authors' code.
- Masks by mutual information come from a paper whose decoder hides tokens behind the mask token, the same ones from
  every position. Here they thin out S, in a straight line by rank, so that the rate is that at random. How far
  neighbours may stand apart, and the discount of rare pairs (`objective/statistics.py`), are our choice.

Example:
    >>> objective = build_objective(RetroMAEConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: TSDAE also rebuilds from the vector, with a full decoder and deleted tokens; masked language modelling is
the first of the two terms alone.

Citation: Xiao, Liu, Shao, Cao (2022), "RetroMAE: Pre-Training Retrieval-oriented Language Models Via Masked
Auto-Encoder", EMNLP, sections 3.1 to 3.3; Li, Zhang, Long, Xie (2023), "Challenging Decoder helps in Masked
Auto-Encoder Pre-training for Dense Passage Retrieval" for masks by mutual information.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import PackedBatch, pack
from corpusmith.model.pooling import pool
from corpusmith.objective.base import Batch, Loss, PassageObjective
from corpusmith.objective.data import TrainingData
from corpusmith.objective.decoders import EnhancedDecoder
from corpusmith.objective.masked_language import (
    MaskedInputs,
    head_flops,
    masked_inputs,
    masked_language_head,
    named_tokens_loss,
)
from corpusmith.objective.masking import Masking
from corpusmith.objective.options.bottleneck import EnhancedDecoding
from corpusmith.objective.statistics import count_pairs

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class RetroInputs:
    """`encoder`: what the encoder reads and must name. `original`: the passages as they are; `places` and `targets`
    (int64 `[T']`): their ordinary tokens; `visible`: bool `[B, L, L]`, what the decoder's positions may see."""

    encoder: MaskedInputs
    original: PackedBatch
    places: torch.Tensor
    targets: torch.Tensor
    visible: torch.Tensor


class RetroMAE(PassageObjective):
    """RetroMAE pretraining; see the module's text."""

    learning_rate = 5e-5

    def __init__(self, config: EnhancedDecoding, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        self.visible_rate = config.visible_rate
        self.masking = Masking(config, checkpoint.tokenizer, data)
        self.head, self.head_is_fresh = masked_language_head(checkpoint, seed)
        self.pairs = (
            count_pairs(data.passages, data.rows, checkpoint.tokenizer.size) if config.visible == "pmi" else None
        )
        generator = torch.Generator().manual_seed(seed)
        self.decoder = EnhancedDecoder(checkpoint.encoder.config, self.max_tokens, generator)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Pack the passages, hide tokens from the encoder, and draw what each position of the decoder sees."""
        sequences = self.sequences(examples)
        lengths = np.array([len(sequence) for sequence in sequences])
        draws = [(rng.random((n, 3)), rng.random((n, n), dtype=np.float32)) for n in lengths]
        original = pack(sequences)
        ids = original.ids.numpy()
        masked = self.masking(ids, lengths, np.concatenate([tokens for tokens, _ in draws]), self.progress)
        named = np.flatnonzero(self.masking.is_ordinary[ids])
        squares = [square for _, square in draws]
        inputs = RetroInputs(
            encoder=masked_inputs(original, masked),
            original=original,
            places=torch.from_numpy(named),
            targets=torch.from_numpy(ids[named]),
            visible=torch.from_numpy(self._visible(squares, self._seen_at(ids, lengths, squares))),
        )
        return Batch(lengths, inputs)

    def _seen_at(
        self, ids: np.ndarray, lengths: np.ndarray, draws: Sequence[np.ndarray]
    ) -> Sequence[float] | Sequence[np.ndarray]:
        """For each passage the probability that a position is seen: one number, or `float64[length]`."""
        if self.pairs is None:
            return [self.visible_rate] * len(lengths)
        ties = np.concatenate([square.diagonal() for square in draws])  # no position sees itself: these serve nothing
        value = self.pairs.informativeness(np.where(self.masking.is_ordinary[ids], ids, -1), lengths)
        borders = np.cumsum(lengths)
        starts = borders - lengths
        value[starts] = -1.0  # there stands the vector
        order = np.lexsort((ties, value, np.repeat(starts, lengths)))
        rank = np.empty(len(ids))
        rank[order] = np.arange(len(ids)) - np.repeat(starts, lengths)
        height = (rank - 0.5) / np.repeat(np.maximum(lengths - 1, 1), lengths)
        lowest, highest = max(0.0, 2 * self.visible_rate - 1), min(1.0, 2 * self.visible_rate)
        return np.split(highest - (highest - lowest) * height, borders[:-1])

    def _visible(self, draws: Sequence[np.ndarray], seen_at: Sequence[float] | Sequence[np.ndarray]) -> np.ndarray:
        """`bool[B, L, L]` from uniform draws `[length, length]`: what each position (row) of a passage may see."""
        longest = max(map(len, draws))
        visible = np.zeros((len(draws), longest, longest), dtype=bool)
        for passage, draw, probability in zip(visible, draws, seen_at, strict=True):
            passage[: len(draw), : len(draw)] = draw < probability
        visible[:, np.arange(longest), np.arange(longest)] = False
        visible[:, :, 0] = True
        return visible

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """The encoder's and the decoder's mean cross-entropies, added."""
        packed = batch.inputs.encoder.packed.to(next(encoder.parameters()).device)
        return self.loss_of(encoder, encoder(packed), packed, batch.inputs)

    def loss_of(self, encoder: Encoder, hidden: torch.Tensor, packed: PackedBatch, inputs: RetroInputs) -> Loss:
        """The loss, from the encoder's hidden states `[T, D]` of the passages with tokens hidden."""
        expected = self.masking.rate(self.progress) * len(inputs.targets)
        encoder_loss = named_tokens_loss(
            encoder, self.head, hidden, inputs.encoder.places, inputs.encoder.targets, units=expected
        )
        decoder_loss = self.decoder_loss(encoder, pool(hidden, packed, self.pooling), inputs)
        parts = {"encoder": float(encoder_loss.detach()), "decoder": float(decoder_loss.detach())}
        return Loss(encoder_loss + decoder_loss, float(len(inputs.targets)), parts)

    def decoder_loss(self, encoder: Encoder, vectors: torch.Tensor, inputs: RetroInputs) -> torch.Tensor:
        """Mean cross-entropy of rebuilding all ordinary tokens from the passages' `vectors[B, D]`."""
        original = inputs.original.to(vectors.device)
        embedded = encoder.embeddings.tokens(original.ids)
        rebuilt = self.decoder(vectors, embedded, original, inputs.visible.to(vectors.device), encoder.compute_dtype)
        return named_tokens_loss(encoder, self.head, rebuilt, inputs.places, inputs.targets)

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The encoder's, the decoder's, and the head's for both."""
        predictions = len(batch.inputs.encoder.targets) + len(batch.inputs.targets)
        decoder = 3 * self.decoder.flops(batch.lengths)
        return super().flops(encoder, batch) + decoder + head_flops(encoder, predictions)

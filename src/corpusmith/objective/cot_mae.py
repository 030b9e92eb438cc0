"""CoT-MAE: a span of a document is restored from the vector of its neighbour, so vectors must know their context.

Two neighbouring spans a and b of a document go through the encoder, each with a share of its tokens hidden (set M),
and the encoder answers for these as in masked language modelling. A decoder then restores b, of which it sees less
(set N hidden), with the vector of a in place of its opening token, and a with the vector of b:

    h^a = encoder(a with M hidden),  v^a = pool(h^a)
    O^b = decoder(v^a, e(b_1), e(b_2), ... with N hidden)
    L   = 1/(r T') sum_{i in M} -log softmax( head(h_i) )[x_i]  +  1/(s T') sum_{i in N} -log softmax( head(O_i) )[x_i]

over both spans of all pairs; T' are their ordinary tokens, r and s the two masking rates, so that both are means over
the hidden tokens. One head serves both, tied to the token embedding e.

| input            | shape   | what it is                                                  |
|------------------|---------|-------------------------------------------------------------|
| `data.passages`  | N texts | token shards                                                |
| `data.rows`      | [n]     | those that may be trained on                                |
| `data.documents` | [N]     | document of each passage; its passages are in order         |

An example is a pair of passages that follow each other in a document. A passage without such a neighbour is cut in
two at a random place in its middle half, so that corpora of short documents can be trained on as well.

Shapes: h, O `[T, D]` packed, v `[S, D]` for the S = 2B spans, a pair's two side by side.
The decoder is dropped after training and kept beside the model; the head is kept with it where the checkpoint had one.

Where we depart from the paper or it is silent:
- The paper draws pairs in three ways, near, overlapping and anywhere in the document. Here they are near; they
  overlap where the recipe's passages do.
- Both spans of a pair go through the encoder in one batch and serve each other.
- v is whatever the checkpoint uses as its vector, where the paper takes the state at [CLS]. It is not normalised here.
- e is the embedding without the encoder's own positions; the decoder has its own.

Example:
    >>> objective = build_objective(CoTMAEConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: RetroMAE restores a passage from its own vector; contrastive pairs of neighbours ask for the same nearness
without naming a token.

Citation: Wu, Ma, Lin, Lin, Wang, Hu (2023), "ConTextual Masked Auto-Encoder for Dense Passage Retrieval", AAAI,
section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from corpusmith.errors import CorpusError
from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import pack
from corpusmith.model.pooling import pool
from corpusmith.objective.base import Batch, Loss, Objective
from corpusmith.objective.config import CoTMAEConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.decoders import BottleneckDecoder
from corpusmith.objective.masked_language import (
    MaskedInputs,
    head_flops,
    masked_inputs,
    masked_language_head,
    named_tokens_loss,
)
from corpusmith.objective.masking import Masking

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class SpanInputs:
    """Spans 2i and 2i + 1 are neighbours. `encoder`, `decoder`: what each reads and must name; `tokens`: ordinary ones
    of all spans."""

    encoder: MaskedInputs
    decoder: MaskedInputs
    tokens: int


class CoTMAE(Objective):
    """CoT-MAE pretraining; see the module's text.

    Attributes:
        pairs: `int64[N, 2]`, the rows of the two passages of each example, the same twice where one is to be cut.
    """

    def __init__(self, config: CoTMAEConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        self.pairs = _neighbours(data)
        if len(self.pairs) == 0:
            raise CorpusError("there is no passage of two tokens and no two passages of a document; add documents.")
        decoder_masking = config.model_copy(update={"masking_rate": config.decoder_masking_rate, "final_rate": None})
        self.encoder_masking = Masking(config, checkpoint.tokenizer, data)
        self.decoder_masking = Masking(decoder_masking, checkpoint.tokenizer, data)
        self.head, self.head_is_fresh = masked_language_head(checkpoint, seed)
        source = torch.Generator().manual_seed(seed)
        self.decoder = BottleneckDecoder(checkpoint.encoder.config, config.decoder_layers, self.max_tokens, source)

    def lengths(self) -> np.ndarray:
        """`int64[N]` tokens of both spans, special tokens included."""
        kept = np.minimum(self.data.passages.lengths[self.pairs], self.max_tokens - 2)
        is_cut = self.pairs[:, 0] == self.pairs[:, 1]
        return np.where(is_cut, kept[:, 0], kept.sum(axis=1)) + 4

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Pack the spans, neighbours side by side, and hide tokens from encoder and decoder."""
        sequences, draws = [], []
        for first, second in self.pairs[examples]:
            spans = self._spans(first, second, rng.random())
            sequences += [self.tokenizer.with_specials(span, self.max_tokens) for span in spans]
            draws += [rng.random((len(sequence), 6)) for sequence in sequences[-2:]]
        original, drawn = pack(sequences), np.concatenate(draws)
        ids, lengths = original.ids.numpy(), original.lengths.numpy().astype(np.int64)
        inputs = SpanInputs(
            encoder=masked_inputs(original, self.encoder_masking(ids, lengths, drawn[:, :3], self.progress)),
            decoder=masked_inputs(original, self.decoder_masking(ids, lengths, drawn[:, 3:], self.progress)),
            tokens=int(self.encoder_masking.is_ordinary[ids].sum()),
        )
        return Batch(lengths, inputs)

    def _spans(self, first: int, second: int, draw: float) -> tuple[np.ndarray, np.ndarray]:
        """The two passages of these rows, or the two parts of the one; `draw`, in [0, 1), says where it is cut."""
        if first != second:
            return self.data.passages[first], self.data.passages[second]
        passage = self.data.passages[first][: self.max_tokens - 2]
        cut = max(1, min(round(len(passage) * (0.25 + 0.5 * draw)), len(passage) - 1))
        return passage[:cut], passage[cut:]

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """The encoder's and the decoder's mean cross-entropies, added."""
        inputs: SpanInputs = batch.inputs
        masked = inputs.encoder.packed.to(next(encoder.parameters()).device)
        hidden = encoder(masked)
        expected = self.encoder_masking.rate(self.progress) * inputs.tokens
        encoder_loss = named_tokens_loss(
            encoder, self.head, hidden, inputs.encoder.places, inputs.encoder.targets, units=expected
        )
        decoder_loss = self.decoder_loss(encoder, pool(hidden, masked, self.pooling), inputs)
        parts = {"encoder": float(encoder_loss.detach()), "decoder": float(decoder_loss.detach())}
        return Loss(encoder_loss + decoder_loss, float(inputs.tokens), parts)

    def decoder_loss(self, encoder: Encoder, vectors: torch.Tensor, inputs: SpanInputs) -> torch.Tensor:
        """Cross-entropy of restoring the spans, each from its neighbour's of the `vectors[2B, D]`: its sum divided by
        the number of tokens that the masking rate should hide."""
        hidden = inputs.decoder
        packed = hidden.packed.to(vectors.device)
        neighbours = vectors.view(-1, 2, vectors.shape[1]).flip(1).flatten(0, 1)
        restored = self.decoder(neighbours, encoder.embeddings.tokens(packed.ids), packed, encoder.compute_dtype)
        expected = self.decoder_masking.rate(self.progress) * inputs.tokens
        return named_tokens_loss(encoder, self.head, restored, hidden.places, hidden.targets, units=expected)

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The encoder's, the decoder's, and the head's for both."""
        predictions = len(batch.inputs.encoder.targets) + len(batch.inputs.decoder.targets)
        decoder = 3 * self.decoder.flops(batch.lengths)
        return super().flops(encoder, batch) + decoder + head_flops(encoder, predictions)


def _neighbours(data: TrainingData) -> np.ndarray:
    """`int64[N, 2]` rows of neighbouring passages; those without a neighbour and of two tokens or more twice."""
    lengths = data.passages.lengths
    rows = np.sort(data.rows[lengths[data.rows] > 0])
    follows = (np.diff(rows) == 1) & (np.diff(data.documents[rows]) == 0)
    alone = ~np.append(follows, False) & ~np.append(False, follows) & (lengths[rows] > 1)
    pairs = np.column_stack([rows[:-1][follows], rows[1:][follows]])
    return np.concatenate([pairs, np.column_stack([rows[alone], rows[alone]])])

"""SEED-Encoder: a decoder that remembers only a few tokens tells the passage from its vector, word by word.

The encoder reads the passage x with a share of its tokens hidden (set M) and answers for these as in masked language
modelling. Its vector v goes to a decoder from left to right that must name every token from v and the last few before
it. A strong decoder could tell the passage from what it has said so far; this one cannot without the vector:

    h = encoder(x with M hidden),  v = pool(h)
    O = decoder(v, e(x_1), e(x_2), ...; S)                v stands where x_0, the opening token, stood
    S_i = {0} and {j : i - k < j <= i}                    what position i sees in each of the decoder's layers
    L = 1/(r T') sum_{i in M} -log softmax( head(h_i) )[x_i]  +  1/T' sum_i -log softmax( head(O_{i-1}) )[x_i]

the second over all T' ordinary tokens; r is the masking rate, so the first is a mean over the hidden tokens. One head
serves both, tied to the token embedding e.

| input           | shape   | what it is                               |
|-----------------|---------|------------------------------------------|
| `data.passages` | N texts | token shards                             |
| `data.rows`     | [n]     | those that may be trained on             |

Shapes: h, O `[T, D]` packed, v `[B, D]`, S `[B, L, L]` with L the longest passage.
The decoder is dropped after training and kept beside the model; the head is kept with it where the checkpoint had one.

Where we depart from the paper or it is silent:
- The span k counts the tokens that one layer sees, as the paper's does: through n layers a state knows of
  1 + n (k - 1) tokens.
- The decoder does not name the closing token, which says nothing about the passage.
- v is whatever the checkpoint uses as its vector, where the paper takes the state at [CLS]. It is not normalised here.
- e is the embedding without the encoder's own positions; the decoder has its own.

Example:
    >>> objective = build_objective(SeedEncoderConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: TSDAE tells the passage with a full decoder that sees all tokens before, from a passage with deletions;
RetroMAE's decoder sees random tokens on both sides.

Citation: Lu, He, Xiong, Ke, Malik, Dou, Bennett, Liu, Overwijk (2021), "Less is More: Pretrain a Strong Siamese
Encoder for Dense Text Retrieval Using a Weak Decoder", EMNLP, section 3.
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
from corpusmith.objective.config import SeedEncoderConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.decoders import BottleneckDecoder, left_to_right, next_tokens
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
class SeedInputs:
    """`encoder`: what the encoder reads and must name. `original`: the passages as they are; `places` (int64 `[T']`):
    where the decoder must name the next token, and `targets` (int64 `[T']`), what that is."""

    encoder: MaskedInputs
    original: PackedBatch
    places: torch.Tensor
    targets: torch.Tensor


class SeedEncoder(PassageObjective):
    """SEED-Encoder pretraining; see the module's text."""

    def __init__(self, config: SeedEncoderConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        self.span = config.decoder_span
        self.masking = Masking(config, checkpoint.tokenizer, data)
        self.head, self.head_is_fresh = masked_language_head(checkpoint, seed)
        source = torch.Generator().manual_seed(seed)
        self.decoder = BottleneckDecoder(checkpoint.encoder.config, config.decoder_layers, self.max_tokens, source)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Pack the passages and hide tokens from the encoder."""
        original = pack(self.sequences(examples))
        ids, lengths = original.ids.numpy(), original.lengths.numpy().astype(np.int64)
        masked = self.masking(ids, lengths, rng.random((len(ids), 3)), self.progress)
        places, targets = next_tokens(ids, self.masking.is_ordinary)
        return Batch(lengths, SeedInputs(masked_inputs(original, masked), original, places, targets))

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """The encoder's and the decoder's mean cross-entropies, added."""
        inputs: SeedInputs = batch.inputs
        masked = inputs.encoder.packed.to(next(encoder.parameters()).device)
        hidden = encoder(masked)
        expected = self.masking.rate(self.progress) * len(inputs.targets)
        encoder_loss = named_tokens_loss(
            encoder, self.head, hidden, inputs.encoder.places, inputs.encoder.targets, units=expected
        )
        decoder_loss = self.decoder_loss(encoder, pool(hidden, masked, self.pooling), inputs)
        parts = {"encoder": float(encoder_loss.detach()), "decoder": float(decoder_loss.detach())}
        return Loss(encoder_loss + decoder_loss, float(len(inputs.targets)), parts)

    def decoder_loss(self, encoder: Encoder, vectors: torch.Tensor, inputs: SeedInputs) -> torch.Tensor:
        """Mean cross-entropy of telling the passages from their `vectors[B, D]`."""
        original = inputs.original.to(vectors.device)
        embedded = encoder.embeddings.tokens(original.ids)
        seen = left_to_right(original, vectors.device, self.span)
        told = self.decoder(vectors, embedded, original, encoder.compute_dtype, seen)
        return named_tokens_loss(encoder, self.head, told, inputs.places, inputs.targets)

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The encoder's, the decoder's, and the head's for both."""
        predictions = len(batch.inputs.encoder.targets) + len(batch.inputs.targets)
        decoder = 3 * self.decoder.flops(batch.lengths)
        return super().flops(encoder, batch) + decoder + head_flops(encoder, predictions)

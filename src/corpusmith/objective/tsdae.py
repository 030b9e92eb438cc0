"""TSDAE: the passage is told from the vector of what is left of it after most tokens were deleted.

A share of the passage's tokens is deleted, the rest encoded to its vector v, and a decoder from left to right must
name every token of the whole passage. It sees the tokens before, and of what the encoder read nothing but v:

    v = pool( encoder(x with tokens deleted) )
    O = decoder(x_0, x_1, ...; v)                          each layer: A = attention over the tokens so far
                                                                       C = norm(A + U v)
                                                                       O = feed-forward part of C
    L = 1/T' sum_i -log softmax( head(O_{i-1}) )[x_i]

over all T' ordinary tokens. U v is attention to v: a softmax over one key is 1, so that queries and keys play no
part, and what is left of values and output is one linear map. The decoder's layers and embeddings are the encoder's
own (tied); U and the norm behind it are fresh, one of each a layer. The head is tied to the token embedding.

| input           | shape   | what it is                               |
|-----------------|---------|------------------------------------------|
| `data.passages` | N texts | token shards                             |
| `data.rows`     | [n]     | those that may be trained on             |

Shapes: O `[T, D]` packed, v `[B, D]`. Both what is left and the whole passages pass through the encoder's layers and
are counted as tokens of the batch.
The maps U are dropped after training and kept beside the model; the head is kept with it where the checkpoint had one.

Where we depart from the paper or it is silent:
- Tokens are deleted, not words, and exactly their share of each passage, rounded; one is always left.
- The decoder does not name the closing token, which says nothing about the passage.
- v is whatever the checkpoint uses as its vector, where the paper takes the state at [CLS]. It is not normalised here.
- Where the encoder has its norms first, there is none behind U v, which goes to the residual stream.

Example:
    >>> objective = build_objective(TSDAEConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: SEED-Encoder takes its words one by one as well, from a decoder that is kept weak; RetroMAE's decoder sees
random tokens on both sides. Here the encoder has no task of its own.

Citation: Wang, Reimers, Gurevych (2021), "TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for
Unsupervised Sentence Embedding Learning", Findings of EMNLP, section 3.
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
from corpusmith.objective.config import TSDAEConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.decoders import LeftToRightDecoder, next_tokens
from corpusmith.objective.masked_language import head_flops, masked_language_head, named_tokens_loss
from corpusmith.objective.masking import ordinary_tokens

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class TSDAEInputs:
    """`left`: the passages without what was deleted. `original`: the passages as they are; `places` (int64 `[T']`):
    where the decoder must name the next token, and `targets` (int64 `[T']`), what that is."""

    left: PackedBatch
    original: PackedBatch
    places: torch.Tensor
    targets: torch.Tensor


class TSDAE(PassageObjective):
    """TSDAE pretraining; see the module's text."""

    def __init__(self, config: TSDAEConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        self.deletion_rate = config.deletion_rate
        self.is_ordinary = ordinary_tokens(self.tokenizer)
        self.head, self.head_is_fresh = masked_language_head(checkpoint, seed)
        self.decoder = LeftToRightDecoder(checkpoint.encoder.config, torch.Generator().manual_seed(seed))

    def lengths(self) -> np.ndarray:
        """`int64[N]` tokens of each passage, whole and after deletions."""
        whole = super().lengths()
        return whole + self._left(whole)

    def _left(self, lengths: np.ndarray) -> np.ndarray:
        """Of sequences of these lengths, special tokens included, how many tokens are left, these included."""
        words = lengths - 2
        return lengths - np.minimum(np.round(self.deletion_rate * words).astype(np.int64), words - 1)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Pack the passages and what is left of them."""
        original = pack(self.sequences(examples))
        ids, lengths = original.ids.numpy(), original.lengths.numpy().astype(np.int64)
        is_left, left_lengths = self._delete(lengths, rng.random(len(ids)))
        left = pack(np.split(ids[is_left], np.cumsum(left_lengths)[:-1]))
        places, targets = next_tokens(ids, self.is_ordinary)
        inputs = TSDAEInputs(left, original, places, targets)
        return Batch(np.concatenate([left_lengths, lengths]), inputs, borders=(len(lengths),))

    def _delete(self, lengths: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`bool[T]`, which tokens of packed sequences are left, those with the lowest draws; and how many of each."""
        left, ends = self._left(lengths), np.cumsum(lengths)
        keys = draws.copy()
        keys[ends - lengths] = keys[ends - 1] = -1.0  # the special tokens stay
        order = np.lexsort((keys, np.repeat(np.arange(len(lengths)), lengths)))
        rank = np.empty(len(keys), dtype=np.int64)
        rank[order] = np.arange(len(keys)) - np.repeat(ends - lengths, lengths)
        return rank < np.repeat(left, lengths), left

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """Mean cross-entropy of the decoder."""
        inputs: TSDAEInputs = batch.inputs
        left = inputs.left.to(next(encoder.parameters()).device)
        total = self.decoder_loss(encoder, pool(encoder(left), left, self.pooling), inputs)
        return Loss(total, float(len(inputs.targets)), {})

    def decoder_loss(self, encoder: Encoder, vectors: torch.Tensor, inputs: TSDAEInputs) -> torch.Tensor:
        """Mean cross-entropy of telling the passages from their `vectors[B, D]`."""
        told = self.decoder(encoder, vectors, inputs.original.to(vectors.device))
        return named_tokens_loss(encoder, self.head, told, inputs.places, inputs.targets)

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The encoder's layers' on both, the decoder's maps', and the head's."""
        inputs: TSDAEInputs = batch.inputs
        decoder = 3 * self.decoder.flops(len(inputs.original))
        return super().flops(encoder, batch) + decoder + head_flops(encoder, len(inputs.targets))

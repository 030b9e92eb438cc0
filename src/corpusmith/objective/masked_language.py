"""Masked language modelling: predict hidden tokens from those around them.

A share of each passage's tokens is hidden (set M, at the masking rate), most of them behind the mask token, and the
encoder must name them:

    L = - 1/|M| sum_{i in M} log softmax( head(h_i) )[x_i],        h = encoder(x with M hidden)

    head(h) = norm(act(W h + b)) E^T + c,     E the encoder's token embedding (tied)

Hidden states are `[T, D]` for a packed batch of T tokens; the head sees only the `[|M|, D]` of them that are asked
for, which saves most of the cost of a large vocabulary, and its logits are never all held (`cross_entropy`).

| input           | shape   | what it is                               |
|-----------------|---------|------------------------------------------|
| `data.passages` | N texts | token shards                             |
| `data.rows`     | [n]     | those that may be trained on             |

After training the head is dropped from what searches, and kept where the checkpoint had one of its own (the same
object is trained, so an export as a masked language model is up to date). A checkpoint without a head gets a fresh one,
which learns at `fresh_learning_rate`.

Example:
    >>> objective = build_objective(MaskedLanguageConfig(masking_rate=0.3), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=5), folder, seed=0)

Which tokens are hidden, and how that changes over training, is `objective/masking.py`'s business: `choose =
"importance"` is retrieval oriented masking, `final_rate`, `final_mask_share` and `strategy_from` make a curriculum.

Relations: RetroMAE contains this loss and adds a decoder that reads the passage's vector; on a model that already
makes good vectors, masked language modelling alone adapts the words but may spoil the vectors.

Citation: Devlin, Chang, Lee, Toutanova (2019), "BERT"; Wettig, Gao, Zhong, Chen (2023), "Should You Mask 15% in
Masked Language Modeling?" for the rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.model.packed import PackedBatch, pack
from corpusmith.objective.base import Batch, Loss, PassageObjective
from corpusmith.objective.cross_entropy import cross_entropy
from corpusmith.objective.data import TrainingData
from corpusmith.objective.masking import Masked, Masking
from corpusmith.objective.options.language import MaskingConfig

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class MaskedInputs:
    """`packed` with tokens hidden; `places` (int64 `[M]`) where they stand, `targets` (int64 `[M]`) what they were."""

    packed: PackedBatch
    places: torch.Tensor
    targets: torch.Tensor


class MaskedLanguage(PassageObjective):
    """Masked language modelling; see the module's text."""

    def __init__(self, config: MaskingConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        self.masking = Masking(config, checkpoint.tokenizer, data)
        self.head, self.head_is_fresh = masked_language_head(checkpoint, seed)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Pack the passages and hide tokens."""
        sequences = self.sequences(examples)
        lengths = np.array([len(sequence) for sequence in sequences])
        draws = rng.random((int(lengths.sum()), 3))
        masked = self.masking(np.concatenate(sequences), lengths, draws, self.progress)
        return Batch(lengths, masked_inputs(pack(sequences), masked))

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """Mean cross-entropy of the hidden tokens."""
        inputs: MaskedInputs = batch.inputs
        hidden = encoder(inputs.packed.to(next(encoder.parameters()).device))
        total = named_tokens_loss(encoder, self.head, hidden, inputs.places, inputs.targets)
        return Loss(total, float(len(inputs.targets)), {})

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The encoder's, and the head's on the hidden tokens."""
        return super().flops(encoder, batch) + head_flops(encoder, len(batch.inputs.targets))


def masked_language_head(checkpoint: Checkpoint, seed: int) -> tuple[MaskedLanguageHead, bool]:
    """The checkpoint's head, or a fresh one drawn from `seed`; and whether it is fresh."""
    if checkpoint.head is not None:
        return checkpoint.head, False
    return MaskedLanguageHead(checkpoint.encoder.config, torch.Generator().manual_seed(seed)), True


def with_ids(packed: PackedBatch, ids: np.ndarray) -> PackedBatch:
    """The same sequences with other tokens."""
    return PackedBatch(torch.from_numpy(ids), packed.positions, packed.cu_seqlens)


def masked_inputs(packed: PackedBatch, masked: Masked) -> MaskedInputs:
    """The sequences as they are masked, and what is hidden there."""
    places, targets = torch.from_numpy(masked.places), torch.from_numpy(masked.targets)
    return MaskedInputs(with_ids(packed, masked.ids), places, targets)


def named_tokens_loss(
    encoder: Encoder,
    head: MaskedLanguageHead,
    hidden: torch.Tensor,
    places: torch.Tensor,
    targets: torch.Tensor,
    units: float | None = None,
) -> torch.Tensor:
    """Mean cross-entropy of naming the tokens `targets[M]` from `hidden[T, D]` at `places[M]`; 0 where M is 0.

    With `units` the sum is divided by that number instead of M, so that losses over different tokens of one batch can
    be added and still do not depend on how the batch is cut.
    """
    if len(places) == 0:
        return hidden.sum() * 0
    embedding = encoder.embeddings.tokens.weight
    mean = cross_entropy(
        lambda rows: head(rows, embedding),
        hidden[places.to(hidden.device)],
        targets.to(hidden.device),
        [embedding, *head.parameters()],
        encoder.config.vocabulary_size,
    )
    return mean if units is None else mean * (len(places) / units)


def head_flops(encoder: Encoder, predictions: int) -> float:
    """Floating-point operations of the head's products on so many tokens, forward and backward."""
    width = encoder.config.hidden_size
    return 3 * predictions * 2.0 * width * (width + encoder.config.vocabulary_size)

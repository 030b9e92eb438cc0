"""Condenser: what the late layers find out about a passage must go through its vector.

The encoder reads the passage x with a share of its tokens hidden. Its layers are parted in two: h^E are the states
after the early ones, h those after the late ones, v the passage's vector, pooled from h. A head of a few layers reads
the early states, with the vector in the place of the first token, and must name the hidden tokens again:

    H   = Head([v; h^E_1, ..., h^E_n])
    L   = - 1/|M| sum_{i in M} ( log softmax( head(H_i) )[x_i]  +  log softmax( head(h_i) )[x_i] )

M are the hidden tokens. Early states know a token's neighbourhood but little of the passage; whatever the late layers
add can help the first term through v alone. One masked-language head serves both terms.

| input           | shape   | what it is                               |
|-----------------|---------|------------------------------------------|
| `data.passages` | N texts | token shards                             |
| `data.rows`     | [n]     | those that may be trained on             |

Shapes: h^E, h, H `[T, D]` packed, v `[B, D]`; the masked-language head sees the `[|M|, D]` of h and of H that are asked
for. The head's layers are dropped after training; the masked-language head is kept where the checkpoint had one.

Where we depart from the paper or it is silent:
- v is whatever the checkpoint uses as its vector, the mean of h for MiniLM and its like, where the paper takes the
  state at [CLS]: what is trained must be what is searched with. It stands where [CLS] stood, and is not normalised.
- Vector and early states pass a norm of their own before the head's first layer, since in encoders with norms first
  (ModernBERT) the states of two layers differ in size.
- Encoders have 6 or 12 layers, and the paper parts 12 into 6 and 6: half of the layers are early ones unless said
  otherwise.

Example:
    >>> objective = build_objective(CondenserConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: coCondenser adds a contrast between spans of documents; RetroMAE gives its decoder embeddings of tokens, and
few of them, instead of states that have seen the whole passage with its hidden tokens.

Citation: Gao, Callan (2021), "Condenser: a Pre-training Architecture for Dense Retrieval", EMNLP, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from corpusmith.errors import ModelError
from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import pack
from corpusmith.model.pooling import pool
from corpusmith.objective.base import Batch, Loss, PassageObjective
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
from corpusmith.objective.options.bottleneck import EarlyLateMasking

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


class Condenser(PassageObjective):
    """Condenser pretraining; see the module's text.

    Attributes:
        early_layers: layers of the encoder whose states the head reads.

    Raises:
        ModelError: the encoder has too few layers for `early_layers`.
    """

    def __init__(self, config: EarlyLateMasking, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        layers = checkpoint.encoder.config.layers
        self.early_layers = layers // 2 if config.early_layers is None else config.early_layers
        if self.early_layers >= layers:
            raise ModelError(
                f"early_layers = {self.early_layers}, but the encoder has {layers} layers and at least one must be a "
                f"late one; set it to {layers - 1} or less."
            )
        self.masking = Masking(config, checkpoint.tokenizer, data)
        self.head, self.head_is_fresh = masked_language_head(checkpoint, seed)
        generator = torch.Generator().manual_seed(seed)
        self.decoder = BottleneckDecoder(checkpoint.encoder.config, config.head_layers, None, generator)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Pack the passages and hide tokens."""
        sequences = self.sequences(examples)
        lengths = np.array([len(sequence) for sequence in sequences])
        return Batch(lengths, (self.hide(sequences, rng.random((int(lengths.sum()), 3))),))

    def hide(self, sequences: Sequence[np.ndarray], draws: np.ndarray) -> MaskedInputs:
        """The sequences packed, with tokens hidden as `draws` (`float[T, 3]`, uniform in [0, 1)) decide."""
        packed = pack(sequences)
        lengths = packed.lengths.numpy().astype(np.int64)
        return masked_inputs(packed, self.masking(packed.ids.numpy(), lengths, draws, self.progress))

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """Mean cross-entropy of the hidden tokens, named by the encoder and by the head."""
        (inputs,) = batch.inputs
        _, late, rebuilt = self.states(encoder, inputs)
        return self.naming_loss(encoder, late, rebuilt, inputs.targets)

    def states(self, encoder: Encoder, inputs: MaskedInputs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The passages' vectors `[B, D]`, and the states of the encoder and of the head where tokens are hidden,
        `[|M|, D]` each."""
        device = next(encoder.parameters()).device
        packed, places = inputs.packed.to(device), inputs.places.to(device)
        early, late = encoder.hidden_states(packed, (self.early_layers, encoder.config.layers))
        vectors = pool(late, packed, self.pooling)
        rebuilt = self.decoder(vectors, early, packed, encoder.compute_dtype)
        return vectors, late[places], rebuilt[places]

    def naming_loss(self, encoder: Encoder, late: torch.Tensor, rebuilt: torch.Tensor, targets: torch.Tensor) -> Loss:
        """Mean cross-entropies of naming `targets[M]` from `late[M, D]` and from `rebuilt[M, D]`, added."""
        places = torch.arange(len(targets))
        encoder_loss = named_tokens_loss(encoder, self.head, late, places, targets)
        head_loss = named_tokens_loss(encoder, self.head, rebuilt, places, targets)
        parts = {"encoder": float(encoder_loss.detach()), "head": float(head_loss.detach())}
        return Loss(encoder_loss + head_loss, float(len(targets)), parts)

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The encoder's, the head's, and the masked-language head's for both."""
        head = 3 * self.decoder.flops(batch.lengths)
        hidden = sum(len(piece.targets) for piece in batch.inputs)
        return super().flops(encoder, batch) + head + head_flops(encoder, 2 * hidden)

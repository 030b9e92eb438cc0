"""How much a decoder needs the vector that belongs to its passage."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import PackedBatch
from corpusmith.model.pooling import Pooling, pool

EXAMPLES = 64
"""Examples that a check looks at."""

NOTICEABLE = 0.05
"""Nats a token by which a wrong vector must cost more."""


def sample(count: int, rng: np.random.Generator) -> np.ndarray:
    """Up to `EXAMPLES` numbers below `count`, ascending."""
    return np.sort(rng.choice(count, size=min(EXAMPLES, count), replace=False))


@torch.no_grad()
def own_and_others(
    encoder: Encoder, pooling: Pooling, read: PackedBatch, decoder_loss: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, float | bool]:
    """The decoder's loss with each passage's own vector and with that of the passage half the batch away.

    Args:
        encoder: after training.
        pooling: how it makes vectors.
        read: what it reads of the passages.
        decoder_loss: the decoder's loss, given the vectors `[B, D]`.
    """
    packed = read.to(next(encoder.parameters()).device)
    vectors = pool(encoder(packed), packed, pooling)
    away = max(2, len(packed) // 4 * 2)  # an even number: where two vectors belong together they stay so
    own, others = float(decoder_loss(vectors)), float(decoder_loss(vectors.roll(away, dims=0)))
    return {"decoder_loss": own, "decoder_loss_shuffled": others, "holds": others - own > NOTICEABLE}

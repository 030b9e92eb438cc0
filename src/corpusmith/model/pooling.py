"""From hidden states of tokens to one vector a sequence."""

from __future__ import annotations

from typing import Literal

import torch

from corpusmith.model.packed import PackedBatch

Pooling = Literal["mean", "cls"]


def pool(hidden: torch.Tensor, packed: PackedBatch, pooling: Pooling) -> torch.Tensor:
    """The mean of a sequence's hidden states (special tokens included), or its first one.

    Args:
        hidden: `[T, D]`, any dtype.
        packed: the batch it belongs to.
        pooling: "mean" or "cls".

    Returns:
        float32 `[B, D]`, not normalised.
    """
    if pooling == "cls":
        starts = packed.cu_seqlens[:-1].to(hidden.device, torch.int64)
        return hidden.index_select(0, starts).float()
    lengths = packed.lengths.to(hidden.device, torch.int64)
    sequence = torch.repeat_interleave(torch.arange(len(lengths), device=hidden.device), lengths)
    sums = torch.zeros(len(lengths), hidden.shape[1], device=hidden.device)
    return sums.index_add(0, sequence, hidden.float()) / lengths[:, None]

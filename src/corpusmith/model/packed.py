"""The packed batch: B sequences laid end to end as T tokens, no padding anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """`ids[T]`, `positions[T]` (int64; position within its sequence, from 0), `cu_seqlens[B+1]` (int32, from 0 to T).

    `cu_seqlens` stays on the CPU: lengths steer the host's work, the device sees only tokens.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    cu_seqlens: torch.Tensor

    @property
    def lengths(self) -> torch.Tensor:
        """`[B]` tokens of each sequence."""
        return self.cu_seqlens.diff()

    def __len__(self) -> int:
        return len(self.cu_seqlens) - 1

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch with its tokens on another device."""
        return PackedBatch(self.ids.to(device), self.positions.to(device), self.cu_seqlens)


def pack(sequences: Sequence[np.ndarray]) -> PackedBatch:
    """Lay token sequences (1-D integer arrays, none empty) end to end.

    Raises:
        ValueError: there is no sequence, or one is empty.
    """
    lengths = np.fromiter((len(sequence) for sequence in sequences), dtype=np.int64, count=len(sequences))
    if len(lengths) == 0 or lengths.min() == 0:
        raise ValueError("a packed batch needs at least one sequence and no empty one")
    boundaries = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.arange(boundaries[-1]) - np.repeat(boundaries[:-1], lengths)
    ids = np.concatenate([np.asarray(sequence, dtype=np.int64) for sequence in sequences])
    return PackedBatch(
        torch.from_numpy(ids), torch.from_numpy(positions), torch.from_numpy(boundaries.astype(np.int32))
    )

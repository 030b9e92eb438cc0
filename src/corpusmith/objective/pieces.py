"""Work cut into pieces, so that memory does not grow with the batch.

A batch whose examples are each other's negatives cannot be cut into micro-batches. Its sequences can be encoded in
pieces all the same: a piece's activations are given up after the forward pass and computed a second time in the
backward pass, and only what the loss compares is held for all of them (as in Gao et al. 2021, "Scaling Deep
Contrastive Learning Batch Size under Memory Limited Setup").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint as recomputed

Piece = TypeVar("Piece")


def runs(lengths: np.ndarray, most: int) -> list[tuple[int, int]]:
    """`(first, last + 1)` of consecutive runs of sequences, each of about `most` tokens; all in one where they fit."""
    number = (np.cumsum(lengths) - 1) // most
    borders = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(lengths)]
    return list(pairwise(borders))


def of_each(function: Callable[[Piece], tuple[torch.Tensor, ...]], pieces: Sequence[Piece]) -> list[torch.Tensor]:
    """What `function` gives for each piece, its tensors joined along their first axis.

    Where there are several pieces and a gradient is wanted, what is inside `function` is computed again in the
    backward pass, with the same random numbers.
    """
    if len(pieces) > 1 and torch.is_grad_enabled():
        found = [recomputed(function, piece, use_reentrant=False) for piece in pieces]
    else:
        found = [function(piece) for piece in pieces]
    return [torch.cat(parts) for parts in zip(*found, strict=True)]

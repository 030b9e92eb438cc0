"""A query and a passage read together: the form of the input, and the head that says how well they fit.

The sequence is [CLS] query [SEP] passage [SEP]; where it is too long the passage is cut, and the query only beyond half
of the room. All tokens have the segment embedding of a single text: packed batches know no other, and the separator
says as much.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from corpusmith.model.config import EncoderConfig
from corpusmith.model.layers import initialise
from corpusmith.model.linear import Linear
from corpusmith.model.packed import PackedBatch
from corpusmith.model.pooling import pool
from corpusmith.vocabulary.tokenizer import Tokenizer

SPECIALS = 3
"""Special tokens of a joined sequence."""


def join(query: np.ndarray, passage: np.ndarray, tokenizer: Tokenizer, max_tokens: int) -> np.ndarray:
    """`int64[n]`, n at most `max_tokens`: query and passage (ids without special tokens) as one sequence."""
    room = max_tokens - SPECIALS
    query = query[: max(room // 2, room - len(passage))]
    parts = [[tokenizer.cls], query, [tokenizer.sep], passage[: room - len(query)], [tokenizer.sep]]
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])


def joined_lengths(queries: np.ndarray, passages: np.ndarray, max_tokens: int) -> np.ndarray:
    """Lengths of what `join` makes of queries and passages of these lengths."""
    return np.minimum(queries + passages + SPECIALS, max_tokens)


class ScoreHead(nn.Module):
    """A linear map from the first hidden state of a joined sequence to its score (Nogueira and Cho 2019, "Passage
    Re-ranking with BERT", section 3, as a score instead of two classes)."""

    def __init__(self, config: EncoderConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = Linear(config.hidden_size, 1)
        initialise(self, config, generator)

    def forward(self, hidden: torch.Tensor, packed: PackedBatch) -> torch.Tensor:
        """Hidden states `[T, D]` of a packed batch to float32 `[B]`."""
        return self.linear(pool(hidden, packed, "cls"))[:, 0]

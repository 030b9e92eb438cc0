"""Subword mean: a new piece gets the mean of the old pieces that its text was cut into.

    e'_t = 1/n sum_i e_{s_i},       s_1 ... s_n = the old tokenizer's cut of t's text

`e[V, D]` old vectors, `e'[V', D]` new ones. The text is cut as it would be at its place inside a word: a piece that
goes on is cut into pieces that go on. Pieces that both vocabularies have keep their vectors. It needs no corpus, costs
seconds, and is what the other transfers fall back on where the corpus tells them nothing of a piece.

Where we depart from the paper or it is silent:
- The paper adds whole words; pieces inside words are cut as said above.
- Pieces of which the old tokenizer knows nothing are drawn around the mean of all old vectors, spread as these are.

Example:
    >>> carried = carry(checkpoint, target, build_transfer(SubwordConfig()), texts, np.random.default_rng(0))

Citation: Koto, Lau, Baldwin (2021), "IndoBERTweet: A Pretrained Language Model for Indonesian Twitter with Effective
Domain-Specific Vocabulary Initialization", EMNLP, section 3.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from corpusmith.vocabulary.transfer.base import MixingTransfer, TransferInput
from corpusmith.vocabulary.transfer.config import SubwordConfig
from corpusmith.vocabulary.transfer.correspondence import Cutter, matching_pieces, ordinary_entries
from corpusmith.vocabulary.transfer.mixtures import copied, filled, is_empty


class SubwordMean(MixingTransfer):
    """The mean of a piece's old pieces; see the module's text."""

    def __init__(self, config: SubwordConfig) -> None:
        self.config = config

    def weights(self, given: TransferInput) -> csr_array:
        """Copies of what is shared, and equal weights for the old pieces of each new one."""
        same = matching_pieces(given.source.tokenizer, given.target)
        return completed(copied(same, len(given.vectors)), given)


def completed(weights: csr_array, given: TransferInput) -> csr_array:
    """The weights, and for pieces without any the mean of their old pieces."""
    return filled(weights, subword_weights(given, np.flatnonzero(is_empty(weights))))


def subword_weights(given: TransferInput, wanted: np.ndarray) -> csr_array:
    """`[V', V]`: for the `wanted` entries (`int64[n]`) equal weights for the old pieces of their text."""
    cut, pieces = Cutter(given.source.tokenizer), {entry.id: entry.piece for entry in ordinary_entries(given.target)}
    rows, columns, shares = [], [], []
    for number in wanted.tolist():
        ids = cut(pieces[number]) if number in pieces else []
        rows += [number] * len(ids)
        columns += ids
        shares += [1 / len(ids)] * len(ids) if ids else []
    return csr_array((shares, (rows, columns)), shape=(given.target.size, len(given.vectors)), dtype=np.float64)

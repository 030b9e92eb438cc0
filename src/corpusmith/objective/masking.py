"""Which tokens are hidden, and behind what.

Rates are met exactly, sequence by sequence, rather than on average: a short passage otherwise often has nothing to
predict, and the cost of a batch would vary. All randomness is taken beforehand as three numbers a token, in the order
of the tokens, so that a batch masked in parts is masked like the whole.

By importance, words are drawn one after the other without replacement, each with a probability in proportion to its
weight among those left: the word with the smallest E / weight comes first, E exponential (Efraimidis and Spirakis 2006,
"Weighted Random Sampling with a Reservoir"). A token's weight is BM25's in its passage, over the passages trained on;
a word of several pieces has that of its weightiest piece, since it is at least as rare as each of them (Long et al.
2022, "Retrieval Oriented Masking Pre-training Language Model for Dense Passage Retrieval", which draws with a higher
probability what weighs more and leaves open how).

Rate, corruption and strategy may change over training (Pavlova and Makhlouf 2023, "BIOptimus", which trains in phases;
rate and corruption move in straight lines here, so that no step is unlike the one before).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from corpusmith.errors import ModelError
from corpusmith.objective.data import TrainingData
from corpusmith.objective.options.language import MaskingConfig
from corpusmith.objective.statistics import TermStatistics, count_terms, words_begin
from corpusmith.vocabulary.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Masked:
    """`ids[T]` with tokens hidden; `places[M]`, ascending, where these stand, and `targets[M]`, what they were."""

    ids: np.ndarray
    places: np.ndarray
    targets: np.ndarray


def ordinary_tokens(tokenizer: Tokenizer) -> np.ndarray:
    """`bool[V]`, False for special tokens."""
    found = np.ones(tokenizer.size, dtype=bool)
    found[tokenizer.special_ids] = False
    return found


class Masking:
    """Hides tokens as its options say; special tokens are never hidden.

    Args:
        config: the options.
        tokenizer: of the tokens.
        data: what is trained on; needed, and counted, only where tokens are chosen by importance.

    Raises:
        ModelError: the vocabulary has no mask token, or the options want `data` and there is none.
    """

    def __init__(self, config: MaskingConfig, tokenizer: Tokenizer, data: TrainingData | None = None) -> None:
        if tokenizer.mask is None:
            raise ModelError(
                "the tokenizer has no mask token, so nothing can be hidden from the model; choose a base model with "
                "one, or train with the contrastive objective only."
            )
        self.config = config
        self.mask_id = tokenizer.mask
        self.is_ordinary = ordinary_tokens(tokenizer)
        self.ordinary_ids = np.flatnonzero(self.is_ordinary)
        self.is_word_start = tokenizer.is_word_start
        self.terms: TermStatistics | None = None
        if config.choose == "importance":
            if data is None:
                raise ModelError("this objective cannot choose what it hides by importance; set choose = 'random'.")
            self.terms = count_terms(data.passages, data.rows, tokenizer.size)

    def rate(self, progress: float) -> float:
        """The masking rate when this share of training lies behind."""
        return _between(self.config.masking_rate, self.config.final_rate, progress)

    def __call__(
        self, ids: np.ndarray, lengths: np.ndarray, draws: np.ndarray, progress: float | None = None
    ) -> Masked:
        """Hide tokens of packed sequences.

        Args:
            ids: `int64[T]`.
            lengths: `int64[B]` tokens of each sequence.
            draws: `float[T, 3]`, uniform in [0, 1): which tokens, behind what, which random token.
            progress: share of training that lies behind (`Objective.progress`).

        Raises:
            ModelError: masking is to change over training and `progress` is not given.
        """
        if progress is None and self.config.varies:
            raise ModelError(
                "this objective hides tokens in the same way throughout; leave out final_rate, final_mask_share and "
                "strategy_from."
            )
        progress = progress or 0.0
        places = np.flatnonzero(self._choose(ids, lengths, draws[:, 0], progress))
        what, which = draws[places, 1], draws[places, 2]
        random_ids = self.ordinary_ids[(which * len(self.ordinary_ids)).astype(np.int64)]
        mask_share = _between(self.config.mask_share, self.config.final_mask_share, progress)
        is_masked = what < mask_share
        is_random = ~is_masked & (what < mask_share + self.config.random_share)
        hidden = ids.copy()
        hidden[places[is_masked]] = self.mask_id
        hidden[places[is_random]] = random_ids[is_random]
        return Masked(hidden, places, ids[places])

    def _choose(self, ids: np.ndarray, lengths: np.ndarray, draws: np.ndarray, progress: float) -> np.ndarray:
        """`bool[T]`: words in the order drawn, until a sequence's share is reached; at least one where there is any."""
        has_strategy = progress >= self.config.strategy_from
        sequence = np.repeat(np.arange(len(lengths)), lengths)
        maskable = self.is_ordinary[ids]
        word = np.arange(len(ids))
        if self.config.whole_words and has_strategy:
            word = np.cumsum(words_begin(ids, sequence, self.is_word_start, self.is_ordinary)) - 1
        word_start = np.flatnonzero(np.diff(word, prepend=-1))
        word_length = np.bincount(word)
        first = draws[word_start]
        if self.terms is not None and has_strategy:
            first = -np.log1p(-first) / np.maximum.reduceat(self.terms.bm25(ids, lengths), word_start)
        key = np.where(maskable, first[word], np.inf)
        order = np.lexsort((word, key, sequence))
        rank = np.empty(len(ids), dtype=np.int64)
        rank[order] = np.arange(len(ids))
        rank -= np.repeat(np.cumsum(lengths) - lengths, lengths)
        hidden_before = np.minimum.reduceat(rank, word_start)[word]
        wanted = self.rate(progress) * np.bincount(sequence, maskable, minlength=len(lengths))
        fits = hidden_before + word_length[word] / 2 <= np.round(wanted)[sequence]
        return maskable & (fits | (hidden_before == 0))


def _between(first: float, last: float | None, progress: float) -> float:
    """What moves in a straight line from `first` to `last`; `first` throughout where there is no last."""
    return first if last is None else first + (last - first) * progress

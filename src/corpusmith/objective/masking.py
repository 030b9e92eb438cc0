"""Which tokens are hidden, and behind what.

Rates are met exactly, sequence by sequence, rather than on average: a short passage otherwise often has nothing to
predict, and the cost of a batch would vary. All randomness is taken beforehand as three numbers a token, in the order
of the tokens, so that a batch masked in parts is masked like the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from corpusmith.errors import ModelError
from corpusmith.objective.config import MaskingConfig
from corpusmith.vocabulary.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Masked:
    """`ids[T]` with tokens hidden; `places[M]`, ascending, where these stand, and `targets[M]`, what they were."""

    ids: np.ndarray
    places: np.ndarray
    targets: np.ndarray


class Masking:
    """Hides tokens as its options say; special tokens are never hidden.

    Raises:
        ModelError: the vocabulary has no mask token.
    """

    def __init__(self, config: MaskingConfig, tokenizer: Tokenizer) -> None:
        if tokenizer.mask is None:
            raise ModelError(
                "the tokenizer has no mask token, so nothing can be hidden from the model; choose a base model with "
                "one, or train with the contrastive objective only."
            )
        self.config = config
        self.mask_id = tokenizer.mask
        self.is_ordinary = np.ones(tokenizer.size, dtype=bool)
        self.is_ordinary[tokenizer.special_ids] = False
        self.ordinary_ids = np.flatnonzero(self.is_ordinary)
        self.is_word_start = tokenizer.is_word_start

    def __call__(self, ids: np.ndarray, lengths: np.ndarray, draws: np.ndarray) -> Masked:
        """Hide tokens of packed sequences.

        Args:
            ids: `int64[T]`.
            lengths: `int64[B]` tokens of each sequence.
            draws: `float[T, 3]`, uniform in [0, 1): which tokens, behind what, which random token.
        """
        places = np.flatnonzero(self._choose(ids, lengths, draws[:, 0]))
        what, which = draws[places, 1], draws[places, 2]
        random_ids = self.ordinary_ids[(which * len(self.ordinary_ids)).astype(np.int64)]
        is_masked = what < self.config.mask_share
        is_random = ~is_masked & (what < self.config.mask_share + self.config.random_share)
        hidden = ids.copy()
        hidden[places[is_masked]] = self.mask_id
        hidden[places[is_random]] = random_ids[is_random]
        return Masked(hidden, places, ids[places])

    def _choose(self, ids: np.ndarray, lengths: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """`bool[T]`: words in random order, until a sequence's share is reached; at least one where there is any."""
        sequence = np.repeat(np.arange(len(lengths)), lengths)
        maskable = self.is_ordinary[ids]
        word = self._words(ids, sequence, maskable)
        word_start = np.flatnonzero(np.diff(word, prepend=-1))
        word_length = np.bincount(word)
        key = np.where(maskable, draws[word_start][word], 2.0)
        order = np.lexsort((word, key, sequence))
        rank = np.empty(len(ids), dtype=np.int64)
        rank[order] = np.arange(len(ids))
        rank -= np.repeat(np.cumsum(lengths) - lengths, lengths)
        hidden_before = np.minimum.reduceat(rank, word_start)[word]
        wanted = self.config.masking_rate * np.bincount(sequence, maskable, minlength=len(lengths))
        fits = hidden_before + word_length[word] / 2 <= np.round(wanted)[sequence]
        return maskable & (fits | (hidden_before == 0))

    def _words(self, ids: np.ndarray, sequence: np.ndarray, maskable: np.ndarray) -> np.ndarray:
        """`int64[T]` number of each token's word, ascending; without `whole_words` every token is one."""
        if not self.config.whole_words:
            return np.arange(len(ids))
        begins = self.is_word_start[ids] | ~maskable | ~np.append(False, maskable[:-1])
        begins |= np.diff(sequence, prepend=-1) > 0
        return np.cumsum(begins) - 1

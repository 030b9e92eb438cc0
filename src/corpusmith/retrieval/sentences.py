"""The sentences of tokenised passages, to be encoded one by one.

They are found by their tokens, so that nothing is read or tokenised again and every vocabulary and script has some:
what ends with a token that ends sentences, taken together with the next where it is short, and cut evenly where it is
long or where stops are missing. Only what the model reads of a passage counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from corpusmith.corpus.shards import TokenShards
from corpusmith.retrieval.base import Progress
from corpusmith.retrieval.dense import DenseRetriever
from corpusmith.retrieval.vectors import encode_to_file
from corpusmith.vocabulary.sentence_ends import sentence_ends
from corpusmith.vocabulary.tokenizer import Tokenizer

SHORTEST, LONGEST = 8, 64
"""Tokens below which a sentence goes with the next, and above which it is cut."""


class Sentences:
    """Sentences of P passages, numbered end to end: those of passage p are `first[p]` to `first[p + 1]`, int64 [P+1].

    Args:
        passages: token ids of each, without special tokens.
        tokenizer: tells which tokens end a sentence.
        limit: tokens of a passage that count.
    """

    def __init__(self, passages: TokenShards | Sequence[np.ndarray], tokenizer: Tokenizer, limit: int) -> None:
        self._passages, self._is_end, self._limit = passages, sentence_ends(tokenizer), limit
        counts = [len(self._stops(passage)) for passage in range(len(passages))]
        self.first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self.first[-1])

    def tokens(self, start: int, stop: int) -> list[np.ndarray]:
        """The token ids of the sentences from number `start` to `stop` (exclusive)."""
        if stop <= start:
            return []
        first, last = np.searchsorted(self.first, [start, stop - 1], side="right").tolist()
        found: list[np.ndarray] = []
        for passage in range(first - 1, last):
            found += np.split(self._read(passage), self._stops(passage)[:-1])
        skipped = start - int(self.first[first - 1])
        return [part for part in found if len(part)][skipped : skipped + stop - start]

    def _read(self, passage: int) -> np.ndarray:
        return self._passages[passage][: self._limit]

    def _stops(self, passage: int) -> list[int]:
        """Where the sentences of a passage end; none of an empty one."""
        tokens = self._read(passage)
        stops: list[int] = []
        start = 0
        for end in [*(np.flatnonzero(self._is_end[tokens]) + 1).tolist(), len(tokens)]:
            if end - start < SHORTEST and end < len(tokens):
                continue
            parts = -(-(end - start) // LONGEST)
            stops += [start + (end - start) * part // parts for part in range(1, parts + 1)]
            start = end
        return stops


def encode_sentences(
    sentences: Sentences, retriever: DenseRetriever, path: Path, progress: Progress | None, scratch: Path
) -> None:
    """Write the vectors of all sentences to `path`, float16 `[len(sentences), D]`: there are ten times as many as of
    passages, and to choose the best of a few half the bits are enough. An interrupted call goes on where it was."""

    def fill(start: int, stop: int, out: np.ndarray, progress: Progress) -> None:
        retriever.encode_tokens(stop - start, lambda a, b: sentences.tokens(start + a, start + b), out, progress)

    key = retriever.backend.arithmetic
    encode_to_file(path, len(sentences), retriever.dimension, fill, progress, key, scratch, np.float16)

"""Spans of passages: crops, sentences, and the heading that passages of a document share.

A passage's tokens begin with its document's title and its section's heading. A query drawn from there would be found
by them alone, so queries are drawn from behind what a passage's beginning has in common with its neighbours'.
"""

from __future__ import annotations

import numpy as np

from corpusmith.corpus.shards import TokenShards
from corpusmith.vocabulary.tokenizer import Tokenizer

SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！")
LONGEST_HEADING = 64
"""Tokens beyond which a common beginning is text that was copied."""
ROWS_AT_A_TIME = 65536
SAMPLE = 256
"""Sentences from which their mean length is estimated."""


def sentence_ends(tokenizer: Tokenizer) -> np.ndarray:
    """`bool[size]`: tokens that end a sentence."""
    is_end = np.zeros(tokenizer.size, dtype=bool)
    is_end[[ids[-1] for ids in tokenizer.encode(SENTENCE_ENDS) if len(ids)]] = True
    is_end[tokenizer.special_ids] = False
    return is_end


class SentenceSpans:
    """Draws sentences, as far as their last token tells where they end.

    Args:
        tokenizer: names the tokens that end a sentence.
        shortest: a sentence with fewer tokens is taken together with the next.
        longest: a sentence with more is cut.
    """

    def __init__(self, tokenizer: Tokenizer, shortest: int, longest: int) -> None:
        self.shortest, self.longest = shortest, longest
        self.is_end = sentence_ends(tokenizer)

    def draw(self, ids: np.ndarray, begin: int, rng: np.random.Generator) -> tuple[int, int]:
        """Where a sentence of `ids[begin:]` starts and stops; at most half of them where there is only one sentence,
        so that some of a passage with two or more tokens is always left."""
        which, where = rng.random(2)
        room = len(ids) - begin
        stops = begin + 1 + np.flatnonzero(self.is_end[ids[begin:]])
        starts = np.append(begin, stops)
        starts = starts[starts <= max(begin, len(ids) - self.shortest)]
        start = int(starts[int(which * len(starts))])
        later = stops[stops >= start + self.shortest]
        stop = min(int(later[0]) if len(later) else len(ids), start + self.longest)
        if stop - start < room:
            return start, stop
        length = min(max(1, room // 2), self.longest)
        start = begin + int(where * (room - length + 1))
        return start, start + length

    def cut(
        self, ids: np.ndarray, begin: int, keep_rate: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A sentence of `ids[begin:]`, and the whole without it, or with it at the rate `keep_rate`."""
        start, stop = self.draw(ids, begin, rng)
        keeps = rng.random() < keep_rate or stop - start == len(ids)
        return ids[start:stop], ids if keeps else np.concatenate([ids[:start], ids[stop:]])

    def mean_length(
        self, passages: TokenShards, rows: np.ndarray, begins: np.ndarray, rng: np.random.Generator
    ) -> float:
        """Mean tokens of a sentence drawn from these passages, from a sample of them."""
        sample = rng.choice(len(rows), min(len(rows), SAMPLE), replace=False)
        spans = [self.draw(passages[rows[i]], int(begins[i]), rng) for i in sample]
        return float(np.mean([stop - start for start, stop in spans]))


def draw_crop(ids: np.ndarray, shortest: float, longest: float, rng: np.random.Generator) -> np.ndarray:
    """A run of consecutive tokens between `shortest` and `longest` of the whole, as shares; at least one token."""
    share, where = rng.random(2)
    length = max(1, round((shortest + share * (longest - shortest)) * len(ids)))
    start = int(where * (len(ids) - length + 1))
    return ids[start : start + length]


def delete_tokens(ids: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """`ids` without those that chance takes at this rate; the likeliest to stay always stays."""
    draws = rng.random(len(ids))
    return ids[(draws >= rate) | (draws == draws.max())]


def headings(passages: TokenShards, documents: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`int64[len(rows)]`: tokens at the beginning of each of these passages that are its title and heading, as far as
    a neighbour in the document has them too. 0 where there is none, and where hardly anything would follow."""
    found = np.zeros(len(rows), dtype=np.int64)
    for first in range(0, len(rows), ROWS_AT_A_TIME):
        part = rows[first : first + ROWS_AT_A_TIME]
        shared = [_shared(passages, documents, part, part + step) for step in (-1, 1)]
        found[first : first + ROWS_AT_A_TIME] = np.maximum(*shared)
    return np.where((found < LONGEST_HEADING) & (passages.lengths[rows] - found >= 2), found, 0)


def _shared(passages: TokenShards, documents: np.ndarray, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Tokens that each passage and another one of the same document have in common at their beginning."""
    others = others.clip(0, len(documents) - 1)
    lengths = np.minimum(passages.lengths[rows], passages.lengths[others])
    lengths = np.where((documents[rows] == documents[others]) & (rows != others), lengths, 0)
    width = min(LONGEST_HEADING, int(lengths.max(initial=0)))
    if width == 0:
        return np.zeros(len(rows), dtype=np.int64)
    columns = np.arange(width)
    last = passages.n_tokens - 1
    one, other = (
        passages.tokens[np.minimum(passages.offsets[which][:, None] + columns, last)] for which in (rows, others)
    )
    same = (one == other) & (columns < lengths[:, None])
    return np.where(same.all(axis=1), width, same.argmin(axis=1))

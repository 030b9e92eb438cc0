"""What objectives train on: token shards of the passages, and pairs made from the corpus or from labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from corpusmith.corpus.shards import TokenShards


@dataclass(frozen=True, slots=True)
class PairSet:
    """N (query, positive) pairs, with M negatives each and, optionally, a teacher's scores.

    Token shards hold no special tokens. `negatives[N, M]` are rows of the passage shards, -1 where there are fewer;
    `scores[N, 1+M]` are the teacher's, for the positive and then the negatives, NaN where unknown, None without a
    teacher; `documents[N]` is the positive's document, so that two passages of one document are never taken for
    each other's negatives; `kinds[N]` indexes `kind_names`.
    """

    queries: TokenShards
    positives: TokenShards
    negatives: np.ndarray
    documents: np.ndarray
    kinds: np.ndarray
    kind_names: tuple[str, ...]
    scores: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.documents)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """`passages` holds every passage's content tokens by row; `rows` those that may be trained on (the validation
    slice and duplicates left out); `documents[row]` is each passage's document, ascending; `links[L, 2]` are documents
    that refer to others, (from, to)."""

    passages: TokenShards
    rows: np.ndarray
    documents: np.ndarray
    pairs: PairSet | None = None
    links: np.ndarray | None = None


def draw_negatives(negatives: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """`int64[B, K]` columns of `negatives[B, M]`, drawn for each query without repetition, at most `most`; -1 stands
    where there are fewer, in both."""
    key = np.where(negatives >= 0, rng.random(negatives.shape), 2.0)
    drawn = np.argsort(key, axis=1)[:, :most]
    return np.where(np.take_along_axis(key, drawn, axis=1) < 2.0, drawn, -1)

"""Which examples make which batch.

A batch is a number of tokens, not of examples: its cost is then the same whatever the lengths. Examples are shuffled,
sorted by length within large pools, cut into batches, and the batches shuffled: inside a batch lengths are alike (the
encoder's attention works on groups of equal length, so little is wasted), while a pool of many batches keeps what
meets in a batch nearly random. Everything derives from (seed, epoch): a resumed run needs no saved state to find its
place, only the number of the next step.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

POOL_BATCHES = 32
"""Batches' worth of examples that are sorted by length together."""

BATCHES, STEPS, SPLIT, HELD_OUT, DROPOUT = range(5)
"""What randomness is drawn for: the second part of a generator's seed, so that no two streams are the same."""


def epoch_batches(
    lengths: np.ndarray, batch_tokens: int, seed: int, epoch: int, *, sort: bool = True
) -> list[np.ndarray]:
    """The batches of one epoch: arrays of example numbers, every example in exactly one.

    Args:
        lengths: `int[N]` tokens of each example.
        batch_tokens: most tokens of a batch; only a batch of a single, longer example exceeds it.
        seed: with `epoch`, determines the result.
        epoch: from 0.
        sort: whether to bring examples of like length together.
    """
    rng = np.random.default_rng([seed, BATCHES, epoch])
    order = rng.permutation(len(lengths))
    if sort:
        order = _sorted_in_pools(order, lengths, batch_tokens)
    batches = cut(order, lengths, batch_tokens)
    return [batches[i] for i in rng.permutation(len(batches))]


def _sorted_in_pools(order: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> np.ndarray:
    """Sort each pool by length, every second one downwards, so that neighbours across a border are alike too."""
    pool = max(1, round(POOL_BATCHES * batch_tokens / max(1.0, float(lengths.mean()))))
    pools = [order[start : start + pool] for start in range(0, len(order), pool)]
    sorted_pools = [part[np.argsort(lengths[part], kind="stable")] for part in pools]
    return np.concatenate([part[::-1] if i % 2 else part for i, part in enumerate(sorted_pools)])


def cut(order: np.ndarray, lengths: np.ndarray, most_tokens: int) -> list[np.ndarray]:
    """Cut `order` (example numbers) into consecutive runs of at most `most_tokens`, a longer example by itself."""
    ends = np.cumsum(lengths[order])
    parts, start, spent = [], 0, 0
    while start < len(order):
        stop = max(start + 1, int(np.searchsorted(ends, spent + most_tokens, side="right")))
        parts.append(order[start:stop])
        start, spent = stop, int(ends[stop - 1])
    return parts


def batches_from(
    lengths: np.ndarray, batch_tokens: int, seed: int, first: int = 0, *, sort: bool = True
) -> Iterator[np.ndarray]:
    """Batches without end, epoch after epoch, from the batch number `first` on (0 is the first of all)."""
    epoch = 0
    while True:
        batches = epoch_batches(lengths, batch_tokens, seed, epoch, sort=sort)
        yield from batches[first:]
        first = max(0, first - len(batches))
        epoch += 1

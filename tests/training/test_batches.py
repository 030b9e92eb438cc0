from __future__ import annotations

from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.training.batches import batches_from, cut, epoch_batches

some_lengths = st.lists(st.integers(1, 60), min_size=1, max_size=200).map(np.array)


@given(some_lengths, st.integers(1, 200), st.integers(0, 2**31), st.integers(0, 5), st.booleans())
def test_every_example_is_in_exactly_one_batch_of_an_epoch(lengths, batch_tokens, seed, epoch, sort):
    batches = epoch_batches(lengths, batch_tokens, seed, epoch, sort=sort)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))


@given(some_lengths, st.integers(1, 200), st.integers(0, 2**31), st.booleans())
def test_a_batch_exceeds_its_tokens_only_for_a_single_example(lengths, batch_tokens, seed, sort):
    for batch in epoch_batches(lengths, batch_tokens, seed, 0, sort=sort):
        assert lengths[batch].sum() <= batch_tokens or len(batch) == 1


@given(some_lengths, st.integers(1, 200), st.integers(0, 2**31))
def test_same_seed_and_epoch_give_the_same_batches(lengths, batch_tokens, seed):
    first, second = (epoch_batches(lengths, batch_tokens, seed, 1) for _ in range(2))
    assert [b.tolist() for b in first] == [b.tolist() for b in second]


def test_epochs_and_seeds_differ():
    lengths = np.full(100, 10)
    orders = [
        np.concatenate(epoch_batches(lengths, 50, seed, epoch)).tolist() for seed, epoch in [(0, 0), (0, 1), (1, 0)]
    ]
    assert len({tuple(order) for order in orders}) == 3


@given(some_lengths, st.integers(20, 200), st.integers(0, 40))
def test_starting_later_gives_the_batches_that_come_later(lengths, batch_tokens, first):
    from_start = list(islice(batches_from(lengths, batch_tokens, 5), first + 3))
    from_first = list(islice(batches_from(lengths, batch_tokens, 5, first), 3))
    assert [b.tolist() for b in from_start[first:]] == [b.tolist() for b in from_first]


def test_lengths_inside_a_batch_are_alike_and_batches_are_not_in_order_of_length():
    lengths = np.random.default_rng(0).integers(5, 250, 5000)
    batches = epoch_batches(lengths, 4096, 0, 0)
    spread = np.mean([np.ptp(lengths[batch]) for batch in batches])
    unsorted = np.mean([np.ptp(lengths[batch]) for batch in epoch_batches(lengths, 4096, 0, 0, sort=False)])
    assert spread < unsorted / 8
    means = np.array([lengths[batch].mean() for batch in batches])
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.3


def test_cutting_keeps_the_order():
    parts = cut(np.array([3, 1, 0, 2]), np.array([4, 4, 9, 4]), 8)
    assert [part.tolist() for part in parts] == [[3, 1], [0], [2]]

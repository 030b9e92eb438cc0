from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.growth.examples import shape

from corpusmith.growth.axes import Axes
from corpusmith.growth.copies import Copies, copies, spread, widen


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 30), st.integers(0, 70), st.integers(0, 5))
def test_old_places_come_first_and_none_is_taken_over_twice_more_than_another(old: int, more: int, seed: int) -> None:
    source = spread(old, old + more, generator(seed))
    assert source[:old].tolist() == list(range(old))
    counts = torch.bincount(source, minlength=old)
    assert int(counts.sum()) == old + more
    assert int(counts.max() - counts.min()) <= 1


@given(st.integers(1, 12), st.integers(0, 30), st.integers(0, 5))
def test_turns_count_the_copies_of_a_place(old: int, more: int, seed: int) -> None:
    source = spread(old, old + more, generator(seed))
    source = source[torch.randperm(len(source), generator=generator(seed))]
    turns = Copies(old, source, torch.ones(len(source))).turn.tolist()
    seen: dict[int, int] = {}
    for place, turn in zip(source.tolist(), turns, strict=True):
        assert turn == seen.get(place, 0)
        seen[place] = turn + 1


def test_balanced_numbers_sum_to_zero_over_the_copies_of_each_place() -> None:
    source = torch.tensor([0, 1, 2, 0, 2, 2])
    balanced = Copies(3, source, torch.ones(6)).balanced(torch.randn(4, 6, generator=generator()))
    for place in range(3):
        torch.testing.assert_close(balanced[:, source == place].sum(1), torch.zeros(4), atol=1e-6, rtol=0)
    assert balanced[:, source == 2].abs().min() > 1e-3
    assert not balanced[:, source == 1].any()


def test_a_weight_widened_by_copies_is_the_product_of_three_matrices() -> None:
    maps = copies(shape("bert"), shape("bert", hidden_size=36, heads=3, intermediate_size=52), generator())
    axes = Axes(("to_query", "to_key", "to_value"), "from_stream")
    weight = torch.randn(72, 24, generator=generator(1))
    parts = [maps[axis].matrix @ part for axis, part in zip(axes.rows, weight.chunk(3), strict=True)]
    torch.testing.assert_close(widen(weight, axes, maps), torch.cat(parts) @ maps["from_stream"].matrix.T)


def test_what_is_taken_in_is_divided_by_its_copies_with_noise_or_without() -> None:
    maps = copies(shape("bert"), shape("bert", intermediate_size=110), generator())
    weight = torch.randn(24, 48, generator=generator(1))
    grown = maps["from_inner"]
    plain = widen(weight, Axes(("to_stream",), "from_inner"), maps)
    torch.testing.assert_close(plain, weight[:, grown.source] / grown.counts[grown.source])
    noisy = widen(weight, Axes(("to_stream",), "from_inner"), maps, 0.5, generator(2))
    for found in (plain, noisy):
        summed = torch.zeros(24, 48).index_add_(1, grown.source, found)
        torch.testing.assert_close(summed, weight)
    share = (noisy - plain).std() / plain.std()
    assert 0.25 < share < 0.5  # 0.5 less what balancing takes away


def test_only_what_takes_copies_in_gets_noise() -> None:
    maps = copies(shape("bert"), shape("bert", hidden_size=48, heads=4), generator())
    table = torch.randn(10, 24, generator=generator(1))
    assert torch.equal(widen(table, Axes((None,), "to_stream"), maps, 0.5, generator()), table[:, list(range(24)) * 2])
    bias = torch.randn(10, generator=generator(1))
    assert torch.equal(widen(bias, Axes((None,)), maps, 0.5, generator()), bias)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize(
    "sizes", [{"hidden_size": 48}, {"hidden_size": 72, "heads": 3}, {"hidden_size": 72, "heads": 6}]
)
def test_scores_of_widened_heads_are_those_of_the_old_ones(family: str, sizes: dict[str, int]) -> None:
    small, large = shape(family), shape(family, **sizes)
    maps = copies(small, large, generator())
    query, key = torch.randn(2, small.hidden_size, generator=generator(1))
    products = maps["to_query"].along(query, 0) * maps["to_key"].along(key, 0)
    scores = products.view(large.heads, large.head_size).sum(1) / math.sqrt(large.head_size)
    old = (query * key).view(small.heads, small.head_size).sum(1) / math.sqrt(small.head_size)
    heads = maps["to_value"].source.view(large.heads, -1)[:, 0] // small.head_size
    torch.testing.assert_close(scores, old[heads])


def test_rotary_dimensions_go_where_they_are_turned_by_the_same_angle() -> None:
    small, large = shape("modernbert"), shape("modernbert", hidden_size=72)
    query = copies(small, large, generator())["to_query"]
    turned = [query.source[:36][half].tolist() for half in (slice(0, 18), slice(18, 36))]
    for place in range(18):
        if query.scale[place]:
            assert place / large.head_size == turned[0][place] / small.head_size
            assert turned[1][place] == turned[0][place] + 6
    assert int((query.scale[:36] > 0).sum()) == 12

"""Attention by length groups against attention written out plainly, one sequence at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith.model import attention
from corpusmith.model.attention import AttentionLayout, attend

HEADS, SIZE = 3, 12
LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=20)


def plain(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lengths: list[int],
    window: int | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """softmax(Q K^T / sqrt(d)) V, sequence by sequence."""
    pieces = []
    for i, (q, k, v) in enumerate(zip(*(x.split(lengths) for x in (queries, keys, values)), strict=True)):
        length = len(q)
        q, k, v = (x.view(length, HEADS, -1).transpose(0, 1) for x in (q, k, v))
        scores = q @ k.transpose(1, 2) / (SIZE // HEADS) ** 0.5
        place = torch.arange(length)
        if window is not None:
            scores = scores.masked_fill((place[:, None] - place).abs() > window, -torch.inf)
        if mask is not None:
            scores = scores.masked_fill(~mask[i, :length, :length], -torch.inf)
        pieces.append((scores.softmax(-1) @ v).transpose(0, 1).reshape(length, SIZE))
    return torch.cat(pieces)


def inputs(lengths: list[int], scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths))
    q, k, v = (torch.randn(sum(lengths), SIZE, generator=generator) * scale for _ in range(3))
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_()


def random_mask(lengths: list[int]) -> torch.Tensor:
    """Half of all keys are seen, the first one always; nothing is said about what lies beyond a sequence's end."""
    longest = max(lengths)
    mask = torch.rand(len(lengths), longest, longest, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[:, :, 0] = True
    return mask


def assert_same_values_and_gradients(lengths: list[int], scale: float = 1.0, **how: object) -> None:
    found, expected = inputs(lengths, scale), inputs(lengths, scale)
    ours = attend(*found, AttentionLayout(lengths), HEADS, **how)
    theirs = plain(*expected, lengths, **how)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    direction = torch.linspace(-1, 1, ours.numel()).view(ours.shape)
    (ours * direction).sum().backward()
    (theirs * direction).sum().backward()
    for mine, yours in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.grad, yours.grad, atol=2e-5 * max(1, scale), rtol=1e-3)


@settings(max_examples=30, deadline=None)
@given(LENGTHS)
def test_any_lengths_in_any_order(lengths: list[int]) -> None:
    assert_same_values_and_gradients(lengths)


@settings(max_examples=15, deadline=None)
@given(LENGTHS)
def test_with_a_mask_for_each_sequence(lengths: list[int]) -> None:
    assert_same_values_and_gradients(lengths, mask=random_mask(lengths))


@settings(max_examples=15, deadline=None)
@given(LENGTHS, st.integers(1, 12))
def test_with_a_window(lengths: list[int], window: int) -> None:
    assert_same_values_and_gradients(lengths, window=window)


def test_scores_too_large_for_exp_are_shifted() -> None:
    assert_same_values_and_gradients([7, 9, 30, 29], scale=20.0)
    assert_same_values_and_gradients([7, 9, 30, 29], scale=20.0, mask=random_mask([7, 9, 30, 29]))


def test_scores_too_small_for_exp_are_shifted() -> None:
    queries = torch.full((6, SIZE), 30.0)
    values = torch.randn(6, SIZE, generator=torch.Generator().manual_seed(0))
    out = attend(queries, -queries, values, AttentionLayout([4, 2]), HEADS)
    torch.testing.assert_close(out, torch.cat([values[:4].mean(0).expand(4, -1), values[4:].mean(0).expand(2, -1)]))


def test_a_query_that_may_see_nothing_gets_zeros_and_no_gradient() -> None:
    queries, keys, values = inputs([3, 4])
    mask = torch.ones(2, 4, 4, dtype=torch.bool)
    mask[0, 1] = False
    out = attend(queries, keys, values, AttentionLayout([3, 4]), HEADS, mask=mask)
    out.sum().backward()
    assert torch.equal(out[1], torch.zeros(SIZE))
    assert torch.equal(queries.grad[1], torch.zeros(SIZE))
    assert torch.isfinite(keys.grad).all()
    assert torch.isfinite(values.grad).all()


@pytest.mark.parametrize("masked", [False, True])
def test_the_fused_kernel_gives_the_same(masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "LARGEST_BLOCK", 0)
    lengths = [9, 30, 1, 28, 29, 9]
    assert_same_values_and_gradients(lengths, window=6, mask=random_mask(lengths) if masked else None)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=100))
def test_groups_hold_every_token_once_with_little_padding(lengths: list[int]) -> None:
    layout = AttentionLayout(lengths)
    assert sorted(np.concatenate([group.members for group in layout.groups])) == list(range(len(lengths)))
    assert [group.start for group in layout.groups] == [0, *(group.stop for group in layout.groups[:-1])]
    for group in layout.groups:
        block = len(group) * group.length
        padding = block - (group.stop - group.start)
        assert padding <= max(attention.FREE_PADDING, attention.PADDING_ALLOWED * block)
    if lengths == sorted(lengths):
        assert layout.order is None


def test_activation_checkpointing_changes_no_gradient() -> None:
    lengths = [3, 17, 30, 4, 30]
    layout = AttentionLayout(lengths)
    inputs = torch.randn(3, sum(lengths), SIZE, generator=torch.Generator().manual_seed(0))

    def gradient(*, recomputed: bool) -> torch.Tensor:
        leaf = inputs.clone().requires_grad_()

        def run(x: torch.Tensor) -> torch.Tensor:
            return attend(*x, layout, HEADS)

        output = torch.utils.checkpoint.checkpoint(run, leaf, use_reentrant=False) if recomputed else run(leaf)
        output.square().sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    assert len(layout.groups) > 1
    assert torch.equal(gradient(recomputed=True), gradient(recomputed=False))


def plain_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
) -> torch.Tensor:
    """What `torch.nn.attention.varlen.varlen_attn` computes on a GPU, by its documentation."""
    lengths = cu_seq_q.diff().tolist()
    assert cu_seq_q.dtype == torch.int32
    assert (max_q, max_k) == (max(lengths), max(cu_seq_k.diff().tolist()))
    flat = (x.reshape(len(x), -1) for x in (query, key, value))
    return plain(*flat, lengths).view(query.shape)


@given(LENGTHS)
@settings(max_examples=20)
def test_sequences_for_the_gpu_kernel_lie_where_their_borders_say(lengths: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.nn.attention.varlen.varlen_attn", plain_varlen)
        patch.setattr(attention, "_flash_takes", lambda queries, heads: True)
        assert_same_values_and_gradients(lengths)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_kernel_gives_the_values_of_the_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [5, 64, 1, 17, 17]
    found = [torch.randn(sum(lengths), 48, generator=generator).bfloat16() for _ in range(3)]
    expected = attend(*(x.float() for x in found), AttentionLayout(lengths), 3)
    ours = attend(*(x.cuda() for x in found), AttentionLayout(lengths, "cuda"), 3)
    torch.testing.assert_close(ours.float().cpu(), expected, atol=2e-2, rtol=2e-2)

"""Attention over packed sequences, without multiplying padding.

Everything else in a Transformer treats tokens one by one and runs on the packed `[T, ...]` tensors as they are. Only
attention must know where sequences begin and end. Here the sequences of a batch, sorted by length, are cut into groups
of nearly equal length, and each group is one dense block `[b, H, L, d]`: equal lengths are a plain view of the packed
tensor; otherwise its tokens are gathered into the block, and the few keys beyond a sequence's end get no weight.
Padding inside blocks is a few percent, and only attention's own products see it.

Blocks on a CPU are computed step by step, `E = exp(scale * Q K^T)`, `O = E V / rowsum(E)`, which is faster than
`softmax` and than the fused kernel for three reasons. The row's largest score is subtracted only where the sums of rows
show a need: softmax does not change by it, and PyTorch's bf16 softmax has a slow path for row lengths that are no
multiple of 32. The division is done on `O` (`[L, d]`) instead of `E` (`[L, L]`). And
the backward pass reduces no `[L, L]` rows either: with `dO' = dO / rowsum(E)` and `D' = rowsum(dO' * O)`,

    dV = E^T dO',    dS = E * (dO' V^T - D'),    dQ = scale * dS K,    dK = scale * dS^T Q.

On a GPU the packed sequences go to PyTorch's variable-length FlashAttention as they are (Dao, 2023, FlashAttention-2),
where there is one for the dtype and no mask asks for more; what is left, and on a CPU what would not fit in memory,
goes block by block to `scaled_dot_product_attention`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

PADDING_ALLOWED = 0.05
"""A group takes in longer sequences as long as padding stays below this share of its block."""

FREE_PADDING = 32
"""Padded tokens worth having to save the fixed cost of one more group."""

SAFE_SUMS = (1e-18, 1e22)
"""Scores go into exp as they are where the sums of their rows come out between these: sums and quotients are then far
inside the range of a float, and what became 0 beside them is nothing."""

BLOCK = 1 << 18
"""b x L x L beyond which a group takes in no more sequences, so that a block's scores stay in the processor's cache."""

LARGEST_BLOCK = 1 << 27
"""Scores of a block, b x H x L x L, above which they are never written out (512 MiB in float32)."""


@dataclass(frozen=True, slots=True)
class Group:
    """b sequences attended together as a block of L tokens each.

    `start:stop` are their tokens in the sorted batch. Where lengths differ, `pad` (int64 `[b * L]`) gathers these
    tokens into the block (a sequence's first token stands beyond its end), `unpad` (int64 `[stop - start]`) gathers
    them back, and `beyond` (bool `[b, 1, 1, L - shortest]`) marks which of the last keys lie beyond the end. All three
    are None where every sequence has L tokens.
    """

    members: np.ndarray
    start: int
    stop: int
    length: int
    shortest: int
    pad: torch.Tensor | None
    unpad: torch.Tensor | None
    beyond: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.members)

    def block(self, packed: torch.Tensor, heads: int) -> torch.Tensor:
        """`[T, D]` packed to this group's `[b * H, L, d]`, contiguous."""
        tokens = packed[self.start : self.stop]
        if self.pad is not None:
            tokens = tokens.index_select(0, self.pad)
        split = tokens.reshape(len(self), self.length, heads, -1).transpose(1, 2)
        return split.reshape(len(self) * heads, self.length, -1)

    def unblock(self, block: torch.Tensor, heads: int, packed: torch.Tensor) -> None:
        """Write a block `[b * H, L, d]` to its place in `packed`, `[T, D]`."""
        tokens = block.view(len(self), heads, self.length, -1).transpose(1, 2)
        target = packed[self.start : self.stop]
        if self.unpad is None:
            target.view(tokens.shape).copy_(tokens)
        else:
            torch.index_select(tokens.reshape(len(self) * self.length, -1), 0, self.unpad, out=target)


class AttentionLayout:
    """Where the sequences of a batch lie and how attention groups them: made once, used by every layer.

    Attributes:
        lengths: int64 `[B]`, tokens of each sequence.
        positions: int64 `[T]`, position of each token within its sequence.
        order, inverse: int64 `[T]`, the permutation that sorts the batch by length and its inverse; None when the
            batch is sorted already (then no token is ever moved).
        groups: of the sorted batch.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray | torch.Tensor, device: torch.device | str = "cpu") -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.device = torch.device(device)
        starts = np.concatenate([[0], np.cumsum(self.lengths)])
        self.positions = self._tensor(_ramps(self.lengths))
        by_length = np.argsort(self.lengths, kind="stable")
        self.order: torch.Tensor | None = None
        self.inverse: torch.Tensor | None = None
        if (by_length[1:] < by_length[:-1]).any():
            order = np.repeat(starts[by_length], self.lengths[by_length]) + _ramps(self.lengths[by_length])
            self.order, self.inverse = self._tensor(order), self._tensor(np.argsort(order))
        self.groups: list[Group] = []
        start = 0
        for first, last in _runs(self.lengths[by_length]):
            self.groups.append(self._group(by_length[first:last], start))
            start = self.groups[-1].stop

    @cached_property
    def borders(self) -> torch.Tensor:
        """int32 `[B + 1]` on the device: where each of the sorted sequences begins, and the end."""
        return self._tensor(np.concatenate([[0], np.cumsum(np.sort(self.lengths))]).astype(np.int32))

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return int(self.lengths.max())

    def sorted(self) -> AttentionLayout:
        """The layout of the same batch once its sequences are sorted by length (tokens permuted by `order`)."""
        if self.order is None:
            return self
        twin = copy.copy(self)
        by_length = np.argsort(self.lengths, kind="stable")
        twin.lengths = self.lengths[by_length]
        twin.positions = self.positions[self.order]
        twin.order = twin.inverse = None
        places = np.argsort(by_length)
        twin.groups = [replace(group, members=places[group.members]) for group in self.groups]
        return twin

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def _group(self, members: np.ndarray, start: int) -> Group:
        lengths = self.lengths[members]
        shortest, longest, tokens = int(lengths[0]), int(lengths[-1]), int(lengths.sum())
        if shortest == longest:
            return Group(members, start, start + tokens, longest, shortest, None, None, None)
        inside = np.arange(longest) < lengths[:, None]
        starts = np.cumsum(lengths) - lengths
        pad = starts[:, None] + np.where(inside, np.arange(longest), 0)
        beyond = ~inside[:, None, None, shortest:]
        return Group(
            members,
            start,
            start + tokens,
            longest,
            shortest,
            self._tensor(pad.ravel()),
            self._tensor(np.flatnonzero(inside)),
            self._tensor(beyond),
        )

    def hidden_keys(self, group: Group, window: int | None, mask: torch.Tensor | None) -> torch.Tensor | None:
        """bool, broadcastable to the group's `[b, H, L, L]`: the keys that a query must not see for another reason
        than lying beyond its sequence's end; None where there is none."""
        hidden: torch.Tensor | None = None
        if window is not None and group.length > window + 1:
            place = torch.arange(group.length, device=self.device)
            hidden = (place[:, None] - place[None, :]).abs() > window
        if mask is not None:
            members = self._tensor(group.members)
            blocked = ~mask[members, : group.length, : group.length].unsqueeze(1)
            hidden = blocked if hidden is None else blocked | hidden
        return hidden


def attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    layout: AttentionLayout,
    heads: int,
    window: int | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scaled dot-product attention of every sequence with itself; differentiable in queries, keys and values.

    Args:
        queries, keys, values: `[T, D]` packed, in the layout's order of sequences; heads lie side by side in D.
        layout: the sequences' lengths and groups.
        heads: H.
        window: a token sees the tokens at most this far to either side; None sees all.
        mask: bool `[B, L, L]` with L at least the longest length, True where a query (row) may see a key (column) of
            its sequence; what lies beyond a sequence's length is not read. A query that may see nothing gets zeros.

    Returns:
        `[T, D]`.
    """
    queries, keys, values = (permute(x, layout.order, layout.inverse) for x in (queries, keys, values))
    if window is None and mask is None and _flash_takes(queries, heads):
        return permute(_attend_flash(queries, keys, values, layout, heads), layout.inverse, layout.order)
    hidden = [layout.hidden_keys(group, window, mask) for group in layout.groups]
    largest = max(len(group) * heads * group.length**2 for group in layout.groups)
    if queries.is_cuda or largest > LARGEST_BLOCK:
        out = _attend_fused(queries, keys, values, layout.groups, heads, hidden)
    elif torch.is_grad_enabled():
        out = _BlockAttention.apply(queries, keys, values, layout.groups, heads, hidden)
    else:
        out = _attend_blocks(queries, keys, values, layout.groups, heads, hidden, None)
    return permute(out, layout.inverse, layout.order)


class _BlockAttention(torch.autograd.Function):
    """The step by step attention of the module's docstring, all groups in one node of the graph."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        groups: list[Group],
        heads: int,
        hidden: list[torch.Tensor | None],
    ) -> torch.Tensor:
        saved: list[torch.Tensor] = []
        out = _attend_blocks(queries, keys, values, groups, heads, hidden, saved)
        ctx.save_for_backward(*saved)
        ctx.groups, ctx.heads, ctx.scale = groups, heads, _scale(queries, heads)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[torch.Tensor | None, ...]:
        gradient, heads, scale = gradients[0], ctx.heads, ctx.scale
        d_queries, d_keys, d_values = (torch.empty_like(gradient) for _ in range(3))
        saved = ctx.saved_tensors  # unpacked once: activation checkpointing allows no second time
        for i, group in enumerate(ctx.groups):
            q, k, v, weights, inverse, o = saved[6 * i : 6 * i + 6]
            d_o = group.block(gradient, heads) * inverse
            if group.beyond is not None:
                d_o.view(len(group), heads, group.length, -1)[:, :, group.shortest :].masked_fill_(
                    group.beyond.transpose(2, 3), 0
                )
            group.unblock(torch.bmm(weights.transpose(1, 2), d_o), heads, d_values)
            inner = (d_o * o).sum(-1, keepdim=True)
            d_scores = torch.baddbmm(inner, d_o, v.transpose(1, 2), beta=-1).mul_(weights)
            d_q = torch.baddbmm(q, d_scores, k, beta=0, alpha=scale)
            d_k = torch.baddbmm(k, d_scores.transpose(1, 2), q, beta=0, alpha=scale)
            group.unblock(d_q, heads, d_queries)
            group.unblock(d_k, heads, d_keys)
        return d_queries, d_keys, d_values, None, None, None


def _attend_blocks(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    groups: list[Group],
    heads: int,
    hidden: list[torch.Tensor | None],
    saved: list[torch.Tensor] | None,
) -> torch.Tensor:
    """The forward pass; what the backward pass wants goes into `saved`. Without it the blocks are given up one after
    the other, so that the next one takes the same memory, which is still in the processor's cache."""
    scale = _scale(queries, heads)
    out = queries.new_empty(queries.shape)
    for group, unseen in zip(groups, hidden, strict=True):
        q, k, v = (group.block(x, heads) for x in (queries, keys, values))
        weights, total = _exponentials(q, k, scale, group, heads, unseen)
        inverse = total.reciprocal()
        if unseen is not None:
            inverse.masked_fill_(total == 0, 0)
        o = torch.bmm(weights, v).mul_(inverse)
        group.unblock(o, heads, out)
        if saved is not None:
            saved += [q, k, v, weights, inverse, o]
        del q, k, v, weights, total, inverse, o
    return out


def _scale(queries: torch.Tensor, heads: int) -> float:
    return (queries.shape[1] // heads) ** -0.5


def _exponentials(
    q: torch.Tensor, k: torch.Tensor, scale: float, group: Group, heads: int, hidden: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`[b * H, L, L]`, exp of the scores, 0 at unseen keys, and `[b * H, L, 1]`, the sums of its rows; of matrices
    with a sum that lies outside `SAFE_SUMS`, the scores are shifted by their row's largest before."""
    weights = _scores(q, k, scale).exp_()
    _hide(weights.view(len(group), heads, group.length, group.length), group, hidden, 0.0)
    total = weights.sum(-1, keepdim=True)
    smallest, largest = (value.item() for value in total.aminmax())
    if not (SAFE_SUMS[0] < smallest and largest < SAFE_SUMS[1]):
        ordinary = ((total > SAFE_SUMS[0]) & (total < SAFE_SUMS[1])).flatten(1).all(1)
        unsafe = (~ordinary).nonzero().squeeze(1)
        shifted = _scores(q, k, scale)
        _hide(shifted.view(len(group), heads, group.length, -1), group, hidden, torch.finfo(shifted.dtype).min)
        shifted = shifted.index_select(0, unsafe)
        shifted.sub_(shifted.amax(-1, keepdim=True)).exp_()
        weights.index_copy_(0, unsafe, shifted)
        _hide(weights.view(len(group), heads, group.length, group.length), group, hidden, 0.0)
        total = weights.sum(-1, keepdim=True)
    return weights, total


def _scores(q: torch.Tensor, k: torch.Tensor, scale: float) -> torch.Tensor:
    return torch.baddbmm(q.new_zeros(1), q, k.transpose(1, 2), beta=0, alpha=scale)


def _hide(scores: torch.Tensor, group: Group, hidden: torch.Tensor | None, value: float) -> None:
    """Write `value` where a key must not be seen; only the last columns can lie beyond a sequence's end."""
    if hidden is not None:
        scores.masked_fill_(hidden, value)
    if group.beyond is not None:
        scores[..., group.shortest :].masked_fill_(group.beyond, value)


def _attend_flash(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, layout: AttentionLayout, heads: int
) -> torch.Tensor:
    """The same by variable-length FlashAttention, on the sorted sequences end to end: no groups, no padding."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x.reshape(len(x), heads, -1) for x in (queries, keys, values))
    out = varlen_attn(q, k, v, layout.borders, layout.borders, layout.longest, layout.longest)
    assert isinstance(out, torch.Tensor)
    return out.reshape(queries.shape)


def _flash_takes(queries: torch.Tensor, heads: int) -> bool:
    """Whether FlashAttention has a kernel for these queries: bf16 heads of a size it knows, on a GPU."""
    size = queries.shape[1] // heads
    return queries.is_cuda and queries.dtype == torch.bfloat16 and size % 8 == 0 and size <= 256


def _attend_fused(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    groups: list[Group],
    heads: int,
    hidden: list[torch.Tensor | None],
) -> torch.Tensor:
    """The same by `scaled_dot_product_attention`, which never writes the scores out."""
    pieces = []
    for group, unseen in zip(groups, hidden, strict=True):
        q, k, v = (group.block(x, heads).view(len(group), heads, group.length, -1) for x in (queries, keys, values))
        seen: torch.Tensor | None = None
        if unseen is not None or group.beyond is not None:
            seen = torch.ones(len(group), 1, group.length, group.length, dtype=torch.bool, device=q.device)
            _hide(seen, group, unseen, False)
            seen = seen | ~seen.any(-1, keepdim=True)  # rows of padding see all, so that no row is 0 / 0
        o = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        tokens = o.transpose(1, 2).reshape(len(group) * group.length, -1)
        pieces.append(tokens if group.unpad is None else tokens.index_select(0, group.unpad))
    return torch.cat(pieces)


class _Permute(torch.autograd.Function):
    """Rows in another order; unlike index_select's own, the backward pass is a gather too, not a sum into zeros."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, order: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(inverse)
        return rows.index_select(0, order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[torch.Tensor | None, ...]:
        return gradients[0].index_select(0, ctx.saved_tensors[0]), None, None


def permute(rows: torch.Tensor, order: torch.Tensor | None, inverse: torch.Tensor | None) -> torch.Tensor:
    """Rows in this order (None: as they are); `inverse` is the permutation that undoes it."""
    return rows if order is None else _Permute.apply(rows, order, inverse)


def _ramps(lengths: np.ndarray) -> np.ndarray:
    """0, 1, ..., for each length in turn."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _runs(lengths: np.ndarray) -> list[tuple[int, int]]:
    """Cut ascending lengths into runs of little padding and bounded size: `(first, last + 1)` of each."""
    runs, first, tokens = [], 0, 0
    for i, length in enumerate(lengths.tolist()):
        block = length * (i + 1 - first)
        padding = block - tokens - length
        wasteful = padding > max(FREE_PADDING, PADDING_ALLOWED * block)
        if i > first and (wasteful or block * length > BLOCK):
            runs.append((first, i))
            first, tokens = i, 0
        tokens += length
    runs.append((first, len(lengths)))
    return runs

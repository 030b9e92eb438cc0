"""How the tokens of a passage are related inside an attention layer, and how far two models differ in it.

Queries, keys and values of a layer are cut into A parts of d dimensions each. The relation of two of them, x and y, is
a distribution over the tokens of the passage for each token and each part,

    R(x, y) = softmax( x y^T / sqrt(d) ),        [A, L, L] for a passage of L tokens,

and the distance of a student's from a teacher's is the divergence, summed over parts and tokens,

    sum_{a, t} KL( R_teacher[a, t] || R_student[a, t] ).

Widths and numbers of layers may differ between the two; parts may not.

Passages are taken in the groups of nearly equal length in which attention itself is computed (`model/attention.py`). A
group's gradient, with dS = (R_student - R_teacher) / sqrt(d) known once R is,

    dx = dS y,    dy = dS^T x,

is computed in the forward pass and kept in place of its [L, L] matrices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from corpusmith.model.attention import AttentionLayout, Group, permute
from corpusmith.model.encoder import Encoder
from corpusmith.model.layers import TransformerLayer
from corpusmith.model.packed import PackedBatch

Pair = tuple[torch.Tensor, torch.Tensor]
"""What is related to what: packed tokens `[T, D]` twice, in the order of a layout's groups."""

LEAST = -1e30
"""A score that gets no share: its exponential is 0, and sums with it stay finite."""


def projections(
    encoder: Encoder, packed: PackedBatch, layer: int, layout: AttentionLayout, turned: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values `[T, D]` of a layer (from 1), passages in the order of `layout`'s groups.

    `turned` applies rotary positions to queries and keys, where the encoder has them. The layers above do not run.
    """
    (hidden,) = encoder.hidden_states(packed, (layer - 1,))
    hidden = permute(hidden, layout.order, layout.inverse)
    part = encoder.layers[layer - 1]
    assert isinstance(part, TransformerLayer)
    if part.norm_first:
        hidden = part.attention_norm(hidden)
    queries, keys, values = part.attention.qkv(hidden).chunk(3, dim=-1)
    rotary = part.attention.rotary
    if turned and rotary is not None:
        positions = layout.sorted().positions
        queries, keys = rotary(queries, positions), rotary(keys, positions)
    return queries, keys, values


def projection_flops(encoder: Encoder, lengths: list[int], layer: int) -> float:
    """Floating-point operations of `projections`."""
    return encoder.flops(lengths, layer - 1) + 2.0 * sum(lengths) * 3 * encoder.config.hidden_size**2


def relation_divergence(student: Pair, teacher: Pair, layout: AttentionLayout, parts: int) -> torch.Tensor:
    """Sum over all tokens and parts of the divergence of the student's relation from the teacher's; float32, with
    gradient into the student's."""
    teacher = (teacher[0].detach(), teacher[1].detach())
    if torch.is_grad_enabled():
        return _RelationDivergence.apply(*student, teacher, layout.groups, parts)
    found = [_of_group(student, teacher, group, parts)[0] for group in layout.groups]
    return torch.stack(found).sum()


class _RelationDivergence(torch.autograd.Function):
    """The divergence, whose forward pass computes the gradients too."""

    @staticmethod
    def forward(
        ctx: Any, first: torch.Tensor, second: torch.Tensor, teacher: Pair, groups: list[Group], parts: int
    ) -> torch.Tensor:
        total = torch.zeros((), device=first.device)
        gradients = [torch.empty_like(x, dtype=torch.float32) for x in (first, second)]
        for group in groups:
            found, by_scores = _of_group((first, second), teacher, group, parts)
            total += found
            x, y = (group.block(z, parts).float() for z in (first, second))
            group.unblock(torch.bmm(by_scores, y), parts, gradients[0])
            group.unblock(torch.bmm(by_scores.transpose(1, 2), x), parts, gradients[1])
        ctx.save_for_backward(*(gradient.to(first.dtype) for gradient in gradients))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Any) -> tuple[torch.Tensor | None, ...]:
        first, second = ctx.saved_tensors
        return first * outer[0], second * outer[0], None, None, None


def _of_group(student: Pair, teacher: Pair, group: Group, parts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The divergence of a group of passages, and its gradient by the student's products x y^T, `[b * A, L, L]`."""
    ours, theirs = (_log_relation(pair, group, parts) for pair in (student, teacher))
    shares = theirs.exp()
    by_scores = ours.exp() - shares
    by_row = (shares * (theirs - ours)).sum(dim=-1)
    if group.beyond is not None:  # rows of padding are nobody's
        rows = group.beyond[:, :, 0]
        by_row.view(len(group), parts, -1)[:, :, group.shortest :].masked_fill_(rows, 0)
        by_scores.view(len(group), parts, group.length, -1)[:, :, group.shortest :].masked_fill_(rows[..., None], 0)
    size = student[0].shape[1] // parts
    return by_row.sum(), by_scores * size**-0.5


def _log_relation(pair: Pair, group: Group, parts: int) -> torch.Tensor:
    """log R of a group, float32 `[b * A, L, L]`; about `LEAST` where a token lies beyond the end."""
    x, y = (group.block(z, parts).float() for z in pair)
    scores = torch.bmm(x, y.transpose(1, 2)) * x.shape[2] ** -0.5
    if group.beyond is not None:
        columns = scores.view(len(group), parts, group.length, -1)[..., group.shortest :]
        columns.masked_fill_(group.beyond, LEAST)
    return scores.log_softmax(dim=-1)

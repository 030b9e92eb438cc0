"""Cross-entropy over a vocabulary, without ever holding all logits.

M predictions over V words are M x V numbers: with 4,096 tokens and 30,522 words half a gigabyte in float32, several
times over. The rows are independent, so they are taken a few at a time, and each piece's gradient is computed
at once, while its logits are at hand, and kept instead of them: nothing is computed twice. (The same idea as in Hsu
et al. 2024, "Liger Kernel", section 3.2, here for any head.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from corpusmith.objective.pieces import runs

LOGITS_HELD = 2**24
"""Logits held at a time (64 MiB in float32)."""

Head = Callable[[torch.Tensor], torch.Tensor]
"""Hidden states `[m, D]` to logits `[m, V]`, row by row."""


@dataclass(frozen=True, slots=True)
class Bags:
    """The distinct ordinary tokens of those passages of a batch that have any, P of them.

    `passages` (int64 `[P]`) are their numbers in the batch, `tokens` (int64 `[N]`) the distinct tokens of one after
    the other, `counts[P]` how many of these are whose, and `lengths[P]` how many ordinary tokens a passage has in all.
    """

    passages: torch.Tensor
    tokens: torch.Tensor
    counts: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True, slots=True)
class _Piece:
    """So many `rows` of hidden states, which make one prediction each, or one for each of `groups` (numbers of rows),
    by the largest logits of its rows; `targets` of one prediction after the other, and `counts`, how many each has."""

    rows: int
    groups: list[int] | None
    targets: torch.Tensor
    counts: torch.Tensor


def cross_entropy(
    logits_of: Head,
    hidden: torch.Tensor,
    targets: torch.Tensor,
    parameters: Sequence[torch.Tensor],
    vocabulary: int,
) -> torch.Tensor:
    """Mean cross-entropy of `logits_of(hidden)`, equal to `F.cross_entropy(logits_of(hidden).float(), targets)`.

    Args:
        logits_of: the head.
        hidden: `[M, D]`, M at least 1.
        targets: `int64[M]`.
        parameters: all tensors inside `logits_of` that want a gradient.
        vocabulary: V, which sets how many rows are taken at a time.
    """
    parts = targets.split(max(1, LOGITS_HELD // vocabulary))
    pieces = [_Piece(len(part), None, part, torch.ones_like(part)) for part in parts]
    return _summed(logits_of, pieces, hidden, parameters) / len(targets)


def bag_cross_entropy(
    logits_of: Head,
    hidden: torch.Tensor,
    bags: Bags,
    parameters: Sequence[torch.Tensor],
    vocabulary: int,
) -> torch.Tensor:
    """Mean over the N tokens of all bags of `- log softmax(logits)[token]`, one softmax a passage.

    Args:
        logits_of: the head.
        hidden: `[P, D]`, a vector of each passage; or `[sum(bags.lengths), D]`, the states of the passages' ordinary
            tokens: the logits of a passage are then the largest of its tokens', word by word.
        bags: the words to predict.
        parameters: all tensors inside `logits_of` that want a gradient.
        vocabulary: V, which sets how many rows are taken at a time.
    """
    rows = np.ones_like(bags.lengths) if len(hidden) == len(bags.passages) else bags.lengths
    ends = np.concatenate([[0], np.cumsum(bags.counts)])
    tokens, counts = bags.tokens.to(hidden.device), torch.from_numpy(bags.counts).to(hidden.device)
    pieces = []
    for first, last in runs(rows, max(1, LOGITS_HELD // vocabulary)):
        groups = rows[first:last].tolist()
        pieces.append(
            _Piece(
                sum(groups),
                groups if max(groups) > 1 else None,
                tokens[ends[first] : ends[last]],
                counts[first:last],
            )
        )
    return _summed(logits_of, pieces, hidden, parameters) / len(tokens)


def _summed(
    logits_of: Head, pieces: Sequence[_Piece], hidden: torch.Tensor, parameters: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Cross-entropy of all targets of all pieces, summed."""
    if torch.is_grad_enabled():
        return _InPieces.apply(logits_of, pieces, hidden, *parameters)
    parts = hidden.split([piece.rows for piece in pieces])
    losses = [
        _loss_and_gradient(_logits(logits_of, part, piece), piece)[0] for part, piece in zip(parts, pieces, strict=True)
    ]
    return torch.stack(losses).sum()


def _logits(logits_of: Head, hidden: torch.Tensor, piece: _Piece) -> torch.Tensor:
    """`[m, V]`, one row a prediction."""
    logits = logits_of(hidden)
    if piece.groups is None:
        return logits
    return torch.stack([group.max(dim=0).values for group in logits.split(piece.groups)])


def _loss_and_gradient(logits: torch.Tensor, piece: _Piece) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed cross-entropy and its gradient by the logits, targets x softmax(logits) - onehot(targets), float32
    `[m, V]`.

    Written out, in one buffer that is overwritten in place: log_softmax and its backward pass take three, and on a CPU
    several times as long.
    """
    work = logits.to(torch.float32, copy=True)
    work.sub_(work.amax(dim=1, keepdim=True))
    rows = torch.arange(len(work), device=work.device).repeat_interleave(piece.counts, output_size=len(piece.targets))
    counts = piece.counts[:, None].float()
    wanted = work[rows, piece.targets]
    sums = work.exp_().sum(dim=1, keepdim=True)
    loss = (counts * sums.log()).sum() - wanted.sum()
    work.mul_(counts / sums)
    work[rows, piece.targets] -= 1.0  # no target is there twice in a row
    return loss, work


class _InPieces(torch.autograd.Function):
    """Summed cross-entropy whose forward pass computes the gradients, and whose backward pass hands them over."""

    @staticmethod
    def forward(ctx: Any, logits_of: Head, pieces: Sequence[_Piece], *inputs: torch.Tensor) -> torch.Tensor:
        hidden, parameters = inputs[0], [p for p in inputs[1:] if p.requires_grad]
        losses, hidden_gradients = [], []
        sums: list[torch.Tensor] = []
        for part, piece in zip(hidden.detach().split([piece.rows for piece in pieces]), pieces, strict=True):
            with torch.enable_grad():
                part = part.requires_grad_()
                logits = _logits(logits_of, part, piece)
            loss, by_logits = _loss_and_gradient(logits.detach(), piece)
            gradient, *others = torch.autograd.grad(logits, [part, *parameters], by_logits.to(logits.dtype))
            losses.append(loss)
            hidden_gradients.append(gradient)
            sums = [s.add_(g) for s, g in zip(sums, others, strict=True)] if sums else others
        found = iter(sums)
        gradients = [torch.cat(hidden_gradients), *(next(found) if p.requires_grad else None for p in inputs[1:])]
        ctx.present = [g is not None for g in gradients]
        ctx.save_for_backward(*(g for g in gradients if g is not None))
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        saved = iter(ctx.saved_tensors)
        return None, None, *(next(saved) * outer[0] if present else None for present in ctx.present)

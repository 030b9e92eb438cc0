"""Cross-entropy over a vocabulary, without ever holding all logits.

M predictions over V words are M x V numbers: with 4,096 tokens and 30,522 words half a gigabyte in float32, several
times over. The rows are independent, so they are taken a few at a time, and each piece's gradient is computed
at once, while its logits are at hand, and kept instead of them: nothing is computed twice. (The same idea as in Hsu
et al. 2024, "Liger Kernel", section 3.2, here for any head.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F

LOGITS_HELD = 2**24
"""Logits held at a time (64 MiB in float32)."""


def cross_entropy(
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    hidden: torch.Tensor,
    targets: torch.Tensor,
    parameters: Sequence[torch.Tensor],
    vocabulary: int,
) -> torch.Tensor:
    """Mean cross-entropy of `logits_of(hidden)`, equal to `F.cross_entropy(logits_of(hidden).float(), targets)`.

    Args:
        logits_of: the head: `[m, D]` to `[m, V]`, row by row.
        hidden: `[M, D]`, M at least 1.
        targets: `int64[M]`.
        parameters: all tensors inside `logits_of` that want a gradient.
        vocabulary: V, which sets how many rows are taken at a time.
    """
    rows = max(1, LOGITS_HELD // vocabulary)
    if not torch.is_grad_enabled():
        return _sum_in_pieces(logits_of, hidden, targets, rows) / len(targets)
    return _InPieces.apply(logits_of, rows, targets, hidden, *parameters) / len(targets)


def _sum_in_pieces(
    logits_of: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, targets: torch.Tensor, rows: int
) -> torch.Tensor:
    pieces = zip(hidden.split(rows), targets.split(rows), strict=True)
    return torch.stack([F.cross_entropy(logits_of(h).float(), t, reduction="sum") for h, t in pieces]).sum()


def _loss_and_gradient(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed cross-entropy and its gradient by the logits, softmax(logits) - onehot(targets), float32 `[m, V]`.

    Written out, in one buffer that is overwritten in place: log_softmax and its backward pass take three, and on a CPU
    several times as long.
    """
    work = logits.to(torch.float32, copy=True)
    work.sub_(work.amax(dim=1, keepdim=True))
    wanted = work.gather(1, targets[:, None])
    sums = work.exp_().sum(dim=1, keepdim=True)
    loss = (sums.log() - wanted).sum()
    work.div_(sums)
    work.scatter_add_(1, targets[:, None], torch.full_like(wanted, -1.0))
    return loss, work


class _InPieces(torch.autograd.Function):
    """Summed cross-entropy whose forward pass computes the gradients, and whose backward pass hands them over."""

    @staticmethod
    def forward(ctx: Any, logits_of: Any, rows: int, targets: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        hidden, parameters = inputs[0], [p for p in inputs[1:] if p.requires_grad]
        losses, hidden_gradients = [], []
        sums: list[torch.Tensor] = []
        for piece, wanted in zip(hidden.detach().split(rows), targets.split(rows), strict=True):
            with torch.enable_grad():
                piece = piece.requires_grad_()
                logits = logits_of(piece)
            loss, by_logits = _loss_and_gradient(logits.detach(), wanted)
            gradient, *others = torch.autograd.grad(logits, [piece, *parameters], by_logits.to(logits.dtype))
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
        return None, None, None, *(next(saved) * outer[0] if present else None for present in ctx.present)

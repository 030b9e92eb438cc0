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

    def logits(self, logits_of: Head, hidden: torch.Tensor) -> torch.Tensor:
        """`[m, V]`, one row a prediction."""
        logits = logits_of(hidden)
        if self.groups is None:
            return logits
        return torch.stack([group.max(dim=0).values for group in logits.split(self.groups)])

    def loss_and_gradient(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Summed cross-entropy and its gradient by the logits, targets x softmax(logits) - onehot(targets), float32
        `[m, V]`.

        Written out, in one buffer that is overwritten in place: log_softmax and its backward pass take three, and on a
        CPU several times as long.
        """
        work = logits.to(torch.float32, copy=True)
        work.sub_(work.amax(dim=1, keepdim=True))
        numbers = torch.arange(len(work), device=work.device)
        rows = numbers.repeat_interleave(self.counts, output_size=len(self.targets))
        counts = self.counts[:, None].float()
        wanted = work[rows, self.targets]
        sums = work.exp_().sum(dim=1, keepdim=True)
        loss = (counts * sums.log()).sum() - wanted.sum()
        work.mul_(counts / sums)
        work[rows, self.targets] -= 1.0  # no target is there twice in a row
        return loss, work


@dataclass(frozen=True, slots=True)
class _SoftPiece:
    """Hidden states that make one prediction each, whose targets are the distributions that `wanted_of` gives for the
    states `wanted`, both at a temperature."""

    wanted_of: Head
    wanted: torch.Tensor
    temperature: float

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.wanted)

    def logits(self, logits_of: Head, hidden: torch.Tensor) -> torch.Tensor:
        """`[m, V]`, one row a prediction."""
        return logits_of(hidden)

    def loss_and_gradient(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Summed divergence from the targets, times the temperature squared, and its gradient by the logits, float32
        `[m, V]`."""
        with torch.no_grad():
            theirs = (self.wanted_of(self.wanted).float() / self.temperature).log_softmax(dim=1)
        ours = (logits.float() / self.temperature).log_softmax(dim=1)
        shares = theirs.exp()
        loss = self.temperature**2 * (shares * (theirs - ours)).sum()
        return loss, ours.exp_().sub_(shares).mul_(self.temperature)


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


def soft_cross_entropy(
    logits_of: Head,
    hidden: torch.Tensor,
    wanted_of: Head,
    wanted: torch.Tensor,
    parameters: Sequence[torch.Tensor],
    vocabulary: int,
    temperature: float,
) -> torch.Tensor:
    """Mean over M predictions of `t^2 KL( softmax(wanted_of(wanted) / t) || softmax(logits_of(hidden) / t) )`: the
    cross-entropy with another model's distributions as targets, less their entropy.

    Args:
        logits_of: the head.
        hidden: `[M, D]`, M at least 1.
        wanted_of: the other model's head, which gets no gradient.
        wanted: `[M, D']`, its states.
        parameters: all tensors inside `logits_of` that want a gradient.
        vocabulary: V, which sets how many rows are taken at a time.
        temperature: t.
    """
    parts = wanted.split(max(1, LOGITS_HELD // (2 * vocabulary)))
    pieces = [_SoftPiece(wanted_of, part, temperature) for part in parts]
    return _summed(logits_of, pieces, hidden, parameters) / len(hidden)


def _summed(
    logits_of: Head,
    pieces: Sequence[_Piece | _SoftPiece],
    hidden: torch.Tensor,
    parameters: Sequence[torch.Tensor],
) -> torch.Tensor:
    """The pieces' losses, summed."""
    if torch.is_grad_enabled():
        return _InPieces.apply(logits_of, pieces, hidden, *parameters)
    parts = hidden.split([piece.rows for piece in pieces])
    losses = [
        piece.loss_and_gradient(piece.logits(logits_of, part))[0] for part, piece in zip(parts, pieces, strict=True)
    ]
    return torch.stack(losses).sum()


class _InPieces(torch.autograd.Function):
    """The pieces' losses, summed; the forward pass computes the gradients, and the backward pass hands them over."""

    @staticmethod
    def forward(
        ctx: Any, logits_of: Head, pieces: Sequence[_Piece | _SoftPiece], *inputs: torch.Tensor
    ) -> torch.Tensor:
        hidden, parameters = inputs[0], [p for p in inputs[1:] if p.requires_grad]
        losses, hidden_gradients = [], []
        sums: list[torch.Tensor] = []
        for part, piece in zip(hidden.detach().split([piece.rows for piece in pieces]), pieces, strict=True):
            with torch.enable_grad():
                part = part.requires_grad_()
                logits = piece.logits(logits_of, part)
            loss, by_logits = piece.loss_and_gradient(logits.detach())
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

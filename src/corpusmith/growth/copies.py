"""Widening by copies: every place of a wider axis takes over a place of the old one.

With `g(j)` the old place that the new place j takes over, and `c(i)` how many take over i, an axis that makes a vector
is copied, and one that takes it in is copied and divided:

    W'[j, k] = W[g_out(j), g_in(k)] / c_in(g_in(k)),        x'[k] = x[g_in(k)]   =>   (W' x')[j] = (W x)[g_out(j)]

The first places are the old ones in their order; whole copies follow, and of what is left over each place once at most,
drawn at random. Heads are copied whole; where they become larger, so are the dimensions inside each. A score is then a
sum in which dimension i of query and key appears c(i) times, divided by sqrt(d') instead of sqrt(d): its queries are
multiplied by sqrt(d' / d) / c(i). Rotary positions turn dimension i of a head of size d by the angle of dimension m i
of a head of size m d: there it goes, and the queries of the dimensions between are 0.

Copies that are read with equal weights get equal gradients and would stay copies for ever. So the weights that read
them differ by random numbers that sum to 0 over the copies of a place: as long as these are equal, nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from corpusmith.growth.axes import Axes, Axis
from corpusmith.model.config import EncoderConfig


@dataclass(frozen=True, slots=True)
class Copies:
    """How one axis grows from `old` places: the new place j takes over the old place `source[j]` (int64), times
    `scale[j]` (float32)."""

    old: int
    source: torch.Tensor
    scale: torch.Tensor

    @property
    def counts(self) -> torch.Tensor:
        """`int64[old]`, how many places take over each."""
        return torch.bincount(self.source, minlength=self.old)

    @property
    def turn(self) -> torch.Tensor:
        """`int64[new]`: 0 for the first place that takes over its old one, 1 for the second, and so on."""
        order = torch.argsort(self.source, stable=True)
        begins = self.counts.cumsum(0) - self.counts
        turns = torch.empty_like(self.source)
        turns[order] = torch.arange(len(order)) - begins[self.source[order]]
        return turns

    @property
    def matrix(self) -> torch.Tensor:
        """float32 `[new, old]`, the same as a linear map."""
        return torch.zeros(len(self.source), self.old).scatter_(1, self.source[:, None], self.scale[:, None])

    def along(self, weight: torch.Tensor, dim: int) -> torch.Tensor:
        """The weight, widened along one of its axes."""
        scale = self.scale.to(weight.device).view(-1, *[1] * (weight.ndim - 1 - dim % weight.ndim))
        return weight.index_select(dim, self.source.to(weight.device)) * scale

    def balanced(self, numbers: torch.Tensor) -> torch.Tensor:
        """`[..., new]` numbers, less the mean over all places that take over the same: they then sum to 0 there."""
        sums = torch.zeros(*numbers.shape[:-1], self.old).index_add_(-1, self.source, numbers)
        return numbers - (sums / self.counts)[..., self.source]


def copies(source: EncoderConfig, target: EncoderConfig, generator: torch.Generator) -> dict[Axis, Copies]:
    """How every axis grows between two shapes that `check_larger` lets pass."""
    small, large = source.head_size, target.head_size
    stream = spread(source.hidden_size, target.hidden_size, generator)
    inner = spread(source.intermediate_size, target.intermediate_size, generator)
    heads = spread(source.heads, target.heads, generator)
    slots = spread(small, large, generator)
    values = _within_heads(heads, slots, small)
    scale = math.sqrt(large / small) / torch.bincount(slots, minlength=small)[slots].float()
    if source.rotary:
        place = torch.arange(large // 2)
        step = large // small
        slots = torch.cat([place // step, place // step + small // 2])
        scale = math.sqrt(large / small) * (place % step == 0).float().repeat(2)
    scored = _within_heads(heads, slots, small)
    return {
        "to_stream": _made(source.hidden_size, stream),
        "from_stream": _shared(source.hidden_size, stream),
        "to_query": Copies(source.hidden_size, scored, scale.repeat(target.heads)),
        "to_key": _made(source.hidden_size, scored),
        "to_value": _made(source.hidden_size, values),
        "from_value": _shared(source.hidden_size, values),
        "to_inner": _made(source.intermediate_size, inner),
        "from_inner": _shared(source.intermediate_size, inner),
    }


def spread(old: int, new: int, generator: torch.Generator) -> torch.Tensor:
    """`int64[new]`: the old place that each new one takes over."""
    rest = torch.randperm(old, generator=generator)[: new % old]
    return torch.cat([torch.arange(old).repeat(new // old), rest])


def widen(
    weight: torch.Tensor,
    axes: Axes,
    maps: Mapping[Axis, Copies],
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """A weight with all its axes grown.

    Args:
        weight: what is widened; it stays as it is.
        axes: what its axes stand for.
        maps: how each grows.
        noise: how far weights that read the copies of one place differ, as a share of their own spread.
        generator: source of that.
    """
    wide = weight if axes.columns is None else maps[axes.columns].along(weight, 1)
    parts = wide.chunk(len(axes.rows))
    wide = torch.cat(
        [part if axis is None else maps[axis].along(part, 0) for part, axis in zip(parts, axes.rows, strict=True)]
    )
    reading = axes.rows[0] if axes.columns is None else axes.columns
    if not noise or reading is None or not reading.startswith("from_"):
        return wide
    shares = maps[reading]
    drawn = shares.balanced(torch.randn(wide.shape, generator=generator)) * shares.scale
    return wide + noise * weight.std(correction=0) * drawn.to(weight.device)


def _within_heads(heads: torch.Tensor, slots: torch.Tensor, head_size: int) -> torch.Tensor:
    """Places of all heads' dimensions, head after head."""
    return (heads[:, None] * head_size + slots).flatten()


def _made(old: int, source: torch.Tensor) -> Copies:
    """For an axis that makes a vector."""
    return Copies(old, source, torch.ones(len(source)))


def _shared(old: int, source: torch.Tensor) -> Copies:
    """For an axis that takes a vector in."""
    return Copies(old, source, 1.0 / torch.bincount(source, minlength=old)[source].float())

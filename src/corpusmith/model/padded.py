"""The encoder as a plain function of rectangles, for runtimes that want a graph.

ONNX Runtime and OpenVINO take a model as a graph of standard operations on padded tensors. This is the encoder with
its own layers and weights, in which attention is the textbook formula with a mask, and pooling and scaling are part of
the graph. In PyTorch it would be slow; it is there for `torch.export` alone.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from corpusmith.model.encoder import Encoder
from corpusmith.model.layers import Attention
from corpusmith.model.linear import Linear
from corpusmith.model.pooling import Pooling


class PaddedEncoder(nn.Module):
    """An encoder from padded token ids to vectors of length 1, cut to the leading `dimension`s where given; a copy,
    sharing nothing with what it is made from."""

    def __init__(self, encoder: Encoder, pooling: Pooling, dimension: int | None = None) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(False).eval().cpu()
        self.pooling, self.dimension = pooling, dimension
        for layer in self.encoder.layers:
            layer.attention = PaddedAttention(cast("Attention", layer.attention))
        for part in list(self.encoder.modules()):
            for name, child in part.named_children():
                if isinstance(child, Linear):
                    setattr(part, name, _plain(child))

    def forward(self, ids: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """int64 ids `[B, L]` and bool `[B, L]`, True at tokens and False at padding, to float32 vectors `[B, D]`."""
        positions = torch.arange(ids.shape[1]).expand(ids.shape).flatten()
        hidden = self.encoder.embeddings(ids.flatten(), positions)
        for layer in self.encoder.layers:
            hidden = layer(hidden, inside)
        hidden = self.encoder.final_norm(hidden).view(*ids.shape, -1)
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            weights = inside[:, :, None].float()
            pooled = (hidden * weights).sum(1) / weights.sum(1)
        return F.normalize(pooled[:, : self.dimension], dim=-1)


class PaddedAttention(nn.Module):
    """What `Attention` computes, on a rectangle."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads, self.window, self.rotary = attention.heads, attention.window, attention.rotary
        self.qkv, self.output = attention.qkv, attention.output

    def forward(
        self, hidden: torch.Tensor, inside: torch.Tensor, queries: None = None, mask: None = None
    ) -> torch.Tensor:
        """`[B * L, D]` to the same; the layer hands on `inside`, `[B, L]`, as its layout. `queries` and `mask` are what
        only training asks for."""
        batch, length = inside.shape
        projected = self.qkv(hidden).chunk(3, dim=-1)
        q, k, v = (x.reshape(batch, length, self.heads, -1).transpose(1, 2) for x in projected)
        place = torch.arange(length)
        if self.rotary is not None:
            cos, sin = (angles.transpose(0, 1) for angles in self.rotary.angles(place))
            q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        visible = inside[:, None, None, :]
        if self.window is not None:
            distance = (place[:, None] - place[None, :]).abs()
            visible = visible & (distance <= self.window) | (distance == 0)  # padding sees itself, lest it become NaN
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        return self.output(attended.transpose(1, 2).reshape(batch * length, -1))


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions on `[B, H, L, d]`, with angles `[1, L, d / 2]`."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _plain(linear: Linear) -> nn.Linear:
    """The same map without its road to oneDNN, which no other runtime knows."""
    plain = nn.Linear(linear.in_features, linear.out_features, bias=linear.bias is not None)
    plain.load_state_dict(linear.state_dict())
    return plain.requires_grad_(False)

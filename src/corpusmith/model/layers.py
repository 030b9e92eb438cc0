"""The parts of a Transformer layer, on packed tokens `[T, D]`.

The dtype of the hidden states decides the dtype of all arithmetic: weights are cast where they are used, so that
training keeps float32 masters while every product runs in bf16, with no autocast deciding behind one's back. Norms take
bf16 in and give bf16 out, and compute in float32 between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from corpusmith.model.attention import AttentionLayout, attend
from corpusmith.model.config import Activation, EncoderConfig
from corpusmith.model.linear import Linear, linear

FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


def activate(name: Activation, x: torch.Tensor) -> torch.Tensor:
    """The activation of this name, in the dtype of x."""
    return FUNCTIONS[name](x)


class Norm(nn.LayerNorm):
    """Layer norm computed in float32, whatever the dtype that comes in and goes out."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config.hidden_size, eps=config.norm_epsilon, bias=config.norm_bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`[..., D]` to `[..., D]`."""
        # On a CPU the kernel takes float32 weights with bf16 inputs; on a GPU it wants one dtype.
        dtype = input.dtype if input.is_cuda else self.weight.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        return F.layer_norm(input, self.normalized_shape, self.weight.to(dtype), bias, self.eps)


class Rotary(nn.Module):
    """Rotary positions (Su et al., 2021, RoFormer, eq. 34), halves rotated against each other as in ModernBERT."""

    def __init__(self, head_size: int, theta: float) -> None:
        super().__init__()
        self.head_size, self.theta = head_size, theta

    def angles(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin of each token's angles, float32 `[T, 1, d / 2]`."""
        exponents = torch.arange(0, self.head_size, 2, dtype=torch.float32, device=positions.device) / self.head_size
        angles = positions[:, None].float() * (1.0 / self.theta**exponents)
        return angles.cos()[:, None], angles.sin()[:, None]

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Rotate queries or keys, `[T, D]`, each head by its token's position."""
        cos, sin = self.angles(positions)
        first, second = x.view(len(x), -1, self.head_size).float().chunk(2, dim=-1)
        rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
        return rotated.to(x.dtype).view(x.shape)


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al., 2017, section 3.2); one matrix `qkv` makes queries, keys and values."""

    def __init__(self, config: EncoderConfig, window: int | None = None) -> None:
        super().__init__()
        self.heads = config.heads
        self.window = window
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size, bias=config.attention_bias)
        self.output = Linear(config.hidden_size, config.hidden_size, bias=config.attention_bias)
        theta = config.global_theta if window is None else config.local_theta
        self.rotary = Rotary(config.head_size, theta) if config.rotary else None

    def forward(
        self,
        hidden: torch.Tensor,
        layout: AttentionLayout,
        queries: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `TransformerLayer.forward`."""
        if queries is None:
            q, k, v = self.qkv(hidden).chunk(3, dim=-1)
        else:
            size = hidden.shape[-1]
            weight, bias = self.qkv.weight, self.qkv.bias
            q = linear(queries, weight[:size], None if bias is None else bias[:size])
            k, v = linear(hidden, weight[size:], None if bias is None else bias[size:]).chunk(2, dim=-1)
        if self.rotary is not None:
            q, k = self.rotary(q, layout.positions), self.rotary(k, layout.positions)
        return self.output(attend(q, k, v, layout, self.heads, self.window, mask))


class FeedForward(nn.Module):
    """`down(act(up(x)))`, or gated, `down(act(a) * b)` with `a, b = up(x)` (Shazeer, 2020, GLU Variants)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.gated = config.gated
        self.activation = config.activation
        width = config.intermediate_size * (2 if config.gated else 1)
        self.up = Linear(config.hidden_size, width, bias=config.mlp_bias)
        self.down = Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[T, D]` to `[T, D]`."""
        inner = self.up(hidden)
        if self.gated:
            signal, gate = inner.chunk(2, dim=-1)
            return self.down(activate(self.activation, signal) * gate)
        return self.down(activate(self.activation, inner))


class TransformerLayer(nn.Module):
    """Attention and feed-forward part with their norms and residual connections; usable alone, without an encoder.

    Args:
        config: sizes and choices; position and vocabulary fields are not used.
        number: which layer of the encoder this is; decides the window, and whether `norm_first` spares the first norm.
    """

    def __init__(self, config: EncoderConfig, number: int = 0) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.dropout = 0.0
        self.attention_norm = nn.Identity() if config.norm_first and number == 0 else Norm(config)
        self.attention = Attention(config, config.window(number))
        self.mlp_norm = Norm(config)
        self.mlp = FeedForward(config)

    def forward(
        self,
        hidden: torch.Tensor,
        layout: AttentionLayout,
        queries: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One layer over packed hidden states.

        Args:
            hidden: `[T, D]`, the B sequences of the layout end to end; the dtype computed in.
            layout: `AttentionLayout(packed.lengths, device)`; any order of lengths, fastest when ascending.
            queries: `[T, D]`; when given, attention asks with these (and the residual carries them) while keys and
                values come from `hidden`, as in RetroMAE's enhanced decoding (Xiao et al., 2022, section 3.3).
            mask: bool `[B, L, L]`, L at least the longest length: True where the query (row) may see the key (column)
                of its sequence; None lets all see all.

        Returns:
            `[T, D]`.
        """
        return self.feed(self.attend(hidden, layout, queries, mask))

    def attend(
        self,
        hidden: torch.Tensor,
        layout: AttentionLayout,
        queries: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The layer's first half, attention; as `forward`."""
        stream = hidden if queries is None else queries
        if self.norm_first:
            asking = None if queries is None else self.attention_norm(queries)
            return stream + self._drop(self.attention(self.attention_norm(hidden), layout, asking, mask))
        return self.attention_norm(stream + self._drop(self.attention(hidden, layout, queries, mask)))

    def feed(self, stream: torch.Tensor) -> torch.Tensor:
        """The layer's second half, the feed-forward part: `[T, D]` to `[T, D]`."""
        if self.norm_first:
            return stream + self._drop(self.mlp(self.mlp_norm(stream)))
        return self.mlp_norm(stream + self._drop(self.mlp(stream)))

    def _drop(self, hidden: torch.Tensor) -> torch.Tensor:
        return drop(hidden, self.dropout, self.training)


def drop(hidden: torch.Tensor, share: float, training: bool) -> torch.Tensor:
    """Dropout (Srivastava et al., 2014), in training only; the tensor itself where nothing is dropped."""
    return F.dropout(hidden, share) if training and share > 0 else hidden


def initialise(module: nn.Module, config: EncoderConfig, generator: torch.Generator) -> None:
    """Fresh weights for everything inside `module`: normal with `config.initializer_range`, biases 0, norms 1.

    With norms first, maps that write to the residual stream start smaller by sqrt(2 * layers), as in ModernBERT and
    GPT-2 (Radford et al., 2019), so that the stream's variance does not grow with depth.
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
        elif isinstance(part, (nn.Linear, nn.Embedding)):
            writes = name.endswith(("attention.output", "mlp.down"))
            std = config.initializer_range / (math.sqrt(2 * config.layers) if config.norm_first and writes else 1.0)
            nn.init.normal_(part.weight, 0.0, std, generator=generator)
        bias = getattr(part, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)

"""Decoders that rebuild a passage from its vector: thrown away after training, kept in checkpoints.

They are layers of BERT's kind (norms behind, no rotary positions) in the encoder's sizes, whatever the encoder is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from corpusmith.model.attention import AttentionLayout
from corpusmith.model.config import EncoderConfig
from corpusmith.model.layers import Norm, TransformerLayer, initialise
from corpusmith.model.packed import PackedBatch


class BottleneckDecoder(nn.Module):
    """A few Transformer layers over a passage whose first token is replaced by a vector.

    Args:
        config: the encoder's, for sizes.
        layers: how many.
        max_tokens: longest sequence, or None for states that already know their positions.
        generator: source of the weights.
    """

    def __init__(self, config: EncoderConfig, layers: int, max_tokens: int | None, generator: torch.Generator) -> None:
        super().__init__()
        config = replace(config, norm_first=False, rotary=False, windowed=())
        self.positions = nn.Embedding(max_tokens, config.hidden_size) if max_tokens else None
        self.norm = Norm(config)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(layers))
        initialise(self, config, generator)

    def forward(
        self,
        vectors: torch.Tensor,
        states: torch.Tensor,
        packed: PackedBatch,
        dtype: torch.dtype,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Rebuilt states `[T, D]`, computed in `dtype`.

        Args:
            vectors: `[B, D]`, one a passage; it stands where the passage's first token (its [CLS]) stood.
            states: `[T, D]`, what the other positions hold: embeddings of tokens, or states of a lower layer.
            packed: the passages; only lengths and positions are read.
            dtype: float32 or bfloat16.
            mask: bool `[B, L, L]`, L at least the longest length: which positions each may look at; all unless given.
        """
        is_first = (packed.positions == 0)[:, None]
        hidden = torch.where(is_first, one_a_token(vectors, packed), states.float())
        if self.positions is not None:
            hidden = hidden + self.positions(packed.positions)
        hidden = self.norm(hidden).to(dtype)
        layout = AttentionLayout(packed.lengths, hidden.device)
        for layer in self.layers:
            hidden = layer(hidden, layout, mask=mask)
        return hidden

    def flops(self, lengths: np.ndarray) -> float:
        """Floating-point operations of one forward pass; counted as `Encoder.flops` does."""
        return _flops(self, lengths, len(self.layers), self.norm.normalized_shape[0])


class EnhancedDecoder(nn.Module):
    """One Transformer layer whose queries come from one stream and whose keys and values come from another.

    It is a layer of BERT's kind (norms behind, no rotary positions) in the encoder's sizes, whatever the encoder is.
    """

    def __init__(self, config: EncoderConfig, max_tokens: int, generator: torch.Generator) -> None:
        super().__init__()
        config = replace(config, norm_first=False, rotary=False, windowed=())
        self.positions = nn.Embedding(max_tokens, config.hidden_size)
        self.query_norm, self.context_norm = Norm(config), Norm(config)
        self.layer = TransformerLayer(config)
        initialise(self, config, generator)

    def forward(
        self,
        vectors: torch.Tensor,
        embedded: torch.Tensor,
        packed: PackedBatch,
        visible: torch.Tensor,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """Rebuilt states `[T, D]`, computed in `dtype`.

        Args:
            vectors: float32 `[B, D]`, one a passage.
            embedded: float32 `[T, D]`, embeddings of the passages' tokens.
            packed: the passages; only lengths and positions are read.
            visible: bool `[B, L, L]`, L the longest passage: which positions each may look at.
            dtype: float32 or bfloat16.
        """
        repeated = one_a_token(vectors, packed)
        positions = self.positions(packed.positions)
        is_first = (packed.positions == 0)[:, None]
        queries = self.query_norm(repeated + positions)
        context = self.context_norm(torch.where(is_first, repeated, embedded + positions))
        layout = AttentionLayout(packed.lengths, vectors.device)
        return self.layer(context.to(dtype), layout, queries.to(dtype), visible)

    def flops(self, lengths: np.ndarray) -> float:
        """Floating-point operations of one forward pass; counted as `Encoder.flops` does."""
        return _flops(self, lengths, 1, self.positions.embedding_dim)


def one_a_token(vectors: torch.Tensor, packed: PackedBatch) -> torch.Tensor:
    """Each passage's vector at all its tokens: `[B, D]` to float32 `[T, D]`."""
    lengths = packed.lengths.to(vectors.device, torch.int64)
    return vectors.float().repeat_interleave(lengths, dim=0, output_size=len(packed.ids))


def _flops(decoder: nn.Module, lengths: np.ndarray, layers: int, width: int) -> float:
    weights = sum(part.weight.numel() for part in decoder.modules() if isinstance(part, nn.Linear))
    sizes = lengths.astype(np.float64)
    return float(2.0 * sizes.sum() * weights + 4.0 * width * layers * (sizes**2).sum())

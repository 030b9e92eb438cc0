"""Decoders that rebuild a passage from its vector: thrown away after training, kept in checkpoints.

Most are layers of BERT's kind (norms behind, no rotary positions) in the encoder's sizes, whatever the encoder is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from corpusmith.model.attention import AttentionLayout
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.layers import Norm, TransformerLayer, initialise
from corpusmith.model.linear import Embedding, Linear
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
        self.positions = Embedding(max_tokens, config.hidden_size) if max_tokens else None
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
        self.positions = Embedding(max_tokens, config.hidden_size)
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


class LeftToRightDecoder(nn.Module):
    """The encoder's own layers, read from left to right, each of them with attention to one vector.

    A softmax over one key is 1: attention to a single vector is a linear map of it, the same for every position. That
    map, and the norm behind it where the layers have norms behind, are all that is the decoder's own.
    """

    def __init__(self, config: EncoderConfig, generator: torch.Generator) -> None:
        super().__init__()
        size = config.hidden_size
        self.maps = nn.ModuleList(Linear(size, size) for _ in range(config.layers))
        self.norms = nn.ModuleList(nn.Identity() if config.norm_first else Norm(config) for _ in range(config.layers))
        initialise(self, config, generator)

    def forward(self, encoder: Encoder, vectors: torch.Tensor, packed: PackedBatch) -> torch.Tensor:
        """States `[T, D]` in the encoder's dtype: that of a token knows the vector, the token and those before it.

        Args:
            encoder: whose layers decode.
            vectors: `[B, D]`, one a passage.
            packed: the passages.
        """
        layout = AttentionLayout(packed.lengths, vectors.device)
        mask = left_to_right(packed, vectors.device)
        dtype = encoder.compute_dtype
        hidden = encoder.embeddings(packed.ids, packed.positions).to(dtype)
        for layer, mapped, norm in zip(encoder.layers, self.maps, self.norms, strict=True):
            assert isinstance(layer, TransformerLayer)
            told = one_a_token(mapped(vectors.to(dtype)), packed).to(dtype)
            hidden = layer.feed(norm(layer.attend(hidden, layout, mask=mask) + told))
        return encoder.final_norm(hidden)

    def flops(self, sequences: int) -> float:
        """Floating-point operations of the decoder's own maps in one forward pass; the layers are the encoder's."""
        return 2.0 * sequences * sum(part.weight.numel() for part in self.modules() if isinstance(part, nn.Linear))


def left_to_right(packed: PackedBatch, device: torch.device, span: int | None = None) -> torch.Tensor:
    """bool `[B, L, L]`: each position sees itself, those before it and never those behind it; with `span`, only that
    many of them, itself included, and the first position."""
    place = torch.arange(int(packed.lengths.max()), device=device)
    distance = place[:, None] - place[None, :]
    seen = distance >= 0
    if span is not None:
        seen &= (distance < span) | (place == 0)
    return seen.expand(len(packed), -1, -1)


def next_tokens(ids: np.ndarray, is_ordinary: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """For a decoder from left to right: int64 `[M]` places whose next token is an ordinary one, and these tokens.

    Args:
        ids: `int64[T]`, packed sequences, each of which begins with a special token.
        is_ordinary: `bool[V]`.
    """
    places = np.flatnonzero(is_ordinary[ids])
    return torch.from_numpy(places - 1), torch.from_numpy(ids[places])


def _flops(decoder: nn.Module, lengths: np.ndarray, layers: int, width: int) -> float:
    weights = sum(part.weight.numel() for part in decoder.modules() if isinstance(part, nn.Linear))
    sizes = lengths.astype(np.float64)
    return float(2.0 * sizes.sum() * weights + 4.0 * width * layers * (sizes**2).sum())

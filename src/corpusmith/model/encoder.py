"""The encoder: packed tokens in, one hidden state a token out.

It computes what `transformers` computes for BERT, RoBERTa and ModernBERT checkpoints (to 1e-4 in float32, tested at
random initialisation), on tokens only. The batch is sorted by length once at the door and put back in order at the
exit: between them every group of sequences is a slice, and no layer moves a token.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from corpusmith.model.attention import AttentionLayout, permute
from corpusmith.model.config import EncoderConfig
from corpusmith.model.layers import Norm, TransformerLayer, drop, initialise
from corpusmith.model.linear import Embedding, InferenceLinear, Linear
from corpusmith.model.packed import PackedBatch
from corpusmith.model.quantised import quantise


class Embeddings(nn.Module):
    """Token, position and segment embeddings, summed and normed in float32."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.offset = config.position_offset
        self.tokens = Embedding(config.vocabulary_size, size)
        self.positions = None if config.rotary else Embedding(config.max_positions, size)
        self.types = Embedding(config.type_vocabulary_size, size) if config.type_vocabulary_size else None
        self.norm = Norm(config)

    def forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """int64 `[T]` and `[T]` to float32 `[T, D]`."""
        hidden = self.tokens(ids)
        if self.positions is not None:
            hidden = hidden + self.positions(positions + self.offset)
        if self.types is not None:
            hidden = hidden + self.types.weight[0]
        return self.norm(hidden)


class Encoder(nn.Module):
    """A BERT-family encoder on packed batches.

    Args:
        config: its shape.
        generator: source of the fresh weights; seed 0 where none is given.

    Attributes:
        config: the shape.
        compute_dtype: float32 or bfloat16, the dtype of all hidden states; set it freely. Weights stay float32 and
            are cast where they are used.
    """

    def __init__(self, config: EncoderConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(TransformerLayer(config, number) for number in range(config.layers))
        self.final_norm = Norm(config) if config.norm_first else nn.Identity()
        self.dropout = 0.0
        if not self.embeddings.tokens.weight.is_meta:
            initialise(self, config, generator or torch.Generator().manual_seed(0))

    @property
    def token_embedding(self) -> nn.Embedding:
        """The token embedding, `weight[V, D]`, which the masked-language head shares."""
        return self.embeddings.tokens

    def forward(self, packed: PackedBatch) -> torch.Tensor:
        """Hidden states of the last layer, `[T, D]` in `compute_dtype`, tokens in the batch's order.

        Raises:
            ValueError: a sequence is longer than the model has positions.
        """
        return self.hidden_states(packed, (self.config.layers,))[0]

    def hidden_states(self, packed: PackedBatch, layers: Sequence[int], frozen: int = 0) -> list[torch.Tensor]:
        """Hidden states after each of these layers (0: the embeddings), as `forward` gives the last one's.

        Through the first `frozen` layers, and with one or more of them the embeddings, no gradient flows.

        Raises:
            ValueError: a sequence is longer than the model has positions.
        """
        layout = AttentionLayout(packed.lengths, packed.ids.device)
        if layout.longest > self.config.max_tokens:
            raise ValueError(f"a sequence of {layout.longest} tokens; this model takes {self.config.max_tokens}")
        ids, positions = packed.ids, packed.positions
        if layout.order is not None:
            ids, positions = ids[layout.order], positions[layout.order]
        with torch.set_grad_enabled(torch.is_grad_enabled() and frozen == 0):
            hidden = self.embeddings(ids, positions).to(self.compute_dtype)
            hidden = drop(hidden, self.dropout, self.training)
        ordered = layout.sorted()
        found = {0: hidden}
        for number, layer in enumerate(self.layers[: max(layers)], 1):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number > frozen):
                hidden = layer(hidden, ordered)
            if number in layers:
                found[number] = self.final_norm(hidden) if number == self.config.layers else hidden
        return [permute(found[number], layout.inverse, layout.order) for number in layers]

    @property
    def dropout(self) -> float:
        """Share of activations that are set to 0 in training, behind the embeddings and each part of a layer; 0 unless
        set. Which ones is drawn from PyTorch's own generator."""
        return self._dropout

    @dropout.setter
    def dropout(self, share: float) -> None:
        self._dropout = share
        for layer in self.layers:
            assert isinstance(layer, TransformerLayer)
            layer.dropout = share

    def for_inference(self, dtype: torch.dtype, int8: bool = False) -> Encoder:
        """A copy for encoding only: linear maps stored in `dtype`, no gradients, nothing shared with this one.

        With `int8` the linear maps are those of `quantised`; everything else is computed in `dtype`.
        """
        twin = copy.deepcopy(self).requires_grad_(False).eval()
        twin.compute_dtype = dtype
        if int8:
            quantise(twin)
        for part in list(twin.modules()):
            for name, child in part.named_children():
                if isinstance(child, Linear):
                    setattr(part, name, InferenceLinear(child, dtype))
        return twin

    def parameter_count(self) -> int:
        """Weights in all, embeddings included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def flops(self, lengths: Sequence[int] | torch.Tensor | PackedBatch, layers: int | None = None) -> float:
        """Floating-point operations of one forward pass over sequences of these lengths, through the first `layers`
        layers (None: through all).

        Two for each multiply-add of the matrix products: 2 x tokens x weights of the linear maps, and 4 x D for each
        pair of a query and a key that it may see. Lookups, norms and activations are left out (under 2%).
        """
        sizes = lengths.lengths if isinstance(lengths, PackedBatch) else lengths
        sizes = torch.as_tensor(sizes, dtype=torch.float64)
        passed = self.layers[:layers]
        linear = sum(part.weight.numel() for part in passed.modules() if isinstance(part, Linear))
        pairs = 0.0
        for number in range(len(passed)):
            window = self.config.window(number)
            seen = sizes if window is None else sizes.clamp(max=2 * window + 1)
            pairs += float((sizes * seen).sum())
        return 2.0 * float(sizes.sum()) * linear + 4.0 * self.config.hidden_size * pairs

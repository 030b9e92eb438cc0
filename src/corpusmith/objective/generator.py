"""A small masked language model that changes passages: it fills in hidden tokens with words that could stand there.

ELECTRA asks its encoder which tokens were changed, SimLM which stood there before. Both are harder, and nearer to what
an encoder reads later, than passages with mask tokens or with words drawn from the whole vocabulary. The generator is
trained beside the encoder as a masked language model; nothing flows back into it from what becomes of its words.

It shares the encoder's token embedding E `[V, D]`. Inside it is narrower, with as many layers of BERT's kind:

    g    = layers(norm(P E[x with M hidden] + p))          P: D to G, p its own positions, states [T, G]
    q_i  = softmax( norm(act(W g_i)) E^T + c )             W: G to D
    x'_i ~ q_i  for i in M                                 ordinary tokens only, never a special one

A word is drawn from q_i as the first at which the cumulative probability exceeds a number u_i, uniform in [0, 1). It
comes with the batch, one for each hidden token, so that the words do not depend on how a batch is cut, and a
resumed run draws the same. (Gumbel noise gives the same distribution for V numbers a token.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from corpusmith.model.attention import AttentionLayout
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.model.layers import Norm, TransformerLayer, initialise
from corpusmith.model.linear import Embedding, Linear
from corpusmith.model.packed import PackedBatch
from corpusmith.objective.cross_entropy import LOGITS_HELD
from corpusmith.objective.masked_language import MaskedInputs, masked_inputs
from corpusmith.objective.masking import Masked


@dataclass(frozen=True, slots=True)
class GeneratorInputs:
    """`masked`: what the generator reads and must fill in; `draws` (float32 `[M]`, uniform in [0, 1)): one number for
    each hidden token, which decides the word."""

    masked: MaskedInputs
    draws: torch.Tensor


def generator_inputs(packed: PackedBatch, masked: Masked, draws: np.ndarray) -> GeneratorInputs:
    """For packed passages as they are masked, and one uniform number for each of all their tokens, `[T]`."""
    return GeneratorInputs(masked_inputs(packed, masked), torch.from_numpy(draws[masked.places].astype(np.float32)))


class Generator(nn.Module):
    """The generator; see the module's text.

    Args:
        config: the encoder's.
        width: G as a share of D; rounded to whole attention heads, at least one.
        max_tokens: longest sequence.
        ordinary_ids: `int64[n]`, the tokens that may be drawn.
        source: source of the weights.
    """

    def __init__(
        self, config: EncoderConfig, width: float, max_tokens: int, ordinary_ids: np.ndarray, source: torch.Generator
    ) -> None:
        super().__init__()
        heads = max(1, round(width * config.heads))
        small = replace(
            config,
            hidden_size=heads * config.head_size,
            heads=heads,
            intermediate_size=max(1, round(width * config.intermediate_size)),
            norm_first=False,
            rotary=False,
            windowed=(),
        )
        self.project = Linear(config.hidden_size, small.hidden_size)
        self.positions = Embedding(max_tokens, small.hidden_size)
        self.norm = Norm(small)
        self.layers = nn.ModuleList(TransformerLayer(small) for _ in range(config.layers))
        self.head = MaskedLanguageHead(config, source, small.hidden_size)
        initialise(self, small, source)
        forbidden = torch.ones(config.vocabulary_size, dtype=torch.bool)
        forbidden[torch.from_numpy(ordinary_ids)] = False
        self.forbidden: torch.Tensor
        self.register_buffer("forbidden", forbidden, persistent=False)

    def forward(self, encoder: Encoder, packed: PackedBatch) -> torch.Tensor:
        """States `[T, G]`, in the encoder's dtype."""
        embedded = encoder.embeddings.tokens(packed.ids).to(encoder.compute_dtype)
        hidden = self.norm(self.project(embedded) + self.positions(packed.positions)).to(encoder.compute_dtype)
        layout = AttentionLayout(packed.lengths, hidden.device)
        for layer in self.layers:
            hidden = layer(hidden, layout)
        return hidden

    @torch.no_grad()
    def fill_in(self, encoder: Encoder, states: torch.Tensor, inputs: GeneratorInputs) -> PackedBatch:
        """The passages with words drawn for all hidden tokens.

        Args:
            encoder: whose token embedding is shared.
            states: `[T, G]`, what `forward` gives for `inputs.masked.packed`.
            inputs: on any device.
        """
        packed, places = inputs.masked.packed.to(states.device), inputs.masked.places.to(states.device)
        embedding = encoder.embeddings.tokens.weight
        rows = max(1, LOGITS_HELD // len(embedding))
        pieces = zip(states[places].split(rows), inputs.draws.to(states.device).split(rows), strict=True)
        words = [self._draw(self.head(hidden, embedding), draws) for hidden, draws in pieces]
        ids = packed.ids.clone()
        ids[places] = torch.cat(words)
        return PackedBatch(ids, packed.positions, packed.cu_seqlens)

    def _draw(self, logits: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """int64 `[M]` from logits `[M, V]` and uniform `[M]`."""
        cumulative = logits.float().masked_fill_(self.forbidden, -torch.inf).softmax(dim=1).cumsum_(dim=1)
        total = cumulative[:, -1]
        reached = torch.minimum(draws * total, total.nextafter(torch.zeros_like(total)))  # rounding must not reach it
        return torch.searchsorted(cumulative, reached[:, None], right=True)[:, 0]

    def flops(self, lengths: np.ndarray, predictions: int) -> float:
        """Floating-point operations of one forward pass with so many predictions; counted as `Encoder.flops` does."""
        sizes = lengths.astype(np.float64)
        layers = sum(part.weight.numel() for part in self.layers.modules() if isinstance(part, nn.Linear))
        width, inner = self.project.weight.shape
        products = 2.0 * sizes.sum() * (layers + width * inner)
        attention = 4.0 * width * len(self.layers) * (sizes**2).sum()
        return float(products + attention + self.head_flops(predictions))

    def head_flops(self, predictions: int) -> float:
        """Floating-point operations of naming so many tokens once."""
        return predictions * 2.0 * len(self.head.dense.weight) * (self.head.dense.weight.shape[1] + len(self.forbidden))

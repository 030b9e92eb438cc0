"""Identity blocks: new layers that begin by adding nothing, so that the model computes what it has computed.

A new block is a copy of the layer below it whose attention and feed-forward part write zeros,

    W_output = 0, b_output = 0,    W_down = 0, b_down = 0,

while what they read with (queries, keys, values, the feed-forward part's first map) is that layer's. So the gradient of
the output maps is not zero, and the block begins to learn at once. New blocks are spread evenly between the old ones,
or all put at the end.

Norms first (ModernBERT). The residual stream passes such a block unchanged: exact.

Norms behind (BERT, RoBERTa). A block that adds nothing still norms twice, and LayerNorm with a gain and a bias of its
own is not the identity on states x = g * z + b that another one has made of the normed z: their mean and variance
differ from token to token. On z itself it is, since LayerNorm without gain and bias gives z again. So the norms' affine
maps change places: the last norm of the layer below gives z (gain 1, bias 0), the block's first norm gives z, and its
second one takes over g and b,

    x = g * LN(LN(z)) + b.

This is exact but for the epsilon e in LN. With s the standard deviation of what the layer's last norm was given, the
two more norms scale z by 1 - e (1 - 1 / s^2) / 2: nothing to see with BERT's 1e-12, and with RoBERTa's 1e-5 at most
5e-6 where s is above 0.71. The states z, after a layer that a block follows, are new: they come without gain and bias.
What the copied maps read with is changed to suit, W diag(g) and b' + W b, so that they see what they would have seen.

Where we depart from the paper or it is silent:
- LLaMA Pro, a decoder with norms first, trains the new blocks alone; here training goes on with all weights. Its
  construction for norms first is used as it is; the one for norms behind is ours.
- It puts as many blocks behind each of several groups of equally many layers. Here any number is spread as evenly as
  it can be.

Relations: the copies of `interleave` stand in the same places and add what the layers below them add.

Citation: Wu, Gan, Ge, Lu, Wang, Feng, Shan, Luo (2024), "LLaMA Pro: Progressive LLaMA with Block Expansion", ACL,
section 3.2.
"""

from __future__ import annotations

import torch

from corpusmith.errors import ModelError
from corpusmith.growth.base import GrowthInput
from corpusmith.growth.depth import LayerCopies
from corpusmith.growth.options.depth import IdentityConfig
from corpusmith.growth.weights import Weights, model_of
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead

NEGLIGIBLE_EPSILON = 1e-6
"""Of norms that may be applied once more; BERT has 1e-12, RoBERTa 1e-5."""


class Identity(LayerCopies):
    """Identity blocks; see the module's text."""

    def __init__(self, config: IdentityConfig) -> None:
        self.config = config

    def preserves_function(self, source: EncoderConfig, target: EncoderConfig) -> bool:
        """See the base class; with norms behind only where their epsilon is too small to be seen."""
        return target.norm_first or target.norm_epsilon <= NEGLIGIBLE_EPSILON

    def numbers(self, source: int, target: int) -> list[int]:
        """For each of the `target` layers the one of the source that it is, or, where that stands there already, the
        one that it copies."""
        if target <= source:
            raise ModelError(f"identity blocks make more layers than {source}, and {target} are wanted.")
        added = target - source
        if self.config.place == "end":
            behind = [source - 1] * added
        else:
            behind = [-(-number * source // added) - 1 for number in range(1, added + 1)]
        return sorted([*range(source), *behind])

    def grow(self, given: GrowthInput) -> tuple[Encoder, MaskedLanguageHead | None]:
        """See the base class."""
        numbers = self.numbers(given.source.encoder.config.layers, given.target.layers)
        weights = self.copied_weights(given)
        for place in range(1, len(numbers)):
            if numbers[place] == numbers[place - 1]:
                if not given.target.norm_first:
                    _pass_norm_on(weights, f"encoder.layers.{place - 1}", f"encoder.layers.{place}")
                _write_nothing(weights, f"encoder.layers.{place}")
        return model_of(given.target, weights)


def _write_nothing(weights: Weights, block: str) -> None:
    """Let both parts of a block add zeros."""
    for name in (f"{block}.attention.output", f"{block}.mlp.down"):
        for kind in ("weight", "bias"):
            if f"{name}.{kind}" in weights:
                weights[f"{name}.{kind}"] = torch.zeros_like(weights[f"{name}.{kind}"])


def _pass_norm_on(weights: Weights, below: str, block: str) -> None:
    """Give the block's second norm the gain and bias of the layer below, and leave the two norms before it without; let
    the block's maps read as if nothing had changed."""
    own = _affine(weights, f"{block}.attention_norm")
    passed = _affine(weights, f"{below}.mlp_norm")
    _read_through(weights, f"{block}.attention.qkv", *passed)
    _read_through(weights, f"{block}.mlp.up", *own)
    for kind, value in (("weight", 1.0), ("bias", 0.0)):
        if f"{below}.mlp_norm.{kind}" in weights:
            weights[f"{block}.mlp_norm.{kind}"] = weights[f"{below}.mlp_norm.{kind}"]
            for name in (f"{below}.mlp_norm.{kind}", f"{block}.attention_norm.{kind}"):
                weights[name] = torch.full_like(weights[name], value)


def _affine(weights: Weights, norm: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    return weights[f"{norm}.weight"], weights.get(f"{norm}.bias")


def _read_through(weights: Weights, linear: str, gain: torch.Tensor, bias: torch.Tensor | None) -> None:
    """Let a linear map give for z what it gives for gain * z + bias; without a bias of its own it cannot add one."""
    weight = weights[f"{linear}.weight"]
    weights[f"{linear}.weight"] = weight * gain
    if bias is not None and f"{linear}.bias" in weights:
        weights[f"{linear}.bias"] = weights[f"{linear}.bias"] + weight @ bias

"""Options of operators that widen by copying, and of what the learned ones start from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from corpusmith.growth.options.base import GrowthOptions


class WideningOptions(GrowthOptions):
    """Options of operators in which a new dimension begins as the copy of an old one."""

    noise: float = Field(default=0.5, ge=0, le=2)
    """How unlike the weights that read the copies of one dimension are, as a share of their size. They differ by random
    numbers that add up to 0 over the copies, which leaves the function as it is. 0 to 2; at 0 copies get the same
    gradients and remain copies for ever, unless dropout tells them apart."""


class FPIConfig(WideningOptions):
    """Function-preserving widening: a wider model that computes what the source computed."""

    kind: Literal["fpi"] = "fpi"
    """Function-preserving initialisation of bert2BERT."""


class AKIConfig(WideningOptions):
    """Widening whose new heads and neurons come from the layer above."""

    kind: Literal["aki"] = "aki"
    """Advanced knowledge initialisation of bert2BERT."""


class MixtureConfig(GrowthOptions):
    """Widening and deepening by new mixtures of the source's layers."""

    kind: Literal["mixture"] = "mixture"
    """Template mixing, after MixtureGrowth."""

    novelty: float = Field(default=0.3, ge=0, le=1)
    """How far the mixture of layers that fills a new part lies from the layer it widens: the sine of the angle between
    them. 0 to 1; 0 copies, 1 takes nothing from that layer."""

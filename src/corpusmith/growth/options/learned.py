"""Options of operators that learn how to grow."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from corpusmith.growth.options.width import WideningOptions


class LearnedOptions(WideningOptions):
    """Options of all operators that are learned. They start as copies with `noise`."""

    steps: int = Field(default=100, ge=0, le=100_000)
    """Steps of learning, each with the training loss of one batch on the grown model. 0 or more; 0 leaves the operator
    as it starts."""

    batch_tokens: int = Field(default=8192, ge=64, le=1_000_000)
    """Tokens of a step's batch. 64 to 1e6; where training itself is short, fewer keep the operator's part small."""

    learning_rate: float = Field(default=1e-4, gt=0, le=1)
    """Learning rate of the first step, from which it falls to 0 in a straight line. Above 0."""


class LiGOConfig(LearnedOptions):
    """Linear maps of width and depth, learned with the training loss."""

    kind: Literal["ligo"] = "ligo"
    """The learned linear growth operator."""


class MangoConfig(LearnedOptions):
    """One multi-linear map from all weights to all weights, learned with the training loss."""

    kind: Literal["mango"] = "mango"
    """The multi-linear operator."""

    rank: int = Field(default=1, ge=1, le=8)
    """Size of the indices that join the four cores of the map into a ring. 1 to 8; the paper's main results have 1,
    memory and time of learning grow with the square."""

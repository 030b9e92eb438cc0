"""Options of objectives that are made of others: sums, and losses asked of smaller models inside the model.

Which objectives may stand inside is settled in `objective/config.py`, where all of them are known.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from corpusmith.config import Config
from corpusmith.objective.options.base import Need, ObjectiveOptions
from corpusmith.objective.options.contrast import ContrastiveConfig
from corpusmith.objective.options.language import MaskedLanguageConfig

if TYPE_CHECKING:
    from corpusmith.objective.config import ObjectiveConfig, SummandConfig, WrappedConfig


class CompositeOptions(ObjectiveOptions):
    """Base of the options of objectives that are made of others; `members` names these."""

    def needs(self) -> frozenset[Need]:
        """What any of its members needs."""
        return frozenset(need for member in self.members() for need in member.needs())


class TermConfig(Config):
    """One of the objectives that are summed: at least two, none twice. The first leads: its examples make the batches,
    its rates and sizes are the defaults."""

    objective: SummandConfig
    """Any objective but a sum."""

    weight: float = Field(default=1.0, gt=0)
    """Its loss is multiplied by this. Above 0."""


def _both() -> tuple[TermConfig, ...]:
    return TermConfig(objective=MaskedLanguageConfig()), TermConfig(objective=ContrastiveConfig())


class SumConfig(CompositeOptions):
    """A sum: several objectives at once, their losses added with weights."""

    kind: Literal["sum"] = "sum"
    """A weighted sum."""

    terms: tuple[TermConfig, ...] = Field(default_factory=_both, min_length=2)
    """At least two objectives, none twice. The first leads: its examples make the batches, its rates and sizes are
    the defaults. By default masked language modelling and contrastive pairs."""

    def members(self) -> tuple[ObjectiveConfig, ...]:
        """The terms, those inside wrapped ones in their place."""
        return tuple(member for term in self.terms for member in term.objective.members())

    @model_validator(mode="after")
    def _no_kind_twice(self) -> Self:
        terms: list[str] = [term.objective.kind for term in self.terms]
        inside: list[str] = [member.kind for member in self.members()]
        for kinds in (terms, inside):
            for kind in kinds:
                if kinds.count(kind) > 1:
                    raise ValueError(f"{kind} stands in the sum twice; a sum takes every kind of objective once")
        return self


class WrappingOptions(CompositeOptions):
    """Base of the options of objectives that ask another one's loss of smaller models inside the model."""

    objective: WrappedConfig = ContrastiveConfig()
    """The objective whose loss is asked. Its `recompute_above` has no effect here."""

    def members(self) -> tuple[ObjectiveConfig, ...]:
        """The objective inside."""
        return (self.objective,)


class MatryoshkaConfig(WrappingOptions):
    """Matryoshka: the leading dimensions of every vector are a good vector themselves."""

    kind: Literal["matryoshka"] = "matryoshka"
    """Matryoshka representation learning."""

    dimensions: tuple[int, ...] | None = Field(default=None, min_length=1)
    """How many leading dimensions are asked for the loss, one number a loss. At most the model's width each; unless
    given the width itself and the four powers of two below it."""

    weights: tuple[float, ...] | None = None
    """Weight of each of these losses. Above 0 each; 1 unless given."""

    @model_validator(mode="after")
    def _fit(self) -> Self:
        _check_dimensions(self.dimensions)
        if self.weights is not None:
            if self.dimensions is None or len(self.weights) != len(self.dimensions):
                raise ValueError("weights needs as many numbers as dimensions has")
            if min(self.weights) <= 0:
                raise ValueError("weights must be above 0")
        return self


class Matryoshka2dConfig(WrappingOptions):
    """Two-dimensional Matryoshka: lower layers, and the leading dimensions of their vectors, are good models too."""

    kind: Literal["matryoshka_2d"] = "matryoshka_2d"
    """Two-dimensional Matryoshka sentence embeddings (2DMSE)."""

    dimensions: tuple[int, ...] | None = Field(default=None, min_length=1)
    """Numbers of leading dimensions, of which one is drawn for each step. Below the model's width; unless given the
    four powers of two below it."""

    alignment: float = Field(default=1.0, ge=0)
    """Weight of the divergence of the drawn layer's vectors from the last layer's. 0 leaves it out."""

    alignment_temperature: float = Field(default=0.3, gt=0)
    """Coordinates are divided by it before the softmax that the divergence compares. Above 0."""

    @model_validator(mode="after")
    def _fit(self) -> Self:
        _check_dimensions(self.dimensions)
        return self


class StarbucksConfig(WrappingOptions):
    """Starbucks: a fixed list of models inside the model, from small to large, all trained at every step."""

    kind: Literal["starbucks"] = "starbucks"
    """Starbucks representation learning; around `masked_language` or `retromae` its pretraining."""

    sizes: tuple[tuple[int, int], ...] | None = Field(default=None, min_length=2)
    """Pairs of a number of layers and a number of leading dimensions, from small to large; the last is the whole
    model. Unless given up to six depths, evenly spread, with powers of two below the whole width."""

    alignment: float | None = Field(default=None, ge=0)
    """Weight of the divergence of each size's similarities from those of the whole model. 0 leaves it out; unless
    given 1, or 0 around an objective that names or rebuilds tokens."""

    alignment_temperature: float = Field(default=0.05, gt=0)
    """Similarities are divided by it before the softmax that the divergence compares. Above 0."""

    @model_validator(mode="after")
    def _fit(self) -> Self:
        for layers, dimension in self.sizes or ():
            if layers < 1 or dimension < 1:
                raise ValueError(f"sizes has [{layers}, {dimension}]; layers and dimensions are at least 1")
        for small, large in pairwise(self.sizes or ()):
            if small == large or small[0] > large[0] or small[1] > large[1]:
                raise ValueError(f"sizes go from small to large, and {list(large)} follows {list(small)}")
        return self

    @property
    def alignment_weight(self) -> float:
        """`alignment`, or what it is where it is not given."""
        if self.alignment is not None:
            return self.alignment
        return 0.0 if self.objective.reconstructs else 1.0


class SubstructuresConfig(WrappingOptions):
    """Two-stage pretraining of a grown model: parts of it from below first, then the whole."""

    kind: Literal["substructures"] = "substructures"
    """Training of sub-structures, then of the whole (bert2BERT)."""

    objective: WrappedConfig = MaskedLanguageConfig()
    """The objective whose loss is asked. Its `recompute_above` has no effect here."""

    first_share: float = Field(default=0.125, gt=0, lt=1)
    """Share of the steps in which parts of the model are trained. Above 0, below 1; an eighth in the paper."""

    top_layers: int | None = Field(default=None, ge=1)
    """How many layers of a part learn, those at its top; and by how many layers the parts differ. At least 1, fewer
    than the model has; a quarter of them unless given."""


def _check_dimensions(dimensions: tuple[int, ...] | None) -> None:
    if dimensions is not None and (min(dimensions) < 1 or len(set(dimensions)) < len(dimensions)):
        raise ValueError(f"dimensions must be at least 1, none twice: {list(dimensions)}")

"""Options of all embedding transfers; `kind` says which."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from corpusmith.config import Config


class RandomConfig(Config):
    """New pieces begin at random, as a model trained from scratch would."""

    kind: Literal["random"] = "random"
    """Random vectors."""

    keep_shared: bool = True
    """Whether pieces that both vocabularies have keep their vectors. Without, only special tokens do."""


class MeanConfig(Config):
    """New pieces get the mean of all old vectors."""

    kind: Literal["mean"] = "mean"
    """The mean of all old vectors."""

    covariance: float = Field(default=0.0, ge=0)
    """New vectors are drawn around the mean with the old vectors' covariance times this. 0 gives the mean itself, 1
    vectors spread as the old ones are."""


class SubwordConfig(Config):
    """A new piece gets the mean of the old pieces that its text was cut into."""

    kind: Literal["subword"] = "subword"
    """The mean of a piece's old pieces."""


class CompanyConfig(Config):
    """What transfers that read the corpus have in common: a piece is known by the company it keeps."""

    window: int = Field(default=5, ge=1, le=50)
    """Symbols on either side that count as company, nearer ones for more. 1 to 50."""

    fewest: int = Field(default=5, ge=1)
    """A symbol that occurs less often in the sample is not compared with others. At least 1."""


class StaticVectorsConfig(CompanyConfig):
    """What transfers by static vectors have in common."""

    dimensions: int = Field(default=100, ge=1, le=1000)
    """Width of the static vectors. 1 to 1000."""


class NeighboursConfig(StaticVectorsConfig):
    """What transfers by nearest neighbours among static word vectors have in common."""

    neighbours: int = Field(default=10, ge=1)
    """Old pieces of which a new one is mixed. At least 1."""

    temperature: float = Field(default=0.1, gt=0)
    """Cosines are divided by it before the softmax that gives the weights. Above 0; smaller trusts the nearest more."""

    general: str | None = None
    """A folder or file of text in the language of the base model, where the corpus is in another one. Without, both
    vocabularies are compared within the corpus."""


class WechselConfig(NeighboursConfig):
    """WECHSEL: every piece is mixed of the old pieces nearest to it in a space of static word vectors."""

    kind: Literal["wechsel"] = "wechsel"
    """Nearest old pieces by static word vectors, shared pieces mixed anew as well."""


class FocusConfig(StaticVectorsConfig):
    """FOCUS: a new piece is mixed of shared pieces, few by sparsemax, near to it in static vectors of the pieces."""

    kind: Literal["focus"] = "focus"
    """Sparse mixtures of shared pieces."""


class OfaConfig(NeighboursConfig):
    """OFA: a new piece is mixed of its nearest old pieces in the leading directions of the old vectors."""

    kind: Literal["ofa"] = "ofa"
    """Nearest old pieces by static word vectors, factorised."""

    rank: int | None = Field(default=None, ge=1)
    """Leading directions of the old vectors that new ones are made of. At least 1; all of them where it is not set."""


class ConvexConfig(CompanyConfig):
    """Constrained word2vec: a new piece's vector lies in the convex hull of the old ones, where it tells best which
    pieces stand near it."""

    kind: Literal["convex"] = "convex"
    """Convex combinations learned from the corpus."""

    steps: int = Field(default=32, ge=0, le=1000)
    """Old pieces added to each mixture, one a step, after the best single one. 0 to 1000."""


class DistillationConfig(Config):
    """Contextual distillation: a new piece's vector is learned so that the model reads it, where it occurs, as it read
    its old pieces."""

    kind: Literal["distillation"] = "distillation"
    """Contextual distillation at a piece's occurrences."""

    occurrences: int = Field(default=16, ge=1)
    """Occurrences of each new piece that are learned from. At least 1."""

    context: int = Field(default=12, ge=0)
    """Old pieces read on either side of an occurrence. 0 or more."""

    steps: int = Field(default=300, ge=1)
    """Steps of the optimiser. At least 1."""

    batch: int = Field(default=32, ge=1)
    """Occurrences a step. At least 1."""

    learning_rate: float = Field(default=0.1, gt=0)
    """First step size, as a share of the standard deviation of the old vectors' entries; it falls to 0. Above 0."""


TransferConfig = Annotated[
    RandomConfig
    | MeanConfig
    | SubwordConfig
    | WechselConfig
    | FocusConfig
    | OfaConfig
    | ConvexConfig
    | DistillationConfig,
    Field(discriminator="kind"),
]
"""Any transfer's options; `kind` says which."""

"""What all objectives' options have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self, cast

from pydantic import model_validator

from corpusmith.config import Config

if TYPE_CHECKING:
    from corpusmith.objective.config import ObjectiveConfig

Need = Literal["pairs", "links"]
"""What an objective may want beside passages: training pairs, or the links between documents."""
LARGEST_INTEGER = 2**53
"""Up to here an integer is exact as a float, and some hundred times as much is still one of 64 bits."""


class ObjectiveOptions(Config):
    """Base of all objectives' options."""

    reconstructs: ClassVar[bool] = False
    """Whether the model learns to name or rebuild tokens: after training on people's labels that would undo it."""

    @model_validator(mode="after")
    def _integers_can_be_computed_with(self) -> Self:
        for name, value in self:
            if isinstance(value, int) and value > LARGEST_INTEGER:
                raise ValueError(f"{name} is an integer beyond 2**53, larger than anything here can be")
        return self

    def needs(self) -> frozenset[Need]:
        """What the pipeline must make ready beside passages."""
        return frozenset()

    def models(self) -> tuple[str, ...]:
        """Other models that are learnt from, as the recipe names them."""
        return ()

    def members(self) -> tuple[ObjectiveConfig, ...]:
        """The objectives it is made of; itself alone unless it wraps or sums others."""
        return (cast("ObjectiveConfig", self),)

"""The base of every component's configuration."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

LARGEST_INTEGER = 2**53
"""Up to here an integer is exact as a float, and some thousand times as much still one of 64 bits."""


class Config(BaseModel):
    """A frozen, typed set of options; unknown keys are errors. Every component owns a subclass beside its code."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="after")
    def _integers_can_be_computed_with(self) -> Self:
        for name, value in self:
            if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
                raise ValueError(f"{name} is an integer beyond 2**53, larger than anything here can be")
        return self

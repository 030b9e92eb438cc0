"""How much training may cost, and how many steps that buys.

A budget is stated in what the user cares about (minutes), in what comparisons need (FLOPs) or in what papers report
(tokens). All three become a number of steps before the first step is taken, because the learning-rate schedule must
know where the end is, and because a run that is killed and resumed must follow the same schedule. Minutes are turned
into steps by timing a few real ones; the figure is kept in the run's folder and never measured again for that run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from corpusmith.config import Config
from corpusmith.errors import RecipeError


class BudgetConfig(Config):
    """How much may be spent: exactly one of minutes, tokens and flops."""

    minutes: float | None = Field(default=None, gt=0)
    """Wall-clock minutes on this machine."""

    tokens: int | None = Field(default=None, gt=0)
    """Tokens that pass through the encoder."""

    flops: float | None = Field(default=None, ge=1)
    """Floating-point operations, forward and backward, counted analytically."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("minutes", "tokens", "flops") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of minutes, tokens and flops, not {' and '.join(given) or 'none'}")
        return self

    def __str__(self) -> str:
        if self.minutes is not None:
            return f"{self.minutes:g} minutes"
        return f"{self.tokens:,} tokens" if self.tokens is not None else f"{self.flops:.2e} FLOPs"

    def scaled(self, share: float) -> BudgetConfig:
        """This share of the budget, for one of several stages."""
        if self.minutes is not None:
            return BudgetConfig(minutes=self.minutes * share)
        if self.tokens is not None:
            return BudgetConfig(tokens=max(1, round(self.tokens * share)))
        return BudgetConfig(flops=max(1.0, (self.flops or 0.0) * share))


def parse_budget(text: str) -> BudgetConfig:
    """A budget as people write it: "5 minutes", "2e6 tokens", "5e13 flops".

    Raises:
        RecipeError: it is not of this form, or nothing is to be spent.
    """
    number, _, unit = " ".join(text.lower().split()).partition(" ")
    unit = {"minute": "minutes", "token": "tokens", "flop": "flops"}.get(unit, unit)
    try:
        if unit not in BudgetConfig.model_fields:
            raise ValueError
        amount = float(number.replace(",", "").replace("_", ""))
        return BudgetConfig.model_validate({unit: round(amount) if unit == "tokens" else amount})
    except (ValueError, OverflowError):
        raise RecipeError(
            f"no budget: '{text}'; write a number above 0 and its unit, as in '5 minutes', '2e6 tokens' or "
            "'5e13 flops'."
        ) from None


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one step costs on average; `seconds` is None where nothing depends on it."""

    tokens: float
    flops: float
    seconds: float | None


def affordable_steps(budget: BudgetConfig, cost: StepCost, most: int, overhead_seconds: float = 0.0) -> int:
    """Steps that the budget pays for: at least 1, at most `most`.

    `overhead_seconds` (evaluations, the measuring itself) are paid from a budget of minutes, and only from that: they
    are no training compute.
    """
    if budget.minutes is not None:
        assert cost.seconds is not None, "a budget of minutes needs a measured step"
        steps = (60 * budget.minutes - overhead_seconds) / cost.seconds
    elif budget.tokens is not None:
        steps = budget.tokens / cost.tokens
    else:
        steps = (budget.flops or 0.0) / cost.flops
    return max(1, min(most, round(steps)))

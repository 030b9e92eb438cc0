from __future__ import annotations

import pytest
from pydantic import ValidationError

from corpusmith.training.budget import BudgetConfig, StepCost, affordable_steps

COST = StepCost(tokens=1000, flops=1e9, seconds=0.5)


@pytest.mark.parametrize("options", [{}, {"minutes": 1, "tokens": 1}, {"tokens": 5, "flops": 1e9}])
def test_exactly_one_currency_must_be_given(options):
    with pytest.raises(ValidationError, match="exactly one of minutes, tokens and flops"):
        BudgetConfig(**options)


@pytest.mark.parametrize("options", [{"minutes": 0}, {"tokens": -1}, {"flops": 0}])
def test_nothing_is_no_budget(options):
    with pytest.raises(ValidationError):
        BudgetConfig(**options)


@pytest.mark.parametrize(
    ("budget", "steps"),
    [(BudgetConfig(minutes=1), 120), (BudgetConfig(tokens=50_000), 50), (BudgetConfig(flops=7e9), 7)],
)
def test_each_currency_buys_its_steps(budget, steps):
    assert affordable_steps(budget, COST, most=1000) == steps


def test_evaluations_are_paid_from_minutes_only():
    assert affordable_steps(BudgetConfig(minutes=1), COST, most=1000, overhead_seconds=30) == 60
    assert affordable_steps(BudgetConfig(tokens=50_000), COST, most=1000, overhead_seconds=30) == 50


def test_a_budget_buys_at_least_one_step_and_no_more_than_the_epochs_allow():
    assert affordable_steps(BudgetConfig(tokens=1), COST, most=1000) == 1
    assert affordable_steps(BudgetConfig(minutes=1), COST, most=1000, overhead_seconds=600) == 1
    assert affordable_steps(BudgetConfig(tokens=10**9), COST, most=30) == 30


@pytest.mark.parametrize("budget", [BudgetConfig(minutes=8), BudgetConfig(tokens=8), BudgetConfig(flops=8)])
def test_a_share_is_in_the_same_currency(budget):
    share = budget.scaled(0.25).model_dump(exclude_none=True)
    assert share == dict.fromkeys(budget.model_dump(exclude_none=True), 2)

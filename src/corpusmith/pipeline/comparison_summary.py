"""What the runs of a comparison come to: their costs, what a reader must know of them, and the summary.

Runs and their measures come from `comparison`, which decides what is run; nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import corpusmith
from corpusmith import environment
from corpusmith.evaluation.base import Measured
from corpusmith.evaluation.compare import DECIDING_MEASURE
from corpusmith.index.search import Mode
from corpusmith.pipeline.workspace import Workspace
from corpusmith.recipe import Recipe
from corpusmith.report.base import ComparedRecipe, ComparisonSummary, Evaluation
from corpusmith.training.budget import BudgetConfig

if TYPE_CHECKING:
    from corpusmith.pipeline.comparison import Comparison

MODES: tuple[Mode, ...] = ("dense", "fused")
TOLERANCE = {"minutes": 0.2, "tokens": 0.05, "flops": 0.05}
"""How far what a run spent may lie from the budget before the summary says so."""


@dataclass(frozen=True, slots=True)
class RunCost:
    """What the stages of one run spent: of all, and of those that share the budget compared."""

    steps: int
    tokens: float
    flops: float
    seconds: float
    spent: dict[str, float]
    untrained: tuple[int, ...]
    kept_start: bool


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What one recipe with one seed came to, by mode, and what it cost."""

    measured: Mapping[str, Measured]
    cost: RunCost


def cost_of(work: Workspace, recipe: Recipe) -> RunCost:
    """What a run's stages spent, from their manifests; `recipe` says which of them share the budget compared."""
    manifests = [work.manifests[f"stage-{number}"] for number in range(1, len(recipe.stages) + 1)]
    compared = [m for m, stage in zip(manifests, recipe.stages, strict=True) if stage.budget is None]
    return RunCost(
        steps=sum(m.facts.get("steps", 0) for m in manifests),
        tokens=sum(m.cost.get("tokens", 0.0) for m in manifests),
        flops=sum(m.cost.get("flops", 0.0) for m in manifests),
        seconds=sum(m.facts.get("seconds", 0.0) for m in manifests),
        spent={
            "minutes": sum(m.facts.get("seconds", 0.0) for m in compared) / 60,
            "tokens": sum(m.cost.get("tokens", 0.0) for m in compared),
            "flops": sum(m.cost.get("flops", 0.0) for m in compared),
        },
        untrained=tuple(number for number, m in enumerate(manifests, 1) if not m.facts.get("steps")),
        kept_start=bool(manifests) and all(m.facts.get("kept_step", 0) == 0 for m in manifests),
    )


def remarks(name: str, recipe: Recipe, runs: Sequence[FinishedRun], budget: BudgetConfig) -> list[str]:
    """What a reader must know of these runs before believing that they were at equal cost."""
    found, costs = [], [run.cost for run in runs]
    for number in sorted({number for cost in costs for number in cost.untrained}):
        found.append(f"{name}: stage {number} trained nothing (the messages of the run say why).")
    unit, whole = next((u, v) for u, v in budget.model_dump().items() if v is not None)
    if any(stage.budget is None for stage in recipe.stages):
        share = float(np.mean([cost.spent[unit] for cost in costs])) / whole
        if abs(share - 1) > TOLERANCE[unit]:
            why = (
                "an end other than the budget was reached (training.max_epochs, patience, too few pairs)"
                if share < 1
                else "a step costs too much for so small a budget"
            )
            found.append(f"{name} spent {share:.0%} of the budget: {why}.")
    kept = sum(cost.kept_start and not cost.untrained for cost in costs)
    if kept:
        found.append(
            f"{name}: in {kept} of {len(costs)} runs no evaluation was better than the start, whose weights were kept "
            "(training.keep_best)."
        )
    return found


def summary_of(
    comparison: Comparison,
    evaluations: list[Evaluation],
    runs: Mapping[str, Sequence[FinishedRun]],
    notes: list[str],
    queries: list[str],
) -> ComparisonSummary:
    """Everything that compare.json holds; `queries` are the ids that `per_query` follows."""
    recipes: list[ComparedRecipe] = []
    for name, recipe in comparison.recipes.items():
        costs, by_seed = [run.cost for run in runs[name]], _means(runs[name])
        recipes.append(
            {
                "name": name,
                "base": recipe.model.base,
                "objectives": [stage.objective.kind for stage in recipe.stages],
                "steps": float(np.mean([cost.steps for cost in costs])),
                "tokens": float(np.mean([cost.tokens for cost in costs])),
                "flops": float(np.mean([cost.flops for cost in costs])),
                "seconds": float(np.mean([cost.seconds for cost in costs])),
                "by_seed": by_seed,
                "spread": {
                    mode: float(np.std(means, ddof=1)) if len(means) > 1 else None for mode, means in by_seed.items()
                },
            }
        )
    return {
        "title": ", ".join(path.name for path in comparison.paths) or "installed documentation",
        "created": environment.now(),
        "corpusmith": corpusmith.__version__,
        "machine": environment.machine(),
        "versions": environment.versions(),
        "budget": str(comparison.budget),
        "seeds": comparison.seeds,
        "measure": DECIDING_MEASURE,
        "evaluations": evaluations,
        "recipes": recipes,
        "notes": notes,
        "query_ids": queries,
        "per_query": {
            mode: {
                name: [run.measured[mode].values[DECIDING_MEASURE].round(6).tolist() for run in of_recipe]
                for name, of_recipe in runs.items()
            }
            for mode in MODES
        },
    }


def _means(runs: Sequence[FinishedRun]) -> dict[str, list[float]]:
    """The deciding measure of each run, by mode."""
    return {mode: [run.measured[mode].mean(DECIDING_MEASURE) for run in runs] for mode in MODES}

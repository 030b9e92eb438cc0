"""A comparison of recipes as Markdown, for people to paste into a note or a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from corpusmith.report import notation
from corpusmith.report.base import ComparisonSummary, Evaluation, baseline_name, comparison_of, finding, method


def as_markdown(summary: ComparisonSummary) -> str:
    """A table for each way of searching, one for what training cost, and all remarks."""
    parts = [f"# Recipes compared on {_cell(summary['title'])}", f"Budget of training: {summary['budget']} each."]
    for evaluation in summary["evaluations"]:
        parts += [f"## {_cell(evaluation['name'])}", _evaluation_table(evaluation)]
        parts.append(" ".join(part for part in (method(evaluation), evaluation["note"]) if part))
    parts += ["## Training", _training_table(summary)]
    parts += [f"- {note}" for note in summary["notes"]]
    parts.append(f"{summary['created']}, {summary['machine']}, corpusmith {summary['corpusmith']}.")
    return "\n\n".join(parts) + "\n"


def _evaluation_table(evaluation: Evaluation) -> str:
    measures = list(evaluation["systems"][0]["measures"])
    rows = [["system", *measures, f"against {baseline_name(evaluation)}", "finding"]]
    for system in evaluation["systems"]:
        cells = [_cell(system["name"])]
        for name in measures:
            estimate = system["measures"][name]
            low, high = notation.score(estimate["low"]), notation.score(estimate["high"])
            cells.append(f"{notation.score(estimate['mean'])} [{low}, {high}]")
        comparison = comparison_of(evaluation, system["key"])
        if comparison is None:
            is_baseline = system["key"] == evaluation["baseline"]
            rows.append([*cells, baseline_name(evaluation) if is_baseline else "", ""])
            continue
        low, high = notation.difference(comparison["low"]), notation.difference(comparison["high"])
        effect = f"{notation.difference(comparison['difference'])} [{low}, {high}]"
        rows.append([*cells, f"{effect}, {notation.probability(comparison['p_adjusted'])}", finding(comparison)])
    return _table(rows)


def _training_table(summary: ComparisonSummary) -> str:
    modes = list(summary["per_query"])
    seeded = [f"{summary['measure']} by seed, {mode}" for mode in modes]
    rows = [["recipe", "start", "objectives", "steps", "tokens", "FLOPs", "time", *seeded]]
    for recipe in summary["recipes"]:
        rows.append(
            [
                _cell(recipe["name"]),
                _cell(recipe["base"]),
                ", ".join(recipe["objectives"]) or "none",
                notation.count(recipe["steps"]),
                notation.quantity(recipe["tokens"]),
                notation.quantity(recipe["flops"]),
                notation.duration(recipe["seconds"]),
                *(notation.seeds(recipe["by_seed"][mode]) for mode in modes),
            ]
        )
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def _cell(text: str) -> str:
    return notation.visible(text).replace("|", "\\|")

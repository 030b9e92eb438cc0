"""Writes docs/systems.md: every objective, its paper, its file, what was measured of it and the verdict.

All of it is derived: methods from the registry, papers from the files' own citations, claims from
`benchmarks/claims/table.py`, figures from the JSON files under `benchmarks/results/claims`. Nothing is edited by hand:
a claim that is contradicted stands beside one that is confirmed. `tests/benchmarks/test_claims.py` compares the page
with what this script makes; `make docs` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from benchmarks.claims.table import CLAIMS, Claim, citation_of, results_of, source_of

from corpusmith.objective.registry import OBJECTIVES, ObjectiveConfig

PAGE = Path(__file__).resolve().parent.parent / "docs" / "systems.md"
NOT_MEASURED = "not measured yet"
INTRODUCTION = """# Objectives and what became of their claims

Written by `make docs` from the registry, the claims (`benchmarks/claims/table.py`) and what
`benchmarks/claims/objectives.py` measured; not edited by hand.

Each claim sets an objective against its paper's own baseline: same start, same FLOPs, same seeds, the same fine-tuning
where there is one. The verdict follows from the 95% interval of the paired difference in nDCG@10, each query's scores
averaged over seeds and each collection with the same weight: above 0 it is *confirmed here*, below 0 *contradicted
here*, otherwise *not distinguishable here*. That is said of these budgets, models and collections; most papers trained
larger models for much longer. P-values are of the paired randomisation test and are not adjusted for the number of
claims: of twenty true nulls one is expected below 0.05.

*Mechanism* says whether the objective does inside what it is meant to do (`benchmarks/claims/mechanics`), whatever that
is worth for search.

The quick form takes cranfield and a cut of scifact, two seeds and little training; the full form all five collections,
three seeds and more training. Where both were measured, the table shows the full one."""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


def page() -> str:
    """The whole page."""
    claims = [claim for claim in CLAIMS if not claim.hindrance()]
    parts = [INTRODUCTION, "## Verdicts", _overview(claims), "## Claims"]
    parts += [part for claim in claims for part in _section(claim)]
    parts += ["## All objectives", _methods(claims)]
    return "\n\n".join(parts) + "\n"


def _overview(claims: list[Claim]) -> str:
    rows = [["claim", "against", "setting", "difference", "verdict", "mechanism"]]
    for claim in claims:
        results = results_of(claim.name)
        head = [f"[{claim.name}](#{_anchor(claim.name)})", _named(claim.baseline), claim.decides]
        if not results:
            rows.append([*head, "", NOT_MEASURED, ""])
            continue
        result = results[_strongest(results)]
        rows.append([*head, _effect(result["decided_by"]), f"**{result['verdict']}**", _holds(result["mechanics"])])
    return _table(rows)


def _section(claim: Claim) -> Iterator[str]:
    """What is claimed, and each form's figures."""
    yield f"### {claim.name}"
    yield claim.statement
    lines = [f"- Objective: {_written(claim.objective)}{_pairs(claim)}, in `{source_of(claim.kind)}`"]
    lines.append(f"- Against: {_written(claim.baseline) if claim.baseline else 'the start as it is'}")
    lines.append(f"- Paper: {claim.paper or citation_of(claim.kind)}")
    yield "\n".join(lines)
    results = results_of(claim.name)
    if not results:
        yield f"{NOT_MEASURED.capitalize()}."
    for form, result in sorted(results.items()):
        yield from _measured(form, result)


def _measured(form: str, result: dict[str, Any]) -> Iterator[str]:
    settings = result["settings"]["form"]
    start = Path(result["settings"]["start"]).name
    yield (
        f"**{form.capitalize()}**: {result['verdict']}. Start {start}; {settings['seeds']} seeds; "
        f"{settings['flops']:.0e} FLOPs, fine-tuning {settings['tuning_flops']:.0e}; {result['date'][:10]}."
    )
    rows = [["setting", "collection", "queries", "search", "objective", "baseline", "difference", "by seed"]]
    for setting, found in result["results"].items():
        for way, pooled in found["pooled"].items():
            rows.append([setting, "all", "", way, "", "", f"**{_effect(pooled)}**", ""])
        for collection, entry in found["collections"].items():
            for way, values in entry["ways"].items():
                means = [f"{values['objective']:.4f}", f"{values['baseline']:.4f}"]
                seeds = " ".join(f"{value:+.4f}" for value in values["by_seed"])
                rows.append([setting, collection, str(entry["queries"]), way, *means, _effect(values), seeds])
    yield _table(rows)
    if result["mechanics"]:
        figures = [f"{name} {value:.4g}" for name, value in result["mechanics"].items() if name != "holds"]
        yield f"Mechanism {_holds(result['mechanics'])}: {', '.join(figures)}."
    if result["notes"]:
        yield "\n".join(f"- {note}" for note in result["notes"])


def _methods(claims: list[Claim]) -> str:
    """Every kind of objective, whether or not anything is claimed of it."""
    summaries = {}
    for config in get_args(get_args(ObjectiveConfig)[0]) or (get_args(ObjectiveConfig)[0],):
        summaries[config.model_fields["kind"].default] = " ".join((config.__doc__ or "").split())
    rows = [["kind", "what it does", "file", "paper", "claims"]]
    for kind in sorted(OBJECTIVES):
        own = [f"[{claim.name}](#{_anchor(claim.name)})" for claim in claims if claim.kind == kind]
        rows.append([f"`{kind}`", summaries[kind], f"`{source_of(kind)}`", citation_of(kind), ", ".join(own) or "none"])
    return _table(rows)


def _strongest(results: dict[str, Any]) -> str:
    """The form that the overview shows: the full one before the quick one, the usual start before others."""
    return min(results, key=lambda form: (not form.startswith("full"), "start" in form, form))


def _effect(found: dict[str, float]) -> str:
    return f"{found['difference']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}], p = {found['p']:.3f}"


def _holds(mechanics: dict[str, Any]) -> str:
    return "not checked" if not mechanics else "holds" if mechanics["holds"] else "does not hold"


def _named(fragment: dict[str, Any] | None) -> str:
    return "the start" if fragment is None else f"`{fragment['kind']}`"


def _written(fragment: dict[str, Any]) -> str:
    """An objective as a recipe has it, in short."""
    options = [f"{name} = {_value(value)}" for name, value in fragment.items() if name != "kind"]
    return f"`{fragment['kind']}`" + (f" with `{', '.join(options)}`" if options else "")


def _value(value: Any) -> str:
    return value["kind"] if isinstance(value, dict) else str(value).lower() if isinstance(value, bool) else str(value)


def _pairs(claim: Claim) -> str:
    return f" on pairs with `{claim.pairs}`" if claim.pairs else ""


def _anchor(name: str) -> str:
    return name.lower()


def _table(rows: list[list[str]]) -> str:
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    head, *body = [f"| {' | '.join(row)} |" for row in escaped]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


if __name__ == "__main__":
    main()

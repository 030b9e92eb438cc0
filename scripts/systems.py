"""Writes docs/systems.md: every objective, embedding transfer and growth operator, with its paper, its file, what was
measured of it and the verdict.

All of it is derived: methods from the registries, papers from the files' own citations, claims from the programs that
measure them, figures from the JSON files under `benchmarks/results/claims`. Nothing is edited by hand:
a claim that is contradicted stands beside one that is confirmed. `tests/benchmarks/test_claims.py` compares the page
with what this script makes; `make docs` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from benchmarks.claims import growth, vocabularies
from benchmarks.claims.table import CLAIMS, Claim, citation_of, results_of, source_of
from benchmarks.record import read_parts

from corpusmith.growth.registry import GROWTH, GrowthConfig
from corpusmith.objective.registry import OBJECTIVES, ObjectiveConfig
from corpusmith.vocabulary.transfer.config import TransferConfig
from corpusmith.vocabulary.transfer.registry import TRANSFERS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "systems.md"
NOT_MEASURED = "not measured yet"
INTRODUCTION = """# Methods and what became of their claims

Written by `make docs` from the registries, the claims and what the programs under `benchmarks/claims` measured; not
edited by hand. Objectives come first.

Each claim sets an objective against its paper's own baseline: same start, same FLOPs, same seeds, the same fine-tuning
where there is one. The verdict follows from the 95% interval of the paired difference in nDCG@10, each query's scores
averaged over seeds and each collection with the same weight: above 0 it is *confirmed here*, below 0 *contradicted
here*, otherwise *not distinguishable here*. That is said of these budgets, models and collections; most papers trained
larger models for much longer. P-values are of the paired randomisation test and are not adjusted for the number of
claims: of twenty true nulls one is expected below 0.05.

*Mechanism* says whether the objective does inside what it is meant to do (`benchmarks/claims/mechanics`), whatever that
is worth for search.

The quick form takes cranfield and a cut of scifact, two seeds and little training; the full form all five collections,
three seeds and more training. Where both were measured, the table shows the full one.

Vocabularies and embedding transfers, and growth, stand [further below](#vocabularies)."""
VOCABULARIES = """The same model over its own vocabulary, an extended and a replaced one, trained with the same FLOPs on
pairs made from a corpus, and asked queries held out of it (`benchmarks/claims/vocabularies.py`): nDCG@10 of its
vectors, paired, each corpus with the same weight; and tasks of the corpus's field (`probes.py`), each with the same
weight: linear probes of its states (F1 of each sentence's entities, share of texts put into the right class), and
nDCG@10 on a judged collection. What a transfer spends is taken off its training."""
GROWING = """A small model, trained, grown and trained on, against one of the large shape from random weights: the share
of the latter's FLOPs that are left when the grown model has reached its last loss on passages held out
(`benchmarks/claims/growth.py`), mean and 95% interval over seeds. The better the small model, the more any way saves:
ways compare only where their small models are the same."""


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
    parts += ["## Vocabularies", VOCABULARIES, *_vocabularies(), "## Growth", GROWING, *_growth()]
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
    lines = [f"- Objective: {_written(claim.objective)}{_pairs(claim)}, in `{source_of(claim.module)}`"]
    lines.append(f"- Against: {_written(claim.baseline) if claim.baseline else 'the start as it is'}")
    lines.append(f"- Paper: {claim.paper or citation_of(claim.module)}")
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
                seeds = ", ".join(f"{value:+.4f}" for value in values["by_seed"])
                rows.append([setting, collection, str(entry["queries"]), way, *means, _effect(values), seeds])
    yield _table(rows)
    if result["mechanics"]:
        figures = [f"{name} {value:.4g}" for name, value in result["mechanics"].items() if name != "holds"]
        yield f"Mechanism {_holds(result['mechanics'])}: {', '.join(figures)}."
    if result["notes"]:
        yield "\n".join(f"- {note}" for note in result["notes"])


def _methods(claims: list[Claim]) -> str:
    """Every kind of objective, whether or not anything is claimed of it."""
    made = {kind: [claim.name for claim in claims if claim.kind == kind] for kind in OBJECTIVES}
    return _kinds(ObjectiveConfig, OBJECTIVES, made)


def _kinds(
    options: Any, registry: Mapping[str, tuple[str, str]], claims: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Everything that a registry holds: what it does by its options' own words, file, paper, and claims."""
    summaries = {}
    for config in get_args(get_args(options)[0]) or (get_args(options)[0],):
        summaries[config.model_fields["kind"].default] = " ".join((config.__doc__ or "").split())
    rows = [["kind", "what it does", "file", "paper", *(["claims"] if claims else [])]]
    for kind in sorted(registry):
        module = registry[kind][0]
        row = [f"`{kind}`", summaries[kind], f"`{source_of(module)}`", citation_of(module)]
        if claims:
            row.append(", ".join(f"[{name}](#{_anchor(name)})" for name in claims[kind]) or "none")
        rows.append(row)
    return _table(rows)


def _vocabularies() -> Iterator[str]:
    """What became of the claims about vocabularies and transfers, by form and budget."""
    parts = read_parts(vocabularies.FILE)
    rows = [["claim", "start", "against", "asked", "training", "difference", "of which", "verdict"]]
    for name, claim in vocabularies.CLAIMS.items():
        head = [f"{name}: {claim.statement}", f"`{claim.start}`", f"`{claim.baseline}`"]
        before = len(rows)
        for form in vocabularies.FORMS:
            runs = {corpus: parts.get(vocabularies.part_name(form, corpus)) for corpus in form.corpora}
            found = {corpus: part for corpus, part in runs.items() if part is not None}
            if len(found) < len(runs):
                continue
            for what in ("search", "tasks"):
                judged = vocabularies.judge(claim, found, tasks=what == "tasks")
                single = (f"{name} {values['difference']:+.4f}" for name, values in judged["by_name"].items())
                figures = [_effect(judged["pooled"]), ", ".join(single), f"**{judged['verdict']}**"]
                rows.append([*head, what, f"{form.flops:.0e} FLOPs", *figures])
        if len(rows) == before:
            rows.append([*head, "", "", "", "", NOT_MEASURED])
    yield _table(rows)
    for form in vocabularies.FORMS:
        for corpus in form.corpora:
            if (part := parts.get(vocabularies.part_name(form, corpus))) is not None:
                yield f"The loss on pairs held out of {corpus} on the way ({form.name}, mean over seeds):"
                yield _table(_losses(part["curves"]))
    yield _kinds(TransferConfig, TRANSFERS)


def _losses(curves: Mapping[str, Sequence[growth.Curve]]) -> list[list[str]]:
    """A row a start: the loss before training, and at every evaluation."""
    last = len(next(iter(curves.values()))[0]) - 1
    rows = [["start", *(f"{place / last:.0%}" for place in range(last + 1))]]
    for name, seeds in curves.items():
        losses = [[loss for _, loss in curve] for curve in seeds]
        rows.append([name, *(f"{sum(at) / len(at):.3f}" for at in zip(*losses, strict=False))])
    return rows


def _growth() -> Iterator[str]:
    """What growing saved, way by way."""
    parts = read_parts(growth.FILE)
    saved_columns = ["saved, source not counted", "counted"]
    rows = [["way", "small model; its loss", "the paper's figure", "form", *saved_columns, "verdict"]]
    for name, way in growth.WAYS.items():
        shape = ", ".join(f"{share:.0%} of {option}" for option, share in way.source.items())
        found = [(form.name, parts[key]) for form in growth.FORMS if (key := growth.part_name(name, form)) in parts]
        for form, part in found:
            saved = [growth.said(part[counted]) for counted in growth.COUNTED]
            loss = np.mean([seed["source_loss"] for seed in part["by_seed"]])
            rows.append([name, f"{shape}; {loss:.2f}", way.paper, form, *saved, f"**{part['verdict']}**"])
        if not found:
            rows.append([name, shape, way.paper, "", "", "", NOT_MEASURED])
    yield _table(rows)
    yield _kinds(GrowthConfig, GROWTH)


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

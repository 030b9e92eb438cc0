"""What a vocabulary of the corpus's own is worth, and which way of giving its pieces vectors is the best.

On each corpus the same model is trained with the same FLOPs over its own vocabulary, over that vocabulary with pieces
of the corpus, and over one learned from the corpus, whose vectors come from each of the transfers; then queries held
out of the corpus are asked of its vectors (nDCG@10), and linear probes tag and classify labelled texts of the same
field (`probes.py`). A saving of tokens counts by itself: what is shorter gets more texts for the same FLOPs. With
several budgets one sees how fast a difference wears off.

    CORPUSMITH_DATA=DATA python -m benchmarks.claims.vocabularies --work WORK --quick

Results go to benchmarks/results/claims/vocabularies.json; runs that were cut off go on where they were, and a corpus
and budget that are there for the same settings are not measured again. `make docs` then writes docs/systems.md.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.claims.default_preset import Lines, comparison
from benchmarks.claims.objectives import BASE, MEASURE, TRAINING, compared
from benchmarks.claims.probes import ASKED, FITTED, Task
from benchmarks.claims.search_settings import read_lines, write_records
from benchmarks.claims.table import RESULTS, Fragment, verdict
from benchmarks.record import read_parts, update_results

from corpusmith.artefact import digest_json, locked, write_whole
from corpusmith.pipeline.comparison import HELD_OUT, Comparison
from corpusmith.recipe import Recipe, parse_recipe
from corpusmith.training.budget import BudgetConfig
from corpusmith.vocabulary.transfer.registry import TRANSFERS

FILE = RESULTS / "vocabularies.json"
STAGE: Fragment = {"objective": {"kind": "contrastive"}, "training": TRAINING | {"learning_rate": 5e-5}}
REPLACED: Fragment = {"kind": "replace", "size": 8000}
STARTS: dict[str, Fragment] = {
    "keep": {},
    "extend": {"vocabulary": {"kind": "extend", "pieces": 2000}, "transfer": {"kind": "subword"}},
    **{kind: {"vocabulary": REPLACED, "transfer": {"kind": kind}} for kind in TRANSFERS},
}
"""The vocabulary kept, extended, and replaced, with vectors by each of the transfers."""
TASKS = {
    "gesetze": (Task("german_ler", "tags", fitted="dev"),),
    "trials": (Task("bc5cdr_disease", "tags"), Task("rct_sections", "classes")),
    "medquad": (Task("ncbi_disease", "tags"), Task("trec_questions", "classes")),
    "contracts": (),
}
"""Labelled texts of each corpus's field; german_ler comes without a train split."""


@dataclass(frozen=True)
class Claim:
    """What is said of one start against another, and by whom."""

    statement: str
    start: str
    baseline: str
    paper: str


CLAIMS = {
    "extension": Claim("More pieces for the domain are better than the base's alone.", "extend", "keep", "exBERT"),
    "replacement": Claim(
        "A vocabulary of the domain is better than the base's.",
        "focus",
        "keep",
        'Gu et al. (2021), "Domain-Specific Language Model Pretraining for Biomedical Natural Language Processing"',
    ),
    "subword": Claim("The mean of a piece's old pieces is better than a random vector.", "subword", "random", ""),
    "mean": Claim("The mean of all old vectors is better than a random vector.", "mean", "random", ""),
    "wechsel": Claim("Mixtures of near old pieces are better than random vectors.", "wechsel", "random", ""),
    "focus": Claim("Sparse mixtures of shared pieces are better than WECHSEL's.", "focus", "wechsel", ""),
    "ofa": Claim("Mixtures in leading directions are better than WECHSEL's.", "ofa", "wechsel", ""),
    "convex": Claim("Convex combinations are better than the mean of old pieces.", "convex", "subword", ""),
    "distillation": Claim("Vectors learned in context are better than means.", "distillation", "subword", ""),
}
"""By name. Unless a paper is given, it is the one that the transfer's own file cites."""


@dataclass(frozen=True)
class Form:
    """How much is measured: corpora, cut to so many words, seeds, and the FLOPs of training."""

    name: str
    corpora: tuple[str, ...]
    words: int
    seeds: int
    flops: tuple[float, ...]


QUICK = Form("quick", ("gesetze", "medquad"), 300_000, 2, (4e12, 1.6e13))
FULL = Form("full", ("gesetze", "trials", "medquad", "contracts"), 3_000_000, 3, (1e13, 1e14, 1e15))


def run(data: Path, work: Path, form: Form, corpus: str, flops: float) -> dict[str, Any]:
    """All starts on one corpus with one budget: each one's per-query values by seed, and what it cost."""
    records = cut_corpus(data / "pretrain" / f"{corpus}.jsonl.gz", work / f"{corpus}-{form.words}.jsonl", form.words)
    recipes = {name: recipe_of(start) for name, start in STARTS.items()}
    budget = BudgetConfig(flops=flops)
    runs = Comparison([records], recipes, budget, work / f"{corpus}-runs", range(form.seeds), HELD_OUT, Lines())
    runs.folder.mkdir(parents=True, exist_ok=True)
    with locked(runs.folder):
        summary = runs.summarise()
        tasks = {task.name: probed(task, data, runs) for task in TASKS[corpus]}
    costs = {entry["name"]: {key: entry[key] for key in ("steps", "tokens", "seconds")} for entry in summary["recipes"]}
    systems = {system["name"]: system["measures"][MEASURE]["mean"] for system in summary["evaluations"][0]["systems"]}
    return {
        "settings": settings(form),
        "queries": len(summary["query_ids"]),
        "values": summary["per_query"]["dense"],
        "tasks": tasks,
        "references": {name: round(mean, 4) for name, mean in systems.items() if name not in recipes},
        "cost": costs,
        "notes": summary["notes"],
    }


def probed(task: Task, data: Path, runs: Comparison) -> dict[str, list[list[float]]]:
    """What each start's model of each seed is worth on a task, text by text; kept beside the runs."""
    found: dict[str, list[list[float]]] = {}
    for name in runs.recipes:
        for seed in runs.seeds:
            work = runs.run(name, seed)
            key = digest_json([asdict(task), FITTED, ASKED, work.manifests["measures"].digest])
            path = work.folder / "probes" / f"{task.name}-{key[:16]}.json"
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                values = task.values(data, work.trained_checkpoint())
                write_whole(path, json.dumps(values.round(4).tolist()))
            found.setdefault(name, []).append(json.loads(path.read_text(encoding="utf-8")))
    return found


def recipe_of(start: Fragment) -> Recipe:
    """Training on pairs made from the corpus, from this start."""
    content = {"model": {"base": BASE}, "start": start, "stages": [STAGE], "heldout": {"queries": 600, "share": 0.3}}
    return parse_recipe(content, "vocabularies")


def settings(form: Form) -> dict[str, Any]:
    """All that figures depend on, beside the data."""
    tasks = {corpus: [asdict(task) for task in TASKS[corpus]] for corpus in form.corpora}
    probes = {"tasks": tasks, "fitted": FITTED, "asked": ASKED}
    content = {"starts": STARTS, "stage": STAGE, "form": asdict(form), "base": BASE, "probes": probes}
    return json.loads(json.dumps(content))


def judge(claim: Claim, parts: dict[str, dict[str, Any]], *, tasks: bool = False) -> dict[str, Any]:
    """A claim on the runs of all corpora with one budget: by corpus or, with `tasks`, by task; and all of them with
    the same weight."""
    single = {corpus: part["values"] for corpus, part in parts.items()}
    if tasks:
        single = {name: values for part in parts.values() for name, values in part["tasks"].items()}
    pairs = {
        name: [[np.array(seed) for seed in values[start]] for start in (claim.start, claim.baseline)]
        for name, values in single.items()
    }
    pooled = comparison(*([np.mean(pair[side], axis=0) for pair in pairs.values()] for side in (0, 1)))
    by_name = {name: compared(*pair) for name, pair in pairs.items()}
    return {"by_name": by_name, "pooled": pooled, "verdict": verdict(pooled["low"], pooled["high"])}


def cut_corpus(whole: Path, path: Path, words: int) -> Path:
    """The first documents of a corpus, so many that they have this many words."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}")
        write_records(partial, _first(whole, words))
        partial.rename(path)
    return path


def _first(whole: Path, words: int) -> Iterator[dict]:
    for record in read_lines(whole):
        if words <= 0:
            return
        words -= len(record["text"].split())
        yield record


def part_name(form: Form, corpus: str, flops: float) -> str:
    """Under which name the runs on a corpus with a budget stand in the file."""
    return f"{form.name}, {corpus}, {flops:.1e} FLOPs"


def main() -> None:
    """Measure corpora and budgets that are not measured yet, and say what becomes of the claims."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="where corpora and runs go")
    parser.add_argument("--quick", action="store_true", help="small corpora and budgets")
    parser.add_argument("--results", type=Path, default=FILE)
    arguments = parser.parse_args()
    form, data = QUICK if arguments.quick else FULL, Path(os.environ["CORPUSMITH_DATA"])
    for flops in form.flops:
        parts = {}
        for corpus in form.corpora:
            name = part_name(form, corpus, flops)
            if read_parts(arguments.results).get(name, {}).get("settings") != settings(form):
                update_results(arguments.results, name, run(data, arguments.work, form, corpus, flops))
            parts[corpus] = read_parts(arguments.results)[name]
        for name, claim in CLAIMS.items():
            for what in ("search", "tasks"):
                found = judge(claim, parts, tasks=what == "tasks")
                effect = "{difference:+.4f} [{low:+.4f}, {high:+.4f}]".format(**found["pooled"])
                print(f"{flops:.1e} FLOPs, {name}, {what}: {found['verdict']}, {effect}", flush=True)


if __name__ == "__main__":
    main()

"""What a vocabulary of the corpus's own is worth, and which way of giving its pieces vectors is the best.

On each corpus the same model is trained with the same FLOPs over its own vocabulary, over that vocabulary with pieces
of the corpus, and over one learned from the corpus, whose vectors come from each of the transfers; what a transfer
spends in passes through the model is taken off its training. Then queries held out of the corpus are asked of its
vectors (nDCG@10), and labelled texts of the same field: linear probes tag and classify (`probes.py`), and a judged
collection is searched. The loss on pairs held out shows on the way how fast a difference wears off. A saving of tokens
counts by itself: what is shorter gets more texts for the same FLOPs. Passages are so short that none is cut off under
any of the vocabularies. The quick form takes the beginnings of documents alone, so that there are enough to ask for,
and asks of two of the corpora only which vocabulary to take.

    CORPUSMITH_DATA=DATA python -m benchmarks.claims.vocabularies --work WORK --quick

A seed decides the sample that pieces are learned from, what a transfer draws, and the order of training; intervals are
over queries, seeds averaged. Transfers that look for a piece's neighbours among the base's (WECHSEL, OFA) are asked for
corpora of the base's language alone: across languages they need static vectors of both in one space, which a corpus of
this size does not give (docs/lab-notes.md).

Results go to benchmarks/results/claims/vocabularies.json; runs that were cut off go on where they were, and a corpus
that is there for the same settings is not measured again. `make docs` then writes docs/systems.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.claims.default_preset import Lines, comparison
from benchmarks.claims.growth import curve_of
from benchmarks.claims.objectives import BASE, MEASURE, TRAINING, compared
from benchmarks.claims.probes import ASKED, FITTED, Task
from benchmarks.claims.search_settings import read_lines, write_records
from benchmarks.claims.table import RESULTS, Fragment, verdict
from benchmarks.record import read_parts, update_results

from corpusmith.digests import digest_json
from corpusmith.disk import write_whole
from corpusmith.locks import locked
from corpusmith.pipeline.comparison import HELD_OUT, Comparison, at_budget
from corpusmith.pipeline.run import chain, run_steps
from corpusmith.recipe import Recipe, parse_recipe
from corpusmith.training.budget import BudgetConfig
from corpusmith.vocabulary.transfer.registry import TRANSFERS

FILE = RESULTS / "vocabularies.json"
CURVE: Fragment = {"evaluations": 6, "held_out": 128, "batch_tokens": 4096}
STAGE: Fragment = {"objective": {"kind": "contrastive"}, "training": TRAINING | CURVE | {"learning_rate": 5e-5}}
RECIPE: Fragment = {
    "model": {"base": BASE},
    "corpus": {"passage_words": 60},
    "heldout": {"queries": 600, "share": 0.5},
    "stages": [STAGE],
}
REPLACED: Fragment = {"kind": "replace", "size": 8000}
OPTIONS: dict[str, Fragment] = {"ofa": {"rank": 100}, "distillation": {"steps": 50}}
"""Of transfers that are not asked as they are by default: OFA keeps all directions there, and is WECHSEL then."""
STARTS: dict[str, Fragment] = {
    "keep": {},
    "extend": {"vocabulary": {"kind": "extend", "pieces": 2000}, "transfer": {"kind": "subword"}},
    **{kind: {"vocabulary": REPLACED, "transfer": {"kind": kind, **OPTIONS.get(kind, {})}} for kind in TRANSFERS},
}
"""The vocabulary kept, extended, and replaced, with vectors by each of the transfers."""
TASKS = {
    "gesetze": (Task("german_ler", "tags", fitted="dev"),),
    "trials": (Task("bc5cdr_disease", "tags"), Task("rct_sections", "classes"), Task("scifact", "search")),
    "medquad": (Task("ncbi_disease", "tags"), Task("trec_questions", "classes"), Task("scifact", "search")),
    "contracts": (),
}
"""Labelled texts of each corpus's field; german_ler comes without a train split."""
FOREIGN = ("gesetze",)
"""Corpora of another language than the base's."""


@dataclass(frozen=True)
class Claim:
    """What is said of one start against another, and by whom."""

    statement: str
    start: str
    baseline: str
    paper: str
    at_home: bool = False
    """Whether it is asked of corpora of the base's language alone."""
    choice: bool = False
    """Whether it is about which vocabulary to take, and not about how its pieces get their vectors."""


CLAIMS = {
    "extension": Claim(
        "More pieces for the domain are better than the base's alone.", "extend", "keep", "exBERT", choice=True
    ),
    "replacement": Claim(
        "A vocabulary of the domain is better than the base's.",
        "focus",
        "keep",
        'Gu et al. (2021), "Domain-Specific Language Model Pretraining for Biomedical Natural Language Processing"',
        choice=True,
    ),
    "subword": Claim("The mean of a piece's old pieces is better than a random vector.", "subword", "random", ""),
    "mean": Claim("The mean of all old vectors is better than a random vector.", "mean", "random", ""),
    "wechsel": Claim("Mixtures of near old pieces are better than random vectors.", "wechsel", "random", "", True),
    "focus": Claim("Sparse mixtures of shared pieces are better than WECHSEL's.", "focus", "wechsel", "", True),
    "ofa": Claim("Mixtures in leading directions are better than WECHSEL's.", "ofa", "wechsel", "", True),
    "convex": Claim("Convex combinations are better than the mean of old pieces.", "convex", "subword", ""),
    "distillation": Claim("Vectors learned in context are better than means.", "distillation", "subword", ""),
}
"""By name. Unless a paper is given, it is the one that the transfer's own file cites."""


@dataclass(frozen=True)
class Form:
    """How much is measured: corpora with all starts, and others with those of claims about the choice of a vocabulary
    alone; cut to so many words in all and in a document (or None, for whole ones); seeds, and the FLOPs of training."""

    name: str
    all_starts: tuple[str, ...]
    choices: tuple[str, ...]
    words: int
    document_words: int | None
    seeds: int
    flops: float

    @property
    def corpora(self) -> tuple[str, ...]:
        """All corpora."""
        return (*self.all_starts, *self.choices)


QUICK = Form("quick", ("gesetze", "medquad"), ("trials", "contracts"), 120_000, 300, 2, 1e13)
FULL = Form("full", ("gesetze", "trials", "medquad", "contracts"), (), 3_000_000, None, 3, 3e14)
FORMS = (QUICK, FULL)


def run(data: Path, work: Path, form: Form, corpus: str) -> dict[str, Any]:
    """All starts on one corpus: each one's per-query values by seed, its losses on the way, and what it cost."""
    records = cut_corpus(data / "pretrain" / f"{corpus}.jsonl.gz", work / f"{corpus}-{form.name}.jsonl", form)
    make = partial(Comparison, [records], folder=work / f"{corpus}-runs", seeds=range(form.seeds), split=HELD_OUT)
    recipes = {name: recipe_of(start) for name, start in asked(form, corpus).items()}
    budget = BudgetConfig(flops=form.flops)
    free = make(recipes, budget, watcher=Lines())
    free.folder.mkdir(parents=True, exist_ok=True)
    with locked(free.folder):
        charged = {name: at_what_is_left(free, name, form.flops) for name in recipes}
        runs = make(charged, budget, watcher=Lines())
        summary = runs.summarise()
        tasks = {task.name: solved(task, data, work, runs) for task in TASKS[corpus]}
        curves = {name: [curve_of(runs.run(name, seed)) for seed in runs.seeds] for name in recipes}
    costs = {entry["name"]: {key: entry[key] for key in ("steps", "tokens", "seconds")} for entry in summary["recipes"]}
    systems = {system["name"]: system["measures"][MEASURE]["mean"] for system in summary["evaluations"][0]["systems"]}
    return {
        "settings": settings(form, corpus),
        "queries": len(summary["query_ids"]),
        "values": summary["per_query"]["dense"],
        "tasks": tasks,
        "references": {name: round(mean, 4) for name, mean in systems.items() if name not in recipes},
        "curves": curves,
        "cost": costs,
        "notes": summary["notes"],
    }


def asked(form: Form, corpus: str) -> dict[str, Fragment]:
    """The starts that are asked of a corpus: those that a claim is about which is asked of it."""
    claims = [claim for claim in CLAIMS.values() if not (claim.at_home and corpus in FOREIGN)]
    if corpus in form.choices:
        claims = [claim for claim in claims if claim.choice]
    names = {name for claim in claims for name in (claim.start, claim.baseline)}
    return {name: start for name, start in STARTS.items() if name in names}


def at_what_is_left(runs: Comparison, name: str, flops: float) -> Recipe:
    """The recipe with a stage that gets what its transfer leaves of the FLOPs: what it spent in its dearest seed."""
    spent = [0.0]
    for seed in runs.seeds:
        work = runs.workspace(at_budget(runs.recipes[name], runs.budget, seed), runs.watcher)
        run_steps(work, [step for step in chain(work) if step.name in ("corpus", "vocabulary")])
        if "vocabulary" in work.manifests:
            spent.append(work.manifests["vocabulary"].cost["flops"])
    stage = runs.recipes[name].stages[0].model_copy(update={"budget": BudgetConfig(flops=flops - max(spent))})
    return runs.recipes[name].model_copy(update={"stages": (stage,)})


def solved(task: Task, data: Path, scratch: Path, runs: Comparison) -> dict[str, list[list[float]]]:
    """What each start's model of each seed is worth on a task, text by text; kept beside the runs."""
    found: dict[str, list[list[float]]] = {}
    for name in runs.recipes:
        for seed in runs.seeds:
            work = runs.run(name, seed)
            key = digest_json([asdict(task), FITTED, ASKED, work.manifests["measures"].digest])
            path = work.folder / "probes" / f"{task.name}-{key[:16]}.json"
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                values = task.values(data, work.trained_checkpoint(), scratch)
                write_whole(path, json.dumps(values.round(4).tolist()))
            found.setdefault(name, []).append(json.loads(path.read_text(encoding="utf-8")))
    return found


def recipe_of(start: Fragment) -> Recipe:
    """Training on pairs made from the corpus, from this start."""
    return parse_recipe(RECIPE | {"start": start}, "vocabularies")


def settings(form: Form, corpus: str) -> dict[str, Any]:
    """All that a corpus's figures depend on, beside the data."""
    tasks = [asdict(task) for task in TASKS[corpus]]
    measured = {"words": form.words, "document_words": form.document_words, "seeds": form.seeds, "flops": form.flops}
    probes = {"tasks": tasks, "fitted": FITTED, "asked": ASKED}
    content = {"starts": asked(form, corpus), "recipe": RECIPE, "measured": measured, "probes": probes}
    return json.loads(json.dumps(content))


def judge(claim: Claim, parts: dict[str, dict[str, Any]], *, tasks: bool = False) -> dict[str, Any]:
    """A claim on the runs of all corpora that were asked for it: by corpus or, with `tasks`, by task; and all of them
    with the same weight."""
    parts = {corpus: part for corpus, part in parts.items() if {claim.start, claim.baseline} <= part["values"].keys()}
    single = {corpus: part["values"] for corpus, part in parts.items()}
    if tasks:
        single = {
            f"{name} ({corpus})": values for corpus, part in parts.items() for name, values in part["tasks"].items()
        }
    pairs = {
        name: [[np.array(seed) for seed in values[start]] for start in (claim.start, claim.baseline)]
        for name, values in single.items()
    }
    pooled = comparison(*([np.mean(pair[side], axis=0) for pair in pairs.values()] for side in (0, 1)))
    by_name = {name: compared(*pair) for name, pair in pairs.items()}
    return {"by_name": by_name, "pooled": pooled, "verdict": verdict(pooled["low"], pooled["high"])}


def cut_corpus(whole: Path, path: Path, form: Form) -> Path:
    """The beginnings of the first documents of a corpus, so many that they have the words that the form asks for."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}")
        write_records(partial, _first(whole, form))
        partial.rename(path)
    return path


def _first(whole: Path, form: Form) -> Iterator[dict]:
    left = form.words
    for record in read_lines(whole):
        if left <= 0:
            return
        ends = [found.end() for found in islice(re.finditer(r"\S+", record["text"]), form.document_words)]
        left -= len(ends)
        yield record | {"text": record["text"][: ends[-1] if ends else 0]}


def part_name(form: Form, corpus: str) -> str:
    """Under which name the runs on a corpus stand in the file."""
    return f"{form.name}, {corpus}"


def main() -> None:
    """Measure corpora that are not measured yet, and say what becomes of the claims."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="where corpora and runs go")
    parser.add_argument("--quick", action="store_true", help="small corpora and budgets")
    parser.add_argument("--results", type=Path, default=FILE)
    arguments = parser.parse_args()
    form, data = QUICK if arguments.quick else FULL, Path(os.environ["CORPUSMITH_DATA"])
    parts = {}
    for corpus in form.corpora:
        name = part_name(form, corpus)
        if read_parts(arguments.results).get(name, {}).get("settings") != settings(form, corpus):
            update_results(arguments.results, name, run(data, arguments.work, form, corpus))
        parts[corpus] = read_parts(arguments.results)[name]
    for name, claim in CLAIMS.items():
        for what in ("search", "tasks"):
            found = judge(claim, parts, tasks=what == "tasks")
            effect = "{difference:+.4f} [{low:+.4f}, {high:+.4f}]".format(**found["pooled"])
            print(f"{name}, {what}: {found['verdict']}, {effect}", flush=True)


if __name__ == "__main__":
    main()

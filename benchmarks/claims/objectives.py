"""Whether each objective does here what its paper says: measured at equal FLOPs, over seeds, on judged collections.

Every claim of `benchmarks/claims/table.py` sets an objective against its paper's own baseline. Both are trained from
the same start with the same FLOPs and seeds and measured as they are (zero-shot), on the test queries of the
collections of CORPUSMITH_DATA; then both are fine-tuned in the same way on train judgements and measured again.
Objectives that train on pairs themselves are fine-tuned by training on the judged pairs. After that the objective's
mechanical check (`benchmarks/claims/mechanics`) is asked of what training left.

    CORPUSMITH_DATA=DATA python -m benchmarks.claims.objectives --work WORK --quick
    CORPUSMITH_DATA=DATA python -m benchmarks.claims.objectives --work WORK --claims retromae rom

The quick form takes cranfield and a cut of scifact, two seeds and little training: a few minutes a claim on two cores,
of which the baseline's half is shared by all claims with that baseline. The full form takes all five collections, three
seeds, and fine-tunes on scifact and on the three sets of pairs.

`--start fresh` trains a small model from random weights instead, with the base model's word pieces: the papers began
with models not yet made for search, and what an objective can teach one that is so already is another question.

Results go to benchmarks/results/claims/CLAIM.json when a claim is done; one that is there for the same settings is not
measured again, and runs that were cut off go on where they were. `make docs` then writes docs/systems.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.claims.default_preset import Lines, comparison
from benchmarks.claims.search_settings import PAIRS as PAIR_SETS
from benchmarks.claims.search_settings import collection_of_pairs, read_lines, write_records
from benchmarks.claims.table import CLAIMS, RESULTS, Claim, Fragment, Setting, results_of, verdict
from benchmarks.record import update_results

import corpusmith
from corpusmith.digests import digest_json
from corpusmith.disk import write_whole
from corpusmith.evaluation.base import QuerySet
from corpusmith.evaluation.beir import read_beir
from corpusmith.evaluation.measures import measure
from corpusmith.index.dense import DenseIndex
from corpusmith.index.search import SearchSettings
from corpusmith.locks import locked
from corpusmith.model.arithmetic import DTYPES, best_device, fastest_precision
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.huggingface import export_checkpoint, load_checkpoint
from corpusmith.objective.registry import objective_class
from corpusmith.pipeline.comparison import Comparison, read_measures
from corpusmith.pipeline.comparison_summary import MODES
from corpusmith.pipeline.train import trained_objective
from corpusmith.pipeline.workspace import Workspace
from corpusmith.recipe import Recipe, parse_recipe
from corpusmith.retrieval.dense import DenseRetriever
from corpusmith.training.budget import BudgetConfig

COLLECTIONS = ("scifact", "cranfield", "npl", "cisi", "medquad_liveqa")
LABELLED = ("scifact", *PAIR_SETS)
"""What is fine-tuned on: the train judgements of scifact, and of collections made from the sets of pairs."""
BASE = "all-MiniLM-L6-v2"
MEASURE = "nDCG@10"
MECHANICS = "benchmarks.claims.mechanics"
SEED = 0
DEPTH, PASSAGES = 100, 300
"""Documents that are scored, and passages from which they are taken."""
TRAINING = {"evaluations": 0, "keep_best": False, "max_epochs": 100_000, "checkpoint_minutes": 10}
TUNING: Fragment = {"kind": "contrastive", "negatives": 3}
RERANKING: Fragment = {"kind": "reranking", "negatives": 3}
"""What both are fine-tuned with, for search by vectors and as rerankers."""
Values = dict[str, list[np.ndarray]]
"""For each way of searching, each seed's per-query values."""


@dataclass(frozen=True)
class Form:
    """How much is measured: the collections, whose corpora are cut to `documents` (None: whole), what is fine-tuned on,
    seeds, FLOPs of training and of fine-tuning, and how many of BM25's passages a cross-encoder puts in order."""

    name: str
    collections: tuple[str, ...]
    labelled: tuple[str, ...]
    documents: int | None
    seeds: int
    flops: float
    tuning_flops: float
    reranked: int
    batch_tokens: tuple[int, int] | None = None
    """Tokens of a step, for objectives whose examples stand alone and for those whose examples serve each other as
    negatives; their own unless given. Little training in large steps would be very few of them."""


QUICK = Form("quick", ("cranfield", "scifact"), ("scifact",), 1500, 2, 1.2e13, 1.2e13, 20, (2048, 4096))
FULL = Form("full", COLLECTIONS, LABELLED, None, 3, 1e14, 5e13, 50)
FRESH = {"hidden_size": 256, "layers": 4, "heads": 4, "intermediate_size": 1024}
"""The model that `--start fresh` begins with."""


@dataclass(frozen=True)
class Harness:
    """Where claims are measured, and how."""

    data: Path
    work: Path
    form: Form
    start: str
    results: Path = RESULTS
    recipe: Fragment | None = None
    """Options of the recipe beside the objective's, for tests on corpora of a few sentences."""

    @property
    def part(self) -> str:
        """Under which name results stand in a claim's file."""
        return self.form.name if self.start == BASE else f"{self.form.name}, start {Path(self.start).name}"

    def settings(self, claim: Claim) -> dict[str, Any]:
        """All that a claim's figures depend on, beside the data."""
        unused = {"statement", "paper"} | ({"sizes"} if claim.measure != "sizes" else set())
        said = {name: value for name, value in asdict(claim).items() if name not in unused}
        form = {name: value for name, value in asdict(self.form).items() if name != "name"}
        return json.loads(json.dumps({"claim": said, "form": form, "start": self.start, "recipe": self.recipe or {}}))

    def is_done(self, claim: Claim) -> bool:
        """Whether this claim was measured with these very settings."""
        return results_of(claim.name, self.results).get(self.part, {}).get("settings") == self.settings(claim)

    def measure(self, claim: Claim) -> dict[str, Any]:
        """Measure a claim in both settings, check its mechanism, and write its file."""
        settings: dict[str, Any] = {}
        notes: list[str] = []
        if claim.measure != "reranking":  # a cross-encoder that saw no pair has no score to rank by
            settings["zero-shot"] = self._setting(claim, "zero-shot", self.form.collections, notes)
        settings["fine-tuned"] = self._setting(claim, "fine-tuned", self.form.labelled, notes)
        decided = settings[claim.decides]
        deciding = decided["pooled"][decided["deciding"]]
        content = {
            "corpusmith": corpusmith.__version__,
            "claim": claim.statement,
            "settings": self.settings(claim),
            "measure": MEASURE,
            "verdict": verdict(deciding["low"], deciding["high"]),
            "decided_by": {"setting": claim.decides, "way": decided["deciding"], **deciding},
            "results": settings,
            "mechanics": self.mechanics(claim),
            "notes": list(dict.fromkeys(notes)),
        }
        update_results(self.results / f"{claim.name}.json", self.part, content)
        return content

    def _setting(self, claim: Claim, setting: Setting, collections: Sequence[str], notes: list[str]) -> dict[str, Any]:
        """Both recipes of a claim on these collections, and the difference of the two pooled over them."""
        found: dict[str, dict[str, Any]] = {}
        values: dict[str, tuple[Values, Values]] = {}
        for name in collections:
            print(f"{claim.name}, {setting}: {name}", flush=True)
            runs = self.comparison(claim, setting, name)
            with locked(runs.folder):
                summary = runs.summarise()
                ours, theirs = (self._values(claim, runs, recipe, summary) for recipe in runs.recipes)
            values[name] = (ours, theirs)
            notes += [f"{name}, {setting}: {note}" for note in summary["notes"]]
            found[name] = {
                "queries": len(summary["query_ids"]),
                "starts": {
                    system["name"]: round(system["measures"][MEASURE]["mean"], 4)
                    for system in summary["evaluations"][0]["systems"]
                    if system["name"] not in runs.recipes
                },
                "cost": {
                    recipe["name"]: {key: recipe[key] for key in ("steps", "tokens", "flops", "seconds")}
                    for recipe in summary["recipes"]
                },
                "ways": {way: compared(ours[way], theirs[way]) for way in ours},
            }
        ways = list(next(iter(values.values()))[0])
        pooled = {
            way: comparison(
                [np.mean(ours[way], axis=0) for ours, _ in values.values()],
                [np.mean(theirs[way], axis=0) for _, theirs in values.values()],
            )
            for way in ways
        }
        return {"deciding": ways[0], "pooled": pooled, "collections": found}

    def _values(self, claim: Claim, runs: Comparison, recipe: str, summary: Mapping[str, Any]) -> Values:
        """Per-query values of each seed, by way of searching; the first way decides."""
        if claim.measure == "vectors":
            return {mode: [np.array(values) for values in summary["per_query"][mode][recipe]] for mode in MODES}
        if claim.measure == "lexicon":
            return {"product": [search_by_product(runs.run(recipe, seed), recipe == "baseline") for seed in runs.seeds]}
        by_seed = [self._measured(claim, runs.run(recipe, seed)) for seed in runs.seeds]
        return {way: [values[way] for values in by_seed] for way in by_seed[0]}

    def _measured(self, claim: Claim, work: Workspace) -> dict[str, np.ndarray]:
        """What cut models or a reranker find in a run, kept beside the runs."""
        settings = [claim.sizes] if claim.measure == "sizes" else [self.form.reranked]
        key = digest_json([claim.measure, work.manifests["measures"].digest, settings])
        path = work.folder / "claims" / f"{claim.measure}-{key[:16]}.json"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            found = search_by_sizes(work, claim.sizes) if claim.measure == "sizes" else rerank(work, self.form.reranked)
            write_whole(path, json.dumps({way: values.tolist() for way, values in found.items()}))
        return {way: np.array(values) for way, values in json.loads(path.read_text(encoding="utf-8")).items()}

    def comparison(self, claim: Claim, setting: Setting, collection: str) -> Comparison:
        """The objective and its baseline on one collection, at equal FLOPs."""
        recipes = {"objective": self.recipe_of(claim, claim.objective, setting, claim.pairs)}
        recipes["baseline"] = self.recipe_of(claim, claim.baseline, setting, {})
        budget = BudgetConfig(flops=self.form.flops)
        seeds = range(self.form.seeds)
        folder = self.folder(collection)
        return Comparison([folder], recipes, budget, self.work / f"{folder.name}-runs", seeds, watcher=Lines())

    def recipe_of(self, claim: Claim, objective: Fragment | None, setting: Setting, pairs: Fragment) -> Recipe:
        """An objective as a recipe; in the setting "fine-tuned" with the stage that both have after it."""
        budget = {"budget": {"flops": self.form.tuning_flops}}
        stages = [] if objective is None else [self._stage(objective)]
        labels: Fragment = {}
        if setting == "fine-tuned":
            labels = {"source": "labels"}
            if not claim.needs_pairs:
                stages.append(self._stage(RERANKING if claim.measure == "reranking" else TUNING, 2e-5) | budget)
            elif objective is not None:
                stages = [self._stage(objective, 2e-5) | budget]
        content = {
            "model": {"base": str(self.start_model())},
            "heldout": {"queries": 0},
            "stages": stages,
            "any_order": True,
            **(self.recipe or {}),
        }
        content["pairs"] = {"maximum": 20_000, **content.get("pairs", {}), **pairs, **labels}
        return parse_recipe(content, claim.name)

    def _stage(self, objective: Fragment, learning_rate: float | None = None) -> Fragment:
        """A stage with this objective; its own learning rate unless given."""
        training: Fragment = {**TRAINING, "learning_rate": learning_rate}
        if self.form.batch_tokens is not None:
            alone, together = self.form.batch_tokens
            training["batch_tokens"] = alone if objective_class(objective["kind"]).divisible else together
        return {"objective": objective, "training": training}

    def start_model(self) -> str | Path:
        """The model that everything starts from; a fresh one is drawn where that is asked for."""
        if self.start != "fresh":
            return self.start
        folder = self.work / "start-fresh"
        if not folder.exists():
            fresh_model(folder)
        return folder

    def folder(self, name: str) -> Path:
        """A collection in the BEIR layout, cut or made of pairs where it must be."""
        if name in PAIR_SETS:
            folder = self.work / f"pairs-{name}"
            if not folder.exists():
                number, partial = self.form.documents or PAIR_SETS[name], self.work / f".pairs-{name}.partial"
                collection_of_pairs(self.data / "pairs" / f"{name}.jsonl.gz", number, partial, random.Random(SEED))
                partial.rename(folder)
            return folder
        whole = self.data / "retrieval" / name
        if self.form.documents is None:
            return whole
        folder = self.work / f"{name}-{self.form.documents}"
        if not folder.exists():
            cut_collection(whole, folder, self.form.documents)
        return folder

    def mechanics(self, claim: Claim) -> dict[str, Any]:
        """The figures of the objective's mechanical check after the first run; of the reranker's too, if there is one.

        "holds" is true where all of it holds; empty where there is no check.
        """
        found: dict[str, Any] = {}
        if module := mechanics_of(claim):
            found |= self._checked(module, self.comparison(claim, "zero-shot", self.form.collections[0]), 1)
        if claim.measure == "reranking" and _is_there(module := f"{MECHANICS}.reranking"):
            tuned = self._checked(module, self.comparison(claim, "fine-tuned", self.form.labelled[0]), 2)
            holds = found.get("holds", True) and tuned["holds"]
            found |= {f"reranking.{name}": value for name, value in tuned.items()} | {"holds": holds}
        return found

    def _checked(self, module: str, runs: Comparison, stage: int) -> dict[str, Any]:
        with locked(runs.folder):
            objective, encoder = trained_objective(runs.run("objective", 0), stage)
        found = import_module(module).check(objective, encoder, np.random.default_rng(SEED))
        figures = found.items()
        return {name: bool(value) if isinstance(value, bool | np.bool_) else float(value) for name, value in figures}


def mechanics_of(claim: Claim) -> str:
    """The module with a claim's mechanical check: its own, or its objective's; empty where there is none."""
    modules = (f"{MECHANICS}.{name}" for name in (claim.name, claim.kind))
    return next((module for module in modules if _is_there(module)), "")


def _is_there(module: str) -> bool:
    return find_spec(module) is not None


def compared(ours: list[np.ndarray], theirs: list[np.ndarray]) -> dict[str, Any]:
    """Means, the paired difference of the means over seeds, and each seed's own difference."""
    return {
        "objective": round(float(np.mean(ours)), 4),
        "baseline": round(float(np.mean(theirs)), 4),
        **comparison(np.mean(ours, axis=0), np.mean(theirs, axis=0)),
        "by_seed": [round(float((a - b).mean()), 4) for a, b in zip(ours, theirs, strict=True)],
    }


# Ways of searching.


def _model(work: Workspace) -> Checkpoint:
    return work.trained_checkpoint() if work.recipe.stages else work.base


def search_by_product(work: Workspace, parts: bool) -> np.ndarray:
    """nDCG@10 of search by the product of BM25 score and cosine, or with `parts` of the better of the two alone."""
    if parts:
        alone = [read_measures(work)[mode] for mode in ("lexical", "dense")]
        return max(alone, key=lambda measured: measured.mean(MEASURE)).values[MEASURE]
    queries = work.queries("test")
    assert queries is not None
    engine = work.engine("trained" if work.recipe.stages else "base")
    engine.settings = SearchSettings.model_validate({"fusion": "product", "weight": 0.5})
    return _scored(work, queries, engine.rank(list(queries.queries.values()), DEPTH).documents)


def search_by_sizes(work: Workspace, sizes: Sequence[tuple[float, float]]) -> dict[str, np.ndarray]:
    """nDCG@10 of search by the vectors of models cut out of the model, `sizes` (shares of its layers and dimensions)
    from the whole one down, and the mean over the cut ones before them."""
    from corpusmith.model.nested import cut_checkpoint

    queries, found = work.queries("test"), {}
    assert queries is not None
    whole, depth = _model(work), work.base.encoder.config.layers
    for layers in sorted({max(1, round(depth * share)) for share, _ in sizes}, reverse=True):
        retriever = DenseRetriever(cut_checkpoint(whole, layers))
        if layers == depth:
            passages = np.asarray(work.vectors("trained" if work.recipe.stages else "base"))
        else:
            passages = retriever.encode_documents([passage.content for passage in work.corpus.passages()])
        asked = retriever.encode_queries(list(queries.queries.values()))
        for width in [max(1, round(retriever.dimension * w)) for s, w in sizes if max(1, round(depth * s)) == layers]:
            dense = DenseIndex(width)
            dense.add(np.arange(len(passages)), _unit(passages[:, :width]))
            rows = dense.search(_unit(asked[:, :width]), PASSAGES).rows
            documents = np.where(rows >= 0, work.corpus.passage_documents[rows], -1)
            found[f"{layers} layers, {width} dimensions"] = _scored(work, queries, documents)
    return {"mean of the cut sizes": np.mean(list(found.values())[1:], axis=0), **found}


def _unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors (rows), of length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def rerank(work: Workspace, number: int) -> dict[str, np.ndarray]:
    """nDCG@10 of BM25's best passages in the order in which the model, as a cross-encoder, puts them."""
    from corpusmith.retrieval.rerank import Reranker

    queries = work.queries("test")
    assert queries is not None
    reranker = Reranker(_model(work), dtype=DTYPES[fastest_precision(best_device())])
    candidates = work.lexical.search(list(queries.queries.values()), number)
    ranked = []
    for query, padded in zip(queries.queries.values(), candidates.rows, strict=True):
        rows = padded[padded >= 0]
        order, _ = reranker.rank(query, work.corpus.contents_at(rows))
        ranked.append(work.corpus.passage_documents[rows[order]])
    return {"reranked": _scored(work, queries, ranked)}


def _scored(work: Workspace, queries: QuerySet, documents: Sequence[Sequence[int]]) -> np.ndarray:
    """nDCG@10 of each query's documents (rows, best first, -1 for none; of several mentions the first counts)."""
    run = {
        query: [work.corpus.document_ids[row] for row in dict.fromkeys(int(row) for row in found) if row >= 0][:DEPTH]
        for query, found in zip(queries.queries, documents, strict=True)
    }
    return measure(queries, run).values[MEASURE]


# Starts and collections.


def fresh_model(folder: Path) -> None:
    """A small model with random weights and the base model's word pieces."""
    from corpusmith.model.config import EncoderConfig
    from corpusmith.model.encoder import Encoder

    base = load_checkpoint(BASE)
    config = EncoderConfig(model_type="bert", vocabulary_size=base.tokenizer.size, max_positions=512, **FRESH)
    encoder = Encoder(config, torch.Generator().manual_seed(SEED))
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(encoder, None, base.tokenizer, "mean", True, 256, "fresh", config.to_hugging_face())
    export_checkpoint(checkpoint, partial)
    partial.rename(folder)


def cut_collection(whole: Path, folder: Path, documents: int) -> None:
    """Write a collection with at most so many documents: every one that a query asks for, others drawn."""
    rng = random.Random(SEED)
    records = list(_corpus(whole))
    relevant = {
        name
        for path in sorted((whole / "qrels").glob("*.tsv"))
        for judged in read_beir(whole, path.stem).qrels.values()
        for name, grade in judged.items()
        if grade > 0
    }
    others = [record["_id"] for record in records if record["_id"] not in relevant]
    kept = relevant | set(rng.sample(others, min(len(others), max(0, documents - len(relevant)))))
    partial = folder.with_name(f".{folder.name}.partial")
    write_records(partial / "corpus.jsonl", (record for record in records if record["_id"] in kept))
    (partial / "qrels").mkdir(exist_ok=True)
    for path in [*whole.glob("queries.jsonl*"), *(whole / "qrels").glob("*.tsv")]:
        (partial / path.relative_to(whole)).write_bytes(path.read_bytes())
    partial.rename(folder)


def _corpus(folder: Path) -> Iterator[dict]:
    packed = folder / "corpus.jsonl.gz"
    if packed.exists():
        return read_lines(packed)
    with (folder / "corpus.jsonl").open(encoding="utf-8") as file:
        return iter([json.loads(line) for line in file])


def main() -> None:
    """Measure the claims asked for, and say of the others why not."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="where collections and runs go")
    parser.add_argument("--quick", action="store_true", help="a few minutes a claim on two cores")
    parser.add_argument("--claims", nargs="*", default=[claim.name for claim in CLAIMS])
    parser.add_argument("--start", default=BASE, help="a model's name or folder, or 'fresh' for random weights")
    parser.add_argument("--collections", nargs="*", help="instead of the form's")
    parser.add_argument("--labelled", nargs="*", help="collections to fine-tune on, instead of the form's")
    parser.add_argument("--seeds", type=int, help="instead of the form's")
    parser.add_argument("--flops", type=float, help="instead of the form's")
    parser.add_argument("--tuning-flops", type=float, help="instead of the form's")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where a claim's JSON file goes")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.claims) - {claim.name for claim in CLAIMS})
    if unknown:
        parser.error(f"no claim {unknown[0]}; there are {', '.join(claim.name for claim in CLAIMS)}")
    data, form = Path(os.environ["CORPUSMITH_DATA"]), form_of(arguments)
    harness = Harness(data, arguments.work, form, arguments.start, arguments.results)
    for claim in CLAIMS:
        if claim.name not in arguments.claims:
            continue
        if hindrance := claim.hindrance():
            print(f"{claim.name}: left out, {hindrance}", flush=True)
        elif harness.is_done(claim):
            print(f"{claim.name}: measured before", flush=True)
        else:
            content = harness.measure(claim)
            decided = content["decided_by"]
            effect = f"{decided['difference']:+.4f} [{decided['low']:+.4f}, {decided['high']:+.4f}]"
            holds = content["mechanics"].get("holds", "not checked")
            print(f"{claim.name}: {content['verdict']}, {effect}; mechanism: {holds}", flush=True)


def form_of(arguments: argparse.Namespace) -> Form:
    """The quick or the full form with what the command line changes."""
    form = QUICK if arguments.quick else FULL
    return Form(
        name=form.name,
        collections=tuple(arguments.collections or form.collections),
        labelled=tuple(arguments.labelled or form.labelled),
        documents=form.documents,
        seeds=arguments.seeds or form.seeds,
        flops=arguments.flops or form.flops,
        tuning_flops=arguments.tuning_flops or form.tuning_flops,
        reranked=form.reranked,
        batch_tokens=form.batch_tokens,
    )


if __name__ == "__main__":
    main()

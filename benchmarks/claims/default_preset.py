"""What the default preset gives on judged collections it never saw the judgements of.

For each collection of the folder CORPUSMITH_DATA (see its README) the default preset is built from the documents alone
within the budget of minutes; then the test queries are asked once. It is compared with what a user has without it, on
whole documents and not on corpusmith's passages: BM25 with both usual settings, the base model alone, and their two
fixed fusions (relative score with equal weights, reciprocal rank). The best of these per collection, picked on the
test queries themselves, is the one to beat: the comparison favours the other side. Search by vectors alone, whitened
where the build chose so, is set against the base model's.

    CORPUSMITH_DATA=DATA python -m benchmarks.claims.default_preset --minutes 20 --work WORK

A collection that is already built in WORK is not built again. Results go to benchmarks/results/default_preset.json;
collections that stand there by the same recipe and minutes stay beside those asked for now.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from pathlib import Path

import numpy as np
from benchmarks.record import RESULTS, write_results

from corpusmith import build, load
from corpusmith.corpus.store import Identifiers
from corpusmith.evaluation.base import Measured, QuerySet
from corpusmith.evaluation.beir import read_beir
from corpusmith.evaluation.compare import System, measured_ranking, run_systems
from corpusmith.evaluation.significance import bootstrap_interval, holm, paired_randomisation
from corpusmith.index.dense import DenseIndex
from corpusmith.index.lexical import LexicalConfig, LexicalIndex
from corpusmith.index.search import SearchEngine, SearchSettings
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.pipeline.chain import Silent
from corpusmith.retrieval.dense import DenseRetriever

COLLECTIONS = ("scifact", "cranfield", "npl", "cisi", "medquad_liveqa")
BASE = "all-MiniLM-L6-v2"
MEASURE = "nDCG@10"
SEED = 0
FEEDBACK = 1.0
"""Strength of the feedback by which vectors alone are measured: one at which the fused documents count as much as the
query."""


class Lines(Silent):
    """One line a step."""

    def finish(self, seconds: float) -> None:
        """Say how long the step took."""
        print(f"    {seconds:.0f} s", flush=True)

    def start(self, step: str, note: str, *, reused: bool) -> None:
        """Say which step it is."""
        print(f"  {step}{' (reused)' if reused else ''}", flush=True)

    def say(self, text: str) -> None:
        """Say it."""
        print(f"  {text}", flush=True)


def starting_points(folder: Path, query_set: QuerySet) -> dict[str, Measured]:
    """BM25 twice, the base model, and both fusions of each BM25 with it, on whole documents."""
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        documents = [json.loads(line) for line in file]
    texts = [f"{document['title']} {document['text']}".strip() for document in documents]
    rows = np.arange(len(texts))
    retriever = DenseRetriever(load_checkpoint(BASE))
    dense = DenseIndex(retriever.dimension)
    dense.add(rows, retriever.encode_documents(texts))
    systems = []
    for name, k1, b in (("0.9/0.4", 0.9, 0.4), ("1.2/0.75", 1.2, 0.75)):
        lexical = LexicalIndex(LexicalConfig(k1=k1, b=b))
        lexical.add(rows, texts)
        engine = SearchEngine(lexical, dense, retriever, rows)
        systems.append(System(f"BM25 {name}", "", engine, "lexical", SearchSettings(), True))
        for fusion in ("relative", "reciprocal"):
            settings = SearchSettings(fusion=fusion, weight=0.5)
            systems.append(System(f"BM25 {name} + base, {fusion}", "", engine, "fused", settings, True))
    systems.append(System("base", "", engine, "dense", SearchSettings(), True))
    return run_systems(systems, query_set, Identifiers.of([document["_id"] for document in documents]))


def measure_collection(folder: Path, work: Path, minutes: float, recipe: str) -> dict:
    """Build one collection and set it beside the starting points."""
    print(folder.name, flush=True)
    query_set = read_beir(folder, "test")
    result = build(folder, recipe=recipe, out=work / folder.name, minutes=minutes, watcher=Lines())
    judged = next(entry for entry in result.summary["evaluations"] if entry["kind"] == "judged")
    reference = starting_points(folder, query_set)
    best = max(reference, key=lambda name: reference[name].mean(MEASURE))
    ours = {name: np.array(values) for name, values in judged["per_query"].items()}
    return {
        "queries": len(query_set),
        "documents": result.summary["corpus"]["kept"],
        "seconds": result.summary["seconds"],
        "verdict": result.summary["verdict"],
        "starting_points": {name: round(values.mean(MEASURE), 4) for name, values in reference.items()},
        "best_starting_point": best,
        "systems": {name: round(float(values.mean()), 4) for name, values in ours.items()},
        "vectors_alone": vectors_alone(work / folder.name, query_set, ours["base"]),
        "built_against_best": comparison(ours["built"], reference[best].values[MEASURE]),
        "per_query": {"best": reference[best].values[MEASURE].round(4).tolist(), "built": ours["built"].tolist()},
    }


def vectors_alone(built: Path, query_set: QuerySet, base: np.ndarray) -> dict[str, dict]:
    """Search by the build's vectors alone, as it is and with the feedback of the fused ranking, against the base."""
    searcher = load(built)
    engine = searcher.engine
    settings = engine.settings.model_copy(update={"feedback": FEEDBACK})
    found = engine.find(list(query_set.queries.values()))
    rankings = {
        "as built": found.dense,
        f"feedback {FEEDBACK}": engine.after_feedback(found, settings, None),
    }
    measured = {
        name: measured_ranking(query_set, ranking, searcher.corpus.document_ids) for name, ranking in rankings.items()
    }
    return {
        name: {
            "mean": round(found.mean(MEASURE), 4),
            "against_base": comparison(found.values[MEASURE].round(6), base.round(6)),
        }
        for name, found in measured.items()
    }


def comparison(ours: np.ndarray | list, other: np.ndarray | list) -> dict[str, float]:
    """Paired difference with interval and p-value; lists of arrays pool collections with equal weight."""
    if isinstance(ours, list):
        differences: np.ndarray | list = [a - b for a, b in zip(ours, other, strict=True)]
    else:
        differences = ours - other
    interval = bootstrap_interval(differences, SEED)
    p = paired_randomisation(ours, other, SEED)
    return {"difference": interval.mean, "low": interval.low, "high": interval.high, "p": p}


def main() -> None:
    """Measure the collections asked for and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--work", type=Path, required=True, help="where the builds go")
    parser.add_argument("--collections", nargs="*", default=COLLECTIONS)
    parser.add_argument("--results", type=Path, default=RESULTS / "default_preset.json")
    arguments = parser.parse_args()
    data = Path(os.environ["CORPUSMITH_DATA"]) / "retrieval"
    found = measured_before(arguments)
    for name in arguments.collections:
        found[name] = measure_collection(data / name, arguments.work, arguments.minutes, arguments.recipe)
        write(found, arguments)
    for name, entry in found.items():
        difference = entry["built_against_best"]
        print(f"{name:16} best start {entry['best_starting_point']}: {difference}")


def measured_before(arguments: argparse.Namespace) -> dict:
    """The collections in the file of results, if they were measured in the same way."""
    if not arguments.results.exists():
        return {}
    content = json.loads(arguments.results.read_text(encoding="utf-8"))
    same = (content["recipe"], content["minutes"]) == (arguments.recipe, arguments.minutes)
    return content["collections"] if same else {}


def write(found: dict, arguments: argparse.Namespace) -> None:
    """Write what has been measured so far, with the pooled comparison."""
    adjusted = holm([entry["built_against_best"]["p"] for entry in found.values()])
    for entry, p in zip(found.values(), adjusted, strict=True):
        entry["built_against_best"]["p_adjusted"] = p
    pairs = [(np.array(e["per_query"]["built"]), np.array(e["per_query"]["best"])) for e in found.values()]
    content = {
        "measure": MEASURE,
        "minutes": arguments.minutes,
        "recipe": arguments.recipe,
        "seeds": [SEED],
        "pooled_built_against_best": comparison([a for a, _ in pairs], [b for _, b in pairs]),
        "collections": found,
    }
    write_results(arguments.results, content)


if __name__ == "__main__":
    main()

"""Why search starts from the settings that it starts from: people's queries that are no test queries.

Four collections with queries written by people and reserved for training: scifact's train claims, and the pairs
bioasq (questions and snippets), evidence_prompts (an intervention, its comparator and outcome, and the trial's
abstract) and medquad_qa (consumer questions and answers, 4,000 pairs drawn). Each is indexed by the `search-only`
preset; then every setting is measured against plain fusion at weight 0.5. No test query of any collection is asked.

    CORPUSMITH_DATA=DATA python -m benchmarks.claims.search_settings --work WORK

A collection that is already built in WORK is not built again. Results go to benchmarks/results/search_settings.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from benchmarks.record import RESULTS, write_results

from corpusmith import build, load
from corpusmith.evaluation.base import QuerySet
from corpusmith.evaluation.beir import read_beir
from corpusmith.evaluation.compare import DECIDING_MEASURE, System, run_systems
from corpusmith.evaluation.significance import bootstrap_interval, paired_randomisation
from corpusmith.index.search import SearchSettings
from corpusmith.index.sentences import SentenceIndex
from corpusmith.pipeline.workspace import DEFAULT_SEARCH
from corpusmith.recipe import preset
from corpusmith.retrieval.base import PADDING
from corpusmith.retrieval.late_interaction import LateInteraction

PAIRS = {"bioasq": None, "evidence_prompts": None, "medquad_qa": 4000}
"""How many pairs are drawn of each set, None for all."""
QUERIES = 600
PLAIN = SearchSettings(weight=0.5, feedback=0.0)
SETTINGS = (
    PLAIN,
    *(PLAIN.model_copy(update={"weight": weight}) for weight in (0.3, 0.4, 0.6, 0.7)),
    *(PLAIN.model_copy(update={"feedback": feedback}) for feedback in (0.25, 0.5, 1.0, 2.0)),
    *(PLAIN.model_copy(update={"feedback": 0.25, "smoothing": smoothing}) for smoothing in (0.2, 0.4)),
    *(PLAIN.model_copy(update={"late": late}) for late in (0.5, 1.0, 2.0, 4.0)),
    PLAIN.model_copy(update={"late": 2.0, "late_depth": 50}),
    *(PLAIN.model_copy(update={"feedback": 0.25, "late": late}) for late in (1.0, 2.0)),
    *(PLAIN.model_copy(update={"feedback": 0.25, "smoothing": 0.2, "late": late}) for late in (1.0, 2.0)),
    *(PLAIN.model_copy(update={"whitening": share}) for share in (0.25, 0.5)),
    *(DEFAULT_SEARCH.model_copy(update={"whitening": share}) for share in (0.25, 0.5)),
    *(PLAIN.model_copy(update={"sentences": share}) for share in (0.25, 0.5, 0.75)),
    *(DEFAULT_SEARCH.model_copy(update={"sentences": share}) for share in (0.25, 0.5, 0.75)),
)
SEED = 0


class Remembered:
    """Late interaction that scores no passage for a query twice: most settings look at the same ones."""

    def __init__(self, late: LateInteraction) -> None:
        self.late = late
        self.known: dict[tuple[str, int], float] = {}

    def scores(self, queries: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """See `LateInteraction.scores`."""
        keys = [[(query, row) for row in of_query] for query, of_query in zip(queries, rows.tolist(), strict=True)]
        is_new = np.array([[row != PADDING and (query, row) not in self.known for query, row in of] for of in keys])
        found = self.late.scores(queries, np.where(is_new, rows, PADDING))
        for of_query, scores, new in zip(keys, found, is_new, strict=True):
            self.known |= {
                key: float(score) for key, score, is_there in zip(of_query, scores, new, strict=True) if is_there
            }
        return np.array([[self.known.get(key, 0.0) for key in of_query] for of_query in keys], dtype=np.float32)


def read_lines(path: Path) -> Iterator[dict]:
    """The records of a .jsonl.gz file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def collection_of_pairs(path: Path, number: int | None, folder: Path, rng: random.Random) -> None:
    """Write (query, positive) pairs as a BEIR folder: every positive a document, some of the queries drawn as test
    queries, the others for training."""
    pairs = [(record["query"], record["positive"]) for record in read_lines(path)]
    if number is not None:
        rng.shuffle(pairs)
        pairs = pairs[:number]
    documents = {text: f"d{i}" for i, text in enumerate(dict.fromkeys(positive for _, positive in pairs))}
    queries = {text: f"q{i}" for i, text in enumerate(dict.fromkeys(query for query, _ in pairs))}
    drawn = set(rng.sample(sorted(queries.values()), min(QUERIES, len(queries))))
    judged = sorted({(queries[query], documents[positive]) for query, positive in pairs})
    write_records(folder / "corpus.jsonl", ({"_id": id, "title": "", "text": text} for text, id in documents.items()))
    write_records(folder / "queries.jsonl", ({"_id": id, "text": text} for text, id in queries.items()))
    (folder / "qrels").mkdir(exist_ok=True)
    for split in ("test", "train"):
        kept = [(query, document) for query, document in judged if (query in drawn) == (split == "test")]
        lines = ["query-id\tcorpus-id\tscore", *(f"{query}\t{document}\t1" for query, document in kept)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_records(path: Path, records: Iterator[dict]) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def measure_settings(built: Path, query_set: QuerySet) -> dict:
    """nDCG@10 of every setting, and its paired difference to plain fusion."""
    searcher = load(built)
    engine = searcher.engine
    assert engine.late is not None
    engine.late = Remembered(engine.late)  # type: ignore[assignment]
    engine.sentences = SentenceIndex.open(built / "steps" / "sentences")
    systems = [System(named(setting), "", engine, "fused", setting, True) for setting in SETTINGS]
    values = run_systems(systems, query_set, searcher.corpus.document_ids)
    plain = values[named(PLAIN)].values[DECIDING_MEASURE]
    found = {}
    for setting in SETTINGS:
        ours = values[named(setting)].values[DECIDING_MEASURE]
        interval = bootstrap_interval(ours - plain, SEED)
        found[named(setting)] = {
            "mean": round(float(ours.mean()), 4),
            "difference": round(interval.mean, 4),
            "low": round(interval.low, 4),
            "high": round(interval.high, 4),
            "p": paired_randomisation(ours, plain, SEED) if setting != PLAIN else 1.0,
        }
        print(f"  {named(setting)}: {ours.mean():.4f} {interval.mean:+.4f}", flush=True)
    return {"queries": len(query_set), "documents": searcher.corpus.n_documents, "settings": found}


def named(setting: SearchSettings) -> str:
    """What a setting changes about search, in words."""
    names = ("whitening", "weight", "sentences", "feedback", "smoothing", "late")
    shown = {name: getattr(setting, name) for name in names}
    depth = f" of {setting.late_depth}" if setting.late else ""
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value or name == "weight") + depth


def main() -> None:
    """Measure all collections and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="where collections and builds go")
    work, data = parser.parse_args().work, Path(os.environ["CORPUSMITH_DATA"])
    collections = {}
    rng = random.Random(SEED)
    for name in ("scifact", *PAIRS):
        print(name, flush=True)
        folder, split = data / "retrieval" / name, "train"
        if name in PAIRS:
            folder, split = work / name, "test"
            collection_of_pairs(data / "pairs" / f"{name}.jsonl.gz", PAIRS[name], folder, rng)
        recipe = preset("search-only").with_overrides({"search.sentences": 0.5})  # so that they are encoded
        build(folder, recipe=recipe, out=work / f"{name}-built")
        collections[name] = measure_settings(work / f"{name}-built", read_beir(folder, split))
    settings = next(iter(collections.values()))["settings"]
    means = {key: np.mean([entry["settings"][key]["difference"] for entry in collections.values()]) for key in settings}
    content = {
        "measure": DECIDING_MEASURE,
        "baseline": named(PLAIN),
        "seeds": [SEED],
        "mean_difference": {key: round(float(value), 4) for key, value in means.items()},
        "collections": collections,
    }
    write_results(RESULTS / "search_settings.json", content)


if __name__ == "__main__":
    main()

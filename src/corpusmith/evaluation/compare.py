"""Several systems on the same queries: means with intervals, and every system tested against the best start.

The baseline is not chosen in advance: it is whichever system a user has without training (BM25, the base model,
their fusion) that does best on these very queries, the hardest one to beat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from corpusmith.corpus.store import Identifiers
from corpusmith.evaluation.base import Measured, QuerySet
from corpusmith.evaluation.measures import MEASURES, measure
from corpusmith.evaluation.significance import bootstrap_interval, holm, paired_randomisation
from corpusmith.index.documents import DocumentRanking
from corpusmith.index.search import Candidates, Mode, SearchEngine, SearchSettings

DEPTH = 100
DECIDING_MEASURE = "nDCG@10"
RANK_MEASURE = "MRR@10"
EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class System:
    """A system to compare: how it searches, and whether it is there before any training."""

    key: str
    name: str
    engine: SearchEngine
    mode: Mode
    settings: SearchSettings
    starting_point: bool


def run_systems(
    systems: Sequence[System],
    query_set: QuerySet,
    document_ids: Identifiers,
    found: dict[SearchEngine, Candidates] | None = None,
) -> dict[str, Measured]:
    """Per-query values of every system, by key.

    Systems that share an engine share its two searches, and so do calls with the same queries that are given the same
    dictionary `found`, which is filled.
    """
    found = {} if found is None else found
    queries = list(query_set.queries.values())
    rows = document_ids.rows(name for names in query_set.exclude.values() for name in names)
    exclude = [{rows[name] for name in query_set.exclude.get(query, ()) if name in rows} for query in query_set.queries]
    measured = {}
    for system in systems:
        if system.engine not in found:
            found[system.engine] = system.engine.find(queries, exclude)
        candidates = system.engine.adapted(found[system.engine], system.settings, exclude)
        found[system.engine] = candidates  # the next system mostly wants the same
        if system.mode == "fused":
            ranking = system.engine.combine(candidates, DEPTH, system.settings, exclude)
        else:
            ranking = candidates.lexical if system.mode == "lexical" else candidates.dense
        measured[system.key] = measured_ranking(query_set, ranking, document_ids)
    return measured


def measured_ranking(query_set: QuerySet, ranking: DocumentRanking, document_ids: Identifiers) -> Measured:
    """Per-query values of a ranking, a row a query in the order of the query set."""
    run = {
        query: [document_ids[row] for row in documents[:DEPTH] if row >= 0]
        for query, documents in zip(query_set.queries, ranking.documents, strict=True)
    }
    return measure(query_set, run)


def compare(
    query_set: QuerySet,
    systems: Sequence[System],
    document_ids: Identifiers,
    kind: str,
    note: str,
    seed: int,
    alone: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """An evaluation as the report shows it (`report/base.py`): measures, intervals, paired tests.

    The last of the systems is the one whose gained and lost queries are shown. P-values are of the two-sided paired
    randomisation test, adjusted by Holm over the systems compared. `alone` names two systems, the second of which is
    set against the first in a test of its own: another question, which was asked before anything was measured.
    """
    measured = run_systems(systems, query_set, document_ids)
    starting = [system.key for system in systems if system.starting_point]
    baseline = max(starting, key=lambda key: measured[key].mean(DECIDING_MEASURE))
    evaluation = {
        "name": f"{query_set.name} {query_set.split}".strip(),
        "kind": kind,
        "note": " ".join([note, *query_set.notes]).strip(),
        "queries": len(query_set),
        "seeds": 1,
        "baseline": baseline,
        "systems": described({system.key: system.name for system in systems}, measured, seed),
        "comparisons": comparisons(measured, baseline, seed),
        "examples": _examples(query_set, measured[baseline], measured[systems[-1].key]),
        "per_query": {key: values.values[DECIDING_MEASURE].round(6).tolist() for key, values in measured.items()},
    }
    if alone is not None:
        (evaluation["alone"],) = comparisons({name: measured[name] for name in alone}, alone[0], seed)
    return evaluation


def averaged(measured: Sequence[Measured]) -> Measured:
    """Each query's values, averaged over several runs of the same system (seeds)."""
    values = {name: np.mean([run.values[name] for run in measured], axis=0) for name in measured[0].values}
    return Measured(measured[0].queries, values)


def described(names: Mapping[str, str], measured: Mapping[str, Measured], seed: int) -> list[dict[str, Any]]:
    """Every system, by key and name, with its measures and their intervals."""
    return [{"key": key, "name": name, "measures": _intervals(measured[key], seed)} for key, name in names.items()]


def _intervals(measured: Measured, seed: int) -> dict[str, dict[str, float]]:
    found = {}
    for name in MEASURES:
        interval = bootstrap_interval(measured.values[name], seed)
        found[name] = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return found


def _examples(query_set: QuerySet, before: Measured, after: Measured) -> list[dict[str, Any]]:
    """The queries that gained and lost most, with the rank of their first relevant document among the first ten."""
    difference = after.values[DECIDING_MEASURE] - before.values[DECIDING_MEASURE]
    order = np.argsort(-difference, kind="stable")
    gained = [i for i in order[:EXAMPLES] if difference[i] > 0]
    lost = [i for i in order[::-1][:EXAMPLES] if difference[i] < 0]
    names = list(query_set.queries)

    def rank(measured: Measured, i: int) -> int | None:
        reciprocal = measured.values[RANK_MEASURE][i]
        return round(1 / reciprocal) if reciprocal > 0 else None

    return [
        {
            "query": query_set.queries[names[i]],
            "gained": bool(difference[i] > 0),
            "before": rank(before, i),
            "after": rank(after, i),
            "document": next(name for name, grade in query_set.qrels[names[i]].items() if grade > 0),
        }
        for i in [*gained, *lost]
    ]


def comparisons(measured: Mapping[str, Measured], baseline: str, seed: int) -> list[dict[str, Any]]:
    """Every other system against the baseline: paired difference with interval, p-value adjusted by Holm."""
    found: list[dict[str, Any]] = []
    for key, values in measured.items():
        if key == baseline:
            continue
        own, other = values.values[DECIDING_MEASURE], measured[baseline].values[DECIDING_MEASURE]
        difference = own - other
        interval = bootstrap_interval(difference, seed)
        found.append(
            {
                "system": key,
                "against": baseline,
                "measure": DECIDING_MEASURE,
                "difference": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "p": paired_randomisation(own, other, seed),
                "wins": int((difference > 0).sum()),
                "losses": int((difference < 0).sum()),
                "ties": int(np.isclose(difference, 0).sum()),
            }
        )
    for comparison, adjusted in zip(found, holm([entry["p"] for entry in found]), strict=True):
        comparison["p_adjusted"] = adjusted
    return found

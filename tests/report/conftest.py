from copy import deepcopy
from typing import Any

import pytest

from corpusmith.report.base import Comparison, Evaluation, Link, Summary


def system(key: str, name: str, mean: float) -> dict[str, Any]:
    measures = {"nDCG@10": mean, "MRR@10": mean - 0.04, "Recall@100": mean + 0.2}
    return {
        "key": key,
        "name": name,
        "measures": {
            name: {"mean": value, "low": value - 0.03, "high": value + 0.03} for name, value in measures.items()
        },
    }


def comparison(key: str, difference: float, p_adjusted: float, against: str = "base-fusion") -> Comparison:
    return {
        "system": key,
        "against": against,
        "measure": "nDCG@10",
        "difference": difference,
        "low": difference - 0.02,
        "high": difference + 0.02,
        "p": p_adjusted / 2,
        "p_adjusted": p_adjusted,
        "wins": 90,
        "losses": 60,
        "ties": 150,
    }


def link(name: str, parents: tuple[str, ...], seconds: float, flops: float | None = None) -> Link:
    return {
        "name": name,
        "kind": name,
        "digest": (name.encode().hex() * 64)[:64],
        "parents": {parent: (parent.encode().hex() * 64)[:64] for parent in parents},
        "seconds": seconds,
        "bytes": 11_700_000,
        "tokens": 1_630_000 if flops else None,
        "flops": flops,
        "peak_memory_bytes": 1_400_000_000,
        "reused": name == "corpus",
    }


EVALUATION: Evaluation = {
    "name": "scifact test",
    "kind": "judged",
    "note": "Judged by people.",
    "queries": 300,
    "seeds": 1,
    "baseline": "base-fusion",
    "systems": [
        system("bm25", "BM25", 0.679),
        system("base", "base model (all-MiniLM-L6-v2)", 0.645),
        system("base-fusion", "BM25 + base model", 0.724),
        system("adapted", "adapted model", 0.731),
        system("built", "search as built", 0.753),
    ],
    "comparisons": [
        comparison("bm25", -0.045, 0.0004),
        comparison("base", -0.079, 0.0002),
        comparison("adapted", 0.007, 0.31),
        comparison("built", 0.029, 0.004),
    ],
    "alone": comparison("adapted", 0.086, 0.0001, against="base"),
    "examples": [
        {
            "query": "FGF21 slows plaque formation",
            "gained": True,
            "before": None,
            "after": 2,
            "document": "FGF21 in mice",
        }
    ],
}

SUMMARY: Summary = {
    "title": "scifact",
    "created": "2026-11-21T07:44:10Z",
    "corpusmith": "0.1.0",
    "recipe": "default",
    "seed": 13,
    "seconds": 1138.2,
    "budget": "20 minutes",
    "machine": "2 cores, 24 GiB",
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "verdict": ["Model: trained. It is better on held-out queries."],
    "corpus": {
        "read": 5183,
        "kept": 5169,
        "dropped": {"empty": 3, "fewer than 5 words": 11},
        "duplicates": 2,
        "passages": 7642,
        "words": 1_104_311,
    },
    "evaluations": [EVALUATION],
    "choices": [
        {
            "what": "fusion weight of BM25's partner",
            "chosen": "0.5",
            "candidates": [
                {"name": "0.5", "score": 0.847, "low": 0.82, "high": 0.872},
                {"name": "0.6", "score": 0.851, "low": 0.824, "high": 0.876},
            ],
            "reason": "0.6 scores +0.004, not distinguishable.",
        }
    ],
    "training": [
        {
            "objective": "contrastive",
            "steps": 200,
            "tokens": 4_812_340,
            "flops": 6.21e14,
            "seconds": 702.4,
            "tokens_per_second": 6851.0,
            "utilisation": 0.71,
            "padding_avoided": 0.46,
            "precision": "bf16",
            "peak_memory_bytes": 2_400_000_000,
            "loss": [[step, 2 / step] for step in range(1, 201)],
            "validation": [[0, 0.40], [100, 0.43], [200, 0.42]],
            "learning_rate": 5e-5,
            "kept_step": 100,
        }
    ],
    "searches": [
        {
            "query": "vitamin D and infection",
            "results": [
                {
                    "rank": 1,
                    "title": "Epidemic influenza and vitamin D",
                    "document_id": "16959053",
                    "snippet": "A seasonal stimulus explained influenza.",
                    "score": 1.602,
                }
            ],
        }
    ],
    "chain": [
        link("corpus", ("files",), 4.1),
        link("base", ("corpus",), 118.2, 6.9e13),
        link("evaluation", ("corpus", "base"), 46.0),
    ],
    "dropped_file": "steps/corpus/dropped.jsonl",
}


@pytest.fixture
def summary() -> Summary:
    """A whole summary, free to be changed."""
    return deepcopy(SUMMARY)


@pytest.fixture
def evaluation(summary: Summary) -> Evaluation:
    """The summary's evaluation."""
    return summary["evaluations"][0]

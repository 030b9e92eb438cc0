import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.evaluation.base import QuerySet
from corpusmith.evaluation.measures import MEASURES, measure

DOCUMENTS = [f"d{number}" for number in range(130)]


def query_set(qrels: dict[str, dict[str, int]], exclude: dict[str, set[str]] | None = None) -> QuerySet:
    return QuerySet("set", dict.fromkeys(qrels, "text"), qrels, exclude=exclude or {})


def test_a_small_ranking_gives_the_values_worked_out_by_hand() -> None:
    measured = measure(query_set({"q": {"a": 2, "b": 1, "c": 1}}), {"q": ["x", "b", "a"]})
    gained = 1 / math.log2(3) + 2 / math.log2(4)
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    assert measured.values["nDCG@10"] == pytest.approx([gained / ideal])
    assert measured.values["MRR@10"] == pytest.approx([1 / 2])
    assert measured.values["Recall@100"] == pytest.approx([2 / 3])
    assert list(measured.values) == list(MEASURES)


RANKINGS = st.lists(st.sampled_from(DOCUMENTS), max_size=130, unique=True)
QRELS = st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(0, 3), min_size=1, max_size=12).filter(
    lambda judged: any(judged.values())
)


@given(RANKINGS, QRELS)
def test_values_equal_those_of_trec_eval(ranking: list[str], judged: dict[str, int]) -> None:
    measured = measure(query_set({"q": judged}), {"q": ranking})
    run = {"q": {document: float(-place) for place, document in enumerate(ranking)}}
    evaluator = pytrec_eval.RelevanceEvaluator({"q": judged}, {"ndcg_cut_10", "recall_100"})
    expected = evaluator.evaluate(run).get("q", {"ndcg_cut_10": 0.0, "recall_100": 0.0})
    assert measured.mean("nDCG@10") == pytest.approx(expected["ndcg_cut_10"])
    assert measured.mean("Recall@100") == pytest.approx(expected["recall_100"])
    first = next((place for place, document in enumerate(ranking[:10], 1) if judged.get(document, 0) > 0), None)
    assert measured.mean("MRR@10") == pytest.approx(1 / first if first else 0.0)


def test_queries_that_found_nothing_count_zero_and_order_is_kept() -> None:
    judged = {"z": {"a": 1}, "m": {"a": 1}, "b": {"a": 1}, "c": {"a": 1}}
    measured = measure(query_set(judged), {"b": ["a"], "m": ["x", "a"], "c": []})
    assert measured.queries == ("z", "m", "b", "c")
    assert measured.values["MRR@10"].tolist() == [0.0, 0.5, 1.0, 0.0]
    assert measured.mean("MRR@10") == pytest.approx(0.375)


def test_an_empty_run_scores_zero() -> None:
    measured = measure(query_set({"q": {"a": 1}}), {})
    assert all(np.array_equal(values, [0.0]) for values in measured.values.values())


def test_excluded_documents_are_passed_over() -> None:
    measured = measure(query_set({"q": {"a": 1}}, exclude={"q": {"x"}}), {"q": ["x", "a"]})
    assert measured.values["MRR@10"].tolist() == [1.0]


def test_results_for_queries_that_are_not_judged_do_not_count() -> None:
    measured = measure(query_set({"q": {"a": 1}}), {"q": ["a"], "other": ["b"]})
    assert measured.queries == ("q",)
    assert measured.values["nDCG@10"].tolist() == [1.0]

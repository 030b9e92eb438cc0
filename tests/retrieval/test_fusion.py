import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.retrieval.base import Ranking, empty_ranking, rank
from corpusmith.retrieval.fusion import LEAST_FACTOR, product, reciprocal_rank, relative_score

SCORES = st.dictionaries(st.integers(0, 15), st.sampled_from([0.25, 1.0, 2.0, 3.5, 7.0]), max_size=10)
WEIGHTS = st.sampled_from([0.0, 0.25, 0.5, 1.0])


def ranking_of(*lists: dict[int, float]) -> Ranking:
    queries = np.array([query for query, scores in enumerate(lists) for _ in scores], dtype=np.int64)
    rows = np.array([row for scores in lists for row in scores], dtype=np.int64)
    values = np.array([score for scores in lists for score in scores.values()])
    return rank(queries, rows, values, len(lists), k=10)


def stretched(scores: dict[int, float]) -> dict[int, float]:
    low, high = min(scores.values(), default=0), max(scores.values(), default=0)
    return {row: (score - low) / (high - low) if high > low else 1.0 for row, score in scores.items()}


def reciprocal(scores: dict[int, float]) -> dict[int, float]:
    order = sorted(scores, key=lambda row: (-scores[row], row))
    return {row: 1 / (60 + place) for place, row in enumerate(order, 1)}


@pytest.mark.parametrize(("fuse", "rescale"), [(relative_score, stretched), (reciprocal_rank, reciprocal)])
@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=4), WEIGHTS, st.integers(1, 20))
def test_fusion_is_the_weighted_sum_of_rescaled_scores(fuse, rescale, lists, weight, k) -> None:
    fused = fuse(ranking_of(*(one for one, _ in lists)), ranking_of(*(other for _, other in lists)), weight, k)
    assert fused.rows.shape == (len(lists), min(k, 20))
    for query, (lexical, dense) in enumerate(lists):
        one, other = rescale(lexical), rescale(dense)
        sums = {row: np.float32(one.get(row, 0) * (1 - weight) + other.get(row, 0) * weight) for row in one | other}
        expected = sorted(sums, key=lambda row: (-sums[row], row))[:k]
        found = fused.found[query]
        assert fused.scores[query][found] == pytest.approx([sums[row] for row in expected], rel=1e-6, abs=1e-7)
        assert set(fused.rows[query][found]) <= set(sums)
        assert len(expected) == found.sum()
        assert [sums[row] for row in fused.rows[query][found]] == pytest.approx([sums[row] for row in expected])


def factors(scores: dict[int, float]) -> dict[int, float]:
    return {row: max(score, LEAST_FACTOR) for row, score in scores.items()}


COSINES = st.dictionaries(st.integers(0, 15), st.sampled_from([-0.3, 0.0, 0.125, 0.5, 0.75]), max_size=10)


@given(st.lists(st.tuples(SCORES, COSINES), min_size=1, max_size=4), WEIGHTS, st.integers(1, 20))
def test_the_product_multiplies_powers_of_both_scores(lists, weight, k) -> None:
    fused = product(ranking_of(*(one for one, _ in lists)), ranking_of(*(other for _, other in lists)), weight, k)
    for query, (lexical, dense) in enumerate(lists):
        one, other = factors(lexical), factors(dense)
        last = min(other.values(), default=1.0)
        expected = {
            row: one.get(row, LEAST_FACTOR) ** (2 - 2 * weight) * other.get(row, last) ** (2 * weight)
            for row in one | other
        }
        found = fused.found[query]
        assert found.sum() == min(k, len(expected))
        assert fused.scores[query][found] == pytest.approx(sorted(expected.values(), reverse=True)[:k], rel=1e-5)
        assert fused.scores[query][found] == pytest.approx(
            [expected[row] for row in fused.rows[query][found]], rel=1e-5
        )
        assert np.isneginf(fused.scores[query][~found]).all()


def test_at_equal_weights_the_product_is_the_product() -> None:
    fused = product(ranking_of({1: 8.0, 2: 2.0}), ranking_of({2: 0.75, 1: 0.125}), 0.5, k=2)
    assert fused.rows.tolist() == [[2, 1]]
    assert fused.scores.tolist() == [pytest.approx([1.5, 1.0])]


def test_in_a_product_words_choose_and_vectors_order() -> None:
    lexical, dense = ranking_of({1: 0.25, 2: 7.0, 3: 1.0}), ranking_of({4: 0.9, 1: 0.5, 5: 0.8, 2: 0.25})
    assert product(lexical, dense, 0.5, k=5).rows.tolist() == [[2, 3, 1, 4, 5]]


def test_a_product_leaves_a_query_without_known_words_to_the_vectors() -> None:
    fused = product(ranking_of({}), ranking_of({1: 0.2, 2: 0.9, 3: -0.1}), 0.5, k=3)
    assert fused.rows.tolist() == [[2, 1, 3]]
    assert product(empty_ranking(1, 0), ranking_of({1: 0.2, 2: 0.9}), 0.5, k=3).rows[0, 0] == 2


def test_a_product_without_vectors_leaves_the_order_of_words() -> None:
    assert product(ranking_of({1: 2.0, 2: 7.0}), empty_ranking(1, 0), 0.5, k=2).rows.tolist() == [[2, 1]]


def test_equal_sums_are_ordered_by_row() -> None:
    fused = relative_score(ranking_of({7: 2.0, 3: 1.0}), ranking_of({5: 9.0, 4: 8.0}), 0.5, k=4)
    assert fused.rows.tolist() == [[5, 7, 3, 4]]


def test_a_query_that_nothing_was_found_for_stays_empty() -> None:
    fused = relative_score(ranking_of({1: 1.0}, {}), ranking_of({}, {}), 0.5, k=3)
    assert fused.found.tolist() == [[True, False, False], [False, False, False]]


def test_one_empty_side_leaves_the_order_of_the_other() -> None:
    fused = relative_score(empty_ranking(1, 0), ranking_of({1: 0.2, 2: 0.9}), 0.5, k=5)
    assert fused.rows[fused.found].tolist() == [2, 1]


def test_the_weight_decides_whose_favourite_comes_first() -> None:
    lexical, dense = ranking_of({1: 5.0, 2: 1.0}), ranking_of({2: 0.9, 1: 0.1})
    assert relative_score(lexical, dense, 0.2, k=1).rows.tolist() == [[1]]
    assert relative_score(lexical, dense, 0.8, k=1).rows.tolist() == [[2]]

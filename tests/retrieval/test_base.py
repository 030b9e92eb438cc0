import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.retrieval.base import PADDING, candidates, rank

CANDIDATES = st.dictionaries(
    st.tuples(st.integers(0, 4), st.integers(0, 20)), st.sampled_from([-1.0, 0.0, 0.5, 2.0]), max_size=40
)


@given(CANDIDATES, st.integers(1, 6))
def test_ranking_is_sorting_by_score_and_then_by_row(scores_of: dict[tuple[int, int], float], k: int) -> None:
    pairs = np.array(list(scores_of), dtype=np.int64).reshape(-1, 2)
    ranking = rank(pairs[:, 0], pairs[:, 1], np.array(list(scores_of.values())), n_queries=5, k=k)
    for query in range(5):
        expected = sorted((-score, row) for (q, row), score in scores_of.items() if q == query)[:k]
        found = ranking.found[query]
        assert ranking.rows[query][found].tolist() == [row for _, row in expected]
        assert ranking.scores[query][found].tolist() == [-negative for negative, _ in expected]
        assert (ranking.rows[query][~found] == PADDING).all()
        assert (ranking.scores[query][~found] == -np.inf).all()


@given(CANDIDATES)
def test_candidates_undo_ranking(scores_of: dict[tuple[int, int], float]) -> None:
    pairs = np.array(list(scores_of), dtype=np.int64).reshape(-1, 2)
    ranking = rank(pairs[:, 0], pairs[:, 1], np.array(list(scores_of.values())), n_queries=5, k=21)
    queries, rows, scores = candidates(ranking)
    assert dict(zip(zip(queries.tolist(), rows.tolist(), strict=True), scores.tolist(), strict=True)) == scores_of


def test_arrays_have_the_promised_types() -> None:
    ranking = rank(np.array([0]), np.array([3]), np.array([0.5]), n_queries=2, k=2)
    assert ranking.rows.dtype == np.int64
    assert ranking.scores.dtype == np.float32
    assert ranking.rows.tolist() == [[3, PADDING], [PADDING, PADDING]]

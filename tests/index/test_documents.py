import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.index.documents import find, to_documents
from corpusmith.retrieval.base import rank

PASSAGE_DOCUMENTS = np.array([0, 0, 0, 1, 1, 2, 3, 3])


@given(st.lists(st.dictionaries(st.integers(0, 7), st.sampled_from([0.5, 1.0, 2.0])), min_size=1, max_size=4))
def test_a_document_is_as_good_as_its_best_passage(lists: list[dict[int, float]]) -> None:
    queries = np.array([query for query, scores in enumerate(lists) for _ in scores], dtype=np.int64)
    passages = np.array([row for scores in lists for row in scores], dtype=np.int64)
    values = np.array([score for scores in lists for score in scores.values()])
    ranked = rank(queries, passages, values, len(lists), k=8)
    found = to_documents(ranked.rows, ranked.scores, PASSAGE_DOCUMENTS)
    for query, scores in enumerate(lists):
        best: dict[int, tuple[float, int]] = {}
        for passage, score in sorted(scores.items()):
            document = int(PASSAGE_DOCUMENTS[passage])
            if document not in best or score > best[document][0]:
                best[document] = (score, passage)
        expected = sorted(best, key=lambda document: (-best[document][0], document))
        real = found.ranking.found[query]
        assert found.documents[query][real].tolist() == expected
        assert found.scores[query][real].tolist() == [best[document][0] for document in expected]
        assert found.passages[query][real].tolist() == [best[document][1] for document in expected]
        assert (found.passages[query][~real] == -1).all()


def test_values_are_found_for_the_query_they_belong_to() -> None:
    values = find(np.array([[5, 2], [5, -1]]), np.array([0, 1]), np.array([5, 2]), np.array([50, 20]))
    assert values.tolist() == [[50, -1], [-1, -1]]


def test_nothing_is_found_in_an_empty_table() -> None:
    empty = np.zeros(0, dtype=np.int64)
    assert find(np.array([[5, -1]]), empty, empty, empty).tolist() == [[-1, -1]]

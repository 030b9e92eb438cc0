from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith.errors import ArtefactError
from corpusmith.index import dense
from corpusmith.index.dense import DenseIndex


def normalised(n: int, dimension: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((n, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def index_of(vectors: np.ndarray) -> DenseIndex:
    index = DenseIndex(vectors.shape[1])
    index.add(np.arange(len(vectors)), vectors)
    return index


@pytest.mark.parametrize("k", [1, 10, 60, 200, 500])
def test_search_is_exact_across_blocks(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    monkeypatch.setattr(dense, "BLOCK_ROWS", 64)
    monkeypatch.setattr(dense, "BLOCK_QUERIES", 3)
    vectors, queries = normalised(300, 16, 0), normalised(7, 16, 1)
    ranking = index_of(vectors).search(queries, k)
    scores = queries @ vectors.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert np.array_equal(ranking.rows, order)
    assert ranking.scores == pytest.approx(np.take_along_axis(scores, order, axis=1), abs=1e-6)


def test_equal_vectors_are_ordered_by_row_across_blocks_and_additions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "BLOCK_ROWS", 2)
    vectors = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (4, 1))
    index = DenseIndex(2)
    index.add(np.array([9, 1, 8, 7]), vectors)
    index.add(np.array([3, 5, 0, 6]), vectors)
    assert index.search(vectors[:1], 5).rows.tolist() == [[0, 1, 3, 5, 6]]


def test_deleted_rows_are_never_found_however_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "BLOCK_ROWS", 3)
    index = index_of(np.eye(8, dtype=np.float32))
    index.delete(np.array([2, 5, 77]))
    ranking = index.search(np.eye(8, dtype=np.float32)[[2, 5]], 8)
    assert ranking.rows.tolist() == [[0, 1, 3, 4, 6, 7]] * 2


def test_vectors_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    vectors = normalised(6, 4, 2)
    index = DenseIndex(4)
    index.add(np.array([10, 3, 7]), vectors[:3])
    index.add(np.array([5, 0, 4]), vectors[3:])
    assert np.array_equal(index.vectors(np.array([4, 10, 10, 3])), vectors[[5, 0, 0, 1]])
    index.delete(np.array([3]))
    for row in (3, 6, 99):
        with pytest.raises(KeyError):
            index.vectors(np.array([row]))
    index.save(tmp_path)
    assert np.array_equal(DenseIndex.open(tmp_path).vectors(np.array([4, 10, 5])), vectors[[5, 0, 3]])


def test_an_empty_index_finds_nothing(tmp_path: Path) -> None:
    index = DenseIndex(4)
    assert index.search(normalised(2, 4, 0), 3).rows.shape == (2, 0)
    index.save(tmp_path)
    reopened = DenseIndex.open(tmp_path)
    assert (len(reopened), reopened.dimension) == (0, 4)


def test_a_sample_is_spread_over_the_rows_that_are_there() -> None:
    vectors = normalised(9, 4, 0)
    index = index_of(vectors)
    index.delete(np.array([0]))
    assert np.array_equal(index.sample(3), vectors[[1, 4, 8]])
    assert np.array_equal(index.sample(100), vectors[1:])
    assert DenseIndex(4).sample(3).shape == (0, 4)


def test_no_queries_give_no_rows() -> None:
    assert index_of(normalised(5, 4, 0)).search(np.zeros((0, 4), dtype=np.float32), 3).rows.shape == (0, 3)


@pytest.mark.parametrize("vectors", [np.zeros((2, 3), np.float32), np.zeros((3, 4), np.float32), np.zeros((2, 4))])
def test_vectors_of_another_shape_or_type_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected 2 float32 vectors of 4"):
        DenseIndex(4).add(np.arange(2), vectors)


def test_a_row_cannot_be_there_twice() -> None:
    index = index_of(normalised(3, 4, 0))
    with pytest.raises(ValueError, match="row 1 is already in the index"):
        index.add(np.array([1]), normalised(1, 4, 1))


def test_saving_over_the_folder_it_was_opened_from_keeps_the_index(tmp_path: Path) -> None:
    vectors = normalised(5, 4, 3)
    index_of(vectors).save(tmp_path)
    index = DenseIndex.open(tmp_path)
    index.delete(np.array([1]))
    index.save(tmp_path)
    assert np.array_equal(index.vectors(np.array([0, 4])), vectors[[0, 4]])
    assert np.array_equal(DenseIndex.open(tmp_path).vectors(np.array([0, 4])), vectors[[0, 4]])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ids.npy", "vectors.npy"]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    index_of(normalised(5, 4, 3)).save(tmp_path)
    np.save(tmp_path / "ids.npy", np.arange(4))
    with pytest.raises(ArtefactError, match="do not fit together"):
        DenseIndex.open(tmp_path)
    (tmp_path / "vectors.npy").write_bytes((tmp_path / "vectors.npy").read_bytes()[:-8])
    with pytest.raises(ArtefactError, match=r"vectors\.npy is damaged"):
        DenseIndex.open(tmp_path)
    (tmp_path / "vectors.npy").unlink()
    with pytest.raises(ArtefactError, match=r"vectors\.npy is missing"):
        DenseIndex.open(tmp_path)


VECTOR = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=2, max_size=2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.dictionaries(st.integers(0, 12), VECTOR, min_size=1, max_size=5)),
        st.tuples(st.just("delete"), st.sets(st.integers(0, 12), max_size=4)),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(STEPS, VECTOR, st.integers(1, 6))
def test_whatever_was_done_search_equals_brute_force(tmp_path_factory, steps, query, k) -> None:
    folder = tmp_path_factory.mktemp("index")
    index, model = DenseIndex(2), {}
    for action, argument in steps:
        if action == "add":
            new = {row: vector for row, vector in argument.items() if row not in model}
            model |= new
            vectors = np.array(list(new.values()), dtype=np.float32).reshape(-1, 2)
            index.add(np.array(list(new), dtype=np.int64), vectors)
        elif action == "delete":
            index.delete(np.array(sorted(argument), dtype=np.int64))
            model = {row: vector for row, vector in model.items() if row not in argument}
        else:
            index.save(folder)
            index = DenseIndex.open(folder)
        scores = {row: float(np.dot(vector, query)) for row, vector in model.items()}
        expected = sorted(scores, key=lambda row: (-scores[row], row))[:k]
        ranking = index.search(np.array([query], dtype=np.float32), k)
        assert ranking.rows.tolist() == [expected]
        assert ranking.scores.tolist() == [[scores[row] for row in expected]]

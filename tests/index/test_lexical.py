from pathlib import Path

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.sparse import csr_array

from corpusmith.errors import ArtefactError
from corpusmith.index import lexical, postings
from corpusmith.index.lexical import LexicalConfig, LexicalIndex

TEXTS = [
    "Heat transfer in a laminar boundary layer at high speed",
    "Boundary layer transition on a flat plate, boundary conditions",
    "The lift of slender wings",
    "",
    "Supersonic flow past slender bodies and wings with heat and heat again",
]


def index_of(texts: list[str], **options: float | str) -> LexicalIndex:
    index = LexicalIndex(LexicalConfig(**options))
    index.add(np.arange(len(texts)), texts)
    return index


def found(index: LexicalIndex, query: str, k: int = 10) -> dict[int, float]:
    ranking = index.search([query], k)
    return dict(zip(ranking.rows[ranking.found].tolist(), ranking.scores[ranking.found].tolist(), strict=True))


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.2, 0.75), (0.0, 0.0)])
def test_scores_equal_those_of_bm25s(k1: float, b: float) -> None:
    index = index_of(TEXTS, k1=k1, b=b)
    peer = bm25s.BM25(method="lucene", k1=k1, b=b)
    peer.index([list(index._analyser.terms(text)) for text in TEXTS], show_progress=False)
    for query in ["heat", "boundary layer heat", "slender wings slender", "heat transfer to flat plates"]:
        known = [term for term in index._analyser.terms(query) if term in peer.vocab_dict]
        expected = peer.get_scores(known)
        scores = found(index, query)
        assert scores == pytest.approx({row: s for row, s in enumerate(expected) if s > 0}, rel=1e-5)


def test_only_passages_that_share_a_term_are_found() -> None:
    assert set(found(index_of(TEXTS), "wings")) == {2, 4}


@pytest.mark.parametrize("query", ["", "   ", "the of and", "zzyzx", "?!", "\ud83d"])
def test_a_query_without_known_terms_finds_nothing(query: str) -> None:
    ranking = index_of(TEXTS).search([query, "heat"], 3)
    assert ranking.rows.shape == (2, 3)
    assert ranking.found.any(axis=1).tolist() == [False, True]


def test_no_queries_give_no_rows() -> None:
    assert index_of(TEXTS).search([], 3).rows.shape == (0, 3)


def test_more_results_than_passages_can_be_asked_for() -> None:
    assert index_of(TEXTS).search(["heat"], 100).rows.shape == (1, 5)


def test_an_empty_index_finds_nothing(tmp_path: Path) -> None:
    index = LexicalIndex()
    assert index.search(["heat"], 5).rows.shape == (1, 0)
    index.save(tmp_path)
    assert len(LexicalIndex.open(tmp_path)) == 0


def test_equal_passages_are_ordered_by_row_at_the_cut_too() -> None:
    index = LexicalIndex()
    index.add(np.array([9, 2, 7, 4, 30]), ["flat plate"] * 5)
    assert index.search(["plate"], 3).rows.tolist() == [[2, 4, 7]]


def test_a_batch_gives_what_single_queries_give(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = ["heat", "", "boundary layer", "wings", "slender heat", "the"]
    index = index_of(TEXTS)
    together = index.search(queries, 3)
    monkeypatch.setattr(lexical, "POSTINGS_A_BATCH", 3)
    apart = index.search(queries, 3)
    assert np.array_equal(apart.rows, together.rows)
    assert np.array_equal(apart.scores, together.scores)
    for query, rows in zip(queries, together.rows, strict=True):
        assert np.array_equal(index.search([query], 3).rows[0], rows)


def test_added_rows_are_weighed_as_if_built_at_once(tmp_path: Path) -> None:
    index = index_of(TEXTS[:2])
    index.save(tmp_path)
    grown = LexicalIndex.open(tmp_path)
    grown.search(["heat"], 1)
    grown.add(np.arange(2, 5), iter(TEXTS[2:]))
    assert found(grown, "heat wings boundary") == found(index_of(TEXTS), "heat wings boundary")


def test_deleted_rows_leave_the_results_at_once_and_the_statistics_on_saving(tmp_path: Path) -> None:
    index = index_of(TEXTS)
    before = found(index, "heat")
    index.delete(np.array([4, 99]))
    assert found(index, "heat") == {0: before[0]}
    index.save(tmp_path)
    expected = found(index_of(TEXTS[:4]), "heat")
    assert found(index, "heat") == found(LexicalIndex.open(tmp_path), "heat") == expected


def test_a_row_cannot_be_there_twice() -> None:
    index = index_of(TEXTS)
    with pytest.raises(ValueError, match="row 3 is already in the index"):
        index.add(np.array([3]), ["again"])
    with pytest.raises(ValueError, match="twice"):
        LexicalIndex().add(np.array([1, 1]), ["one", "two"])
    index.delete(np.array([3]))
    index.add(np.array([3]), ["something else"])
    assert set(found(index, "something")) == {3}


@pytest.mark.parametrize("texts", [["one"], ["one", "two", "three"]])
def test_there_must_be_a_text_for_each_row(texts: list[str]) -> None:
    index = LexicalIndex()
    with pytest.raises(ValueError, match="2 rows were given"):
        index.add(np.arange(2), texts)
    assert len(index) == 0


def test_an_unknown_language_is_refused_with_the_choices() -> None:
    with pytest.raises(ValidationError, match=r"no stemmer for 'klingon'; choose one of .*english"):
        LexicalConfig(language="klingon")


def test_saving_over_the_folder_it_was_opened_from_keeps_the_index(tmp_path: Path) -> None:
    index_of(TEXTS).save(tmp_path)
    index = LexicalIndex.open(tmp_path)
    index.delete(np.array([0]))
    index.save(tmp_path)
    assert set(found(LexicalIndex.open(tmp_path), "heat")) == set(found(index, "heat")) == {4}


def test_stop_words_are_those_the_index_was_built_with(tmp_path: Path) -> None:
    index = LexicalIndex(LexicalConfig(), stop_words=["wings"])
    index.add(np.arange(len(TEXTS)), TEXTS)
    index.save(tmp_path)
    assert found(LexicalIndex.open(tmp_path), "wings") == {}


@pytest.mark.parametrize("name", ["weights.npy", "ids.npy", "terms.npy", "lexical.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    index_of(TEXTS).save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ArtefactError, match=f"{name} is missing; build the index again"):
        LexicalIndex.open(tmp_path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    index_of(TEXTS).save(tmp_path)
    np.save(tmp_path / "terms.npy", np.arange(2, dtype=np.uint64))
    with pytest.raises(ArtefactError, match="do not fit together"):
        LexicalIndex.open(tmp_path)
    (tmp_path / "weights.npy").write_bytes(b"not an array")
    with pytest.raises(ArtefactError, match=r"weights\.npy is damaged"):
        LexicalIndex.open(tmp_path)
    (tmp_path / "lexical.json").write_text("{")
    with pytest.raises(ArtefactError, match="settings of the index"):
        LexicalIndex.open(tmp_path)


WORDS = st.lists(st.sampled_from(["heat", "wing", "plate", "flow", "lift"]), max_size=5).map(" ".join)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.dictionaries(st.integers(0, 12), WORDS, min_size=1, max_size=4)),
        st.tuples(st.just("delete"), st.sets(st.integers(0, 12), max_size=4)),
        st.tuples(st.just("search"), WORDS),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_whatever_was_done_an_index_equals_one_built_afresh(tmp_path_factory, steps) -> None:
    folder = tmp_path_factory.mktemp("index")
    index, texts = LexicalIndex(), {}
    for action, argument in steps:
        if action == "add":
            new = {row: text for row, text in argument.items() if row not in texts}
            texts |= new
            index.add(np.array(list(new), dtype=np.int64), new.values())
        elif action == "delete":
            index.delete(np.array(sorted(argument), dtype=np.int64))
            texts = {row: text for row, text in texts.items() if row not in argument}
        elif action == "search":
            assert set(found(index, argument)) == {
                row for row, text in texts.items() if set(text.split()) & set(argument.split())
            }
        else:
            index.save(folder)
            index = LexicalIndex.open(folder)
        assert len(index) == len(texts)
    index.save(folder)
    fresh = LexicalIndex()
    fresh.add(np.array(sorted(texts), dtype=np.int64), [texts[row] for row in sorted(texts)])
    queries = ["heat wing", "plate", "flow lift flow", "nothing"]
    one, other = LexicalIndex.open(folder).search(queries, 5), fresh.search(queries, 5)
    assert np.array_equal(one.rows, other.rows)
    assert one.scores == pytest.approx(other.scores, rel=1e-6)


def test_postings_are_searched_where_they_lie(tmp_path: Path) -> None:
    index_of(TEXTS).save(tmp_path)
    opened = LexicalIndex.open(tmp_path)
    opened.search(["heat"], 3)
    assert np.shares_memory(opened._weights.indices, opened._postings.columns)
    assert np.shares_memory(opened._weights.data, opened._postings.weights)
    query = opened._query_matrix(["heat transfer", "plate"])
    assert {query.indices.dtype, query.indptr.dtype} == {opened._weights.indices.dtype}, "a product would copy them"


def test_an_index_made_on_the_disk_is_the_one_made_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexical, "TEXTS_A_CHUNK", 7)
    monkeypatch.setattr(postings, "POSTINGS_A_BLOCK", 20)
    monkeypatch.setattr(postings, "TERMS_AT_ONCE", 20)
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in rng.zipf(1.5, 12) if word < 200) for _ in range(60)]
    folders = {}
    for name, spool in (("disk", tmp_path / "spool"), ("memory", None)):
        if name == "memory":
            monkeypatch.undo()
        folders[name] = tmp_path / name
        for folder in (folders[name], *([spool] if spool else [])):
            folder.mkdir()
        index = LexicalIndex(spool=spool)
        index.add(np.arange(60), texts)
        index.save(folders[name])
    files = {path.name for path in folders["memory"].iterdir()}
    assert files == {path.name for path in folders["disk"].iterdir()}
    assert all((folders["memory"] / name).read_bytes() == (folders["disk"] / name).read_bytes() for name in files)


@pytest.mark.parametrize("at_once", [50, 2**20])
def test_terms_of_parts_small_and_large_are_counted_together(monkeypatch, at_once):
    monkeypatch.setattr(postings, "TERMS_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    pool = np.unique(rng.integers(2**64, size=1000, dtype=np.uint64))
    parts = []
    for number in (900, 3, 0, 200):
        columns = np.sort(rng.choice(len(pool), number, replace=False))
        counts = csr_array(rng.integers(0, 3, size=(5, number)))
        parts.append(postings.Part.of(counts, pool[columns]))
    terms, ends = postings.counted_terms(parts)
    every = np.concatenate([np.repeat(part.terms, np.diff(part.starts)) for part in parts])
    expected, passages = np.unique(every, return_counts=True)
    assert np.array_equal(terms, expected)
    assert np.array_equal(np.diff(ends), passages)

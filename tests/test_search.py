"""A finished build used from Python, in the few lines that the README promises."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import corpusmith
from corpusmith.digests import seal, unseal
from corpusmith.errors import ArtefactError, EvaluationError
from corpusmith.evaluation.base import QuerySet
from corpusmith.evaluation.beir import read_beir
from corpusmith.pipeline import build
from corpusmith.pipeline.summary import chain_of
from corpusmith.recipe import preset
from corpusmith.search import Searcher


@pytest.fixture(scope="module")
def searcher(built_notes: Path) -> Searcher:
    return corpusmith.load(built_notes)


def test_the_document_that_holds_the_query_is_found_with_its_passage(searcher: Searcher, sentences: list[str]) -> None:
    results = searcher.search("the turbine turns hot gas into motion", k=3, mode="lexical")
    assert [result.rank for result in results] == [1, 2, 3]
    assert all(sentences[14] in result.text for result in results)
    assert [result.score for result in results] == sorted((result.score for result in results), reverse=True)


def test_more_results_than_documents_are_never_returned(searcher: Searcher) -> None:
    results = searcher.search("blood", k=10**9)
    assert len({result.document_id for result in results}) == len(results) <= 24


@pytest.mark.parametrize("query", ["", "  ", "?!", "\0", "\x1b[2J"[:1], "\n"])
def test_a_query_without_words_finds_nothing(query: str, searcher: Searcher) -> None:
    assert searcher.search(query) == []


@pytest.mark.parametrize("query", ["blood\0pressure", "blood \ud800", "blood " * 20_000, "x" * 200_000, "血 blood ‮"])
def test_a_strange_query_is_answered(query: str, searcher: Searcher) -> None:
    assert isinstance(searcher.search(query, k=2), list)


def test_vectors_have_length_one_and_do_not_depend_on_their_company(searcher: Searcher, sentences: list[str]) -> None:
    vectors = searcher.encode(sentences[:3])
    assert vectors.shape == (3, 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(searcher.encode([sentences[1]])[0], vectors[1], atol=1e-5)
    assert searcher.encode([]).shape == (0, 32)


def test_a_build_is_measured_on_judged_queries(searcher: Searcher, notes: Path) -> None:
    evaluation = searcher.evaluate(read_beir(notes))
    assert evaluation["queries"] == 6
    assert {system["key"] for system in evaluation["systems"]} == {"bm25", "dense", "fusion", "built"}


def test_queries_about_other_documents_measure_nothing(searcher: Searcher) -> None:
    strangers = QuerySet(name="other", split="test", queries={"q": "blood"}, qrels={"q": {"elsewhere": 1}}, notes=())
    with pytest.raises(EvaluationError, match="same document ids"):
        searcher.evaluate(strangers)


def test_a_folder_without_a_build_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="holds no finished build"):
        corpusmith.load(tmp_path)


def test_an_index_beside_another_model_is_named_and_built_again(
    built_notes: Path, notes: Path, base_model: Path, tmp_path: Path
) -> None:
    """As a build leaves them that is killed between the two."""
    recipe = preset("search-only").with_overrides({"model.base": str(base_model)})
    out = shutil.copytree(built_notes, tmp_path / "out")
    build(notes, recipe=recipe.with_overrides({"search.dimension": 16}), out=tmp_path / "other")
    shutil.rmtree(out / "model")
    shutil.copytree(tmp_path / "other" / "model", out / "model")
    for look in (corpusmith.load, partial(chain_of, check=True)):
        with pytest.raises(ArtefactError, match="another model than is there; run the build again"):
            look(out)
    build(notes, recipe=recipe, out=out)
    assert corpusmith.load(out).search("blood", k=1)
    assert chain_of(out, check=True)


def test_an_index_of_an_earlier_version_that_names_no_model_is_searched(built_notes: Path, tmp_path: Path) -> None:
    out = shutil.copytree(built_notes, tmp_path / "out")
    path = out / "index" / "manifest.json"
    content = unseal(path.read_bytes())
    del content["parents"]["model"]
    path.write_text(seal(content))
    assert corpusmith.load(out).search("blood", k=1)

"""Queries made from a corpus: honest, drawn by the seed, in two halves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corpusmith.corpus.base import Document
from corpusmith.corpus.build import build_corpus
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.store import Corpus
from corpusmith.evaluation.heldout import Heldout, HeldoutConfig, make_heldout
from corpusmith.index.lexical import LexicalConfig

TOPICS = ("boundary layer", "heat transfer", "shock wave", "blood pressure", "contract law")


def corpus_of(documents: list[Document], folder: Path) -> Corpus:
    folder.mkdir()
    build_corpus(documents, CorpusConfig(near_duplicate_threshold=1.0), folder)
    return Corpus.open(folder)


@pytest.fixture
def titled(tmp_path: Path, sentences: list[str]) -> Corpus:
    rng = np.random.default_rng(0)
    return corpus_of(
        [
            Document(
                f"d{i}",
                f"Notes about {TOPICS[i % 5]} in case {chr(97 + i % 26)}{i}",
                " ".join(sentences[j] for j in rng.permutation(len(sentences))[:6]) + f" Number {i}.",
            )
            for i in range(120)
        ],
        tmp_path / "titled",
    )


@pytest.fixture
def untitled(tmp_path: Path, sentences: list[str]) -> Corpus:
    rng = np.random.default_rng(1)
    texts = [" ".join(sentences[j] for j in rng.permutation(len(sentences))[:5]) + f" Number {i}." for i in range(80)]
    return corpus_of([Document(f"d{i}", "", text) for i, text in enumerate(texts)], tmp_path / "untitled")


def contents_by_document(heldout: Heldout) -> dict[int, str]:
    found: dict[int, str] = {}
    for document, content in zip(heldout.collection.documents, heldout.collection.contents(), strict=True):
        found[int(document)] = found.get(int(document), "") + " " + content
    return found


def test_no_answer_still_holds_its_query(titled: Corpus) -> None:
    heldout = make_heldout(titled, HeldoutConfig(share=0.5), seed=0)
    contents = contents_by_document(heldout)
    assert {query.kind for query in heldout.queries} >= {"title", "sentence"}
    for query in heldout.queries:
        assert query.documents
        if query.kind != "topic":
            assert query.text not in contents[query.documents[0]]


def test_topics_are_answered_by_several_documents_whose_titles_are_gone(titled: Corpus) -> None:
    heldout = make_heldout(titled, HeldoutConfig(share=0.5), seed=0)
    contents = contents_by_document(heldout)
    for query in heldout.queries:
        if query.kind == "topic":
            assert len(query.documents) >= 3
            assert all("Notes about" not in contents[document] for document in query.documents)


def test_topics_from_some_titles_are_answered_by_all_that_hold_them(
    tmp_path: Path, sentences: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpusmith.evaluation.heldout.TOPIC_TITLES", 15)
    texts = [" ".join(sentences[(i + j) % len(sentences)] for j in range(4)) + f" Number {i}." for i in range(40)]
    documents = [Document(f"d{i}", f"Case {i} of {TOPICS[i % 5]}", text) for i, text in enumerate(texts)]
    corpus = corpus_of(documents, tmp_path / "few")
    heldout = make_heldout(corpus, HeldoutConfig(share=0.5), seed=0)
    titles = [record.title for record in corpus.documents()]
    topics = [query for query in heldout.queries if query.kind == "topic"]
    assert topics
    for query in topics:
        assert query.documents == tuple(row for row, title in enumerate(titles) if query.text in title)


def test_every_document_stays_in_the_collection_once(titled: Corpus) -> None:
    heldout = make_heldout(titled, HeldoutConfig(share=0.5), seed=0)
    assert set(heldout.collection.documents.tolist()) == set(range(titled.n_documents))
    assert len(heldout.collection) == titled.n_passages


def test_the_halves_share_no_query_and_the_share_is_kept(titled: Corpus) -> None:
    heldout = make_heldout(titled, HeldoutConfig(share=0.25), seed=0)
    ids = titled.document_ids
    validation, report = (heldout.query_set(part, ids) for part in ("validation", "report"))
    assert validation.queries
    assert report.queries
    assert not set(validation.queries) & set(report.queries)
    assert len(heldout.documents) <= 0.25 * titled.n_documents


def test_without_titles_first_sentences_and_sentences_are_asked_for(untitled: Corpus) -> None:
    heldout = make_heldout(untitled, HeldoutConfig(), seed=0)
    assert heldout.queries
    contents = contents_by_document(heldout)
    assert all(query.text not in contents[query.documents[0]] for query in heldout.queries if query.kind != "topic")


def test_the_seed_decides_and_saving_changes_nothing(titled: Corpus, tmp_path: Path) -> None:
    first, again, other = (make_heldout(titled, HeldoutConfig(), seed) for seed in (3, 3, 4))
    assert first.queries == again.queries != other.queries
    (tmp_path / "saved").mkdir()
    first.save(tmp_path / "saved")
    opened = Heldout.open(tmp_path / "saved", titled)
    assert opened.queries == first.queries
    assert list(opened.collection.contents()) == list(first.collection.contents())


def test_long_documents_do_not_make_the_collection_larger_than_asked_for(tmp_path: Path, sentences: list[str]) -> None:
    rng = np.random.default_rng(2)

    def text(number: int) -> str:
        return " ".join(f"{sentences[i]} Number {number}." for i in rng.integers(len(sentences), size=150))

    documents = [Document(f"d{i}", f"Chapter {i} of {TOPICS[i % 5]}", text(i)) for i in range(30)]
    corpus = corpus_of(documents, tmp_path / "long")
    assert corpus.n_passages > 300
    heldout = make_heldout(corpus, HeldoutConfig(share=0.5, passages=100), seed=0)
    assert heldout.queries
    assert len(heldout.collection) <= 100


@pytest.mark.parametrize("number", [1, 3])
def test_a_tiny_corpus_gives_no_or_few_queries(number: int, tmp_path: Path, sentences: list[str]) -> None:
    corpus = corpus_of([Document(f"d{i}", "", sentences[i]) for i in range(number)], tmp_path / "tiny")
    assert make_heldout(corpus, HeldoutConfig(), seed=0).queries == ()


def test_titles_on_the_disk_give_the_same_queries_as_titles_in_memory(
    titled: Corpus, untitled: Corpus, tmp_path: Path
) -> None:
    for name, corpus in (("titled", titled), ("untitled", untitled)):
        spool = tmp_path / f"spool-{name}"
        spool.mkdir()
        found = make_heldout(corpus, HeldoutConfig(share=0.5), seed=0, spool=spool)
        assert found.queries == make_heldout(corpus, HeldoutConfig(share=0.5), seed=0).queries
        assert list(spool.iterdir())


def test_a_title_that_two_documents_have_is_no_query(sentences: list[str], tmp_path: Path) -> None:
    texts = [" ".join(sentences[i : i + 5]) + f" Number {i}." for i in range(20)]
    documents = [Document(f"d{i}", f"Notes about the case {i // 2}", text) for i, text in enumerate(texts)]
    heldout = make_heldout(corpus_of(documents, tmp_path / "twins"), HeldoutConfig(share=0.5), seed=0)
    assert {query.kind for query in heldout.queries} == {"sentence"}


def test_the_collections_words_on_the_disk_are_those_in_memory(titled: Corpus, tmp_path: Path) -> None:
    collection = make_heldout(titled, HeldoutConfig(queries=20), 0).collection
    scratch = tmp_path / "scratch"
    (scratch / "parts" / "part-0").mkdir(parents=True)  # of a run that was cut off
    on_disk, in_memory = collection.lexical_index(LexicalConfig(), scratch), collection.lexical_index(LexicalConfig())
    assert not scratch.exists()
    queries = [*TOPICS, "number 7", "nothing of the kind"]
    for found, expected in zip(on_disk.search(queries, 50), in_memory.search(queries, 50), strict=True):
        assert np.array_equal(found, expected)


def test_contents_at_positions_are_those_that_the_stream_has(titled: Corpus) -> None:
    collection = make_heldout(titled, HeldoutConfig(queries=20), 0).collection
    contents = list(collection.contents())
    positions = np.random.default_rng(0).permutation(len(collection))
    assert collection.contents_at(positions) == [contents[position] for position in positions]

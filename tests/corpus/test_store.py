from __future__ import annotations

import json

import numpy as np
import pytest

from corpusmith.corpus.base import Document, Dropped, Passage
from corpusmith.corpus.store import (
    DOCUMENTS,
    DROPPED,
    PASSAGE_DOCUMENT,
    PASSAGES,
    STATISTICS,
    Corpus,
    CorpusSummary,
    CorpusWriter,
    DocumentRecord,
)
from corpusmith.errors import ArtefactError

SUMMARY = CorpusSummary(4, 3, 4, 21, 80, {"empty": 1}, 1, 0, 0)


@pytest.fixture
def folder(tmp_path):
    with CorpusWriter(tmp_path) as writer:
        writer.add(
            Document("gout", "On gout", "Gout hurts.", {"path": "a.txt", "year": 1816}, ("Rest", "cold", "gout")),
            [("", "Gout hurts."), ("Signs", "It swells.")],
        )
        writer.add(Document("rest", "Rest", "Rest heals.", links=("nowhere", "ON GOUT")), [("", "Rest heals.")])
        writer.drop(Dropped("void", "b.txt", "empty"))
        writer.add(Document("rest-copy", "Rest", "Rest heals."), [("", "Rest heals.")], duplicate_of="rest")
        writer.finish(SUMMARY)
    return tmp_path


def test_what_was_written_is_read_again(folder):
    corpus = Corpus.open(folder)
    assert (corpus.n_documents, corpus.n_passages) == (3, 4)
    assert list(corpus.document_ids) == ["gout", "rest", "rest-copy"]
    assert corpus.passage_documents.tolist() == [0, 0, 1, 2]
    assert corpus.passage(1) == Passage(1, 0, "gout", 1, "On gout", "Signs", "It swells.")
    assert corpus.passage(1).content == "On gout Signs It swells."
    assert corpus.document(0) == DocumentRecord(
        "gout", "On gout", ("Rest", "cold", "gout"), {"path": "a.txt", "year": 1816}, 0, 2, None
    )
    assert [record.duplicate_of for record in corpus.documents()] == [None, None, "rest"]
    assert corpus.summary == SUMMARY
    assert list(corpus.dropped()) == [Dropped("void", "b.txt", "empty")]


def test_passages_are_streamed_and_taken_in_any_order(folder):
    corpus = Corpus.open(folder)
    assert [passage.row for passage in corpus.passages()] == [0, 1, 2, 3]
    assert [passage.row for passage in corpus.passages(1, 3)] == [1, 2]
    assert [passage.row for passage in corpus.take([3, 0, 3])] == [3, 0, 3]
    assert [passage.row for passage in corpus.take(np.array([2]))] == [2]
    assert corpus.take([]) == []


def test_duplicates_are_not_trained_on(folder):
    rows = Corpus.open(folder).trainable_rows()
    assert rows.dtype == np.int64
    assert rows.tolist() == [0, 1, 2]


def test_links_lead_to_ids_and_to_titles_that_one_document_bears(folder):
    """ "Rest" is the title of two documents and "gout" the linking one itself; "ON GOUT" is a title in other case."""
    assert Corpus.open(folder).link_rows() == [(1, 0)]


def test_without_a_text_the_title_is_the_passage(tmp_path):
    with CorpusWriter(tmp_path) as writer:
        writer.add(Document("a", "On gout", ""), [("", "On gout")])
        writer.finish(SUMMARY)
    corpus = Corpus.open(tmp_path)
    assert corpus.passage(0).content == "On gout"
    assert corpus.document(0).title == "On gout"


def test_any_text_survives_the_round_trip(tmp_path):
    text = 'quotes " and \\ and\nlines\u2028 and 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 and \x00'
    with CorpusWriter(tmp_path) as writer:
        writer.add(Document(text, text, text, {text: [text]}, (text,)), [(text, text)])
        writer.drop(Dropped(text, text, text))
        writer.finish(SUMMARY)
    corpus = Corpus.open(tmp_path)
    assert corpus.document(0) == DocumentRecord(text, text, (text,), {text: [text]}, 0, 1, None)
    assert corpus.passage(0) == Passage(0, 0, text, 0, text, text, text)
    assert list(corpus.dropped()) == [Dropped(text, text, text)]


@pytest.mark.parametrize("name", [DOCUMENTS, PASSAGES, PASSAGE_DOCUMENT, DROPPED, STATISTICS])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ArtefactError, match=f"{name} is missing; build the corpus again"):
        Corpus.open(folder)


@pytest.mark.parametrize("name", [DOCUMENTS, PASSAGES, PASSAGE_DOCUMENT, STATISTICS])
def test_a_damaged_file_is_named(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtefactError, match=f"{name} is damaged.*build the corpus again"):
        Corpus.open(folder)


def test_files_of_two_corpora_are_not_mixed(folder):
    np.save(folder / PASSAGE_DOCUMENT, np.array([0, 0, 1], dtype=np.int64))
    with pytest.raises(ArtefactError, match=r"is of 3 passages and passages\.parquet holds 4"):
        Corpus.open(folder)
    np.save(folder / PASSAGE_DOCUMENT, np.array([0, 0, 1, 1], dtype=np.int64))
    with pytest.raises(ArtefactError, match=r"documents\.parquet holds 3 documents"):
        Corpus.open(folder)
    np.save(folder / PASSAGE_DOCUMENT, np.array([0.0, 0, 1, 2]))
    with pytest.raises(ArtefactError, match="does not hold the documents of passages"):
        Corpus.open(folder)


def test_statistics_of_another_version_are_refused(folder):
    (folder / STATISTICS).write_text(json.dumps({"documents": 3}))
    with pytest.raises(ArtefactError, match=r"statistics\.json is damaged"):
        Corpus.open(folder)


def test_a_summary_reads_as_a_sentence():
    summary = CorpusSummary(5004, 4000, 6000, 10**6, 10**7, {"empty": 1, "exact duplicate": 1003}, 1003, 0, 2)
    assert str(summary) == (
        "4,000 of 5,004 documents kept, 6,000 passages, 1,000,000 words; "
        "left out: exact duplicate (1,003), empty (1); 2 ids occurred again and got a suffix such as ~2"
    )

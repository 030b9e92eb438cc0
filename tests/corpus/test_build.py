from __future__ import annotations

import json

import pytest

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.build import build_corpus
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.store import Corpus
from corpusmith.errors import CorpusError

GOUT = "Gout is a painful swelling of the joints, most often of the big toe."
REST = "Rest and cold compresses ease the pain within some days."


def build(documents, folder, judged=False, **options):
    build_corpus(iter(documents), CorpusConfig(**options), folder, judged=judged)
    return Corpus.open(folder)


def test_documents_become_passages_and_the_dropped_are_listed_with_reasons(tmp_path):
    documents = [
        Document("gout", "On\u200b gout", GOUT),
        Dropped("broken.txt", "broken.txt", "binary file"),
        Document("void", "", " \u200b "),
        Document("brief", "", "Too short", {"path": "notes.jsonl"}),
        Document("again", "on gout", GOUT.upper()),
    ]
    corpus = build(documents, tmp_path)
    assert [passage.content for passage in corpus.passages()] == [f"On gout {GOUT}"]
    assert list(corpus.dropped()) == [
        Dropped("broken.txt", "broken.txt", "binary file"),
        Dropped("void", "void", "empty"),
        Dropped("brief", "notes.jsonl", "too short: 2 words where minimum_words = 3"),
        Dropped("again", "again", "exact duplicate: the same text as 'gout'"),
    ]
    summary = corpus.summary
    assert (summary.documents_read, summary.documents, summary.passages) == (5, 1, 1)
    assert summary.dropped == {"binary file": 1, "empty": 1, "too short": 1, "exact duplicate": 1}
    assert (summary.words, summary.characters, summary.exact_duplicates) == (14, len(GOUT), 1)


def test_near_duplicates_are_dropped_and_named(tmp_path):
    text = " ".join(f"Fact {number} about gout is this." for number in range(60))
    corpus = build([Document("a", "", text), Document("b", "", text.replace("Fact 7 ", "Item 7 "))], tmp_path)
    assert list(corpus.document_ids) == ["a"]
    assert [item.reason.split(":")[0] for item in corpus.dropped()] == ["near-duplicate"]
    assert corpus.summary.near_duplicates == 1


@pytest.mark.parametrize(
    ("options", "judged", "kept"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"source": "beir"}, False, True),
        ({"duplicates": "keep"}, False, True),
        ({"duplicates": "drop"}, True, False),
    ],
)
def test_duplicates_stay_findable_where_judgements_name_them(tmp_path, options, judged, kept):
    corpus = build(
        [Document("a", "", GOUT), Document("b", "", REST), Document("c", "", GOUT)], tmp_path, judged, **options
    )
    assert list(corpus.document_ids) == (["a", "b", "c"] if kept else ["a", "b"])
    assert corpus.trainable_rows().tolist() == [0, 1]
    assert [record.duplicate_of for record in corpus.documents()] == [None, None, "a"][: corpus.n_documents]
    assert corpus.summary.exact_duplicates == 1


def test_a_judged_document_is_kept_however_short(tmp_path):
    documents = [Document("a", "", "Yes"), Document("b", "", "42"), Document("c", "Gout", ""), Document("d", "", " ")]
    corpus = build(documents, tmp_path, judged=True)
    assert [passage.content for passage in corpus.passages()] == ["Yes", "42", "Gout"]
    assert [item.id for item in corpus.dropped()] == ["d"]


def test_the_same_id_with_another_text_gets_a_suffix_and_nothing_is_lost(tmp_path):
    documents = [
        Document("x", "", GOUT),
        Document("x~2", "", "A document that bears this id by its own right."),
        Document("x", "", REST),
        Document("x", "", GOUT),
        Document("x", "", REST),
    ]
    corpus = build(documents, tmp_path, duplicates="keep")
    assert list(corpus.document_ids) == ["x", "x~2", "x~3"]
    assert [item.reason for item in corpus.dropped()] == [
        "exact duplicate: the same text as 'x'",
        "exact duplicate: the same text as 'x~3'",
    ]
    assert corpus.summary.renamed == 1


def test_many_documents_of_one_id_are_numbered(tmp_path):
    corpus = build([Document("", "", f"Number {n} is a text of its own.") for n in range(2000)], tmp_path)
    assert corpus.document_ids[:3] == ["", "~2", "~3"]
    assert corpus.document_ids[-1] == "~2000"


@pytest.mark.parametrize("count", [1, 3])
def test_a_corpus_may_be_tiny(tmp_path, count):
    corpus = build([Document(str(n), "", f"This is document {n}.") for n in range(count)], tmp_path)
    assert corpus.n_documents == corpus.n_passages == count


def test_documents_of_one_text_leave_one(tmp_path):
    corpus = build([Document(str(n), "", GOUT) for n in range(500)], tmp_path)
    assert list(corpus.document_ids) == ["0"]
    assert corpus.summary.dropped == {"exact duplicate": 499}


def test_documents_of_one_word_are_kept_when_asked_for(tmp_path):
    corpus = build([Document(str(n), "", f"word{n}") for n in range(5)], tmp_path, minimum_words=1)
    assert [passage.text for passage in corpus.passages()] == [f"word{n}" for n in range(5)]


def test_without_documents_the_error_says_so(tmp_path):
    with pytest.raises(CorpusError, match="there are no documents to work with"):
        build([], tmp_path)


def test_when_nothing_is_left_the_error_gives_the_reasons(tmp_path):
    documents = [Document("a", "", ""), Document("b", "", ""), Dropped("c", "c", "binary file")]
    with pytest.raises(
        CorpusError, match=r"none of 3 documents can be used: empty \(2\), binary file \(1\) \(each with"
    ) as told:
        build(documents, tmp_path)
    assert f"its reason in {tmp_path / 'dropped.jsonl'})" in str(told.value)
    assert (tmp_path / "dropped.jsonl").read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (Dropped("b", "b.txt", "binary file"), "b.txt: binary file"),
        (Document("b", "", "Brief"), "b: too short"),
        (Document("b", "", GOUT), "b: exact duplicate: the same text as 'a'"),
    ],
)
def test_when_strict_the_first_drop_is_an_error(tmp_path, item, reason):
    with pytest.raises(CorpusError, match=reason):
        build([Document("a", "", GOUT), item, Document("c", "", REST)], tmp_path, strict=True)


def test_progress_counts_the_documents_read(tmp_path):
    calls = []
    documents = [Document(str(n), "", f"This is document {n}.") for n in range(250)]
    build_corpus(documents, CorpusConfig(), tmp_path, lambda note, done: calls.append((note, done)))
    assert calls == [("documents", 100), ("documents", 200), ("documents", 250)]


def test_the_same_documents_give_the_same_bytes(tmp_path):
    documents = [Document(str(n), f"Title {n % 3}", f"{GOUT} {REST} Number {n % 40}.") for n in range(100)]
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        build(documents, tmp_path / name)
        written.append({file.name: file.read_bytes() for file in sorted((tmp_path / name).iterdir())})
    assert written[0] == written[1]
    assert len(written[0]) == 5
    assert json.loads(written[0]["statistics.json"])["documents_read"] == 100

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.build import build_corpus
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.store import Corpus
from corpusmith.errors import CorpusError
from corpusmith.vocabulary.sample import sample_corpus, sample_documents, sample_texts


def numbered(count: int) -> Iterator[str]:
    return (f"text number {number:04}" for number in range(count))


def test_texts_below_the_limit_are_all_there_in_their_order() -> None:
    sample = sample_texts(numbered(50), 10_000, seed=0)
    assert sample.texts == tuple(numbered(50))
    assert sample.characters == sample.total_characters == 50 * 16


def test_a_sample_has_as_many_characters_as_asked_for_from_all_over_the_stream() -> None:
    sample = sample_texts(numbered(2000), 1605, seed=0)
    assert (sample.characters, sample.total_characters) == (1605, 2000 * 16)
    assert sum(len(text) for text in sample.texts) == 1605
    numbers = [int(text[-4:]) for text in sample.texts if len(text) == 16]
    assert numbers == sorted(numbers)
    assert len(numbers) == 100
    assert 600 < sum(numbers) / len(numbers) < 1400


def test_the_same_seed_draws_the_same_and_another_draws_others() -> None:
    first, again, other = (sample_texts(numbered(500), 800, seed).texts for seed in (1, 1, 2))
    assert first == again
    assert first != other


def paragraphs(counts: dict[str, int]) -> list[Document]:
    texts = {id: "\n\n".join(f"{id} says {number} things" for number in range(count)) for id, count in counts.items()}
    return [Document(id, "", text) for id, text in texts.items()]


def test_no_document_gives_texts_to_both_halves() -> None:
    sample = sample_documents(paragraphs({"a": 5, "b": 1, "c": 4, "d": 3}), 10_000, seed=0)
    learned, measured = sample.halves()
    assert {text[0] for text in learned.texts} == {"a", "c"}
    assert {text[0] for text in measured.texts} == {"b", "d"}
    assert learned.characters + measured.characters == sample.characters
    assert learned.total_characters == measured.total_characters == sample.total_characters


def test_a_single_document_is_halved_by_its_paragraphs_and_a_single_text_not_at_all() -> None:
    learned, measured = sample_documents(paragraphs({"a": 5}), 10_000, seed=0).halves()
    assert (len(learned.texts), len(measured.texts)) == (3, 2)
    assert not set(learned.texts) & set(measured.texts)
    alone = sample_documents(paragraphs({"a": 1}), 10_000, seed=0)
    assert alone.halves() == (alone, alone)


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_a_long_document_beside_a_short_one_gives_texts_to_both_halves(names: tuple[str, str]) -> None:
    book = " ".join(f"word{number % 97}" for number in range(5000))
    texts = dict(zip(names, (book, "a short note beside it"), strict=True))
    sample = sample_documents([Document(name, "", texts[name]) for name in "ab"], 100_000, seed=0)
    learned, measured = sample.halves()
    assert 0.4 < learned.characters / sample.characters < 0.6
    assert learned.characters + measured.characters == sample.characters
    assert "word5" in learned.texts[-1] + learned.texts[0]
    assert "word5" in measured.texts[-1] + measured.texts[0]
    assert {word for half in (learned, measured) for text in half.texts for word in text.split()} == {
        *book.split(),
        *["a", "short", "note", "beside", "it"],
    }


def test_documents_that_are_all_left_out_are_counted_by_reason() -> None:
    with pytest.raises(CorpusError, match="none of 1 documents can be used: too short"):
        sample_documents([Document("a", "", "hello")], 1000, seed=0)


def test_one_endless_text_is_cut() -> None:
    assert sample_texts(["x" * 100_000], 1000, seed=0).characters == 1000


@pytest.mark.parametrize("texts", [[], ["", " \n"]])
def test_no_text_is_named(texts: list[str]) -> None:
    with pytest.raises(CorpusError, match="no text to learn a vocabulary from"):
        sample_texts(texts, 1000, seed=0)


def test_duplicates_of_a_corpus_are_left_out(sentences: list[str], tmp_path: Path) -> None:
    documents = [Document(f"d{i}", "", sentences[i % 4]) for i in range(8)]
    build_corpus(documents, CorpusConfig(duplicates="keep"), tmp_path)
    sample = sample_corpus(Corpus.open(tmp_path), 10_000, seed=0)
    assert sample.texts == tuple(sentences[:4])


def test_documents_give_their_titles_and_paragraphs_and_what_a_corpus_drops_is_left_out(sentences: list[str]) -> None:
    documents = [
        Document("a", "The heart", f"{sentences[0]}\n\n{sentences[1]}"),
        Dropped("b", "b.bin", "binary file"),
        Document("c", "", "1 2 3 4"),
    ]
    assert sample_documents(documents, 10_000, seed=0).texts == ("The heart", sentences[0], sentences[1])


def test_documents_that_say_the_same_are_read_once_unless_they_are_to_be_kept(sentences: list[str]) -> None:
    documents, told = [Document(f"d{i}", "", sentences[i % 4]) for i in range(8)], list[Dropped]()
    sample = sample_documents(documents, 10_000, seed=0, dropped=told.append)
    assert sample.texts == tuple(sentences[:4])
    assert sample.total_characters == sum(map(len, sentences[:4]))
    assert [(dropped.id, dropped.reason) for dropped in told] == [
        (f"d{i + 4}", f"exact duplicate: the same text as 'd{i}'") for i in range(4)
    ]
    kept = sample_documents(documents, 10_000, seed=0, config=CorpusConfig(duplicates="keep"), dropped=told.append)
    assert len(kept.texts) == 8
    assert len(told) == 4

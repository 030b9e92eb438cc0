from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith.corpus.base import Document
from corpusmith.corpus.clean import WORD, clean_document, count_words
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.passages import Piece, longest_passage, split_document

CONFIG = CorpusConfig(passage_words=40, overlap_words=8)
PROSE = [f"Sentence {number} says a little about gout." for number in range(200)]  # 7 words each


def split(text: str, title: str = "", config: CorpusConfig = CONFIG) -> list[Piece]:
    return split_document(clean_document(Document("a", title, text)), config)


def prose(words: int) -> str:
    return " ".join(PROSE[: words // 7])


def test_a_document_a_third_longer_than_a_passage_stays_whole():
    text = prose(49)
    assert split(text) == [Piece("", text)]


def test_a_longer_document_becomes_even_pieces_that_share_a_sentence():
    pieces = split(prose(70))
    assert [count_words(piece.text) for piece in pieces] == [35, 42]
    assert pieces[0].text.endswith(PROSE[4])
    assert pieces[1].text.startswith(PROSE[4])


def test_without_overlap_nothing_is_repeated():
    text = prose(350)
    pieces = split(text, config=CorpusConfig(passage_words=40, overlap_words=0))
    assert " ".join(piece.text for piece in pieces) == text


def test_a_cut_falls_at_a_paragraph_end_where_one_is_near():
    assert split(" ".join(PROSE[:11]))[0].text == " ".join(PROSE[:5])
    assert split(" ".join(PROSE[:6]) + "\n\n" + " ".join(PROSE[6:11]))[0].text == " ".join(PROSE[:6])


def test_no_cut_falls_below_a_line_that_announces_what_follows():
    text = " ".join(PROSE[:4]) + "\n\n§ 11 On what follows\n\n" + " ".join(PROSE[4:10])
    assert not split(text)[0].text.endswith("follows")


def test_headings_part_passages_and_are_named_from_the_outermost():
    text = f"# Methods\n{prose(35)}\n## Participants\n{prose(42)}\n# Results\n{prose(28)}"
    assert [piece.heading for piece in split(text)] == ["Methods", "Methods > Participants", "Results"]
    assert all("#" not in piece.text for piece in split(text))


def test_a_heading_that_repeats_the_title_is_left_out():
    assert split(f"# Gout\n{prose(35)}", title="Gout") == [Piece("", prose(35))]


def test_a_long_line_with_a_hash_is_text():
    line = "# " + " ".join(["many"] * 30)
    assert split(line) == [Piece("", line)]


def test_short_sections_join_and_name_their_headings_in_the_text():
    text = "# Drug\n## Dosage\nTwice a day.\n## Storage\nKeep it cool."
    assert split(text) == [Piece("Drug", "Dosage\nTwice a day.\n\nStorage\nKeep it cool.")]


def test_a_short_section_joins_the_neighbour_it_shares_headings_with():
    text = f"# One\n{prose(28)}\n# Two\nBriefly put.\n## Detail\n{prose(28)}"
    assert [piece.heading for piece in split(text)] == ["One", "Two"]


def test_a_heading_with_nothing_below_it_is_not_lost():
    assert split("# Plan\n## To be written") == [Piece("Plan", "To be written")]


def test_a_document_of_a_title_alone_is_one_passage():
    assert split("", title="On gout") == [Piece("", "On gout")]


def test_a_sentence_longer_than_a_passage_is_cut_between_words():
    words = [f"w{number}" for number in range(100)]
    pieces = split(" ".join(words), config=CorpusConfig(passage_words=40, overlap_words=0))
    assert [count_words(piece.text) for piece in pieces] == [33, 33, 34]
    assert " ".join(piece.text for piece in pieces).split() == words


def test_text_without_spaces_is_cut_between_characters():
    pieces = split("漢字" * 60, config=CorpusConfig(passage_words=40, overlap_words=0))
    assert [len(piece.text) for piece in pieces] == [40, 40, 40]
    assert max(len(piece.text) for piece in split("x" * 10_000)) <= 50 * longest_passage(40)


def test_a_million_words_in_one_line_are_cut():
    pieces = split(" ".join(["word"] * 1_000_000), config=CorpusConfig(overlap_words=0))
    assert sum(count_words(piece.text) for piece in pieces) == 1_000_000


LINES = st.sampled_from(
    [
        "# Alpha beta",
        "## Gamma",
        "### Delta epsilon zeta",
        "",
        "One two three. Four five?",
        "Six seven eight nine ten eleven twelve thirteen fourteen fifteen",
        "漢字かな。混じり文",
        " ".join(f"long{number}" for number in range(90)),
        prose(63),
        "- item one",
    ]
)


@given(lines=st.lists(LINES, max_size=14), passage_words=st.integers(20, 60), overlap=st.integers(0, 10))
@settings(max_examples=150, deadline=None)
def test_every_word_is_in_some_passage_in_order_and_no_passage_is_too_long(lines, passage_words, overlap):
    document = clean_document(Document("a", "A title", "\n".join(lines)))
    pieces = split_document(document, CorpusConfig(passage_words=passage_words, overlap_words=overlap))

    assert pieces == split_document(document, CorpusConfig(passage_words=passage_words, overlap_words=overlap))
    assert all(0 < count_words(piece.text) <= longest_passage(passage_words) for piece in pieces)
    assert _is_subsequence(_body_words(document.text), [word for piece in pieces for word in _words(piece.text)])
    shown = {word for piece in pieces for word in (*_words(piece.heading), *_words(piece.text))}
    assert set(_words(document.text.replace("#", ""))) <= shown


def _words(text: str) -> list[str]:
    return WORD.findall(text)


def _body_words(text: str) -> list[str]:
    return _words(re.sub(r"^#+ .*$", "", text, flags=re.MULTILINE))


def _is_subsequence(wanted: list[str], found: list[str]) -> bool:
    remaining = iter(found)
    return all(word in remaining for word in wanted)


@pytest.mark.parametrize("passage_words", [20, 180])
def test_pieces_of_a_long_document_are_of_like_length(passage_words):
    pieces = split(prose(1400), config=CorpusConfig(passage_words=passage_words, overlap_words=0))
    lengths = [count_words(piece.text) for piece in pieces]
    assert max(lengths) - min(lengths) <= 14

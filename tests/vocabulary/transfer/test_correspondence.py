from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.transfer.correspondence import (
    Cutter,
    Piece,
    matching_pieces,
    ordinary_entries,
    ordinary_ids,
    special_matches,
)


def of(tokenizer: Tokenizer, piece: str) -> int:
    found = tokenizer.backend.token_to_id(piece)
    assert found is not None, piece
    return found


@pytest.fixture(scope="module")
def unigram(makers: Any, sentences: list[str]) -> Tokenizer:
    return makers.unigram(sentences, 120)


@pytest.mark.parametrize("kind", ["old_words", "old_bytes", "unigram"])
def test_a_vocabulary_matches_itself_entry_by_entry(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    assert matching_pieces(tokenizer, tokenizer).tolist() == list(range(tokenizer.size))


def test_pieces_are_the_same_however_they_are_written(makers: Any, old_bytes: Tokenizer) -> None:
    words = makers.word_piece(["the", "##the", "##er", "er", ".", "unheard", "ï", "##ï"])
    same = matching_pieces(words, old_bytes)
    assert same[of(old_bytes, "Ġthe")] == of(words, "the")
    assert same[of(old_bytes, "er")] == of(words, "##er")
    assert same[of(old_bytes, ".")] == of(words, ".")
    assert same[of(old_bytes, "<mask>")] == words.mask
    assert same[of(old_bytes, "Ã")] == -1  # half of a letter
    assert np.isin(of(words, "unheard"), same, invert=True)


def test_a_piece_that_goes_on_is_another_one_than_a_word(makers: Any) -> None:
    same = matching_pieces(makers.word_piece(["heart"]), makers.word_piece(["##heart"]))
    assert same.tolist() == [0, 1, 2, 3, 4, -1]


def test_bytes_and_letters_of_byte_level_pieces_are_told_apart(old_bytes: Tokenizer) -> None:
    pieces = {entry.written: entry.piece for entry in ordinary_entries(old_bytes)}
    assert pieces["Ġthe"] == Piece(True, b"the")
    assert pieces["er"] == Piece(False, b"er")
    assert pieces["Ċ"] == Piece(True, b"\n")
    assert pieces["Ã"] == Piece(False, b"\xc3")
    assert len({piece.content for piece in pieces.values()} & {bytes([byte]) for byte in range(256)}) >= 255


def test_special_tokens_are_matched_by_kind_and_ordinary_ones_never_with_them(makers: Any) -> None:
    source = makers.word_piece(["<s>", "a"])
    target = makers.word_piece(["a", "[CLS]"], specials=("<pad>", "<unk>", "<s>", "</s>", "<mask>"))
    assert matching_pieces(source, target).tolist() == [0, 1, 2, 3, 4, 6, -1]
    assert special_matches(matching_pieces(source, target), target).tolist() == [0, 1, 2, 3, 4, -1, -1]
    assert ordinary_ids(target).tolist() == [5, 6]


@pytest.mark.parametrize(
    ("piece", "cut"),
    [
        (Piece(True, b"hearts"), ["heart", "##s"]),
        (Piece(False, b"sheart"), ["##s", "##heart"]),
        (Piece(True, "Héart".encode()), ["heart"]),
        (Piece(True, b"heart.s"), ["heart", ".", "s"]),
        (Piece(True, b"xyz"), []),
        (Piece(True, b""), []),
        (Piece(False, b"\xc3"), []),
    ],
)
def test_word_piece_cuts_as_inside_a_word(piece: Piece, cut: list[str], makers: Any) -> None:
    tokenizer = makers.word_piece(["heart", "s", "##heart", "##s", "."])
    assert Cutter(tokenizer)(piece) == [of(tokenizer, part) for part in cut]


def test_what_cannot_go_on_is_cut_as_a_word(makers: Any) -> None:
    tokenizer = makers.word_piece(["heart"])
    assert Cutter(tokenizer)(Piece(False, b"heart")) == [5]


def test_byte_level_cuts_as_the_text_would_be(old_bytes: Tokenizer) -> None:
    cut = Cutter(old_bytes)
    for word in ("immunoglobulin", "naïve", "the"):
        assert cut(Piece(True, word.encode())) == old_bytes.encode([f" {word}"])[0].tolist()
        assert cut(Piece(False, word.encode())) == old_bytes.encode([word])[0].tolist()


def test_unigram_cuts_as_the_text_would_be(unigram: Tokenizer) -> None:
    cut = Cutter(unigram)
    assert cut(Piece(True, b"heart")) == unigram.encode(["heart"])[0].tolist()
    assert "".join(unigram.backend.id_to_token(i) for i in cut(Piece(False, b"heart"))) == "heart"

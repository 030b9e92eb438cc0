"""Which pieces of two vocabularies are the same, and how one tokenizer would cut a piece of the other.

Every kind of tokenizer writes its pieces in its own way: WordPiece marks those that go on ('##ing'), Unigram and
byte-level BPE those that begin a word ('▁ing', 'Ġing'), and the latter spells bytes as letters. A piece is known here
by what it stands for: its bytes, and whether it begins a word. Punctuation and symbols are the same wherever they
stand, since some tokenizers cut text around them and others do not. Special tokens stand for no text; they are matched
by what they are for.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import NamedTuple

import numpy as np

from corpusmith.vocabulary.tokenizer import USUAL_NAMES, Tokenizer

BYTE_NAME = re.compile("<0x([0-9A-Fa-f]{2})>")
"""How tokenizers that fall back on bytes write one."""


class Piece(NamedTuple):
    """What an entry of a vocabulary stands for: `content`, which may be part of a letter, and whether it `begins` a
    word."""

    begins: bool
    content: bytes

    @property
    def text(self) -> str:
        """The content as text, without what is part of a letter only."""
        return self.content.decode("utf-8", errors="ignore")


class Entry(NamedTuple):
    """An entry of a vocabulary as its tokenizer writes it, and the piece it stands for."""

    id: int
    written: str
    piece: Piece


def ordinary_entries(tokenizer: Tokenizer) -> list[Entry]:
    """All entries but the special tokens, by id."""
    read, special = _Reader(tokenizer), set(tokenizer.special_ids.tolist())
    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=True)
    ordinary = sorted((number, written) for written, number in vocabulary.items() if number not in special)
    return [Entry(number, written, read(written)) for number, written in ordinary]


def ordinary_ids(tokenizer: Tokenizer) -> np.ndarray:
    """`int64[n]`, ids of all entries but the special tokens."""
    ids = np.array(sorted(tokenizer.backend.get_vocab(with_added_tokens=True).values()), dtype=np.int64)
    return np.setdiff1d(ids, tokenizer.special_ids)


def matching_pieces(source: Tokenizer, target: Tokenizer) -> np.ndarray:
    """`int64[V']`: for each entry of the target's vocabulary the source's entry for the same piece, -1 where there is
    none.

    Special tokens are matched by their kind ("cls", "sep", "pad", "mask", "unk"), however they are written; other
    special tokens by how they are written.
    """
    found = np.full(target.size, -1, dtype=np.int64)
    by_piece: dict[Piece, int] = {}
    by_entry: dict[tuple[str, Piece], int] = {}
    for entry in ordinary_entries(source):
        by_piece.setdefault(entry.piece, entry.id)
        by_entry[entry.written, entry.piece] = entry.id
    for entry in ordinary_entries(target):
        found[entry.id] = by_entry.get((entry.written, entry.piece), by_piece.get(entry.piece, -1))
    kinds = {getattr(target, kind): getattr(source, kind) for kind in reversed(USUAL_NAMES)}
    for special in target.special_ids.tolist():
        written = target.backend.id_to_token(special) or ""
        other = kinds.get(special, source.backend.token_to_id(written))
        if other is not None and other in source.special_ids:
            found[special] = other
    return found


def special_matches(same: np.ndarray, target: Tokenizer) -> np.ndarray:
    """What `matching_pieces` gave for special tokens, -1 for all others."""
    kept = np.full_like(same, -1)
    kept[target.special_ids] = same[target.special_ids]
    return kept


class Cutter:
    """Cuts a piece of any vocabulary into those of its tokenizer, as it would cut the same text inside a word."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        backend = tokenizer.backend
        self._tokenizer, self._normalizer, self._splitter = tokenizer, backend.normalizer, backend.pre_tokenizer
        self._prefix = backend.model.continuing_subword_prefix if tokenizer.kind == "WordPiece" else None
        self._mark = word_mark(tokenizer) if self._prefix is None else ""
        self._unknown = tokenizer.unk

    def __call__(self, piece: Piece) -> list[int]:
        """Ids of the pieces, none where the tokenizer knows nothing of the text; unknown parts are left out."""
        text = piece.text if self._normalizer is None else self._normalizer.normalize_str(piece.text)
        text = text.strip(" ▁")
        parts = [text] if self._splitter is None else [part for part, _ in self._splitter.pre_tokenize_str(text)]
        if not text or not parts:
            return []
        if self._prefix is not None and not piece.begins:
            return self._cut([self._prefix + parts[0], *parts[1:]]) or self._cut(parts)
        if self._mark:
            first = parts[0].removeprefix(self._mark)
            parts[0] = self._mark + first if piece.begins else first
        return self._cut(parts)

    def _cut(self, parts: list[str]) -> list[int]:
        ids = [token.id for part in parts for token in self._tokenizer.cut(part)]
        return [number for number in ids if number != self._unknown]


class _Reader:
    """Reads what a tokenizer's entries stand for."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._is_word_piece, self._mark = tokenizer.kind == "WordPiece", word_mark(tokenizer)
        self._prefix = tokenizer.backend.model.continuing_subword_prefix if self._is_word_piece else ""

    def __call__(self, written: str) -> Piece:
        piece = self._read(written)
        text = piece.text
        is_symbol = text != "" and all(unicodedata.category(letter)[0] in "PSZC" for letter in text)
        return Piece(True, piece.content) if is_symbol else piece

    def _read(self, written: str) -> Piece:
        if self._is_word_piece:
            goes_on = written.startswith(self._prefix) and len(written) > len(self._prefix)
            return Piece(not goes_on, written.removeprefix(self._prefix if goes_on else "").encode())
        begins, body = written.startswith(self._mark), written.removeprefix(self._mark)
        if self._mark == "Ġ" and all(letter in BYTES for letter in body):
            return Piece(begins, bytes(BYTES[letter] for letter in body))
        if name := BYTE_NAME.fullmatch(body):
            return Piece(begins, bytes.fromhex(name[1]))
        return Piece(begins, body.replace("▁", " ").encode())


def word_mark(tokenizer: Tokenizer) -> str:
    """What byte-level tokenizers, and others, put before a piece that begins a word."""
    state = json.loads(tokenizer.backend.to_str())
    return "Ġ" if '"ByteLevel"' in json.dumps([state["pre_tokenizer"], state["decoder"]]) else "▁"


def _byte_letters() -> dict[str, int]:
    """The letters that byte-level tokenizers write for the 256 bytes: printable ones as they are in Latin-1, the others
    in order from U+0100 on (Radford et al., 2019, and its code)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTES = _byte_letters()

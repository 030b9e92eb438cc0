"""How tokenizers cut a corpus's words: fertility, words kept whole, what is unknown, and what another one would buy.

Fertility is tokens per word (Rust et al. 2021, "How Good is Your Tokenizer? On the Monolingual Performance of
Multilingual Language Models", section 3.2). Words are the text's, whatever the tokenizer: runs of letters, digits and
combining marks. Text of scripts without spaces counts as the words that `corpus.clean` takes it for (a Chinese or
Japanese character, four characters of Thai) and is measured a run at a time; no such word is kept whole or split.

A word is cut as it stands behind a space; one that follows a bracket or a hyphen may be cut otherwise by tokenizers
that see spaces. Numbers of tokens are those of the texts themselves.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np

from corpusmith.corpus.clean import IDEOGRAPHS, UNSPACED, combining_marks, count_words
from corpusmith.vocabulary.sample import TextSample
from corpusmith.vocabulary.tokenizer import Tokenizer

SHOWN = 10
"""Words that are listed."""
ASCII_WORD = re.compile(r"\w+", re.ASCII)
RUN = re.compile(f"[{IDEOGRAPHS}{UNSPACED}]+")
"""Text of scripts without spaces."""


@dataclass(frozen=True, slots=True)
class PassageLength:
    """`words` that a passage has (as `corpus.clean` counts them) where documents are long enough, and `tokens` that the
    model reads of it."""

    words: int
    tokens: int


@dataclass(frozen=True, slots=True)
class SplitWord:
    """A word, how often it occurs in the sample, and its pieces."""

    word: str
    count: int
    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImprovedWord:
    """A word, how often it occurs in the sample, its pieces before and after."""

    word: str
    count: int
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fertility:
    """How one tokenizer cuts the sample.

    Attributes:
        name: of the tokenizer, for people.
        entries: of its vocabulary.
        tokens_per_word: fertility; None where the sample has no word.
        kept_whole: share of the words that are one token; None where all scripts are without spaces.
        unknown: share of the words with a token for what is unknown; None where the sample has no word.
        characters_per_token: of the sample's texts.
        corpus_tokens: of the whole corpus, estimated from the sample.
        seconds, flops: of one pass of the whole corpus through a model; None where not asked for.
        worst: the words whose splitting costs the most tokens, and what it costs.
    """

    name: str
    entries: int
    tokens_per_word: float | None
    kept_whole: float | None
    unknown: float | None
    characters_per_token: float
    corpus_tokens: int
    seconds: float | None
    flops: float | None
    worst: tuple[SplitWord, ...]
    beyond: float | None = None
    """Share of the tokens of a passage of the usual length that a model does not read; None where not asked for."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What another tokenizer buys.

    Attributes:
        fertility: its own.
        saved: share of the corpus's tokens that it saves; negative where it needs more.
        improved: the words that contribute most to it.
    """

    fertility: Fertility
    saved: float
    improved: tuple[ImprovedWord, ...]


@dataclass(frozen=True, slots=True)
class FertilityReport:
    """The base's tokenizer and others beside it, on the same sample: `characters` of `total_characters`, `words`. With
    the length of passages that `Fertility.beyond` is of, and the distance from general text, where there is one."""

    characters: int
    total_characters: int
    words: int
    base: Fertility
    gains: tuple[Gain, ...]
    passages: PassageLength | None = None
    distance: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain lists, dictionaries and numbers."""
        return asdict(self)


def report_fertility(
    sample: TextSample,
    name: str,
    base: Tokenizer,
    others: Mapping[str, Tokenizer],
    tokens_per_second: float | None = None,
    flops_per_token: float | None = None,
    passages: PassageLength | None = None,
) -> FertilityReport:
    """Measure tokenizers on a sample.

    Args:
        sample: of the corpus.
        name: the base's, for people.
        base: the tokenizer that the others are compared with.
        others: by their names.
        tokens_per_second: what a model processes; a token costs the same with every tokenizer.
        flops_per_token: what a model spends on a token.
        passages: for the share of a passage that lies beyond what the model reads.
    """
    counts = count_units(sample.texts)
    before = _Cut(base, sample, counts, passages)
    measured = before.fertility(name, tokens_per_second, flops_per_token)
    gains = []
    for label, tokenizer in others.items():
        after = _Cut(tokenizer, sample, counts, passages)
        saved = 1 - after.tokens / max(1, before.tokens)
        gains.append(Gain(after.fertility(label, tokens_per_second, flops_per_token), saved, before.improved(after)))
    words = int(before.words.sum())
    return FertilityReport(sample.characters, sample.total_characters, words, measured, tuple(gains), passages)


def count_units(texts: Sequence[str]) -> Counter[str]:
    """How often each word, and each run of a script without spaces, occurs."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update((ASCII_WORD if text.isascii() else _unit()).findall(text))
    return counts


@cache
def _unit() -> re.Pattern[str]:
    other = rf"(?![{IDEOGRAPHS}{UNSPACED}])"
    word = rf"{other}\w(?:{other}[\w{combining_marks()}])*"  # a mark with no letter before it is no word
    return re.compile(f"{word}|{RUN.pattern}")


class _Cut:
    """How one tokenizer cuts the units of a sample.

    Attributes:
        words: `int64[units]`, words that all occurrences of each unit count as.
        lengths: `int64[units]` tokens of each unit.
        tokens: of the sample's texts.
    """

    def __init__(
        self, tokenizer: Tokenizer, sample: TextSample, counts: Counter[str], passages: PassageLength | None
    ) -> None:
        self._tokenizer = tokenizer
        self._sample = sample
        self._passages = passages
        self._units = sorted(counts)
        self._counts = np.array([counts[unit] for unit in self._units], dtype=np.int64)
        self._is_run = np.array([RUN.match(unit) is not None for unit in self._units], dtype=bool)
        sizes = [count_words(unit) if run else 1 for unit, run in zip(self._units, self._is_run, strict=True)]
        self.words = self._counts * np.array(sizes, dtype=np.int64)
        encoded = tokenizer.encode([self._in_text(number) for number in range(len(self._units))])
        self.lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
        self._unknown = np.array([tokenizer.unk is not None and tokenizer.unk in ids for ids in encoded], dtype=bool)
        self.tokens = sum(len(ids) for ids in tokenizer.stream(sample.texts))

    def fertility(self, name: str, tokens_per_second: float | None, flops_per_token: float | None) -> Fertility:
        """Its measures, with what one pass of the whole corpus costs."""
        corpus_tokens = round(self.tokens * self._sample.total_characters / max(1, self._sample.characters))
        whole = (self.lengths == 1) & ~self._unknown & ~self._is_run
        return Fertility(
            name=name,
            entries=self._tokenizer.size,
            tokens_per_word=_share(self._counts * self.lengths, self.words),
            kept_whole=_share(self.words * whole, self.words * ~self._is_run),
            unknown=_share(self.words * self._unknown, self.words),
            characters_per_token=self._sample.characters / max(1, self.tokens),
            corpus_tokens=corpus_tokens,
            seconds=None if tokens_per_second is None else corpus_tokens / tokens_per_second,
            flops=None if flops_per_token is None else corpus_tokens * flops_per_token,
            worst=tuple(
                SplitWord(self._units[unit], int(self._counts[unit]), self._pieces(unit))
                for unit in self._largest(self._counts * (self.lengths - 1))
            ),
            beyond=self._beyond(),
        )

    def _beyond(self) -> float | None:
        """Share of a passage's tokens that the model does not read, all passages being of one length."""
        words = sum(map(count_words, self._sample.texts))
        if self._passages is None or not words or not self.tokens:
            return None
        return max(0.0, 1 - self._passages.tokens / (self._passages.words * self.tokens / words))

    def improved(self, after: _Cut) -> tuple[ImprovedWord, ...]:
        """The words that the other tokenizer saves the most tokens on, among those that it knows."""
        saved = self._counts * (self.lengths - after.lengths) * ~after._unknown
        return tuple(
            ImprovedWord(self._units[unit], int(self._counts[unit]), self._pieces(unit), after._pieces(unit))
            for unit in self._largest(saved)
        )

    def _largest(self, tokens: np.ndarray) -> list[int]:
        """The words with the largest numbers of tokens, where these are above 0."""
        order = np.argsort(-(tokens * ~self._is_run), kind="stable")[:SHOWN]
        return [int(unit) for unit in order if tokens[unit] > 0 and not self._is_run[unit]]

    def _in_text(self, unit: int) -> str:
        return self._units[unit] if self._is_run[unit] else f" {self._units[unit]}"

    def _pieces(self, unit: int) -> tuple[str, ...]:
        """The unit's pieces for people: those of byte-level vocabularies as the characters that they stand for."""
        backend = self._tokenizer.backend
        encoding = backend.encode(self._in_text(unit), add_special_tokens=False)
        if self._tokenizer.kind != "BPE":
            return tuple(encoding.tokens)
        decoded = (backend.decode([number]) for number in encoding.ids)
        return tuple(piece.strip() or piece for piece in decoded)


def _share(part: np.ndarray, whole: np.ndarray) -> float | None:
    return float(part.sum() / whole.sum()) if whole.sum() else None

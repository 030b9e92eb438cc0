"""Text to index terms: words for scripts that part them by spaces, character pairs for those that do not.

Words are folded (NFKC, case), stop words dropped and the rest stemmed by the language's Snowball stemmer. Chinese,
Japanese, Thai and the like are indexed by overlapping pairs of characters, which needs no dictionary and loses
little against word segmentation (Lucene's CJK analysis does the same; Nie, Gao, Zhang & Zhou 2000, "On the use of
words and n-grams for Chinese information retrieval"). Both live in one pattern, since domain texts mix scripts.

A common word is stemmed once however often it occurs: the surface forms met last are remembered.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from functools import cache

from corpusmith.corpus.clean import combining_marks

NO_LANGUAGE = "none"

ASCII_WORD = re.compile(r"\w\w+", re.ASCII)
UNSEGMENTED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff"  # kana and iteration marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
    "\uac00-\ud7af"  # Hangul: spaced, but its particles cling to the words
)
MEMORY_WORDS = 2**16
"""Words remembered at once, some 200 bytes each: a large corpus has millions, and the common ones come back at once."""


class Analyser:
    """Terms of a text. `language` is one of `languages()`; `stop_words` None takes the language's list."""

    def __init__(self, language: str, stop_words: Collection[str] | None = None) -> None:
        self.stop_words = frozenset(default_stop_words(language) if stop_words is None else stop_words)
        self._stem = _stemmer(language)
        self._remembered: dict[str, str] = {}

    def terms(self, text: str) -> Iterator[str]:
        """The terms in order of occurrence, repetitions included."""
        folded = unicodedata.normalize("NFKC", text).casefold()
        if folded.isascii():
            pieces = ASCII_WORD.findall(folded)
        else:
            words, unsegmented = _patterns()
            pieces = words.findall(folded)
            for run in unsegmented.findall(folded):
                yield from (run[i : i + 2] for i in range(max(1, len(run) - 1)))
        remembered = self._remembered
        for piece in pieces:
            term = remembered.get(piece)
            if term is None:
                term = self._remember(piece)
            if term:
                yield term

    def _remember(self, word: str) -> str:
        """The word's stem, or nothing for a stop word."""
        if len(self._remembered) >= MEMORY_WORDS:
            self._remembered.clear()
        term = "" if word in self.stop_words else self._stem(word)
        self._remembered[word] = term
        return term


def languages() -> list[str]:
    """Languages with a Snowball stemmer, and "none"."""
    import Stemmer

    return [*Stemmer.algorithms(), NO_LANGUAGE]


def default_stop_words(language: str) -> frozenset[str]:
    """Lucene's short list for English, the NLTK-style lists that bm25s carries for others, none where it has none."""
    from bm25s import stopwords

    name = "STOPWORDS_EN" if language in ("english", "porter") else f"STOPWORDS_{language.upper()}"
    return frozenset(word.casefold() for word in getattr(stopwords, name, ()))


def _stemmer(language: str) -> Callable[[str], str]:
    if language == NO_LANGUAGE:
        return str
    import Stemmer

    return Stemmer.Stemmer(language, 0).stemWord  # 0: the surface forms are remembered here


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Words of two or more characters, and runs of unsegmented script."""
    word = rf"(?:(?![{UNSEGMENTED}])[\w{combining_marks()}]){{2,}}"
    return re.compile(word), re.compile(rf"[{UNSEGMENTED}]+")

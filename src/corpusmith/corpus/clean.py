"""Text as people wrote it, without what file formats and layout left in it.

Cleaning is conservative: it removes what no reader sees (control and zero-width characters, soft hyphens, doubled
spaces) and what no reader needs (the page header printed on every page), and touches nothing else, because a language
model can learn from untidy prose but not from missing prose. Whole documents are left out only where there is nothing
to search for, always with a reason. Every pattern runs in time linear in the text: a 50 MB line is a document too.
What is sought to be removed begins with a character or a set, by which `re` passes over other text much faster.

A word is what space separates; in scripts written without spaces it is one Chinese or Japanese character, or four
characters of Thai, Lao, Khmer or Burmese. Runs of over 50 characters (addresses, formulas, encoded data) count as
several, so that a number of words bounds a length.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import islice

from corpusmith.corpus.base import Document

IDEOGRAPHS = "\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
"""Chinese characters and Japanese syllables, as a range within a character class."""
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Thai, Lao, Burmese and Khmer, as a range within a character class."""
SYMBOLS = (
    "!-/:-@\\[-`{-~\u00a1-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7"
    "\u2010-\u205e\u2070-\u20cf\u2100-\u2bff\u3000-\u3004\u3008-\u3020\u3030\uff01-\uff0f\uff1a-\uff20\ufff9-\uffff"
)
"""Punctuation, signs, arrows, box drawing and replacement characters, as a range within a character class."""
LONGEST_WORD = 50
"""Characters after which the rest counts as another word."""
WORD = re.compile(rf"[^\s{IDEOGRAPHS}{UNSPACED}]{{1,{LONGEST_WORD}}}|[{IDEOGRAPHS}]|[{UNSPACED}]{{1,4}}")
_WITHOUT_SPACES = re.compile(rf"[{IDEOGRAPHS}{UNSPACED}]")

MINIMUM_REPEATS = 4
"""A line printed this often in one document is a page header or footer (our choice)."""

_LINE_ENDS = re.compile(r"[\v\f\x85\u2028\u2029]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\uf8ff\ufffe\uffff]")
_SOFT_HYPHEN = re.compile(r"\xad[ \t]*+\n?")
_INVISIBLE = re.compile(
    r"[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
    # Zero-width joiners spell words in scripts from Arabic to Khmer and join emoji; elsewhere they are debris.
    r"(?<![\u0600-\u109f\u1780-\u18af\u2600-\u27bf\ufe0f\U0001f000-\U0001faff][\u200c\u200d])"
)
_SPACES = re.compile(r"[^\S\n](?:[^\S\n]++|(?<! ))")
_LEADERS = re.compile(r"[.·…](?: ?[.·…]){4,}+ ?")
_BLANK_LINES = re.compile(r"\n{3,}")
_LETTER = re.compile(r"[^\W\d_]")
_SYMBOL = re.compile(rf"[{SYMBOLS}]")
_PAGE_NUMBER = re.compile(
    r"[-–—\[(]? ?(?:page|p\.|seite|s\.|página|pág\.|pagina) ?\d{1,5}(?: ?(?:of|/|von|de|di|sur) ?\d{1,5})? ?[-–—\])]?"
    r"|[-–—] ?\d{1,5} ?[-–—]",
    re.IGNORECASE,
)


@cache
def combining_marks() -> str:
    r"""Accents and vowel signs that are characters of their own, as a range within a character class: `\w` leaves them
    out, and would cut every Hindi or Tamil word at its vowel signs."""
    marks = (chr(point) for point in range(0x10000) if unicodedata.category(chr(point)) in ("Mn", "Mc"))
    return re.escape("".join(marks))


def count_words(text: str) -> int:
    """Words of `text`, as the module describes them."""
    if text.isascii() or not _WITHOUT_SPACES.search(text):  # words stand between spaces, in pieces of `LONGEST_WORD`
        return sum([1 + (len(word) - 1) // LONGEST_WORD for word in text.split()])
    return WORD.subn("", text)[1]


def clean_text(text: str) -> str:
    """Normalise `text` and remove what is not part of it; paragraphs stay parted by one empty line.

    Unicode becomes NFC; lines end in "\\n" and carry no space at their edges; other white space is single spaces;
    control, private-use and invisible characters are gone; the dots that lead from a title to its page become "…";
    page numbers and lines repeated on every page are removed. Lines are not joined: a heading or a list item stays on
    its own.
    """
    text = _normalise(text)
    return _BLANK_LINES.sub("\n\n", _without_repeated_lines(text)).strip()


def clean_line(text: str) -> str:
    """`clean_text` for a title: one line, without heading marks."""
    return " ".join(_normalise(text).split()).lstrip("#").strip()


def clean_document(document: Document) -> Document:
    """The document with title and text cleaned; its id and links stay as they are, others may refer to them."""
    return replace(document, title=clean_line(document.title), text=clean_text(document.text))


def reason_to_drop(document: Document, minimum_words: int) -> str | None:
    """Why a cleaned document holds nothing to search for, or None. Its title counts as part of it.

    With `minimum_words` 0 whatever has any text is good enough.
    What stands before the colon is the kind of reason that statistics count (`kind_of`).
    """
    text = f"{document.title} {document.text}".strip()
    if not text:
        return "empty"
    if not minimum_words:
        return None
    if not _LETTER.search(text):
        return f"no letters: {_shortened(text)!r}"
    if symbols := _symbol_share(text):
        return f"mostly symbols: {symbols:.0%} of the characters are neither letters nor digits"
    words = sum(1 for _ in islice(WORD.finditer(text), minimum_words))
    if words < minimum_words:
        return f"too short: {words} words where minimum_words = {minimum_words}"
    return None


def kind_of(reason: str) -> str:
    """A reason without what is particular to one document: what stands before the first colon or semicolon."""
    return re.split("[:;]", reason, maxsplit=1)[0]


def _normalise(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROL.sub(" ", _LINE_ENDS.sub("\n", text))
    if not text.isascii():
        text = _INVISIBLE.sub("", _SOFT_HYPHEN.sub("", text))
        text = unicodedata.normalize("NFC", text)
    text = _LEADERS.sub("… ", _SPACES.sub(" ", text))
    return text.replace(" \n", "\n").replace("\n ", "\n")


def _without_repeated_lines(text: str) -> str:
    """Keep a line of two words or more that is printed again and again only where it first stands.

    Headings are kept: sections of the same name are common and their text belongs to them.
    """
    if text.count("\n") < MINIMUM_REPEATS - 1:
        return text
    lines = text.split("\n")
    counts = Counter(lines)
    repeated = {line for line, count in counts.items() if count >= MINIMUM_REPEATS and _may_be_boilerplate(line)}
    seen: set[str] = set()
    kept = []
    for line in lines:
        if line in repeated:
            if line in seen:
                continue
            seen.add(line)
        elif _is_page_number(line):
            continue
        kept.append(line)
    return "\n".join(kept)


def _may_be_boilerplate(line: str) -> bool:
    return " " in line and not line.startswith("#") and _LETTER.search(line) is not None


def _is_page_number(line: str) -> bool:
    return 0 < len(line) < 30 and _PAGE_NUMBER.fullmatch(line) is not None


def _symbol_share(text: str) -> float:
    """The share of symbols among visible characters where it is over one half, else 0; judged by the beginning."""
    visible = "".join(text[:100_000].split())
    symbols = len(visible) - len(_SYMBOL.sub("", visible))
    return symbols / len(visible) if symbols * 2 > len(visible) else 0.0


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"

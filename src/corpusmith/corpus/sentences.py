"""Where sentences end, by rules that hold across languages.

A stop ends a sentence when white space follows and what comes next does not begin in lower case, unless the word before
it is an abbreviation, an initial or an ordinal. A stop with white space on both sides ends one in any case: that is
tokenised text, which often has no capitals. Scripts with stops of their own (Chinese, Hindi, Arabic, ...) need neither
the space nor the capital. Empty lines and list items end sentences too; a single line break does not, because plain
text is often wrapped. The rules see a few characters around each stop, so time is linear in the text. They err on the
side of too few ends: a passage cut between two sentences loses nothing by a third one staying attached.
"""

from __future__ import annotations

import re
from itertools import pairwise

_SPACED_STOPS = ".!?…؟۔"
_OTHER_STOPS = "。！？｡।॥።၊။"
SENTENCE_ENDS = tuple(_SPACED_STOPS + _OTHER_STOPS)
"""The characters that may end a sentence."""

_STOP = re.compile(
    rf"[{_SPACED_STOPS}{_OTHER_STOPS}\n](?:"  # first the set of all beginnings, by which `re` passes over what is none
    # Latin, Cyrillic, Greek, Arabic ...: the stop, what closes after it, a numbered reference, and space.
    rf"(?<=[{_SPACED_STOPS}])(?<![{_SPACED_STOPS}]{{2}})"
    rf"[{_SPACED_STOPS}]*+[\"'”’»)\]]*+(?:\[\d[\d,–-]*+\])?(?P<gap>\s++)"
    # Stops that need no space: Chinese and Japanese, danda, Ethiopic, Burmese, Khmer.
    rf"|(?<=[{_OTHER_STOPS}])[{_OTHER_STOPS}]*+[」』”’）》\"')]*+\s*+"
    # An empty line, or a line that begins a list item.
    r"|(?<=\n)(?:\s*\n\s*+|(?=[ \t]*+(?:[-*•‣▪◦–—·]|\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)])[ \t])))"
)
_LAST_WORD = re.compile(r"[^\s(\[{“„«\"']+$")
_ENUMERATOR = re.compile(r"[(\[]?(?:\d{1,4}|[A-Za-z]|[ivxlcIVXLC]{1,6})(?:\.\d{1,3})*[.)\]]*")
RUN_WORDS = 12
_CONTEXT = 24
"""Characters looked at before a stop: longer than any abbreviation."""

_ALWAYS = """
    dr mr mrs ms prof rev hon col sgt st jr sr messrs mme mlle dres dipl
    e.g i.e eg ie cf viz vs al approx ca resp esp incl excl
    fig figs eq eqs ref refs sect ch chap vol vols ed eds pp suppl art arts
    z.b d.h u.a o.ä bzw vgl ggf evtl bspw sog inkl zzgl usf abs ziff buchst kap abb anm hrsg rn rdnr
    p.ex núm pág págs sra dra srta av
    inc ltd corp bros dept univ assn dist
"""
_BEFORE_NUMBERS = """
    no nos nr s ss § bd p para paras sec tab app lit line jan feb mar apr jun jul aug sep sept oct nov dec
"""
_MONTH_NAMES = "januar jänner februar märz april mai juni juli august september oktober november dezember"
_ABBREVIATIONS = frozenset(_ALWAYS.split())
_NUMBERED = frozenset(_BEFORE_NUMBERS.split())
"""Abbreviations only where a number follows ("No. 5"); elsewhere they may be words that end a sentence."""
_MONTHS = frozenset(_MONTH_NAMES.split())


def sentences(text: str) -> list[str]:
    """The sentences of `text` in their order, without the white space between them."""
    return [text[start:end] for start, end in sentence_spans(text)]


def statements(text: str) -> list[str]:
    """Pieces that could each be said alone: the sentences, or runs of about a dozen words where stops are missing."""
    found = sentences(text)
    words = text.split()
    if len(words) < 2 * RUN_WORDS * max(1, len(found)):
        return found
    parts = round(len(words) / RUN_WORDS)
    bounds = [len(words) * i // parts for i in range(parts + 1)]
    return [" ".join(words[start:end]) for start, end in pairwise(bounds)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Beginning and end of each sentence in `text`; between spans there is nothing but white space."""
    spans = []
    start = len(text) - len(text.lstrip())
    for stop in _STOP.finditer(text, start):
        if stop.end() >= len(text):
            break
        if stop["gap"] and not _ends_sentence(text, start, stop):
            continue
        end = _without_trailing_space(text, start, stop.end())
        if end - start <= _CONTEXT and stop["gap"] and _ENUMERATOR.fullmatch(text, start, end):
            continue
        if end > start:
            spans.append((start, end))
        start = stop.end()
    end = _without_trailing_space(text, start, len(text))
    if end > start:
        spans.append((start, end))
    return spans


def _ends_sentence(text: str, start: int, stop: re.Match[str]) -> bool:
    """Whether a stop followed by white space ends a sentence, by the words on both sides of it."""
    if "\n\n" in stop["gap"] or text[stop.start() - 1].isspace():  # a stop set apart: tokenised text, case lost
        return True
    following = text[stop.end()]
    if following.islower():
        return False
    if text[stop.start()] != "." or text[stop.start() + 1] == ".":
        return True
    match = _LAST_WORD.search(text[max(start, stop.start() - _CONTEXT) : stop.start()])
    if match is None:
        return True
    return not _is_abbreviation(match[0].lower(), text, stop)


def _is_abbreviation(word: str, text: str, stop: re.Match[str]) -> bool:
    closing = text[stop.start() + 1 : stop.start("gap")]
    if closing:  # "(see Fig.) The": what closes after the stop closes the phrase as well
        return False
    if word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha()):
        return True
    following = text[stop.end() : stop.end() + _CONTEXT]
    if word in _NUMBERED:
        return following[0].isdigit()
    if len(word) <= 2 and word.isdigit():  # German ordinals: "am 3. Mai"
        return re.split(r"\W", following, maxsplit=1)[0].lower() in _MONTHS
    return "." in word and word.replace(".", "").isalpha() and all(len(part) == 1 for part in word.split("."))


def _without_trailing_space(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1].isspace():
        end -= 1
    return end

"""Documents cut into passages that fit the encoder.

A passage should be about one thing, be understood alone, and be neither so long that the encoder cuts its end off nor
so short that it says nothing. So cuts follow the author: first the headings, then, inside a section that is too long,
the ends of sentences, at a paragraph's end where one is near and not below a heading or within a list. Pieces of a
section are of even length (250 words become two of 125, not 180 and 70), neighbours in a section share a sentence or
so, and sections of a few lines join their neighbours. A sentence longer than a passage is cut between words.

Every passage is made of slices of the cleaned text, so that nothing is lost or rewritten: each word of a document is
in some passage's text or heading, in the original order. Sizes count words as `corpus.clean` does; no passage is
longer than `longest_passage`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise, takewhile
from typing import NamedTuple

from corpusmith.corpus.base import Document
from corpusmith.corpus.clean import WORD, count_words
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.sentences import SENTENCE_ENDS, sentence_spans, sentences

__all__ = ["Piece", "longest_passage", "sentences", "split_document"]

WHOLE = 1.3
"""A section or document up to this many times `passage_words` is not cut."""
SHORT = 0.25
"""A section below this share of `passage_words` joins a neighbour."""
SEAM_WEIGHT = 0.15
"""A cut at a paragraph's end may be this share of the ideal length farther from the ideal place than one inside a
paragraph, and that one so much farther than a cut below a line that does not end a sentence (a heading, a list)."""
HEADING_WORDS = 20
"""A longer line is no heading, whatever it begins with."""
PATH_WORDS = 30
"""The outer headings of a longer path are left out."""
PATH_SEPARATOR = " > "

_HEADING = re.compile(r"^(#{1,6}) +(\S.*)$", re.MULTILINE)


class Piece(NamedTuple):
    """What a passage holds, before it has a place in a corpus."""

    heading: str
    text: str


class _Unit(NamedTuple):
    """A sentence, or a part of one that is longer than a passage: a slice of the document's text."""

    start: int
    end: int
    words: int
    seam: int
    """How well a cut fits after it: 1 at a paragraph's end, 0 inside one, -1 where a paragraph ends in mid-sentence."""


@dataclass(frozen=True, slots=True)
class _Section:
    """The text under one heading; `path` are the headings from the outermost to its own."""

    path: tuple[str, ...]
    units: list[_Unit]
    heading_words: int


@dataclass(frozen=True, slots=True)
class _Run:
    """Units `first` to `last` (exclusive) of a section: `body_words` words, with the section's headings `words`."""

    section: _Section
    first: int
    last: int
    body_words: int

    @property
    def words(self) -> int:
        return self.body_words + self.section.heading_words


def longest_passage(passage_words: int) -> int:
    """The most words that a passage's text can have."""
    return int(passage_words * WHOLE)


def split_document(document: Document, config: CorpusConfig) -> list[Piece]:
    """The passages of a cleaned document, in order; at least one.

    A passage within one section has the section's headings, outermost first and joined by " > ", as its heading. One
    that spans several has those that all of them share, and its text names each section's own above it. A document of
    nothing but a title becomes a passage of that title.
    """
    sections = list(_sections(document, config.passage_words))
    runs = [run for section in sections for run in _cut(section, config.passage_words)]
    pieces = [_render(document.text, group, config) for group in _join_short(runs, config.passage_words)]
    return pieces or [Piece("", document.title)]


def _sections(document: Document, passage_words: int) -> Iterator[_Section]:
    """The sections of a document; a heading without text of its own stands in the paths of those below it."""
    text = document.text
    headings = [match for match in _HEADING.finditer(text) if count_words(match[2]) <= HEADING_WORDS]
    starts = [0, *(match.end() for match in headings)]
    ends = [*(match.start() for match in headings), len(text)]
    levels = [0, *(len(match[1]) for match in headings)]
    open_headings: list[tuple[int, str]] = []
    for number, (start, end, level) in enumerate(zip(starts, ends, levels, strict=True)):
        if level:
            name = headings[number - 1][2].rstrip("#").strip() or headings[number - 1][2]
            open_headings = [*((depth, outer) for depth, outer in open_headings if depth < level), (level, name)]
        units = _units(text, start, end, passage_words)
        has_children = number + 1 < len(levels) and levels[number + 1] > level
        path = _path([outer for _, outer in open_headings], document.title)
        if units or (path and not has_children):
            yield _Section(path, units, count_words(PATH_SEPARATOR.join(path)))


def _path(headings: list[str], title: str) -> tuple[str, ...]:
    """The headings that say more than the title, outer ones left out where they are too many words."""
    path = [name for name in headings if name.casefold() != title.casefold()]
    while len(path) > 1 and sum(map(count_words, path)) > PATH_WORDS:
        del path[0]
    return tuple(path)


def _units(text: str, start: int, end: int, longest: int) -> list[_Unit]:
    """The sentences of a section, those with more than `longest` words cut into even parts."""
    body = text[start:end]
    spans = sentence_spans(body)
    units: list[_Unit] = []
    for (first, last), (following, _) in pairwise([*spans, (len(body), len(body))]):
        seam = _seam(body, last) if "\n\n" in body[last:following] else 0
        words = count_words(body[first:last])
        if words <= longest:
            units.append(_Unit(start + first, start + last, words, seam))
        else:
            units += _parts(text, start + first, start + last, words, longest, seam)
    return units


def _seam(body: str, paragraph_end: int) -> int:
    tail = body[max(0, paragraph_end - 4) : paragraph_end].rstrip("\"'”’»)]」』）")
    return 1 if tail.endswith(SENTENCE_ENDS) else -1


def _parts(text: str, start: int, end: int, words: int, longest: int, seam: int) -> Iterator[_Unit]:
    """A sentence of too many words cut between words into parts of even length."""
    count = -(-words // longest)
    matches = WORD.finditer(text, start, end)
    for part in range(count):
        size = words * (part + 1) // count - words * part // count
        spans = [match.span() for match in islice(matches, size)]
        yield _Unit(spans[0][0], spans[-1][1], size, seam if part == count - 1 else 0)


def _cut(section: _Section, passage_words: int) -> Iterator[_Run]:
    """A section whole, or in runs of sentences of even length."""
    first, remaining = 0, sum(unit.words for unit in section.units)
    while remaining > longest_passage(passage_words):
        ideal = remaining / -(-remaining // passage_words)
        run = _run_near(section, first, ideal, longest_passage(passage_words))
        yield run
        first, remaining = run.last, remaining - run.body_words
    yield _Run(section, first, len(section.units), remaining)


def _run_near(section: _Section, first: int, ideal: float, longest: int) -> _Run:
    """The run from unit `first` on that comes nearest to `ideal` words, paragraphs' ends preferred."""
    words, best, least = 0, None, float("inf")
    for last, unit in enumerate(section.units[first : first + longest + 1], start=first + 1):
        words += unit.words
        if best is not None and words > longest:
            break
        distance = abs(words - ideal) - SEAM_WEIGHT * ideal * unit.seam
        if distance < least:
            best, least = _Run(section, first, last, words), distance
    assert best is not None
    return best


def _join_short(runs: list[_Run], passage_words: int) -> Iterator[list[_Run]]:
    """Put runs together where one of two neighbours is short and the other leaves room for it.

    A short run goes with the neighbour it shares more headings with, the one before it where both are as near.
    """
    group: list[_Run] = []
    for run, following in pairwise([*runs, None]):
        assert run is not None
        if group and _fit(group, run, passage_words) and not _belongs_to_next(group[-1], run, following):
            group.append(run)
            continue
        if group:
            yield group
        group = [run]
    if group:
        yield group


def _fit(group: list[_Run], run: _Run, passage_words: int) -> bool:
    smaller, larger = sorted((sum(member.words for member in group), run.words))
    return (
        smaller < SHORT * passage_words
        and larger <= passage_words
        and smaller + larger <= longest_passage(passage_words)
        and group[-1].section is not run.section
    )


def _belongs_to_next(previous: _Run, run: _Run, following: _Run | None) -> bool:
    if following is None or following.section is run.section:
        return False
    return _shared(run, following) > _shared(previous, run)


def _shared(one: _Run, other: _Run) -> int:
    return len(_common([one.section.path, other.section.path]))


def _common(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The headings that all paths begin with."""
    same = takewhile(lambda level: len(set(level)) == 1, zip(*paths, strict=False))
    return tuple(level[0] for level in same)


def _render(text: str, group: list[_Run], config: CorpusConfig) -> Piece:
    """The passage that a group of runs makes, with the end of what precedes it in its section."""
    room = longest_passage(config.passage_words) - sum(run.words for run in group)
    first = _first_with_overlap(group[0], min(room, config.overlap_words))
    if len(group) == 1:
        path = group[0].section.path
        body = _slice(text, group[0], first)
        return Piece(PATH_SEPARATOR.join(path), body) if body else Piece(PATH_SEPARATOR.join(path[:-1]), path[-1])
    shared = _common([run.section.path for run in group])
    parts = []
    for run in group:
        body = _slice(text, run, first if run is group[0] else run.first)
        heading = PATH_SEPARATOR.join(run.section.path[len(shared) :]) or ("" if body else run.section.path[-1])
        parts.append("\n".join(filter(None, (heading, body))))
    return Piece(PATH_SEPARATOR.join(shared), "\n\n".join(filter(None, parts)))


def _first_with_overlap(run: _Run, room: int) -> int:
    """The unit where a passage begins: as many sentences before the run as there is room for."""
    first = run.first
    while first > 0 and run.section.units[first - 1].words <= room:
        first -= 1
        room -= run.section.units[first].words
    return first


def _slice(text: str, run: _Run, first: int) -> str:
    units = run.section.units
    return text[units[first].start : units[run.last - 1].end] if first < run.last else ""

"""Queries made from the corpus alone: by them a build chooses, since most users have documents and no judgements.

Three kinds, each answered by held-out documents from which the query's words have been taken:

- *title*: a document's title; relevant is that document, its title removed.
- *sentence*: a sentence from inside a document; relevant is that document, the sentence removed.
- *topic*: a phrase of two or three words that stands in several titles; relevant are those documents, their titles
  removed. Known items reward finding the one document, topics reward finding all that belong together; real queries
  lie between, and feedback helps the second while it can hurt the first.

Where documents have no titles, their first sentence takes the title's place; where there are no sentences, runs of a
dozen words stand for them. The queries fall into two halves:
`validation`, by which models and search settings are chosen, and `report`, which is only reported. Held-out documents
give no training pairs. What such queries do not show: whether users ask that way.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import xxhash
from pydantic import Field

from corpusmith.config import Config
from corpusmith.corpus.sentences import statements
from corpusmith.corpus.spill import Strings
from corpusmith.corpus.store import Corpus
from corpusmith.evaluation.base import QuerySet
from corpusmith.evaluation.collection import Collection

Part = Literal["validation", "report"]
PARTS: tuple[Part, Part] = ("validation", "report")
KINDS = ("title", "sentence", "topic")

MINIMUM_TITLE_WORDS = 3
SENTENCE_WORDS = range(6, 41)
TOPIC_DOCUMENTS = range(3, 31)
TOPIC_TITLES = 20_000
"""Titles from which the phrases of topics are taken at most: the phrases of all would be many times the titles."""
MINIMUM_QUERIES = 20
"""With fewer validation queries than this nothing is chosen by them."""


class HeldoutConfig(Config):
    """How many queries are made from the corpus, and from how much of it."""

    queries: int = Field(default=600, ge=0)
    """Queries made at most, both halves together."""
    share: float = Field(default=0.2, ge=0, le=0.5)
    """At most this share of the documents is held out."""
    passages: int = Field(default=20_000, ge=100)
    """The held-out documents are searched for among at most this many passages."""


@dataclass(frozen=True, slots=True)
class HeldoutQuery:
    """One query, its kind and half, and the document rows that answer it."""

    id: str
    text: str
    kind: str
    part: Part
    documents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Heldout:
    """The queries, and the collection they are asked of."""

    collection: Collection
    queries: tuple[HeldoutQuery, ...]

    @property
    def documents(self) -> np.ndarray:
        """Document rows that answer a query: they give no training pairs."""
        return np.unique([document for query in self.queries for document in query.documents]).astype(np.int64)

    def query_set(self, part: Part, document_ids: Sequence[str]) -> QuerySet:
        """One half of the queries, as evaluation wants them."""
        chosen = [query for query in self.queries if query.part == part]
        return QuerySet(
            name=f"held-out {part}",
            queries={query.id: query.text for query in chosen},
            qrels={query.id: {document_ids[row]: 1 for row in query.documents} for query in chosen},
        )

    def kinds(self, part: Part) -> list[str]:
        """The kind of each query of one half, in the order of `query_set`."""
        return [query.kind for query in self.queries if query.part == part]

    def save(self, folder: Path) -> None:
        """Write the collection and `queries.jsonl`."""
        self.collection.save(folder)
        with (folder / "queries.jsonl").open("w", encoding="utf-8") as file:
            for query in self.queries:
                file.write(json.dumps(asdict(query), ensure_ascii=False) + "\n")

    @classmethod
    def open(cls, folder: Path, corpus: Corpus) -> Self:
        """Read what `save` wrote."""
        with (folder / "queries.jsonl").open(encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        queries = tuple(HeldoutQuery(**(line | {"documents": tuple(line["documents"])})) for line in lines)
        return cls(Collection.open(folder, corpus), queries)


class _Candidates(NamedTuple):
    """Documents that could be held out: `documents[N]` rows, ascending, the title (or first sentence) of each,
    `is_unique[N]`, whether no other one has it too, and `passages[N]`, how many passages it has."""

    documents: np.ndarray
    titles: list[str] | Strings
    is_unique: np.ndarray
    passages: np.ndarray

    def title(self, place: int) -> str:
        """The title, empty where another document has it too."""
        return self.titles[place] if self.is_unique[place] else ""


def make_heldout(corpus: Corpus, config: HeldoutConfig, seed: int, spool: Path | None = None) -> Heldout:
    """Draw the queries and the collection they are asked of; deterministic in `seed`.

    With `spool`, an empty folder, the documents' titles (or first sentences) lie there and not in memory; their texts
    are never collected.
    """
    rng = np.random.default_rng([seed, 0x4E1D])
    candidates = _candidates(corpus, spool)
    allowed = int(len(candidates.documents) * config.share)
    topics = _topics(candidates, allowed // 2, config.passages // 2, config.queries // 4, rng)
    taken = {document for _, documents in topics for document in documents}
    queries: list[tuple[str, str, tuple[int, ...]]] = [("topic", text, documents) for text, documents in topics]
    places = np.flatnonzero(np.isin(candidates.documents, list(taken)))
    removed: dict[int, str] = {int(candidates.documents[place]): candidates.title(int(place)) for place in places}
    room = min(config.queries - len(queries), allowed - len(taken))
    passages_left = config.passages - int(candidates.passages[places].sum())
    free = np.delete(np.arange(len(candidates.documents)), places)
    for place in free[rng.permutation(len(free))]:
        if room <= 0:
            break
        document = int(candidates.documents[place])
        if candidates.passages[place] > passages_left:
            continue
        made = _known_item(
            corpus, corpus.passage_rows(document), candidates.title(int(place)), prefer_title=room % 2 == 0, rng=rng
        )
        if made is not None:
            kind, text = made
            queries.append((kind, text, (document,)))
            removed[document] = text
            room -= 1
            passages_left -= int(candidates.passages[place])
    numbered = tuple(
        HeldoutQuery(f"{kind}-{number}", text, kind, PARTS[number % 2], documents)
        for number, (kind, text, documents) in enumerate(sorted(queries, key=lambda query: KINDS.index(query[0])))
    )
    masked = tuple(
        (document, content)
        for document, text in sorted(removed.items())
        for content in _without(corpus, corpus.passage_rows(document), text)
    )
    others = _others(corpus, removed, config.passages - len(masked), rng)
    return Heldout(Collection(corpus, others, masked), numbered)


def _candidates(corpus: Corpus, spool: Path | None) -> _Candidates:
    """Documents with text enough to lose a sentence; titles stand in by first sentences where most have none."""
    documents = corpus.original_documents()
    titles, hashes, titled = _collected(_titles(corpus), len(documents), spool / "titles" if spool else None)
    if titled * 2 < len(documents):
        sentences = _first_sentences(corpus, documents)
        titles, hashes, _ = _collected(sentences, len(documents), spool / "sentences" if spool else None)
    order = np.argsort(hashes)
    is_same = hashes[order][1:] == hashes[order][:-1]
    is_unique = np.ones(len(documents), dtype=bool)
    is_unique[order[1:][is_same]] = is_unique[order[:-1][is_same]] = False
    passages = np.bincount(corpus.passage_documents, minlength=corpus.n_documents)[documents]
    return _Candidates(documents, titles, is_unique, passages)


def _collected(texts: Iterable[str], number: int, path: Path | None) -> tuple[list[str] | Strings, np.ndarray, int]:
    """So many texts, in the file `path` if one is given; their hashes, `uint64[number]`; and how many are long enough
    to be titles."""
    kept: list[str] | Strings = Strings(path) if path else []
    hashes, titled = np.empty(number, dtype=np.uint64), 0
    for place, text in enumerate(texts):
        kept.append(text)
        hashes[place] = xxhash.xxh3_64_intdigest(text.casefold().encode())
        titled += len(text.split()) >= MINIMUM_TITLE_WORDS
    return kept, hashes, titled


def _titles(corpus: Corpus) -> Iterator[str]:
    """The title of each document that duplicates no other one."""
    return (record.title.strip() for record in corpus.documents() if record.duplicate_of is None)


def _first_sentences(corpus: Corpus, documents: np.ndarray) -> Iterator[str]:
    """The first sentence of each of these documents (rows, ascending), empty where it makes no query."""
    wanted = np.zeros(corpus.n_documents, dtype=bool)
    wanted[documents] = True
    for passage in corpus.passages():
        if passage.ordinal == 0 and wanted[passage.document]:
            first = next(iter(statements(passage.text)), "")
            is_query = len(first) < len(passage.text.strip()) and len(first.split()) in SENTENCE_WORDS
            yield first if is_query else ""


def _known_item(
    corpus: Corpus, rows: range, title: str, *, prefer_title: bool, rng: np.random.Generator
) -> tuple[str, str] | None:
    """A title or sentence query for the document of these passages, or None if it is too short to lose either."""
    titled = len(title.split()) >= MINIMUM_TITLE_WORDS
    inner = [
        statement
        for passage in corpus.take(rows)
        for statement in statements(passage.text)[1:]
        if len(statement.split()) in SENTENCE_WORDS and statement != title
    ]
    if titled and (prefer_title or len(inner) < 2):
        return "title", title
    return ("sentence", inner[rng.integers(len(inner))]) if len(inner) >= 2 else None


def _topics(
    candidates: _Candidates, allowed: int, allowed_passages: int, wanted: int, rng: np.random.Generator
) -> list[tuple[str, tuple[int, ...]]]:
    """Phrases that stand in several titles, with the documents whose titles hold them; no document in two topics.

    All together are of at most `allowed` documents and `allowed_passages` passages.
    Phrases are taken from at most `TOPIC_TITLES` titles, drawn where there are more, and looked for in all titles.
    """
    total = len(candidates.documents)
    places = rng.choice(total, TOPIC_TITLES, replace=False) if total > TOPIC_TITLES else np.arange(total)
    drawn = [candidates.title(int(place)) for place in places]
    frequency = Counter(word for title in drawn for word in set(_words(title)))
    common = {word for word, count in frequency.items() if count > max(10, 0.05 * len(drawn))}
    holders: dict[tuple[str, ...], list[int]] = {
        phrase: []
        for title in drawn
        for phrase in _phrases(title)
        if all(len(word) > 2 for word in (phrase[0], phrase[-1])) and not common & {phrase[0], phrase[-1]}
    }
    for place in range(total):
        for phrase in _phrases(candidates.title(place)):
            found = holders.get(phrase)
            if found is not None and len(found) < TOPIC_DOCUMENTS.stop:
                found.append(place)
    shared = sorted(phrase for phrase, places in holders.items() if len(places) in TOPIC_DOCUMENTS)
    taken: set[int] = set()
    passages = 0
    topics: list[tuple[str, tuple[int, ...]]] = []
    for i in rng.permutation(len(shared)):
        held = holders[shared[i]]
        if len(topics) == wanted or len(taken) + len(held) > allowed or not taken.isdisjoint(held):
            continue
        more = int(candidates.passages[held].sum())
        if passages + more <= allowed_passages:
            topics.append((" ".join(shared[i]), tuple(candidates.documents[held].tolist())))
            taken.update(held)
            passages += more
    return topics


def _words(title: str) -> list[str]:
    return re.findall(r"\w+", title.casefold())


def _phrases(title: str) -> set[tuple[str, ...]]:
    """Every two and three words in a row."""
    words = _words(title)
    return {tuple(words[i : i + n]) for n in (2, 3) for i in range(len(words) - n + 1)}


def _without(corpus: Corpus, rows: range, text: str) -> Iterator[str]:
    """The contents of these passages with `text`, and the title if it is that, taken out."""
    pattern = re.compile(r"\s*".join(re.escape(word) for word in text.split()).replace(r"\s*", r"\s+"), re.IGNORECASE)
    for passage in corpus.take(rows):
        title = "" if passage.title.strip() == text else passage.title
        body = " ".join(pattern.sub(" ", passage.text).split())
        yield " ".join(part for part in (title, passage.heading, body) if part) or "."


def _others(corpus: Corpus, removed: dict[int, str], limit: int, rng: np.random.Generator) -> np.ndarray:
    """Passage rows of the documents that are not held out, at most `limit`, drawn where there are more."""
    answering = np.fromiter(removed, dtype=np.int64, count=len(removed))
    rows = np.flatnonzero(~np.isin(corpus.passage_documents, answering))
    return np.sort(rng.choice(rows, max(0, limit), replace=False)) if len(rows) > limit else rows

"""Training pairs for a retriever, made from the corpus itself or from labels.

What an author put together belongs together: a title and its text, a heading and its section, a sentence and the
rest of its document, two passages that follow each other; and the words that represent a passage best belong to it.
Each pair is a query with the passage that answers it, the query's words taken out of the passage, since a retriever
that learns to look for a verbatim copy has learnt nothing (Lee, Chang and Toutanova 2019, section 3.2, keep one query
in ten in place; here none).

A teacher then says how well other passages answer each query. It is the fused ranking of BM25 and the base model,
which beats both its parts on every collection measured (docs/lab-notes.md): what the fusion knows is distilled into
one dense model. The pair's own document is left out of the teacher's list, since its verbatim copy of the query would
dwarf all others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from pydantic import Field

from corpusmith.arrays import open_array, save_array
from corpusmith.config import Config
from corpusmith.corpus.base import Passage
from corpusmith.corpus.sentences import statements
from corpusmith.corpus.shards import Encodes, TokenShards, write_shards
from corpusmith.corpus.store import Corpus
from corpusmith.objective.data import PairSet
from corpusmith.retrieval.word_sets import WordSets

PairKind = Literal["title", "heading", "sentence", "neighbour", "words"]
MINIMUM_POSITIVE_WORDS = 5
MINING_BATCH = 512


class PairsConfig(Config):
    """Which pairs are made, how many, and what the teacher scores."""

    source: Literal["corpus", "labels"] = "corpus"
    """'corpus': made from the documents alone. 'labels': the train judgements of a BEIR folder."""
    kinds: tuple[PairKind, ...] = ("title", "heading", "sentence")
    """Which kinds are made from the corpus. "words" are sets of words that represent a passage (PROP)."""
    per_document: int = Field(default=6, ge=1, le=100)
    """Pairs made of one document at most."""
    maximum: int = Field(default=16_000, ge=1)
    """Pairs made in all at most."""
    candidates: int = Field(default=16, ge=0, le=200)
    """Passages kept beside each positive as negatives and for the teacher; 0 mines none."""
    depth: int = Field(default=100, ge=1, le=1000)
    """The candidates are drawn from this many of the fused ranking's best, the better the likelier."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and the content that answers it: the passage `row` of `document`, the query taken out."""

    query: str
    positive: str
    row: int
    document: int
    kind: str


class Ranking(Protocol):
    """Ranks passages for queries."""

    def __call__(self, queries: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        """`(rows[Q, K], scores[Q, K])`, best first, -1 and -inf where a query has fewer than K."""
        ...


def make_pairs(corpus: Corpus, config: PairsConfig, excluded: np.ndarray, seed: int) -> list[Pair]:
    """Pairs from the documents that are neither in `excluded` (document rows) nor duplicates, in random order."""
    rng = np.random.default_rng([seed, 0x9A125])
    kept = np.setdiff1d(corpus.original_documents(), excluded)
    wanted = 2 * config.maximum // config.per_document + 1
    if len(kept) > wanted:
        kept = kept[np.sort(rng.choice(len(kept), wanted, replace=False))]
    words = WordSets(corpus, kept, seed) if "words" in config.kinds else None
    pairs: list[Pair] = []
    for document in kept:
        found = list(_document_pairs(corpus.take(corpus.passage_rows(int(document))), config.kinds, words))
        chosen = rng.permutation(len(found))[: config.per_document]
        pairs += [found[i] for i in chosen]
    order = rng.permutation(len(pairs))[: config.maximum]
    return [pairs[i] for i in order]


def _document_pairs(passages: Sequence[Passage], kinds: Sequence[PairKind], words: WordSets | None) -> Iterator[Pair]:
    """Every pair one document gives; a long document gives many, of which the caller draws."""
    first = passages[0]
    for passage in passages:
        if "title" in kinds and passage is first and len(passage.title.split()) >= 2:
            yield from _pair(passage, passage.title, _content("", passage.heading, passage.text), "title")
        if "heading" in kinds and len(passage.heading.split()) >= 2:
            yield from _pair(passage, passage.heading, _content(passage.title, "", passage.text), "heading")
        if "sentence" in kinds:
            pieces = statements(passage.text)
            for i, piece in enumerate(pieces):
                if 5 <= len(piece.split()) <= 60 and len(pieces) > 1:
                    rest = " ".join(pieces[:i] + pieces[i + 1 :])
                    yield from _pair(passage, piece, _content(passage.title, passage.heading, rest), "sentence")
        if words is not None and (query := words.query(passage)):
            yield from _pair(passage, query, passage.content, "words")
    if "neighbour" in kinds:
        for left, right in pairwise(passages):
            shared = set(statements(left.text))
            rest = " ".join(statement for statement in statements(right.text) if statement not in shared)
            yield from _pair(right, left.text, _content("", right.heading, rest), "neighbour")


def _pair(passage: Passage, query: str, positive: str, kind: str) -> Iterator[Pair]:
    if kind in ("title", "heading"):
        positive = re.sub(re.escape(query), " ", positive, flags=re.IGNORECASE)
    if kind == "words":
        words = "|".join(map(re.escape, query.split()))
        positive = re.sub(rf"\b(?:{words})\b", " ", positive, flags=re.IGNORECASE)
    if len(positive.split()) >= MINIMUM_POSITIVE_WORDS:
        yield Pair(query, " ".join(positive.split()), passage.row, passage.document, kind)


def _content(title: str, heading: str, text: str) -> str:
    return " ".join(part for part in (title, heading, text) if part)


def labelled_pairs(
    queries: dict[str, str],
    qrels: dict[str, dict[str, int]],
    corpus: Corpus,
    rank: Ranking,
    excluded: frozenset[str] = frozenset(),
) -> list[Pair]:
    """One pair for every judged (query, relevant document): the document's best passage in `rank`, else its first."""
    document_rows = corpus.document_ids.rows(name for judged in qrels.values() for name in judged)
    pairs = []
    for query_id, judged in sorted(qrels.items()):
        rows, _ = rank([queries[query_id]], 1000) if query_id not in excluded else (np.empty((1, 0), np.int64), None)
        ranked = [int(row) for row in rows[0] if row >= 0]
        best = {int(corpus.passage_documents[row]): row for row in reversed(ranked)}
        for identifier, grade in sorted(judged.items()):
            document = document_rows.get(identifier)
            if grade <= 0 or document is None or query_id in excluded:
                continue
            row = best.get(document, corpus.document(document).first_passage)
            pairs.append(Pair(queries[query_id], corpus.passage(row).content, row, document, "label"))
    return pairs


def mine_candidates(
    pairs: Sequence[Pair],
    rank: Ranking,
    corpus: Corpus,
    config: PairsConfig,
    seed: int,
    excluded: np.ndarray,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """For each pair, passages of other documents with the teacher's scores.

    Returns `(rows[N, M], scores[N, 1 + M])`: rows drawn without replacement from the ranking's best `depth`, rank r
    with weight 1 / (r + 5), -1 where there are fewer; scores rescaled so that the best other document has 1 and the
    last of the list 0, NaN where there is no row. The positive has 1 as well: the query was made from it, and is no
    longer in it, so that nothing can be known of its rank but that it belongs to the best. Passages of documents in
    `excluded` may not be candidates.
    """
    shape = (len(pairs), config.candidates)
    rows, scores = np.full(shape, -1, np.int64), np.full((shape[0], shape[1] + 1), np.nan, np.float32)
    rng = np.random.default_rng([seed, 0x317E])
    documents = corpus.passage_documents
    barred = np.isin(documents, excluded)
    for start in range(0, len(pairs), MINING_BATCH):
        batch = pairs[start : start + MINING_BATCH]
        found, values = rank([pair.query for pair in batch], config.depth)
        for i, pair in enumerate(batch):
            own = (documents[found[i]] == pair.document) | barred[found[i]] | (found[i] < 0)
            others, teacher = found[i][~own], values[i][~own]
            if len(others) < 2 or teacher[0] <= teacher[-1]:
                continue
            teacher = (teacher - teacher[-1]) / (teacher[0] - teacher[-1])
            weights = 1 / (np.arange(len(others)) + 5.0)
            taken = rng.choice(
                len(others), min(config.candidates, len(others)), replace=False, p=weights / weights.sum()
            )
            taken.sort()
            rows[start + i, : len(taken)] = others[taken]
            scores[start + i, 0] = 1.0
            scores[start + i, 1 : len(taken) + 1] = teacher[taken]
        if progress:
            progress(min(start + MINING_BATCH, len(pairs)), len(pairs))
    return rows, scores


def save_pairs(
    pairs: Sequence[Pair], rows: np.ndarray, scores: np.ndarray, tokenizer: Encodes, folder: Path
) -> PairSet:
    """Write pairs as token shards and arrays; `open_pairs` reads them back."""
    names = sorted({pair.kind for pair in pairs})
    arrays = {
        "negatives": rows,
        "scores": scores,
        "documents": np.array([pair.document for pair in pairs], np.int64),
        "kinds": np.array([names.index(pair.kind) for pair in pairs], np.uint8),
    }
    for name, array in arrays.items():
        save_array(folder / f"{name}.npy", array)
    (folder / "kinds.txt").write_text("\n".join(names))
    for name, texts in (("queries", (p.query for p in pairs)), ("positives", (p.positive for p in pairs))):
        (folder / name).mkdir()
        write_shards(texts, tokenizer, folder / name)
    return open_pairs(folder)


def open_pairs(folder: Path) -> PairSet:
    """Read what `save_pairs` wrote, memory-mapped."""
    arrays = {name: open_array(folder / f"{name}.npy") for name in ("negatives", "documents", "kinds", "scores")}
    return PairSet(
        queries=TokenShards.open(folder / "queries"),
        positives=TokenShards.open(folder / "positives"),
        kind_names=tuple((folder / "kinds.txt").read_text().split("\n")),
        **arrays,
    )

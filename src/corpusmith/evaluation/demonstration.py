"""The demonstration's judged queries over the installed documentation, as an evaluation wants them.

A held-out object's document stands in the collection without its name, its summary line and its links; its summary
line is the query. See `corpus/readers/installed_docs.py` for what makes the queries honest.
"""

from __future__ import annotations

import json
from pathlib import Path

from corpusmith.corpus.base import Document
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.passages import split_document
from corpusmith.corpus.read import read
from corpusmith.corpus.readers.installed_docs import demonstration_queries
from corpusmith.corpus.store import Corpus
from corpusmith.evaluation.base import QuerySet
from corpusmith.evaluation.collection import Collection

NOTE = (
    "Queries are summary lines of held-out functions and classes, whose own documentation stands in the index without "
    "its name and summary. Half ask for that object, half for the objects that its author lists under See Also. They "
    "show how well technical prose is found by a paraphrase; they are shorter and cleaner than what people type."
)


def make_demonstration(corpus: Corpus, config: CorpusConfig, seed: int, folder: Path) -> int:
    """Write the queries and their collection into `folder`; returns how many there are.

    Queries whose documents the corpus does not hold (dropped as duplicates) are left out.
    """
    documents = [item for item in read([], config) if isinstance(item, Document)]
    made = demonstration_queries(documents, seed)
    rows = {identifier: row for row, identifier in enumerate(corpus.document_ids)}
    qrels = {query: {name: 1 for name in judged if name in rows} for query, judged in made.qrels.items()}
    kept = [query for query, judged in qrels.items() if judged]
    content = {
        "queries": {query: made.queries[query] for query in kept},
        "qrels": {query: qrels[query] for query in kept},
        "exclude": {query: list(made.excluded[query]) for query in kept},
    }
    (folder / "queries.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    masked = tuple(
        (rows[name], " ".join(part for part in (piece.heading, piece.text) if part))
        for name, document in made.masked.items()
        if name in rows
        for piece in split_document(document, config)
    )
    Collection.whole(corpus).replacing(masked).save(folder)
    return len(kept)


def open_demonstration(folder: Path, corpus: Corpus) -> tuple[QuerySet, Collection]:
    """Read what `make_demonstration` wrote."""
    content = json.loads((folder / "queries.json").read_text(encoding="utf-8"))
    exclude = {query: set(names) for query, names in content["exclude"].items()}
    query_set = QuerySet("installed documentation", content["queries"], content["qrels"], exclude=exclude)
    return query_set, Collection.open(folder, corpus)

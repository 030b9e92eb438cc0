"""Reads judged queries in the BEIR layout (Thakur et al. 2021): `queries.jsonl` and `qrels/<split>.tsv`.

The layout is the field's common coin, and users write it by hand: hence the many checks, each with its line number.
The third file, `corpus.jsonl`, is read as any other documents are, by the corpus room.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from corpusmith.corpus.read import encodable
from corpusmith.corpus.readers.jsonl import single_keys
from corpusmith.errors import EvaluationError
from corpusmith.evaluation.base import QuerySet

HEADER = ("query-id", "corpus-id", "score")
HIGHEST_GRADE = 1_000_000
GRADE = re.compile(r"[+-]?[0-9]{1,20}")
LONGEST_LINE = 1_000_000


def is_beir(folder: Path) -> bool:
    """Whether `folder` holds corpus, queries and qrels under BEIR's names."""
    return (
        _find(folder, "corpus.jsonl") is not None
        and _find(folder, "queries.jsonl") is not None
        and bool(splits(folder))
    )


def splits(folder: Path) -> list[str]:
    """Names of the splits that have judgements, sorted.

    Raises:
        EvaluationError: the folder of judgements cannot be read.
    """
    try:
        paths = list((folder / "qrels").iterdir()) if (folder / "qrels").is_dir() else []
        return sorted(path.stem for path in paths if path.suffix == ".tsv" and path.is_file())
    except OSError as error:
        raise EvaluationError(f"{folder / 'qrels'} cannot be read: {error.strerror or error}.") from error


def read_beir(folder: Path, split: str = "test") -> QuerySet:
    """The queries of one split, in the order of the query file, with their judgements.

    Queries without a relevant document are left out and counted in `notes`, as are queries without a letter or digit,
    which find nothing; a repeated judgement keeps the higher grade.

    Raises:
        EvaluationError: a file is missing, unreadable or malformed, a judged query has no text, or nothing is left.
    """
    path = _find(folder, "queries.jsonl")
    if path is None:
        raise EvaluationError(f"{folder} holds no queries.jsonl or queries.jsonl.gz; BEIR keeps its queries there.")
    judgements = folder / "qrels" / f"{split}.tsv"
    if not judgements.is_file():
        found = f"found {', '.join(splits(folder))}" if splits(folder) else "and no other split either"
        raise EvaluationError(f"{folder} has no judgements for the split {split!r} (no {judgements}; {found}).")
    texts, qrels = _read_queries(path), _read_qrels(judgements)
    unknown = [query for query in qrels if query not in texts]
    if unknown:
        raise EvaluationError(f"{judgements} judges query {unknown[0]!r}, which {path} does not hold.")
    kept = [query for query in texts if any(grade > 0 for grade in qrels.get(query, {}).values())]
    if not kept:
        raise EvaluationError(f"{judgements} names no relevant document (no score above 0); nothing can be measured.")
    empty = next((query for query in kept if not texts[query].strip()), None)
    if empty is not None:
        raise EvaluationError(
            f"{path}: the judged query {empty!r} has no text; give it one, or take out its judgements."
        )
    return QuerySet(
        name=folder.resolve().name,
        split=split,
        queries={query: texts[query] for query in kept},
        qrels={query: qrels[query] for query in kept},
        notes=tuple(_notes(len(qrels) - len(kept), sum(not any(map(str.isalnum, texts[query])) for query in kept))),
    )


def _notes(left_out: int, unanswerable: int) -> Iterator[str]:
    if left_out:
        subject = "1 judged query has" if left_out == 1 else f"{left_out} judged queries have"
        yield f"{subject} no relevant document and {'is' if left_out == 1 else 'are'} left out."
    if unanswerable:
        subject = "1 judged query has" if unanswerable == 1 else f"{unanswerable} judged queries have"
        yield f"{subject} no letter or digit and {'finds' if unanswerable == 1 else 'find'} nothing."


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank."""
    try:
        with _open(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), ""), 1):
                if len(line) > LONGEST_LINE:
                    raise EvaluationError(
                        f"{path} line {number} is longer than {LONGEST_LINE:,} characters; no query is, shorten it."
                    )
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{path} is not UTF-8 ({error.reason}); convert it and try again.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise EvaluationError(f"{path} cannot be read: {error}.") from error


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def _read_queries(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, line in _lines(path):
        try:
            record = json.loads(line, object_pairs_hook=single_keys)
        except (ValueError, RecursionError) as error:
            raise EvaluationError(f"{path} line {number} is no JSON: {error}.") from error
        if not isinstance(record, dict) or not isinstance(record.get("text"), str) or "_id" not in record:
            found = ", ".join(map(repr, record)) if isinstance(record, dict) else type(record).__name__
            raise EvaluationError(f"{path} line {number}: expected an object with '_id' and 'text', found {found}.")
        query = encodable(str(record["_id"]))
        if query in texts:
            raise EvaluationError(f"{path} line {number}: the query id {record['_id']!r} occurs a second time.")
        texts[query] = encodable(record["text"])
    return texts


def _read_qrels(path: Path) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        fields = tuple(field.strip() for field in line.split("\t"))
        if number == 1 and fields == HEADER:
            continue
        if len(fields) != 3:
            raise EvaluationError(
                f"{path} line {number}: expected query id, document id and score parted by tabs, "
                f"found {len(fields)} field{'s' * (len(fields) != 1)}."
            )
        query, document, score = fields
        if not GRADE.fullmatch(score) or abs(int(score)) > HIGHEST_GRADE:
            raise EvaluationError(
                f"{path} line {number}: the score {score[:20]!r} is not a whole number of up to {HIGHEST_GRADE}."
            )
        grade = int(score)
        judged = qrels.setdefault(query, {})
        judged[document] = max(grade, judged.get(document, grade))
    return qrels

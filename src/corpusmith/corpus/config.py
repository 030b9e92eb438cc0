"""What a recipe may say about the corpus: where documents come from, what is left out, how passages are cut."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from corpusmith.config import Config


class CorpusConfig(Config):
    """Options of reading, cleaning, deduplicating and splitting documents."""

    source: Literal["auto", "files", "beir", "installed-docs"] = "auto"
    """Where documents come from. "files" reads every file under the given paths; "beir" reads the corpus.jsonl (or
    corpus.jsonl.gz) of folders in BEIR form; "auto" does the second in folders that hold a corpus.jsonl beside queries
    or qrels, and the first elsewhere; "installed-docs" reads the docstrings of the Python packages installed here."""

    exclude: tuple[str, ...] = ()
    """Files to leave out, as shell patterns matched against the path within the folder and against the file's name:
    ["*.pdf", "drafts/*"]. Hidden files and folders are always left out."""

    id_field: str | None = None
    """Field or column of JSON lines, CSV and parquet that holds a document's id. Unset: _id, id, doc_id, docid,
    document_id or pmid, whichever comes first; records without an id are called after their file and line."""

    title_field: str | None = None
    """Field or column that holds the title. Unset: title, headline, heading, name or subject."""

    text_field: str | None = None
    """Field or column that holds the text. Unset: text, body, content, contents, passage, document, article, abstract
    or description."""

    maximum_document_bytes: int = Field(default=100_000_000, ge=1000)
    """Larger documents (files, lines, table cells, after unpacking) are dropped. Bytes, at least 1000."""

    maximum_documents: int | None = Field(default=None, ge=1)
    """Read no more documents than this. Files are read in the order of their names and reading stops there; of the
    installed documentation that many are drawn, always the same ones."""

    packages: tuple[str, ...] = ()
    """Packages whose docstrings `source = "installed-docs"` reads; "stdlib" stands for Python's standard library.
    Empty: a list of well documented scientific and general packages, those of them that are installed."""

    minimum_words: int = Field(default=3, ge=1)
    """Documents with fewer words, title included, are dropped. Words, at least 1. What space separates is a word; so is
    each Chinese or Japanese character, and four characters of other scripts written without spaces (Thai, ...)."""

    duplicates: Literal["auto", "drop", "keep"] = "auto"
    """What becomes of a document whose text another document already has, exactly or nearly. "drop" leaves it out;
    "keep" indexes it but does not train on it; "auto" keeps where relevance judgements name documents (a BEIR folder),
    because every judged document must stay findable, and drops otherwise."""

    near_duplicate_threshold: float = Field(default=0.85, gt=0, le=1)
    """Documents are near-duplicates from this Jaccard similarity of their sets of five consecutive words on
    (estimated by MinHash). Above 0, at most 1; 1 finds only documents with the same words in the same order."""

    passage_words: int = Field(default=180, ge=20, le=5000)
    """Length a passage aims at. Words, 20 to 5000; 180 words of English are about 256 word pieces. A document up to
    1.3 times as long stays whole."""

    overlap_words: int = Field(default=30, ge=0)
    """How much of a passage's end may be repeated at the beginning of the next one of the same section, in whole
    sentences. Words, 0 to half of `passage_words`."""

    strict: bool = False
    """Stop at the first document that cannot be read or would be dropped, instead of going on without it."""

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> Self:
        if self.overlap_words * 2 > self.passage_words:
            raise ValueError(
                f"overlap_words = {self.overlap_words} is more than half of passage_words = {self.passage_words}"
            )
        return self

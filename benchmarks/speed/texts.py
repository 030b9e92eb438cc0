"""The two mixes of lengths that speed is measured on, drawn from the trials of the folder CORPUSMITH_DATA.

Padding and attention cost differently on short and on long texts, so both are measured, on text as it is found:

- sentences of 8 to 120 words from anywhere in the articles, 25 words on average, half of them between 16 and 31.
  Shorter ones are fragments (headings, cells of tables), longer ones are flattened tables.
- abstracts of at most 450 words, 264 on average, half of them between 222 and 306. Longer ones are the doubled
  abstracts of some journals. They are somewhat longer than the usual 220 words, since those of trials say more.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from corpusmith.corpus.sentences import sentences

SENTENCE_WORDS = (8, 120)
ABSTRACT_WORDS = (30, 450)
HEADING_WORDS = 15


def data_folder() -> Path:
    """The folder that CORPUSMITH_DATA names."""
    if "CORPUSMITH_DATA" not in os.environ:
        raise SystemExit("say where the data library is: CORPUSMITH_DATA=DATA python -m ...")
    return Path(os.environ["CORPUSMITH_DATA"])


def read_lines(path: Path) -> list[dict]:
    """The objects of a .jsonl.gz file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def draw_texts(kind: str, number: int, seed: int) -> list[str]:
    """So many different texts of a kind ("sentences", "abstracts"), articles in random order.

    Sentences are drawn from twenty times as many, so that no article gives many of them.
    """
    rng = np.random.default_rng(seed)
    documents = [line["text"] for line in read_lines(data_folder() / "pretrain" / "trials.jsonl.gz")]
    of_kind, spread = MIXES[kind]
    found: dict[str, None] = {}
    for i in rng.permutation(len(documents)):
        found.update(dict.fromkeys(of_kind(documents[i])))
        if len(found) >= spread * number:
            break
    if len(found) < number:
        raise SystemExit(f"the trials hold {len(found)} {kind} and {number} are asked for: take fewer rounds or steps")
    texts = list(found)
    return [texts[i] for i in rng.choice(len(texts), number, replace=False)]


def sentences_of(document: str) -> list[str]:
    """Its sentences, without fragments and tables."""
    least, most = SENTENCE_WORDS
    found = [sentence for paragraph in document.split("\n\n") for sentence in sentences(paragraph)]
    return [sentence for sentence in found if least <= len(sentence.split()) <= most]


def abstract_of(document: str) -> list[str]:
    """Its abstract, in one piece, if it begins with one of a usual length."""
    paragraphs = []
    for paragraph in document.split("\n\n"):
        is_heading = paragraph.isupper() and len(paragraph.split()) <= HEADING_WORDS
        if is_heading and not paragraph.startswith("ABSTRACT"):
            break
        if not is_heading:
            paragraphs.append(paragraph)
    abstract = " ".join(paragraphs)
    least, most = ABSTRACT_WORDS
    has_abstract = document.startswith("ABSTRACT") and least <= len(abstract.split()) <= most
    return [abstract] if has_abstract else []


def words(texts: list[str]) -> dict[str, float]:
    """How long texts are: the mean and the deciles at both ends, in words."""
    found = np.array([len(text.split()) for text in texts])
    low, high = np.quantile(found, [0.1, 0.9])
    return {"mean": round(float(found.mean()), 1), "tenth": float(low), "nine_tenths": float(high)}


MIXES: dict[str, tuple[Callable[[str], list[str]], int]] = {
    "sentences": (sentences_of, 20),
    "abstracts": (abstract_of, 1),
}
"""How the texts of each kind are found in a document, and from how many times as many they are drawn."""

"""A corpus of any number of passages: real ones as far as they go, then synthetic ones with their statistics.

Real passages are the documents of the pretrain sets (English articles, encyclopaedia, contracts and consumer health,
German statutes), cut at about 100 words and shuffled, so that a part of them is like the whole; the first passage of a
document bears its title. Each is handed in as a record of its own: what a step keeps for each document then weighs as
much as it can for a number of passages.

Beyond the real ones, a synthetic passage has the length of a real one and begins as one does, and each next word is one
that followed the last somewhere in the real text (bigrams): frequencies are Zipfian as they are there, stops and line
breaks come with the words. Two things such a chain cannot do are added. A word that occurs once in the real text is
spelt anew each time it is drawn, so that the vocabulary goes on growing as fast as it grew at the end of the real text
(Good 1953, "The population frequencies of species", equation 9: the chance of a new word is the share of words met
once). And some passages are copies of real ones with a few words changed, some near enough to count as duplicates and
some not, since templates and boilerplate are what near-duplicate detection works hardest on.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from corpusmith.corpus.base import Document
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.passages import split_document

SETS = ("trials", "wiki", "contracts", "gesetze", "medquad")
CUT = CorpusConfig(passage_words=100, overlap_words=0)
COPIES = 0.03
"""Share of synthetic passages that are changed copies of real ones."""
CHANGES = 0.04
"""Most words changed in a copy, as a share; half of it makes two texts just no near-duplicates any more."""
BATCH = 10_000
RECORDS_A_FILE = 100_000
PARAGRAPH = "\n\n"


def real_records(data: Path, path: Path, seed: int) -> int:
    """Write the real passages to `path` in random order, one JSON record a line, unless it stands; their number."""
    if not path.exists():
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for name in SETS for record in _cut(data, name)]
        order = np.random.default_rng([seed, 0]).permutation(len(lines))
        partial = path.with_name(f".{path.name}")
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(lines[i] for i in order)
        partial.replace(path)
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _cut(data: Path, name: str) -> Iterator[dict[str, str]]:
    with gzip.open(data / "pretrain" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        for record in map(json.loads, file):
            document = Document(record["id"], record["title"], record["text"])
            for number, piece in enumerate(split_document(document, CUT)):
                title = document.title if number == 0 else ""
                yield {"id": f"{name}/{document.id}/{number}", "title": title, "text": piece.text}


def write_corpus(real: Path, n: int, folder: Path, seed: int) -> list[Path]:
    """Write `n` records as JSONL files into `folder`; the corpus of a smaller number is the beginning of this one."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    lines = _records(real, n, seed)
    for start in range(0, n, RECORDS_A_FILE):
        paths.append(folder / f"records-{start:09}.jsonl")
        with paths[-1].open("w", encoding="utf-8") as file:
            file.writelines(islice(lines, min(RECORDS_A_FILE, n - start)))
    return paths


def queries(real: Path, number: int, words: int = 8) -> list[str]:
    """As many words as asked for from the middle of each of the first real passages."""
    with real.open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"].split() for line in islice(file, number)]
    return [" ".join(text[len(text) // 2 : len(text) // 2 + words]) for text in texts]


def _records(real: Path, n: int, seed: int) -> Iterator[str]:
    written = 0
    with real.open(encoding="utf-8") as file:
        for line in islice(file, n):
            yield line
            written += 1
    if written < n:
        texts = _synthetic(Bigrams.of(_texts(real)), seed)
        for number, text in enumerate(islice(texts, n - written)):
            record = {"id": f"synthetic/{number}", "title": "", "text": text}
            yield json.dumps(record, ensure_ascii=False) + "\n"


def _texts(real: Path) -> Iterator[list[str]]:
    with real.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["text"].replace(PARAGRAPH, f" {PARAGRAPH} ").split(" ")


class Bigrams(NamedTuple):
    """The real text as numbers of words: T words of N passages, V different ones.

    `tokens[T]`, passage i being `tokens[starts[i]:starts[i + 1]]`; `places[T]` are the places of each word, word w's
    being `places[first[w]:first[w + 1]]`; `words[V]` their spellings.
    """

    tokens: np.ndarray
    starts: np.ndarray
    places: np.ndarray
    first: np.ndarray
    words: np.ndarray

    @classmethod
    def of(cls, texts: Iterable[list[str]]) -> Bigrams:
        """Count the words of these texts."""
        vocabulary: dict[str, int] = {}
        parts = [
            np.fromiter((vocabulary.setdefault(word, len(vocabulary)) for word in text), dtype=np.int32)
            for text in texts
        ]
        tokens = np.concatenate(parts)
        starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
        first = np.concatenate([[0], np.cumsum(np.bincount(tokens, minlength=len(vocabulary)))])
        places = np.argsort(tokens, kind="stable").astype(np.int32)
        return cls(tokens, starts, places, first, np.array(list(vocabulary), dtype=object))

    def chains(self, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`[longest, N]` word numbers: column i is a chain of at least `lengths[i]` words."""
        longest = int(lengths.max())
        found = np.empty((longest, len(lengths)), dtype=np.int32)
        found[0] = self.tokens[self.starts[rng.integers(len(self.starts) - 1, size=len(lengths))]]
        for step in range(1, longest):
            word = found[step - 1]
            drawn = self.first[word] + (rng.random(len(word)) * (self.first[word + 1] - self.first[word])).astype(int)
            found[step] = self.tokens[(self.places[drawn] + 1) % len(self.tokens)]
        return found

    def spell(self, numbers: np.ndarray, rng: np.random.Generator) -> list[str]:
        """The words of these numbers; one that the real text has once becomes a new one of two such words' halves."""
        spelt = self.words[numbers]
        for place in np.flatnonzero(self.first[numbers + 1] - self.first[numbers] == 1):
            other = self.words[self.tokens[rng.integers(len(self.tokens))]]
            word = spelt[place]
            spelt[place] = f"{word[: (len(word) + 1) // 2]}{other[len(other) // 2 :]}{rng.integers(100)}"
        return spelt.tolist()


def _synthetic(bigrams: Bigrams, seed: int) -> Iterator[str]:
    """Synthetic texts without end."""
    rng = np.random.default_rng([seed, 1])
    real_lengths = np.diff(bigrams.starts)
    while True:
        lengths = rng.choice(real_lengths, BATCH)
        chains = bigrams.chains(lengths, rng)
        for number, length in enumerate(lengths):
            if rng.random() < COPIES:
                numbers = _changed_copy(bigrams, rng)
                words = bigrams.words[numbers].tolist()
            else:
                words = bigrams.spell(chains[:length, number], rng)
            yield " ".join(words).replace(f" {PARAGRAPH} ", PARAGRAPH).strip() or "."


def _changed_copy(bigrams: Bigrams, rng: np.random.Generator) -> np.ndarray:
    """A real passage in which a random share of the words is replaced by words drawn from the real text."""
    i = rng.integers(len(bigrams.starts) - 1)
    numbers = bigrams.tokens[bigrams.starts[i] : bigrams.starts[i + 1]].copy()
    changed = rng.random(len(numbers)) < rng.uniform(0, CHANGES)
    numbers[changed] = bigrams.tokens[rng.integers(len(bigrams.tokens), size=int(changed.sum()))]
    return numbers

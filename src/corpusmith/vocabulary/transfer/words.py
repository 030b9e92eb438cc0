"""Both tokenizers' pieces in one space of static word vectors.

    u_p = unit( sum_w n(w) v_w  over the words w whose cut has the piece p )

`v[W, d]` static vectors of the corpus' words, n(w) how often they occur. Within one language both vocabularies' pieces
are seen through the same words, and nothing has to be aligned. Where the base model's language is another one, words of
a text in that language have a space of their own, which an orthogonal map Q brings onto the corpus':

    Q = U V^T,      U S V^T = X^T Y        X, Y: vectors of the words that both texts know, in both spaces

Such words are names, numbers and loans, written alike in both languages. There are false friends among them; they are
the fewer the more the two texts speak of the same things. A dictionary would do better, and none is at hand.

Citation: Schönemann (1966), "A Generalized Solution of the Orthogonal Procrustes Problem", Psychometrika; Artetxe,
Labaka, Agirre (2017), "Learning Bilingual Word Embeddings with (Almost) No Bilingual Data", ACL, section 5 (numerals
as the dictionary).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from corpusmith.corpus.base import Document
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.read import read
from corpusmith.errors import CorpusError
from corpusmith.vocabulary.static_vectors import sampled, static_vectors, unit
from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.transfer.base import TransferInput
from corpusmith.vocabulary.transfer.config import NeighboursConfig

WORD = re.compile(r"\w+|[^\w\s]")

MOST_WORDS = 50_000
"""Words of a space, the most frequent ones."""

MOST_CHARACTERS = 2**25
"""Characters of the text in the base's language that are read."""

FEWEST_ANCHORS = 20
"""Words that two texts must have in common for one to be mapped onto the other."""


@dataclass(frozen=True, slots=True)
class WordSpace:
    """`words[W]`, how often each occurs (`counts[W]`), and static `vectors[W, d]` of length 1."""

    words: list[str]
    counts: np.ndarray
    vectors: np.ndarray

    def of_pieces(self, tokenizer: Tokenizer) -> np.ndarray:
        """`float32[V, d]`, unit vectors of the tokenizer's pieces; zeros where no word has a piece, and for special
        tokens."""
        cuts = tokenizer.encode([f" {word}" for word in self.words])
        lengths = [len(ids) for ids in cuts]
        pieces = np.concatenate([np.empty(0, dtype=np.int64), *cuts]).astype(np.int64)
        words = np.repeat(np.arange(len(cuts)), lengths)
        has = csr_array((self.counts[words].astype(np.float32), (pieces, words)), shape=(tokenizer.size, len(cuts)))
        vectors = unit(has @ self.vectors)
        vectors[tokenizer.special_ids] = 0
        return vectors


def word_space(texts: Sequence[str], config: NeighboursConfig, rng: np.random.Generator) -> WordSpace:
    """The words of a sample of texts and their static vectors."""
    numbers: dict[str, int] = {}

    def cut(batch: list[str]) -> list[np.ndarray]:
        found = [WORD.findall(text) for text in batch]
        return [np.array([numbers.setdefault(word, len(numbers)) for word in words], dtype=np.int64) for words in found]

    sequences = list(sampled(texts, cut, rng))
    counts = np.bincount(np.concatenate([np.empty(0, dtype=np.int64), *sequences]), minlength=len(numbers))
    order = np.argsort(-counts, kind="stable")[:MOST_WORDS]
    kept = order[counts[order] >= config.fewest]
    renumbered = np.full(len(numbers), -1, dtype=np.int64)
    renumbered[kept] = np.arange(len(kept))
    sequences = [renumbered[sequence] for sequence in sequences]
    vectors = static_vectors(sequences, len(kept), config.dimensions, config.window, config.fewest, rng)
    words = list(numbers)
    return WordSpace([words[i] for i in kept], counts[kept], vectors)


def piece_vectors(given: TransferInput, config: NeighboursConfig) -> tuple[np.ndarray, np.ndarray]:
    """`float32[V, d]` and `float32[V', d]`: the pieces of source and target in one space, zeros where unknown.

    Raises:
        CorpusError: the text in the base's language cannot be read, or has too few words in common with the corpus.
    """
    space = word_space(given.texts, config, given.rng)
    new = space.of_pieces(given.target)
    if config.general is None:
        return space.of_pieces(given.source.tokenizer), new
    general = word_space(_paragraphs(config.general), config, given.rng)
    old = general.of_pieces(given.source.tokenizer) @ alignment(general, space)
    return old, new


def alignment(source: WordSpace, target: WordSpace) -> np.ndarray:
    """`float32[d, d']` with orthonormal rows or columns: the map that brings the words of both spaces nearest to each
    other.

    Raises:
        CorpusError: the spaces have fewer than `FEWEST_ANCHORS` words in common.
    """
    places = {word: number for number, word in enumerate(source.words)}
    anchors = np.array([(places[word], i) for i, word in enumerate(target.words) if word in places]).reshape(-1, 2)
    if len(anchors) < FEWEST_ANCHORS:
        raise CorpusError(
            f"the text in the base model's language and the corpus have {len(anchors)} words in common, too few to "
            f"compare their vocabularies ({FEWEST_ANCHORS} are needed); give a longer text, or one on the same subject"
        )
    left, _, right = np.linalg.svd(source.vectors[anchors[:, 0]].T @ target.vectors[anchors[:, 1]], full_matrices=False)
    return left @ right


def _paragraphs(path: str) -> list[str]:
    found: list[str] = []
    characters = 0
    for item in read([path], CorpusConfig()):
        if isinstance(item, Document):
            found += item.text.split("\n\n")
            characters += len(item.text)
        if characters >= MOST_CHARACTERS:
            break
    return found
